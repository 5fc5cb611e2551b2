//! The one thread's asynchronous runtime.

use std::future::Future;

use tokio::runtime::Builder;

use crate::error::Error;

/// Runs a future on this thread to its end. Starts no thread, so that a later fork is safe: nothing below may use
/// `spawn_blocking` (nor `tokio::fs`, which does).
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| Error::System("start the asynchronous runtime", e))?.block_on(work)
}

/// Refuses everybody but root, before anything is looked at.
pub(crate) fn require_root() -> Result<(), Error> {
    if nix::unistd::geteuid().is_root() { Ok(()) } else { Err(Error::NotRoot) }
}
