//! Commands with a time limit, whose output is read while they run.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Longest time any one command may take: far beyond what it needs, far below the test's own limit.
pub const LIMIT: Duration = Duration::from_secs(30);
/// By what every limit is multiplied, for a machine that is known to be slow.
const PATIENCE: &str = "MINIPOD_TEST_PATIENCE";
/// How long a pipe may stay open once the command that had it is gone.
const LINGER: Duration = Duration::from_secs(2);
/// Between two looks at something that tells nobody when it changes.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A command to be run.
#[derive(Debug)]
pub struct Cmd {
    command: Command,
    stdin: Option<Vec<u8>>,
    line: String,
}

impl Cmd {
    /// `program` with no arguments, an empty standard input and the test's environment.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref();
        let name = Path::new(program).file_name().unwrap_or(program);
        Self { command: Command::new(program), stdin: None, line: name.to_string_lossy().into_owned() }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        write!(self.line, " {}", arg.as_ref().to_string_lossy()).expect("write to a string");
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(self, args: impl IntoIterator<Item = A>) -> Self {
        args.into_iter().fold(self, |this, arg| this.arg(arg))
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.command.env(name, value.into());
        self
    }

    /// Takes a variable out of the environment.
    #[must_use]
    pub fn without_env(mut self, name: &OsStr) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Changes the working directory.
    #[must_use]
    pub fn dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// What it reads on standard input, through a pipe.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Starts it.
    #[must_use]
    pub fn spawn(mut self) -> Running {
        self.command.stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = Instant::now();
        let mut child = self.command.spawn().unwrap_or_else(|e| panic!("start `{}`: {e}", self.line));
        if let (Some(bytes), Some(mut pipe)) = (self.stdin.take(), child.stdin.take()) {
            // Ends with the command: when nobody reads any more, writing fails, and that is none of the test's business.
            thread::spawn(move || pipe.write_all(&bytes).ok());
        }
        let pid = Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap_or_else(|e| panic!("watch `{}`: {e}", self.line));
        let out = Stream::new(child.stdout.take().map(Into::into));
        let err = Stream::new(child.stderr.take().map(Into::into));
        Running { line: self.line, child, pidfd, out, err, status: None, started }
    }

    /// Runs it to its end within [`LIMIT`].
    #[must_use]
    pub fn run(self) -> Output {
        self.run_within(LIMIT)
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it takes longer than `limit`; it is killed then.
    #[must_use]
    pub fn run_within(self, limit: Duration) -> Output {
        self.spawn().finish(limit)
    }
}

#[derive(Debug)]
struct Stream {
    fd: Option<std::fs::File>,
    bytes: Vec<u8>,
}

impl Stream {
    fn new(fd: Option<OwnedFd>) -> Self {
        Self { fd: fd.map(Into::into), bytes: Vec::new() }
    }

    /// Reads what is there; forgets the descriptor at its end.
    fn read(&mut self) {
        let mut buffer = [0; 65536];
        let read = self.fd.as_mut().map(|fd| fd.read(&mut buffer).expect("read a command's output"));
        match read {
            None => {}
            Some(0) => self.fd = None,
            Some(n) => self.bytes.extend_from_slice(&buffer[..n]),
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// A command that runs. Killed when dropped.
#[derive(Debug)]
pub struct Running {
    line: String,
    child: Child,
    pidfd: OwnedFd,
    out: Stream,
    err: Stream,
    status: Option<ExitStatus>,
    started: Instant,
}

impl Running {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.out.text()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        pidfd_send_signal(&self.pidfd, signal).unwrap_or_else(|e| panic!("signal `{}`: {e}", self.line));
    }

    /// Returns as soon as standard output holds `text`.
    ///
    /// # Panics
    /// When the command ends before, or [`LIMIT`] passes.
    pub fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + patient(LIMIT);
        while !self.out.text().contains(text) {
            let over = self.status.is_some() && self.out.fd.is_none();
            assert!(!over && self.pump(deadline), "`{}` never printed {text:?}\n{}", self.line, self.so_far());
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it takes longer than `limit`, or leaves its output open in another process.
    #[must_use]
    pub fn finish(mut self, limit: Duration) -> Output {
        let limit = patient(limit);
        let deadline = Instant::now() + limit;
        while self.status.is_none() {
            if !self.pump(deadline) {
                let so_far = self.so_far();
                self.child.kill().expect("kill a command that takes too long");
                panic!("`{}` took longer than {limit:?}\n{so_far}", self.line);
            }
        }
        let took = self.started.elapsed();
        let deadline = Instant::now() + patient(LINGER);
        while self.out.fd.is_some() || self.err.fd.is_some() {
            assert!(self.pump(deadline), "`{}` has ended, but another process keeps its output open\n{}", self.line, self.so_far());
        }
        Output { line: self.line.clone(), status: self.status.expect("it has ended"), stdout: self.out.text(), stderr: self.err.text(), took }
    }

    fn so_far(&self) -> String {
        format!("--- stdout\n{}--- stderr\n{}---", self.out.text(), self.err.text())
    }

    /// Waits for something to happen and takes it in; false when the deadline passed first.
    fn pump(&mut self, deadline: Instant) -> bool {
        let Some(left) = deadline.checked_duration_since(Instant::now()) else { return false };
        let ended = {
            let watched = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
            let mut fds = Vec::new();
            let (out, err) = (self.out.fd.as_ref(), self.err.fd.as_ref());
            fds.extend(out.map(|fd| watched(fd.as_fd())));
            fds.extend(err.map(|fd| watched(fd.as_fd())));
            if self.status.is_none() {
                fds.push(watched(self.pidfd.as_fd()));
            }
            let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
            if poll(&mut fds, Some(&timeout)).expect("wait for a command") == 0 {
                return false;
            }
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            let mut ready = ready.into_iter();
            let out_ready = self.out.fd.is_some() && ready.next().unwrap_or(false);
            let err_ready = self.err.fd.is_some() && ready.next().unwrap_or(false);
            if out_ready {
                self.out.read();
            }
            if err_ready {
                self.err.read();
            }
            self.status.is_none() && ready.next().unwrap_or(false)
        };
        if ended {
            self.status = Some(self.child.wait().expect("wait for a command that has ended"));
        }
        true
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.status.is_none() {
            self.child.kill().expect("kill a command that is no longer wanted");
            self.child.wait().expect("wait for a killed command");
        }
    }
}

/// What a command did.
#[derive(Debug, Clone)]
pub struct Output {
    pub(crate) line: String,
    pub(crate) status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// From its start to its end.
    pub took: Duration,
}

impl Output {
    /// How it ended.
    #[must_use]
    pub fn status(&self) -> ExitStatus {
        self.status
    }

    /// The exit code, or 128 + the signal, as a shell has it.
    #[must_use]
    pub fn code(&self) -> i32 {
        use std::os::unix::process::ExitStatusExt as _;
        self.status.code().or_else(|| self.status.signal().map(|s| 128 + s)).expect("an ended process has a code or a signal")
    }

    /// Standard output, of a command that must succeed.
    ///
    /// # Panics
    /// When it failed.
    #[must_use]
    pub fn ok(self) -> String {
        assert!(self.status.success(), "{self} failed");
        self.stdout
    }

    /// Standard error, of a command that must fail so.
    ///
    /// # Panics
    /// When it ended otherwise, or said nothing.
    #[must_use]
    pub fn fails(self, code: i32) -> String {
        assert_eq!(self.code(), code, "exit code of {self}");
        assert!(!self.stderr.trim().is_empty(), "{self} failed and did not say why");
        assert!(!self.stderr.contains("panicked at"), "{self} panicked");
        self.stderr
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` ({} after {:?})\n--- stdout\n{}--- stderr\n{}---\n", self.line, self.status, self.took, self.stdout, self.stderr)
    }
}

pub(crate) fn patient(limit: Duration) -> Duration {
    let factor = std::env::var(PATIENCE).ok().map_or(1, |factor| factor.parse().expect("MINIPOD_TEST_PATIENCE is a number"));
    limit * factor
}

/// Looks until there is something to see, for what tells nobody when it changes (files in /proc, states of other programs).
///
/// # Panics
/// When `limit` passes first; `what` says what was waited for.
pub fn eventually<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let limit = patient(limit);
    let deadline = Instant::now() + limit;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} in vain: {what}");
        thread::sleep(LOOK_AGAIN);
    }
}
