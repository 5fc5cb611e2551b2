//! A pseudo-terminal of the container's own devpts.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::mount::MsFlags;
use nix::unistd::{Gid, Uid};
use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use super::protocol::{Message, TerminalSize, send};

/// `DEVPTS_SUPER_MAGIC` of linux/magic.h.
const DEVPTS_MAGIC: u64 = 0x1cd1;

/// Whether the terminal is the container's `/dev/console`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Console {
    /// It is: for the first process (runtime spec, `process.terminal`).
    Mounted,
    /// It is not: for an exec'd process.
    Untouched,
}

/// Makes a terminal of `size` owned by `owner` (uid, gid), sends its master through `reply` and makes its other end our
/// controlling terminal and standard descriptors.
pub(super) fn attach(
    reply: BorrowedFd<'_>,
    size: TerminalSize,
    owner: (u32, u32),
    console: Console,
) -> io::Result<()> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let master = rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty())?;
    // An image could have put anything there (CVE-2025-52565); a master is only one on a real devpts.
    if u64::try_from(rustix::fs::fstatfs(&master)?.f_type).ok() != Some(DEVPTS_MAGIC) {
        return Err(io::Error::other("/dev/pts/ptmx is not on a devpts file system"));
    }
    rustix::pty::unlockpt(&master)?;
    // By descriptor, not by name: the name may lead elsewhere.
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    nix::unistd::fchown(&slave, Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)))?;
    if size != TerminalSize::default() {
        let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&slave, size)?;
    }
    if console == Console::Mounted {
        mount_console(&slave)?;
    }
    send(reply, &Message::Terminal, Some(master.as_fd()))?;
    rustix::process::ioctl_tiocsctty(&slave)?;
    nix::unistd::dup2_stdin(&slave)?;
    nix::unistd::dup2_stdout(&slave)?;
    nix::unistd::dup2_stderr(&slave)?;
    Ok(())
}

fn mount_console(slave: &OwnedFd) -> io::Result<()> {
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
    let console = rustix::fs::open("/dev/console", flags, Mode::from_raw_mode(0o666))?;
    let path = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let (source, target) = (path(slave), path(&console));
    nix::mount::mount(Some(source.as_str()), target.as_str(), None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    Ok(())
}
