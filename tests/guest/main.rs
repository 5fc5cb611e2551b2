//! The first program of the guest (see `testkit::guest`): makes the machine usable, runs the agent, turns the machine off when
//! the agent ends, however it ends.
//!
//! ```text
//! kernel ── /init, pid 1: mounts, modules, reaps ── /init, the agent: does what the test asks
//! ```

mod agent;
mod boot;

use std::io;
use std::process::ExitCode;

use rustix::process::{WaitOptions, wait};
use rustix::system::{RebootCommand, reboot};

/// Linux panics when pid 1 ends, and the test has told it to restart then: that ends the machine too.
fn main() -> ExitCode {
    let done = if std::process::id() == 1 { init() } else { agent::serve() };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("guest: {error}");
            ExitCode::FAILURE
        }
    }
}

fn init() -> io::Result<()> {
    boot::prepare()?;
    let agent = std::process::Command::new("/proc/self/exe").spawn()?;
    // Orphans become ours.
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_pid().cast_unsigned() == agent.id() => {
                println!("guest: the agent has ended: {status:?}");
                break;
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(reboot(RebootCommand::PowerOff)?)
}
