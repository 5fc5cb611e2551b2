//! What a starting shim tells the command that forked it: one JSON object a line, on a pipe.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::step::{Sink, Timed};

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Progress {
    /// A step of the start is done. Told only when the command has a [`Timeline`](crate::step::Timeline).
    Step(Timed),
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
#[derive(Clone)]
pub(crate) struct Reporter(Arc<File>);

impl Reporter {
    pub(crate) fn new(pipe: OwnedFd) -> Self {
        Self(Arc::new(pipe.into()))
    }

    /// For the times of steps.
    pub(crate) fn sink(&self) -> Sink {
        let report = self.clone();
        Box::new(move |timed| report.send(&Progress::Step(timed.clone())))
    }

    /// The last message; the pipe ends here, and with the sink.
    pub(crate) fn finish(self, message: &Progress) {
        crate::step::send_to(None);
        self.send(message);
    }

    fn send(&self, message: &Progress) {
        let line = serde_json::to_vec(message).map_err(std::io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            // One write(2): lines are whole.
            (&*self.0).write_all(&line)
        });
        // A closed pipe (EPIPE) means that the command has ended.
        if let Err(error) = line {
            tracing::debug!(%error, "the command does not listen");
        }
    }
}
