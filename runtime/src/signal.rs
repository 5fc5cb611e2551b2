//! Signals: their names, as people and images write them, and those that are sent to us.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use bundles::plan::{ContainerPlan, RootSource};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::process::Signal;
use tokio::io::unix::AsyncFd;

use crate::sys::{real_time_signal, watch_readable};

/// `TERM`, `SIGTERM`, `sigterm`, `15`; `RTMIN+3`, which asks systemd in a container to halt, `SIGRTMAX-1`, `37`.
#[must_use]
pub fn parse(text: &str) -> Option<Signal> {
    if let Ok(number) = text.parse::<i32>() {
        return Signal::from_named_raw(number).or_else(|| real_time_signal(number));
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(number) = real_time(name) {
        return real_time_signal(number);
    }
    let signal: nix::sys::signal::Signal = format!("SIG{name}").parse().ok()?;
    Signal::from_named_raw(signal as i32)
}

/// The number of `RTMIN`, `RTMIN+n`, `RTMAX` or `RTMAX-n`.
fn real_time(name: &str) -> Option<i32> {
    let distance = |rest: &str, sign: char| if rest.is_empty() { Some(0) } else { rest.strip_prefix(sign)?.parse::<u8>().ok().map(i32::from) };
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return Some(libc::SIGRTMIN() + distance(rest, '+')?);
    }
    Some(libc::SIGRTMAX() - distance(name.strip_prefix("RTMAX")?, '-')?)
}

/// What asks a container to stop: its image's `StopSignal`, else SIGTERM.
#[must_use]
pub fn to_stop(container: &ContainerPlan) -> Signal {
    let named = match &container.root {
        RootSource::Image(image) => image.config.stop_signal.as_deref(),
        _ => None,
    };
    named.and_then(parse).unwrap_or(Signal::TERM)
}

/// Signals to this process, one by one, by signalfd(2).
///
/// Not tokio's: that keeps one pipe for the whole process, which a forked shim would share with the command that forked it.
#[derive(Debug)]
pub struct Signals(AsyncFd<OwnedFd>);

impl Signals {
    /// Holds these signals back from now on and takes them here. Needs a tokio runtime; meant for programs with one thread.
    ///
    /// # Errors
    /// Those of sigprocmask(2) and signalfd(2).
    pub fn of(signals: &[Signal]) -> io::Result<Self> {
        let mut wanted = SigSet::empty();
        for signal in signals {
            wanted.add(nix::sys::signal::Signal::try_from(signal.as_raw())?);
        }
        wanted.thread_block()?;
        let fd = SignalFd::with_flags(&wanted, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self(watch_readable(fd.as_fd().try_clone_to_owned()?)?))
    }

    /// The next one.
    ///
    /// # Errors
    /// When the descriptor cannot be read.
    pub async fn next(&mut self) -> io::Result<Signal> {
        loop {
            let mut ready = self.0.readable().await?;
            let mut info = [0_u8; size_of::<libc::signalfd_siginfo>()];
            match rustix::io::read(self.0.get_ref(), &mut info) {
                Ok(_) => {
                    // ssi_signo is the first field (signalfd(2)).
                    let number = u32::from_ne_bytes([info[0], info[1], info[2], info[3]]);
                    let signal = i32::try_from(number).ok().and_then(Signal::from_named_raw);
                    return signal.ok_or_else(|| io::Error::other(format!("signal {number}")));
                }
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                Err(e) => return Err(e.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for text in ["TERM", "SIGTERM", "sigterm", "15"] {
            assert_eq!(parse(text), Some(Signal::TERM), "{text}");
        }
        assert_eq!(parse("SIGQUIT"), Some(Signal::QUIT));
        for (text, number) in [
            ("SIGRTMIN+3", libc::SIGRTMIN() + 3), ("rtmin", libc::SIGRTMIN()), ("RTMAX-1", libc::SIGRTMAX() - 1), ("37", 37), ("SIGRTMAX", 64),
        ] {
            assert_eq!(parse(text).map(Signal::as_raw), Some(number), "{text}");
        }
        for text in ["", "SIG", "NOPE", "0", "-1", "4000", "RTMIN+40", "RTMIN-1", "RTMAX+1", "RTMIN+", "RTMIN+x", "32", "65", "SIGSIGTERM"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
