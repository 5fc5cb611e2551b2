//! Which process we mean: pid and start time together, and a pidfd to act on it.
//!
//! A pid alone may be reused by another process between looking and acting. The start time tells the two apart
//! on disk, the pidfd in memory.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open};
use serde::{Deserialize, Serialize};

use crate::sys;

/// A process of this boot: its pid in our pid namespace and its start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// The process id as our pid namespace sees it.
    pub pid: u32,
    /// `/proc/PID/stat` field 22, clock ticks since boot (proc_pid_stat(5)).
    pub start_ticks: u64,
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.pid)
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit code, or 128 plus the signal's number, as shells report it.
    pub code: u8,
    /// The signal that ended it, if one did.
    pub signal: Option<u8>,
}

impl ProcessId {
    /// The identity of the process that has `pid` now.
    ///
    /// # Errors
    /// `NotFound` when there is none; what reading `/proc/PID/stat` reports.
    pub fn of(pid: u32) -> io::Result<Self> {
        let start_ticks = Stat::read(pid)?.start_ticks;
        Ok(Self { pid, start_ticks })
    }

    /// The identity of process `pid`, whose `/proc/PID/stat` is open as `stat`.
    pub(crate) fn from_stat(pid: u32, mut stat: impl io::Read) -> io::Result<Self> {
        let mut text = Vec::new();
        stat.read_to_end(&mut text)?;
        let start_ticks = Stat::from_bytes(pid, &text)?.start_ticks;
        Ok(Self { pid, start_ticks })
    }

    /// A pidfd of exactly this process, close-on-exec; `None` when it is gone (reaped, or its pid is another's now).
    /// A process that has ended but waits to be reaped (a zombie) still has one.
    ///
    /// # Errors
    /// What pidfd_open(2) reports other than `ESRCH`.
    pub fn pidfd(&self) -> io::Result<Option<OwnedFd>> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let fd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        // Looked at after the pidfd exists: from here on the pid cannot move to a process with our start time.
        match Stat::read(self.pid) {
            Ok(stat) if stat.start_ticks == self.start_ticks => Ok(Some(fd)),
            Ok(_) => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(libc::ESRCH) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Whether the process runs: it exists and is no zombie.
    pub fn is_alive(&self) -> bool {
        Stat::read(self.pid)
            .is_ok_and(|stat| stat.start_ticks == self.start_ticks && !matches!(stat.state, 'Z' | 'X'))
    }

    /// Sends `signal` through a pidfd; `false` when the process is gone.
    ///
    /// # Errors
    /// What pidfd_open(2) and pidfd_send_signal(2) report.
    pub fn signal(&self, signal: Signal) -> io::Result<bool> {
        match self.pidfd()? {
            Some(fd) => send_signal(fd.as_fd(), signal),
            None => Ok(false),
        }
    }
}

/// Sends `signal` to the process of `pidfd`; `false` when it is gone.
///
/// # Errors
/// What pidfd_send_signal(2) reports other than `ESRCH`.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: Signal) -> io::Result<bool> {
    match rustix::process::pidfd_send_signal(pidfd, signal) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::SRCH) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Waits until the process of `pidfd` has ended. It need not be our child, and is not reaped.
///
/// # Errors
/// When the descriptor cannot be watched (a closed runtime, too many watches).
pub async fn ended(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    let watched = sys::watch_readable(pidfd.try_clone_to_owned()?)?;
    let mut guard = watched.readable().await?;
    guard.retain_ready();
    Ok(())
}

/// Waits until our child behind `pidfd` has ended, reaps it and says how it ended.
///
/// # Errors
/// `ECHILD` when it is not our child (any more); what waitid(2) reports.
pub async fn wait_exit(pidfd: BorrowedFd<'_>) -> io::Result<Exit> {
    loop {
        ended(pidfd).await?;
        if let Some(exit) = try_reap(pidfd)? {
            return Ok(exit);
        }
    }
}

/// Reaps our child behind `pidfd` if it has ended.
///
/// # Errors
/// `ECHILD` when it is not our child (any more); what waitid(2) reports.
pub fn try_reap(pidfd: BorrowedFd<'_>) -> io::Result<Option<Exit>> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let status = rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::PidFd(pidfd), options))?;
    Ok(status.as_ref().map(exit_of))
}

fn exit_of(status: &WaitIdStatus) -> Exit {
    // Both numbers fit: the kernel keeps 8 bits of an exit code and signals end at 64.
    let small = |n: i32| u8::try_from(n & 0xff).unwrap_or(u8::MAX);
    match (status.exit_status(), status.terminating_signal()) {
        (_, Some(signal)) => Exit { code: 128u8.wrapping_add(small(signal)), signal: Some(small(signal)) },
        (Some(code), None) => Exit { code: small(code), signal: None },
        (None, None) => Exit { code: u8::MAX, signal: None },
    }
}

struct Stat {
    state: char,
    start_ticks: u64,
}

impl Stat {
    fn read(pid: u32) -> io::Result<Self> {
        // In /proc a file's size is unknown; with room enough one read does, instead of several of growing size.
        let mut text = Vec::with_capacity(1024);
        io::Read::read_to_end(&mut std::fs::File::open(format!("/proc/{pid}/stat"))?, &mut text)?;
        Self::from_bytes(pid, &text)
    }

    fn from_bytes(pid: u32, text: &[u8]) -> io::Result<Self> {
        Self::parse(&String::from_utf8_lossy(text))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat is not understood")))
    }

    /// The command name may hold anything, spaces and parentheses too, so count from its last parenthesis.
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        // Field 3 is the state; field 22 is 18 further on after the one just taken.
        let start_ticks = fields.nth(18)?.parse().ok()?;
        Some(Self { state, start_ticks })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn a_hostile_command_name_does_not_shift_the_fields() {
        let text = "7 (a) S 1 (b) R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        let stat = Stat::parse(text).unwrap();
        assert_eq!(('R', 4242), (stat.state, stat.start_ticks));
        assert!(Stat::parse("7 (a) S 1").is_none());
    }

    #[test]
    fn another_start_time_is_another_process() {
        let me = ProcessId::of(std::process::id()).unwrap();
        assert!(me.is_alive());
        assert!(me.pidfd().unwrap().is_some());
        let other = ProcessId { start_ticks: me.start_ticks + 1, ..me };
        assert!(!other.is_alive());
        assert!(other.pidfd().unwrap().is_none());
        assert!(!other.signal(Signal::KILL).unwrap());
    }

    #[test]
    #[allow(clippy::zombie_processes)] // wait_exit reaps it: that is what is tested
    fn exit_code_and_signal_are_told_apart() {
        runtime().block_on(async {
            for (script, expected) in [
                ("exit 7", Exit { code: 7, signal: None }),
                ("kill -9 $$", Exit { code: 137, signal: Some(9) }),
            ] {
                let child = Command::new("/bin/sh").args(["-c", script]).spawn().unwrap();
                let id = ProcessId::of(child.id()).unwrap();
                let fd = id.pidfd().unwrap().unwrap();
                assert_eq!(expected, wait_exit(fd.as_fd()).await.unwrap());
                assert!(!id.is_alive());
                assert!(id.pidfd().unwrap().is_none(), "reaped");
            }
        });
    }
}
