//! SIGINT, SIGTERM and SIGHUP: held back while shims are forked, then taken one by one; or ending work on other threads.

use std::thread;

use bundles::cancel::Cancel;
use nix::sys::signal::{SigSet, SigmaskHow, Signal as Name, pthread_sigmask};
use rustix::process::Signal;
use tokio::sync::oneshot;

use crate::error::Error;
use crate::exit;
use crate::tasks::block_on;

/// Keeps signals waiting, from before the first fork on: none is lost between that and [`Held::listen`], and none ends us
/// while a pod has nobody to stop it. (Shims clear their mask.)
#[derive(Debug)]
pub(crate) struct Held(());

/// The signals as they come.
#[derive(Debug)]
pub(crate) struct Signals(runtime::signal::Signals);

impl Held {
    /// Begins to hold them back.
    pub(crate) fn new() -> Result<Self, Error> {
        let wanted: SigSet = [Name::SIGINT, Name::SIGTERM, Name::SIGHUP].into_iter().collect();
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&wanted), None).map_err(|e| Error::System("block signals", e.into()))?;
        Ok(Self(()))
    }

    /// Takes them from now on, those that waited first. Needs to be inside a tokio runtime, and no fork to follow.
    pub(crate) fn listen(self) -> Result<Signals, Error> {
        let signals = runtime::signal::Signals::of(&[Signal::INT, Signal::TERM, Signal::HUP]);
        signals.map(Signals).map_err(|e| Error::System("listen to signals", e))
    }
}

/// Does work on another thread, which may have threads of its own, and ends it when a signal comes. When it is over, this process has
/// one thread again, and signals do what they did before.
///
/// # Errors
/// [`Error::Interrupted`] when a signal came and the work failed. A second signal ends the process at once.
pub(crate) fn interruptible<T: Send>(cancel: &Cancel, work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    let before = SigSet::thread_get_mask().map_err(|e| Error::System("look at the mask of signals", e.into()))?;
    let held = Held::new()?;
    let (tell, mut finished) = oneshot::channel();
    let (result, number) = thread::scope(|scope| {
        let worker = scope.spawn(|| tell.send(work()).ok());
        let ended = block_on(async {
            let mut signals = held.listen()?;
            let mut number = None;
            loop {
                tokio::select! {
                    result = &mut finished => break Ok((result, number)),
                    signal = signals.next() => {
                        if let Some(first) = number.replace(signal) {
                            std::process::exit(exit::by_signal(first).into());
                        }
                        cancel.cancel();
                    }
                }
            }
        });
        // Not left to the scope, which waits for the work only: the thread itself must be gone before anybody forks.
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        ended
    })?;
    before.thread_set_mask().map_err(|e| Error::System("unblock signals", e.into()))?;
    match (result, number) {
        (Ok(Err(_)), Some(number)) => Err(Error::Interrupted(number)),
        (Ok(result), _) => result,
        // It would have been told of above.
        (Err(_), _) => Err(Error::Usage("a thread ended without a result".to_owned())),
    }
}

impl Signals {
    /// The number of the next one.
    pub(crate) async fn next(&mut self) -> u8 {
        // A descriptor that cannot be read any more is as good a reason to stop as SIGTERM.
        let signal = self.0.next().await.unwrap_or(Signal::TERM);
        u8::try_from(signal.as_raw()).unwrap_or(15)
    }
}
