//! Writes one attempt's log. What cannot be written is lost and counted; the container is never held up by a full disk.
//!
//! ```text
//! writing ── a write fails ──> stopped (since, cause) ── each write is tried ──> writing
//!                                 lost += what was not written       first a notice of how much is missing
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Stream, encode};
use crate::error::{Error, chain};

/// Most bytes kept between batches: what a full pipe of ordinary lines becomes.
const KEPT: usize = 256 * 1024;

/// What a log lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// When a write failed first.
    pub since: Timestamp,
    /// When the log went on; `None` while it is stopped.
    pub until: Option<Timestamp>,
    /// Bytes of output that are not in it.
    pub lost: u64,
    /// Why.
    pub cause: String,
}

impl std::fmt::Display for Gap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { since, until, lost, cause } = self;
        match until {
            None => write!(f, "stopped since {since:.3}, {lost} bytes of output lost so far: {cause}"),
            Some(until) => write!(f, "{lost} bytes of output lost between {since:.3} and {until:.3}: {cause}"),
        }
    }
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It is in the log.
    Whole,
    /// The log was stopped and goes on: a notice of the gap, then the batch, are in it.
    Resumed(Gap),
    /// The log is stopped still: the batch is lost.
    Lost,
}

/// Writes one container's output to its log file.
#[derive(Debug)]
pub struct LogWriter {
    path: PathBuf,
    /// `None` while the disk had no room for it yet.
    file: Option<File>,
    /// Length of the file up to the last whole record.
    length: u64,
    /// Kept between batches, so that a steady flow allocates nothing.
    records: Vec<u8>,
    stamp: String,
    /// The streams whose last record is a piece of a line.
    unfinished: Vec<Stream>,
    gap: Option<Gap>,
}

impl LogWriter {
    /// Opens (for append) or creates the file, mode 0640 as the kubelet's, and the directories above it. When the disk is full
    /// the log begins stopped (see [`LogWriter::gap`]), and later writes try again.
    ///
    /// # Errors
    /// When a directory or the file cannot be made for another reason.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let mut writer = Self {
            path: path.to_owned(),
            file: None,
            length: 0,
            records: Vec::new(),
            stamp: String::new(),
            unfinished: Vec::new(),
            gap: None,
        };
        match writer.open() {
            Err(Error::File { source, operation, path }) if is_full(&source) => {
                writer.stop(Timestamp::now(), &Error::File { source, operation, path });
            }
            opened => opened?,
        }
        Ok(writer)
    }

    fn open(&mut self) -> Result<(), Error> {
        let path = &self.path;
        if let Some(parent) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(Error::file("create", parent))?;
        }
        let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path).map_err(Error::file("create", path))?;
        self.length = file.metadata().map_err(Error::file("stat", path))?.len();
        self.file = Some(file);
        Ok(())
    }

    /// Appends what a container wrote, as records with the present time: one reading of the clock and, unless the kernel
    /// takes less, one write(2) per call.
    ///
    /// # Errors
    /// The first failure of a row (a full disk, say). The batch is lost whole, and so is what comes until a write succeeds
    /// again: it is counted in [`LogWriter::gap`], without further errors.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) -> Result<Written, Error> {
        if bytes.is_empty() {
            return Ok(Written::Whole);
        }
        let now = Timestamp::now();
        self.begin(now);
        encode(&mut self.records, &self.stamp, stream, bytes);
        match self.append() {
            Ok(()) => {
                let written = self.resumed(now);
                self.unfinished.retain(|other| *other != stream);
                if bytes.last() != Some(&b'\n') {
                    self.unfinished.push(stream);
                }
                Ok(written)
            }
            Err(error) => self.failed(bytes.len(), now, error),
        }
    }

    /// Tries to put the notice of a gap into the log although nothing follows it.
    pub fn finish(&mut self) -> Written {
        if self.gap.is_none() {
            return Written::Whole;
        }
        let now = Timestamp::now();
        self.begin(now);
        match self.append() {
            Ok(()) => self.resumed(now),
            Err(_) => Written::Lost, // as before, and told
        }
    }

    /// What is missing since the log stopped; `None` while it is written.
    #[must_use]
    pub fn gap(&self) -> Option<&Gap> {
        self.gap.as_ref()
    }

    /// Stamps the records to come; behind a gap they begin with the notice.
    fn begin(&mut self, now: Timestamp) {
        use std::fmt::Write as _;
        self.stamp.clear();
        self.records.clear();
        if write!(self.stamp, "{now:.9}").is_err() {
            unreachable!("a String takes any text");
        }
        let Some(gap) = self.gap.as_ref().filter(|gap| gap.lost > 0) else { return };
        // A piece from before must not be joined to what comes after.
        for stream in &self.unfinished {
            encode(&mut self.records, &self.stamp, *stream, b"\n");
        }
        let notice = format!("minipod: the log stopped: {}\n", Gap { until: Some(now), ..gap.clone() });
        encode(&mut self.records, &self.stamp, Stream::Stderr, notice.as_bytes());
    }

    fn append(&mut self) -> Result<(), Error> {
        if self.file.is_none() {
            self.open()?;
        }
        let Some(file) = &mut self.file else { unreachable!("just opened") };
        if let Err(source) = file.write_all(&self.records) {
            // Part of the batch may be there; a torn record would spoil the first one after it. Shrinking needs no space.
            let torn = file.metadata().is_ok_and(|found| found.len() > self.length);
            if torn && let Err(e) = file.set_len(self.length) {
                tracing::warn!(path = %self.path.display(), error = %e, "a torn log record stays");
            }
            return Err(Error::file("write", &self.path)(source));
        }
        self.length += self.records.len() as u64;
        self.records.shrink_to(KEPT);
        Ok(())
    }

    fn resumed(&mut self, now: Timestamp) -> Written {
        let Some(gap) = self.gap.take() else { return Written::Whole };
        if gap.lost > 0 {
            self.unfinished.clear(); // the notice ended them
        }
        Written::Resumed(Gap { until: Some(now), ..gap })
    }

    fn failed(&mut self, lost: usize, now: Timestamp, error: Error) -> Result<Written, Error> {
        let known = self.gap.is_some();
        if !known {
            self.stop(now, &error);
        }
        if let Some(gap) = &mut self.gap {
            gap.lost += lost as u64;
        }
        if known { Ok(Written::Lost) } else { Err(error) }
    }

    fn stop(&mut self, since: Timestamp, error: &Error) {
        self.gap = Some(Gap { since, until: None, lost: 0, cause: chain(error) });
    }
}

/// Whether a failure means that there is no room, which may change by itself.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::super::{LogFile, Tag, files, parse};
    use super::*;

    const STAMP: &str = "2016-10-06T00:17:09.669794202Z";

    /// A writer whose disk is full until [`space`] is made.
    fn full(dir: &Path) -> LogWriter {
        let mut writer = LogWriter::create(&dir.join("c/0.log")).unwrap();
        writer.file = Some(OpenOptions::new().append(true).open("/dev/full").unwrap());
        writer
    }

    fn space(writer: &mut LogWriter) {
        writer.file = None; // is opened again
    }

    fn messages(dir: &Path) -> Vec<(Stream, Tag, String)> {
        let text = fs::read_to_string(dir.join("c/0.log")).unwrap();
        text.lines().map(|line| parse(line.as_bytes()).expect("a record")).map(|e| (e.stream, e.tag, String::from_utf8_lossy(e.message).into_owned())).collect()
    }

    #[test]
    fn the_writer_appends_and_stamps_nine_digits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web/0.log");
        assert_eq!(LogWriter::create(&path).unwrap().write(Stream::Stdout, b"one\ntwo\n").unwrap(), Written::Whole);
        assert_eq!(LogWriter::create(&path).unwrap().write(Stream::Stderr, b"three").unwrap(), Written::Whole);
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].ends_with(" stdout F one") && lines[1].ends_with(" stdout F two") && lines[2].ends_with(" stderr P three"));
        assert!(lines.iter().all(|l| l.as_bytes()[STAMP.len() - 1] == b'Z' && l.as_bytes()[STAMP.len()] == b' '));
        assert_eq!(files(dir.path()).unwrap(), [LogFile { container: "web".into(), attempt: 0, path }]);
    }

    #[test]
    fn a_failing_file_is_told_once_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = full(dir.path());
        let error = writer.write(Stream::Stdout, b"lost\n").unwrap_err();
        assert!(chain(&error).contains("No space left"), "{error:?}");
        assert_eq!(writer.write(Stream::Stdout, b"and more\n").unwrap(), Written::Lost);
        assert_eq!(writer.gap().map(|gap| (gap.lost, gap.until)), Some((14, None)));
        // Space again: the next failure is news again.
        space(&mut writer);
        assert!(matches!(writer.write(Stream::Stdout, b"kept\n").unwrap(), Written::Resumed(gap) if gap.lost == 14 && gap.until.is_some()));
        assert_eq!(writer.write(Stream::Stdout, b"too\n").unwrap(), Written::Whole);
        writer.file = Some(OpenOptions::new().append(true).open("/dev/full").unwrap());
        assert!(writer.write(Stream::Stdout, b"lost\n").is_err());
        assert_eq!(writer.gap().map(|gap| gap.lost), Some(5));
    }

    #[test]
    fn a_gap_is_marked_and_joins_no_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = LogWriter::create(&dir.path().join("c/0.log")).unwrap();
        writer.write(Stream::Stdout, b"whole\npie").unwrap();
        writer.write(Stream::Stderr, b"done\n").unwrap();
        writer.file = Some(OpenOptions::new().append(true).open("/dev/full").unwrap());
        writer.write(Stream::Stdout, b"ce\n").unwrap_err();
        space(&mut writer);
        writer.write(Stream::Stdout, b"next\n").unwrap();
        let found = messages(dir.path());
        let (stream, tag, notice) = &found[4];
        assert_eq!((*stream, *tag), (Stream::Stderr, Tag::Full));
        assert!(notice.contains("3 bytes of output lost between 2") && notice.contains("No space left"), "{notice}");
        let plain: Vec<_> = found.iter().enumerate().filter(|(n, _)| *n != 4).map(|(_, (s, t, m))| (*s, *t, &**m)).collect();
        assert_eq!(plain, [
            (Stream::Stdout, Tag::Full, "whole"),
            (Stream::Stdout, Tag::Partial, "pie"),
            (Stream::Stderr, Tag::Full, "done"),
            (Stream::Stdout, Tag::Full, ""),
            (Stream::Stdout, Tag::Full, "next"),
        ]);
    }

    #[test]
    fn the_notice_comes_at_the_end_when_nothing_follows_the_gap() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = full(dir.path());
        writer.write(Stream::Stdout, b"lost").unwrap_err();
        assert_eq!(writer.finish(), Written::Lost);
        space(&mut writer);
        assert!(matches!(writer.finish(), Written::Resumed(_)));
        assert_eq!(writer.finish(), Written::Whole);
        assert_eq!(messages(dir.path()).len(), 1);
    }
}
