//! What a starting shim tells the command that forked it: one JSON object a line, on a pipe.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Progress {
    /// A step of the start is done.
    Step {
        /// Which.
        name: String,
        /// How long it took, in microseconds.
        micros: u64,
    },
    /// Every app container has executed its entry point.
    Started,
    /// The pod did not start.
    Failed {
        /// The chain of causes.
        message: String,
        /// minipod's exit code for it.
        exit_code: u8,
        /// Everything is undone, the pod's directory included; otherwise the pod stays, phase Failed.
        removed: bool,
    },
}

/// The shim's end. A command that is gone is no reason to stop: then messages go nowhere.
pub(crate) struct Reporter {
    pipe: Option<File>,
    last: Instant,
}

impl Reporter {
    pub(crate) fn new(pipe: OwnedFd) -> Self {
        Self { pipe: Some(pipe.into()), last: Instant::now() }
    }

    /// The step that ends now.
    pub(crate) fn step(&mut self, name: &str) {
        let now = Instant::now();
        let micros = u64::try_from((now - self.last).as_micros()).unwrap_or(u64::MAX);
        self.last = now;
        tracing::debug!(name, micros, "step");
        self.send(&Progress::Step { name: name.to_owned(), micros });
    }

    /// The last message; closes the pipe.
    pub(crate) fn finish(&mut self, message: &Progress) {
        self.send(message);
        self.pipe = None;
    }

    fn send(&mut self, message: &Progress) {
        let Some(pipe) = &mut self.pipe else { return };
        let line = serde_json::to_vec(message).map(|mut line| {
            line.push(b'\n');
            line
        });
        // A closed pipe (EPIPE) means that the command has ended.
        if !line.is_ok_and(|line| pipe.write_all(&line).is_ok()) {
            self.pipe = None;
        }
    }
}
