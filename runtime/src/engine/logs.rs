//! libcontainer's children send one line of each failure and only log its cause: the log goes to the shim too.

use std::fmt::Write;
use std::os::fd::{AsFd, OwnedFd};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::protocol::{Message, send};

/// Longer lines are cut: a message must fit into a datagram.
const LONGEST: usize = 2000;

/// Sends every error that is logged in this process, and in those cloned from it, to the shim.
pub(super) fn to_shim(reply: OwnedFd) {
    // Fails only when a subscriber is set already, which then does the work.
    tracing::subscriber::set_global_default(ErrorsToShim(reply)).unwrap_or_default();
}

struct ErrorsToShim(OwnedFd);

impl Subscriber for ErrorsToShim {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() == Level::ERROR
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        let mut cut = line.0.len().min(LONGEST);
        while !line.0.is_char_boundary(cut) {
            cut -= 1;
        }
        line.0.truncate(cut);
        // A log line lost is no reason to fail a container.
        send(self.0.as_fd(), &Message::Log(line.0), None).unwrap_or_default();
    }

    // Spans are not used: `enabled` says no to them.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let separator = if self.0.is_empty() { "" } else { " " };
        // Writing to a String cannot fail.
        match field.name() {
            "message" => write!(self.0, "{separator}{value:?}"),
            name => write!(self.0, "{separator}{name}={value:?}"),
        }
        .unwrap_or_default();
    }
}
