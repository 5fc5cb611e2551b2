//! When to try again, and after which pause.

use std::time::Duration;

use super::error::Problem;
use super::{Notice, Shared};

/// How long we wait for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patience {
    /// For a connection, with its TLS handshake; and for name servers.
    pub connect: Duration,
    /// Without a single byte from the other side.
    pub idle: Duration,
    /// For a small document (manifest, configuration, token) as a whole.
    pub document: Duration,
    /// How often one thing is tried in a row without progress; at least 1.
    pub tries: u32,
    /// Bytes of a blob that are progress: a server that always stops after a few would else be asked thousands of times.
    pub progress: u64,
    /// The pause before the second try; each further pause is twice as long. A random half of it is taken off.
    pub first_pause: Duration,
    /// No pause is longer than this.
    pub longest_pause: Duration,
    /// A registry's `Retry-After` is honoured up to this; a longer one ends in an error that says so.
    pub longest_wish: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            document: Duration::from_secs(120),
            tries: 5,
            progress: 64 << 10,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(20),
            longest_wish: Duration::from_secs(60),
        }
    }
}

impl Patience {
    /// The pause after `failed` (from 1) fruitless tries; nothing when it is no use to try again.
    pub(super) fn pause(&self, problem: &Problem, failed: u32) -> Option<Duration> {
        if failed >= self.tries || !problem.may_pass() {
            return None;
        }
        if let Some(wish) = problem.retry_after() {
            return (wish <= self.longest_wish).then_some(wish);
        }
        let doubled = self.first_pause.saturating_mul(1 << (failed - 1).min(16));
        let pause = doubled.min(self.longest_pause);
        Some(pause.mul_f64(1.0 - fastrand::f64() / 2.0))
    }
}

/// Tells the user, and sleeps.
///
/// # Errors
/// [`Problem::Cancelled`] when it was told meanwhile; `problem` when it is no use.
pub(super) fn rest(shared: &Shared, what: &str, problem: Problem, failed: u32) -> Result<(), Problem> {
    let Some(after) = shared.patience.pause(&problem, failed) else {
        return Err(problem);
    };
    shared.tell(&Notice::Retry { what: what.to_owned(), why: problem.to_string(), after });
    if shared.cancel.wait(after) { Err(Problem::Cancelled) } else { Ok(()) }
}

/// Does `work` until it succeeds, or fails for good.
pub(super) fn retry<T>(shared: &Shared, what: &str, mut work: impl FnMut() -> Result<T, Problem>) -> Result<T, Problem> {
    let mut failed = 0;
    loop {
        if shared.cancel.is_cancelled() {
            return Err(Problem::Cancelled);
        }
        match work() {
            Ok(done) => return Ok(done),
            Err(problem) => {
                failed += 1;
                rest(shared, what, problem, failed)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn too_many(after: Option<u64>) -> Problem {
        Problem::TooManyRequests { host: "h".into(), after: after.map(Duration::from_secs), said: String::new() }
    }

    #[test]
    fn pauses_grow_and_end() {
        let patience = Patience::default();
        let problem = Problem::Server { host: "h".into(), status: 503, after: None, said: String::new() };
        for (failed, most) in [(1, 500), (2, 1000), (3, 2000), (4, 4000)] {
            let pause = patience.pause(&problem, failed).unwrap().as_millis();
            assert!(pause <= most && pause >= most / 2, "{failed}: {pause}");
        }
        assert_eq!(patience.pause(&problem, 5), None);
        assert_eq!(patience.pause(&Problem::UnknownHost { host: "h".into() }, 1), None);
        let endless = Patience { tries: u32::MAX, ..patience };
        assert!(endless.pause(&problem, 1_000_000).unwrap() <= endless.longest_pause);
    }

    #[test]
    fn a_registrys_wish_is_kept_exactly_or_refused() {
        let patience = Patience::default();
        assert_eq!(patience.pause(&too_many(Some(7)), 1), Some(Duration::from_secs(7)));
        assert_eq!(patience.pause(&too_many(Some(61)), 1), None);
        assert!(patience.pause(&too_many(None), 1).is_some());
    }
}
