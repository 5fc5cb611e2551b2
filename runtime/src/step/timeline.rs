//! Tells how long steps took: to the person who asked, or from the shim to the command that waits for it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::TARGET;

/// A step that has ended, well or not.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Timed {
    /// Which.
    pub name: String,
    /// Of which container or volume; empty for the pod.
    pub subject: String,
    /// When it began, from the start of the command.
    pub began: Duration,
    /// How long it took.
    pub took: Duration,
}

/// Where the times go.
pub(crate) type Sink = Box<dyn FnMut(&Timed) + Send>;

/// One per process, as a subscriber is; a forked shim sends elsewhere than the command did.
static SINK: Mutex<Option<Sink>> = Mutex::new(None);

/// Tells somebody else from now on, or nobody.
pub(crate) fn send_to(sink: Option<Sink>) {
    *SINK.lock().unwrap_or_else(PoisonError::into_inner) = sink;
}

/// A layer for tracing's registry that hears the spans of steps.
#[derive(Debug)]
pub struct Timeline {
    /// Kept across the fork of a shim: its steps are on the command's time.
    start: Instant,
}

impl Timeline {
    /// Time begins now; `tell` is called when a step of this process ends.
    #[must_use]
    pub fn new(tell: impl FnMut(&Timed) + Send + 'static) -> Self {
        send_to(Some(Box::new(tell)));
        Self { start: Instant::now() }
    }

    /// Lets pass what a timeline wants to hear, and nothing else.
    #[must_use]
    pub fn filter<S>() -> impl Filter<S> {
        tracing_subscriber::filter::filter_fn(|metadata: &Metadata<'_>| metadata.target() == TARGET)
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Timeline {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut begun = Begun { name: String::new(), subject: String::new(), at: Instant::now() };
        attributes.record(&mut begun);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(begun);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(begun) = context.span(&id).and_then(|span| span.extensions_mut().remove::<Begun>()) else { return };
        let timed = Timed { name: begun.name, subject: begun.subject, began: begun.at - self.start, took: begun.at.elapsed() };
        if let Some(tell) = &mut *SINK.lock().unwrap_or_else(PoisonError::into_inner) {
            tell(&timed);
        }
    }
}

struct Begun {
    name: String,
    subject: String,
    at: Instant,
}

impl Visit for Begun {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "name" => value.clone_into(&mut self.name),
            "subject" => value.clone_into(&mut self.subject),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}
