//! The pod's events, in the words of Kubernetes' event recorder, one JSON object a line.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

use crate::error::Error;

/// Appends events to a file.
pub(crate) struct EventLog(File);

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
        OpenOptions::new().append(true).create(true).mode(0o600).open(path).map(Self).map_err(Error::file("open", path))
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
        let event = Event { time: Timestamp::now(), kind, reason, container, message };
        let written = serde_json::to_vec(&event).map_err(std::io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            // One write(2), so that lines of readers are whole.
            (&self.0).write_all(&line)
        });
        if let Err(error) = written {
            tracing::warn!(%error, reason, "event not written");
        }
    }
}
