//! Container logs in the kubelet's CRI format: one record a line, so that log collectors made for Kubernetes read them.
//!
//! ```text
//! 2016-10-06T00:17:09.669794202Z stdout F The whole line
//! 2016-10-06T00:17:10.113242941Z stderr P a piece of a line (no end of line behind it)
//! <RFC 3339, nanoseconds>        <stream> <F full | P partial> <message>
//! ```
//!
//! One file per attempt: `<pod's log directory>/<container>/<attempt>.log`. The writer lives in the shim; the reader, which
//! merges the files of a pod by time and goes on with what is appended, in whoever asks.
//!
//! Source: kubernetes/design-proposals-archive `node/kubelet-cri-logging.md`; `cri-api` `Container.log_path`.

use std::fs;
use std::io::{self, BufRead as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::error::Error;

mod reader;
mod writer;

pub use reader::{Attempts, Line, Reader, Selection};
pub use writer::{Gap, LogWriter, Written};

/// Longest message of one record in bytes; a longer line becomes several, all but the last tagged `P` (as containerd's 16 KiB).
pub const MAX_MESSAGE: usize = 16 * 1024;

/// Which of the two a container wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Its name in a record.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Whether a record ends its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// `F`: the line ends here.
    Full,
    /// `P`: more of the line follows in the next record of the same stream.
    Partial,
}

/// One record of a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// When it was written.
    pub time: Timestamp,
    /// Where to.
    pub stream: Stream,
    /// Whether the line ends.
    pub tag: Tag,
    /// What was written, without the end of line; need not be UTF-8.
    pub message: &'a [u8],
}

/// Reads one record, given without its end of line; `None` when it is none (a torn write, a foreign file).
#[must_use]
pub fn parse(record: &[u8]) -> Option<Entry<'_>> {
    let (time, rest) = split_space(record)?;
    let (stream, rest) = split_space(rest)?;
    // A message may be empty, and the space before it then too in what other writers make.
    let (tags, message) = split_space(rest).unwrap_or((rest, b""));
    let time = std::str::from_utf8(time).ok()?.parse().ok()?;
    let stream = match stream {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    // Tags are separated by colons and the first one decides; others are for later versions of the format.
    let tag = match tags.split(|byte| *byte == b':').next() {
        Some(b"F") => Tag::Full,
        Some(b"P") => Tag::Partial,
        _ => return None,
    };
    Some(Entry { time, stream, tag, message })
}

fn split_space(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == b' ')?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

/// Appends `bytes` as records, all with the one `stamp`. A piece without its end of line becomes a partial record at once:
/// a prompt is seen when it is written, and nothing is held back that a crash could lose.
fn encode(out: &mut Vec<u8>, stamp: &str, stream: Stream, bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        out.extend_from_slice(stamp.as_bytes());
        out.push(b' ');
        out.extend_from_slice(stream.name().as_bytes());
        let tag = out.len() + 1;
        out.extend_from_slice(b" P ");
        // One byte more than the message, for an end of line right behind a message of full length.
        let mut window = &rest[..rest.len().min(MAX_MESSAGE + 1)];
        let copied = window.read_until(b'\n', out).unwrap_or_default(); // a slice cannot fail to be read
        if out.last() == Some(&b'\n') && copied > 0 {
            out[tag] = b'F';
            rest = &rest[copied..];
        } else {
            let kept = copied.min(MAX_MESSAGE);
            out.truncate(out.len() - (copied - kept));
            out.push(b'\n');
            rest = &rest[kept..];
        }
    }
}

/// One file of a pod's logs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogFile {
    /// The container.
    pub container: String,
    /// Its attempt, from 0.
    pub attempt: u32,
    /// The file.
    pub path: PathBuf,
}

/// The files below a pod's log directory, by container and attempt; none when there is no such directory.
///
/// # Errors
/// When a directory cannot be read.
pub fn files(directory: &Path) -> Result<Vec<LogFile>, Error> {
    let mut found = Vec::new();
    for container in names(directory)? {
        let below = directory.join(&container);
        for name in names(&below)? {
            if let Some(attempt) = name.strip_suffix(".log").and_then(|stem| stem.parse().ok()) {
                found.push(LogFile { container: container.clone(), attempt, path: below.join(name) });
            }
        }
    }
    found.sort();
    Ok(found)
}

fn names(directory: &Path) -> Result<Vec<String>, Error> {
    let gone = |e: &io::Error| matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    let entries = match fs::read_dir(directory) {
        Err(e) if gone(&e) => return Ok(Vec::new()),
        other => other.map_err(Error::file("read", directory))?,
    };
    entries
        .map(|entry| entry.map(|e| e.file_name().to_string_lossy().into_owned()).map_err(Error::file("read", directory)))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STAMP: &str = "2016-10-06T00:17:09.669794202Z";

    fn records(encoded: &[u8]) -> Vec<Entry<'_>> {
        let body = encoded.strip_suffix(b"\n").unwrap_or(encoded);
        if encoded.is_empty() {
            return Vec::new();
        }
        body.split(|b| *b == b'\n').map(|r| parse(r).expect("a record")).collect()
    }

    #[test]
    fn the_example_of_the_format_is_read() {
        let entry = parse(b"2016-10-06T00:17:09.669794202Z stdout F The content of the log entry 1").unwrap();
        assert_eq!(entry.time, STAMP.parse::<Timestamp>().unwrap());
        assert_eq!((entry.stream, entry.tag), (Stream::Stdout, Tag::Full));
        assert_eq!(entry.message, b"The content of the log entry 1");
    }

    #[test]
    fn empty_lines_and_later_tags_are_read_and_nonsense_is_not() {
        assert_eq!(parse(b"2016-10-06T00:17:09Z stderr F").unwrap().message, b"");
        assert_eq!(parse(b"2016-10-06T00:17:09Z stderr F ").unwrap().message, b"");
        assert_eq!(parse(b"2016-10-06T00:17:09Z stderr P:X  two  spaces ").unwrap().message, b" two  spaces ");
        for bad in [&b""[..], b"x", b"2016-10-06T00:17:09Z stdin F x", b"yesterday stdout F x", b"2016-10-06T00:17:09Z stdout Q x"] {
            assert_eq!(parse(bad), None);
        }
    }

    #[test]
    fn a_line_of_exactly_the_longest_message_stays_whole() {
        for (length, wanted) in [(MAX_MESSAGE, 1), (MAX_MESSAGE + 1, 2), (2 * MAX_MESSAGE, 2), (2 * MAX_MESSAGE + 1, 3)] {
            let mut line = vec![b'x'; length];
            line.push(b'\n');
            let mut out = Vec::new();
            encode(&mut out, STAMP, Stream::Stdout, &line);
            let records = records(&out);
            assert_eq!(records.len(), wanted, "{length} bytes");
            assert!(records.iter().all(|r| r.message.len() <= MAX_MESSAGE));
            assert_eq!(records.last().unwrap().tag, Tag::Full);
            assert!(records[..wanted - 1].iter().all(|r| r.tag == Tag::Partial));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_comes_back(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
                                      newlines in any::<u8>(), long in 0usize..40_000) {
            let mut written: Vec<u8> = chunks.concat();
            written.iter_mut().filter(|b| **b < newlines / 8).for_each(|b| *b = b'\n');
            written.extend(std::iter::repeat_n(b'y', long));
            let mut out = Vec::new();
            // In pieces, as a pipe would give them.
            for piece in written.chunks(777) {
                encode(&mut out, STAMP, Stream::Stderr, piece);
            }
            let mut back = Vec::new();
            for record in records(&out) {
                prop_assert!(record.message.len() <= MAX_MESSAGE);
                prop_assert_eq!(record.stream, Stream::Stderr);
                back.extend_from_slice(record.message);
                if record.tag == Tag::Full {
                    back.push(b'\n');
                }
            }
            prop_assert_eq!(back, written);
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _entry = parse(&bytes);
        }
    }
}
