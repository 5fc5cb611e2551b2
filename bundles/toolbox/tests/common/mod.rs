//! Runs the built program as the image has it: each command a link, nothing else in PATH.

#![allow(dead_code)] // each test file uses its part

use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// What one command may take.
const LIMIT: Duration = Duration::from_secs(30);

/// A directory with `bin/<applet>` for every applet, and room for files.
pub(crate) struct Image(tempfile::TempDir);

impl Image {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("make a directory");
        let bin = dir.path().join("bin");
        std::fs::create_dir(&bin).expect("make bin");
        for name in applets() {
            symlink(env!("CARGO_BIN_EXE_toolbox"), bin.join(name)).expect("link an applet");
        }
        Self(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn command(&self, name: &str, args: &[&str]) -> Command {
        let mut command = Command::new(self.path().join("bin").join(name));
        command.args(args).current_dir(self.path()).env_clear().env("PATH", self.path().join("bin")).env("HOME", "/root");
        command
    }

    /// Runs a command with `input`; its output, ended by a kill when it takes too long.
    pub(crate) fn run(&self, name: &str, args: &[&str], input: &str) -> Output {
        finish(self.command(name, args), input)
    }

    /// What a shell script writes, and its status.
    pub(crate) fn sh(&self, script: &str) -> (String, i32) {
        let output = self.run("sh", &["-c", script], "");
        (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code().unwrap_or(-1))
    }
}

pub(crate) fn applets() -> Vec<&'static str> {
    include_str!("../../applets.txt").lines().collect()
}

pub(crate) fn start(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start a command")
}

pub(crate) fn finish(command: Command, input: &str) -> Output {
    let mut child = start(command);
    let mut stdin = child.stdin.take().expect("its standard input");
    // A command that does not read may be gone before all is written.
    stdin.write_all(input.as_bytes()).ok();
    drop(stdin);
    limited(child)
}

/// Waits, with a limit.
pub(crate) fn limited(mut child: Child) -> Output {
    let pid = i32::try_from(child.id()).expect("a pid");
    let (done, waits) = std::sync::mpsc::channel::<()>();
    let killer = std::thread::spawn(move || {
        if waits.recv_timeout(LIMIT).is_err_and(|error| error == std::sync::mpsc::RecvTimeoutError::Timeout) {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).ok();
        }
    });
    drop(child.stdin.take());
    let output = child.wait_with_output().expect("wait for a command");
    drop(done);
    killer.join().expect("the killer");
    output
}

/// Tries until it gives something, with a limit.
pub(crate) fn until<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(started.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
