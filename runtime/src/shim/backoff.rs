//! When a container that ended runs again: at once, then after 10 s, 20 s, ... 300 s; from the start again once it
//! has run for 10 minutes (Kubernetes, Pod Lifecycle, "How Pods handle problems with containers").

use std::time::Duration;

/// Longest wait between two starts.
const CAP: Duration = Duration::from_secs(300);
/// A run this long proves the container well.
const RESET: Duration = Duration::from_secs(600);

/// The back-off of one container.
#[derive(Debug, Clone)]
pub(crate) struct BackOff {
    base: Duration,
    next: Duration,
}

impl BackOff {
    /// `base` is the second wait; Kubernetes' is 10 s, a lab may shorten it.
    pub(crate) fn new(base: Duration) -> Self {
        Self { base, next: Duration::ZERO }
    }

    /// How long to wait after a run of length `ran`.
    pub(crate) fn after(&mut self, ran: Duration) -> Duration {
        if ran >= RESET {
            self.next = Duration::ZERO;
        }
        let wait = self.next;
        self.next = if wait.is_zero() { self.base } else { (wait * 2).min(CAP) };
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn the_first_restart_is_immediate_then_it_doubles_to_the_cap() {
        let mut back_off = BackOff::new(10 * S);
        let waits: Vec<u64> = (0..8).map(|_| back_off.after(S).as_secs()).collect();
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn ten_good_minutes_reset_it() {
        let mut back_off = BackOff::new(10 * S);
        for _ in 0..5 {
            back_off.after(S);
        }
        assert_eq!(back_off.after(600 * S), Duration::ZERO);
        assert_eq!(back_off.after(599 * S), 10 * S);
    }
}
