//! A wish to stop, shared between whoever wishes and the threads that work.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Told once, seen by all its clones.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    cancelled: Mutex<bool>,
    told: Condvar,
}

impl Cancel {
    /// One that nobody has told yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells it. Whoever waits is woken.
    pub fn cancel(&self) {
        *self.0.cancelled.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.told.notify_all();
    }

    /// Whether it was told.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        *self.0.cancelled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps for `time`, or until it is told. Says whether it was.
    #[must_use]
    pub fn wait(&self, time: Duration) -> bool {
        let until = Instant::now().checked_add(time);
        let mut cancelled = self.0.cancelled.lock().unwrap_or_else(PoisonError::into_inner);
        while !*cancelled {
            let left = until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return false;
            }
            cancelled = self.0.told.wait_timeout(cancelled, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_by_time_or_by_being_told() {
        let cancel = Cancel::new();
        assert!(!cancel.wait(Duration::from_millis(1)));
        let (send, receive) = std::sync::mpsc::channel();
        let waiting = cancel.clone();
        let thread = std::thread::spawn(move || {
            send.send(()).unwrap();
            waiting.wait(Duration::MAX)
        });
        receive.recv().unwrap();
        cancel.cancel();
        assert!(thread.join().unwrap());
        assert!(cancel.is_cancelled());
        assert!(cancel.wait(Duration::MAX));
    }
}
