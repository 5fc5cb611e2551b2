//! The pod's events, in the words of Kubernetes' event recorder, one JSON object a line.
//!
//! Events that a full disk takes none of are counted; the first that is written again tells how many are missing.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

use crate::error::Error;

/// Appends events to a file.
pub(crate) struct EventLog {
    file: File,
    /// Events not written since the last that was.
    lost: Cell<u32>,
}

#[derive(Serialize)]
struct Event<'a> {
    time: Timestamp,
    #[serde(rename = "type")]
    kind: &'a str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<&'a str>,
    message: &'a str,
}

impl EventLog {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(Error::file("open", path))?;
        Ok(Self { file, lost: Cell::new(0) })
    }

    /// `Created`, `Started`, `Killing`, ...
    pub(crate) fn normal(&self, reason: &str, container: Option<&str>, message: &str) {
        self.write("Normal", reason, container, message);
    }

    /// `BackOff`, `Failed`, ...
    pub(crate) fn warning(&self, reason: &str, container: Option<&str>, message: &str) {
        self.write("Warning", reason, container, message);
    }

    fn write(&self, kind: &str, reason: &str, container: Option<&str>, message: &str) {
        let time = Timestamp::now();
        let lost = self.lost.get();
        let written = (|| {
            let mut lines = Vec::new();
            if lost > 0 {
                let message = format!("{lost} events before this one could not be written");
                append(&mut lines, &Event { time, kind: "Warning", reason: "EventsLost", container: None, message: &message })?;
            }
            append(&mut lines, &Event { time, kind, reason, container, message })?;
            self.whole(&lines)
        })();
        match written {
            Ok(()) => self.lost.set(0),
            Err(error) => {
                self.lost.set(lost + 1);
                tracing::warn!(%error, reason, "event not written");
            }
        }
    }

    /// Writes lines whole or not at all: the disk may have room for the beginning only.
    fn whole(&self, lines: &[u8]) -> io::Result<()> {
        let before = self.file.metadata()?.len();
        let written = (&self.file).write_all(lines); // one write(2), so that readers see whole lines
        if written.is_err() && self.file.metadata()?.len() > before {
            self.file.set_len(before)?;
        }
        written
    }
}

fn append(lines: &mut Vec<u8>, event: &Event<'_>) -> io::Result<()> {
    serde_json::to_writer(&mut *lines, event)?;
    lines.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_are_lost_are_counted_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let mut events = EventLog::open(&path).unwrap();
        events.normal("Started", Some("c"), "one");
        let file = std::mem::replace(&mut events.file, OpenOptions::new().append(true).open("/dev/full").unwrap());
        events.normal("Lost", None, "two");
        events.warning("Lost", None, "three");
        events.file = file;
        events.normal("Exited", Some("c"), "four");
        events.normal("Exited", Some("c"), "five");
        let text = std::fs::read_to_string(&path).unwrap();
        let seen: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let reasons: Vec<_> = seen.iter().map(|event| event["reason"].as_str().unwrap()).collect();
        assert_eq!(reasons, ["Started", "EventsLost", "Exited", "Exited"]);
        assert!(seen[1]["message"].as_str().unwrap().starts_with("2 events"), "{}", seen[1]);
    }
}
