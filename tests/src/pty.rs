//! Commands on a terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::pty::{Winsize, openpty};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::LIMIT;

/// Runs a command in a session of its own whose terminal has this size, types `typed`, and returns its exit code and
/// everything the terminal showed.
///
/// # Panics
/// When it takes longer than [`LIMIT`].
#[must_use]
pub fn on_a_terminal(program: &str, args: &[&str], env: &[(&str, &str)], rows_columns: (u16, u16), typed: &str) -> (i32, String) {
    let size = Winsize { ws_row: rows_columns.0, ws_col: rows_columns.1, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(&size, None).expect("open a terminal");
    let mut master = File::from(pty.master);
    let end = || Stdio::from(pty.slave.try_clone().expect("copy a descriptor"));
    // setsid(1) makes the terminal the session's own, as a login does.
    let mut command = Command::new("setsid");
    command.args(["--ctty", "--wait", program]).args(args).envs(env.iter().copied()).stdin(end()).stdout(end()).stderr(end());
    let mut child = command.spawn().expect("start setsid");
    drop(command);
    drop(pty.slave);
    master.write_all(typed.as_bytes()).expect("type");

    let deadline = Instant::now() + LIMIT;
    let mut shown = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        let ready = poll(&mut [PollFd::from_borrowed_fd(master.as_fd(), PollFlags::IN)], Some(&timeout)).expect("wait for a terminal");
        if ready == 0 {
            child.kill().expect("kill what takes too long");
            child.wait().expect("wait for it");
            panic!("{args:?} on a terminal took longer than {LIMIT:?}\n{}", String::from_utf8_lossy(&shown));
        }
        match master.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => shown.extend_from_slice(&buffer[..n]),
            Err(e) if e.raw_os_error() == Some(libc::EIO) => break, // nobody has the other end any more
            Err(e) => panic!("read a terminal: {e}"),
        }
    }
    let status = child.wait().expect("wait for setsid");
    (status.code().expect("setsid passes codes on"), String::from_utf8_lossy(&shown).into_owned())
}
