//! Whatever a log file holds: its records are read, all of them and no other, and what is written comes back.

use std::fs;
use std::path::Path;

use crate::logs::{Entry, LogWriter, Reader, Selection, Stream, Tag, parse};

/// The bytes as a log file, and as what a container writes.
pub fn check(data: &[u8]) {
    let dir = tempfile::Builder::new().prefix("fuzz").tempdir().expect("make a directory");
    check_file(data, dir.path());
    // Long enough to be read in several blocks.
    if data.len() > 64 && data.len().is_multiple_of(16) {
        check_file(&data.repeat((200 << 10) / data.len()), dir.path());
    }
    check_writer(data, dir.path());
}

/// A record without its time: stream, whether the line ends, message.
type Record = (Stream, bool, Vec<u8>);

fn record(entry: &Entry<'_>) -> Record {
    (entry.stream, entry.tag == Tag::Full, entry.message.to_vec())
}

fn read(dir: &Path, tail: Option<usize>) -> Vec<Record> {
    let mut reader = Reader::open(dir, Selection { tail, ..Selection::default() }).expect("open the log");
    let mut found = Vec::new();
    while let Some(line) = reader.next().expect("read the log") {
        found.push(record(&line.entry));
    }
    found
}

/// The reader against the shortest way to say what it does.
fn check_file(data: &[u8], dir: &Path) {
    fs::create_dir_all(dir.join("file/c")).expect("make a directory");
    fs::write(dir.join("file/c/0.log"), data).expect("write a log");
    let lines = data.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"));
    let records: Vec<Record> = lines.filter_map(parse).map(|entry| record(&entry)).collect();
    assert!(read(&dir.join("file"), None) == records, "the file is read otherwise");
    for tail in [0, 1, 3] {
        // Behind the end of the line that stands in front of the last ones.
        let ends = records.iter().enumerate().rev().filter(|(_, (_, full, _))| *full);
        let start = ends.map(|(at, _)| at + 1).nth(tail).unwrap_or(0);
        assert!(read(&dir.join("file"), Some(tail)) == records[start..], "the last {tail} lines are read otherwise");
    }
}

/// Pieces end at each 0xff; every second one goes to standard error.
fn check_writer(data: &[u8], dir: &Path) {
    let mut writer = LogWriter::create(&dir.join("written/c/0.log")).expect("create a log");
    let mut written = [Vec::new(), Vec::new()];
    for (piece, stream) in data.split(|byte| *byte == 0xff).zip([Stream::Stdout, Stream::Stderr].into_iter().cycle()) {
        writer.write(stream, piece).expect("write to a log");
        written[stream as usize].extend_from_slice(piece);
    }
    let mut back = [Vec::new(), Vec::new()];
    for (stream, full, message) in read(&dir.join("written"), None) {
        back[stream as usize].extend_from_slice(&message);
        back[stream as usize].extend(full.then_some(b'\n'));
    }
    assert!(back == written, "what was written does not come back");
}
