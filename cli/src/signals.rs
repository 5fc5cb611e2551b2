//! SIGINT, SIGTERM and SIGHUP to `run`: held back while shims are forked, then taken one by one.

use nix::sys::signal::{SigSet, SigmaskHow, Signal as Name, pthread_sigmask};
use rustix::process::Signal;

use crate::error::Error;

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

impl Signals {
    /// The number of the next one.
    pub(crate) async fn next(&mut self) -> u8 {
        // A descriptor that cannot be read any more is as good a reason to stop as SIGTERM.
        let signal = self.0.next().await.unwrap_or(Signal::TERM);
        u8::try_from(signal.as_raw()).unwrap_or(15)
    }
}
