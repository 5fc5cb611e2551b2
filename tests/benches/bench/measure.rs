//! What a command costs: wall clock, processor, peak memory. A process of its own waits for each, since the kernel adds up the
//! children of a process (getrusage(2), `RUSAGE_CHILDREN`).

use std::process::Command;
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use testkit::{Cmd, Output};

/// Of one command and what it waited for.
pub(crate) struct Cost {
    /// Milliseconds.
    pub(crate) wall: f64,
    /// Milliseconds, user and system.
    pub(crate) cpu: f64,
    /// MiB of the largest process.
    pub(crate) peak: f64,
}

/// To be given the program, its arguments and its environment, then to be run with [`cost`].
pub(crate) fn measured(program: impl AsRef<std::ffi::OsStr>) -> Cmd {
    Cmd::new(std::env::current_exe().expect("the path of this program")).arg("measure").arg(program)
}

/// The cost of a [`measured`] command, which must have succeeded.
pub(crate) fn cost(output: Output) -> Cost {
    let text = output.ok();
    let last = text.lines().last().expect("the numbers");
    let numbers: Vec<f64> = last.split(' ').map(|n| n.parse().expect("a number")).collect();
    Cost { wall: numbers[0], cpu: numbers[1], peak: numbers[2] }
}

/// Runs the command and prints its cost as the last line.
pub(crate) fn child(command: &[&str]) {
    let since = Instant::now();
    let status = Command::new(command[0]).args(&command[1..]).status().expect("start the command");
    let wall = since.elapsed();
    let used = getrusage(UsageWho::RUSAGE_CHILDREN).expect("ask for the cost");
    let cpu = used.user_time() + used.system_time();
    let cpu = cpu.tv_sec() as f64 * 1000.0 + cpu.tv_usec() as f64 / 1000.0;
    println!("\n{} {cpu} {}", wall.as_secs_f64() * 1000.0, used.max_rss() as f64 / 1024.0);
    std::process::exit(status.code().unwrap_or(1));
}
