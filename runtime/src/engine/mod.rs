//! Creates, starts and executes: the crate's only door to libcontainer, behind one narrow trait.
//!
//! Nothing here runs libcontainer in the shim. Each operation is given to a [launcher](launcher_main), a short-lived
//! copy of our program; [`protocol`] draws the conversation.

mod exec;
mod identity;
mod launch;
mod launcher;
mod libcontainer;
mod logs;
mod program;
mod protocol;
mod sanitise;
mod seccomp;
mod terminal;

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_spec::runtime::{Process as SpecProcess, Spec};
use rustix::process::Signal;

pub use launch::Launcher;
pub use launcher::{LAUNCHER_ARGV0, launcher_main};
pub use libcontainer::Libcontainer;
pub use program::protected;
pub use protocol::{ChildFailure, Stage};
pub use sanitise::Refusal;
pub use seccomp::SeccompProfileError;

use crate::cgroup::{Cgroup, CgroupError};
use crate::process::{self, ProcessId};
use launch::Outcome;
use protocol::{Mode, Request};

/// The seam: what makes a container of a bundle. A second implementation (a bare clone3) can be judged by the tests
/// of the first.
pub trait Engine {
    /// Makes the container's first process, up to the point where only "start" is missing (runtime spec, `create`).
    ///
    /// # Errors
    /// [`EngineError`]. Nothing is left then: no process, and nothing in `state_dir`.
    fn create(&self, request: CreateRequest<'_>) -> impl Future<Output = Result<Created, EngineError>>;
}

/// What a container is made of.
pub struct CreateRequest<'a> {
    /// Names it to hooks; letters, digits and `_+-.`.
    pub id: &'a str,
    /// Exists; relative paths of the spec start here. The engine writes `spec` to `config.json` in it.
    pub bundle: &'a Path,
    /// The container as asked for.
    pub spec: &'a Spec,
    /// Private to this container and this engine; made if missing.
    pub state_dir: &'a Path,
    /// Exists, has its limits, and is this container's alone: on failure everything in it is killed.
    pub cgroup: &'a Cgroup,
    /// Standard input, output and error.
    pub stdio: Stdio,
}

/// The standard descriptors of a process. Must agree with the spec's `process.terminal`.
pub enum Stdio {
    /// These, given to the process' user.
    Pipes {
        /// Becomes descriptor 0.
        stdin: OwnedFd,
        /// Becomes descriptor 1.
        stdout: OwnedFd,
        /// Becomes descriptor 2.
        stderr: OwnedFd,
    },
    /// A pseudo-terminal of the container's; its master is returned.
    Terminal,
}

/// A created container. Dropping it leaves the process waiting for a start that cannot come: kill its cgroup.
#[derive(Debug)]
pub struct Created {
    /// The container's first process, our child.
    pub process: ProcessId,
    /// Its pidfd.
    pub pidfd: OwnedFd,
    /// The terminal's master, when one was asked for.
    pub terminal: Option<OwnedFd>,
    report: Option<OwnedFd>,
    notify_dir: PathBuf,
    time_limit: Duration,
}

/// What a process in a container is made of.
pub struct ExecRequest<'a> {
    /// Any process of the container; its namespaces are joined.
    pub target: &'a ProcessId,
    /// The container's; its seccomp profile applies.
    pub spec: &'a Spec,
    /// What to run. (`Spec`'s, with other arguments, for most purposes.)
    pub process: &'a SpecProcess,
    /// The container's.
    pub cgroup: &'a Cgroup,
    /// Standard input, output and error.
    pub stdio: Stdio,
}

/// A process that runs in a container.
#[derive(Debug)]
pub struct Process {
    /// Our child.
    pub process: ProcessId,
    /// Its pidfd.
    pub pidfd: OwnedFd,
    /// The terminal's master, when one was asked for.
    pub terminal: Option<OwnedFd>,
}

/// Why a process could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The spec asks for what cannot be given.
    #[error("container spec: {0}")]
    Refused(#[from] Refusal),
    /// The seccomp profile cannot be used.
    #[error(transparent)]
    Seccomp(#[from] SeccompProfileError),
    /// The command does not exist (shells: 127).
    #[error("command {path:?} not found")]
    NotFound {
        /// `args[0]`, or the path it was found at when its interpreter is missing.
        path: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The command exists and may not or cannot be executed (shells: 126).
    #[error("command {path:?} cannot be executed")]
    NotExecutable {
        /// `args[0]` or the path it was found at.
        path: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A step in the launcher or the new process failed.
    #[error(transparent)]
    Child(ChildFailure),
    /// The launcher ended without a word.
    #[error("the launcher ended with code {code} and said nothing{}", .logs.iter().map(|l| format!(": {l}")).collect::<String>())]
    Silent {
        /// As a shell counts it.
        code: u8,
        /// What libcontainer logged.
        logs: Vec<String>,
    },
    /// The launcher, or the process on its way to its command, took too long and was killed.
    #[error("the launcher, or the process it made, did not finish within {0:?}")]
    TimedOut(Duration),
    /// The process ended before it executed the command: somebody killed it.
    #[error("the process ended before it executed its command (code {code})")]
    Ended {
        /// As a shell counts it.
        code: u8,
    },
    /// A call in the shim failed.
    #[error("{operation} {}", subject.display())]
    Io {
        /// What was being done.
        operation: &'static str,
        /// To what.
        subject: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The cgroup could not be cleared after a failure.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
}

impl EngineError {
    /// The exit code for this error: 127 command not found, 126 not executable, 125 all else (as podman and docker).
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound { .. } => 127,
            Self::NotExecutable { .. } => 126,
            _ => 125,
        }
    }

    fn io(operation: &'static str, subject: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let subject = subject.into();
        move |source| Self::Io { operation, subject, source }
    }
}

impl From<ChildFailure> for EngineError {
    fn from(failure: ChildFailure) -> Self {
        let path = || failure.causes.first().cloned().unwrap_or_default();
        match (exit_code_of(&failure), failure.errno) {
            (127, Some(errno)) => Self::NotFound { path: path(), source: io::Error::from_raw_os_error(errno) },
            (126, Some(errno)) => Self::NotExecutable { path: path(), source: io::Error::from_raw_os_error(errno) },
            _ => Self::Child(failure),
        }
    }
}

/// As [`EngineError::exit_code`], inside the new process.
fn exit_code_of(failure: &ChildFailure) -> u8 {
    match (failure.stage, failure.errno) {
        (Stage::FindExecutable | Stage::Execute, Some(libc::ENOENT | libc::ENOTDIR)) => 127,
        (Stage::FindExecutable | Stage::Execute, Some(_)) => 126,
        _ => 125,
    }
}

impl Created {
    /// Lets the process execute its command; returns once it has.
    ///
    /// # Errors
    /// [`EngineError::NotFound`], [`EngineError::NotExecutable`] and others with the path and the kernel's reason;
    /// the process has ended and is reaped then.
    pub async fn start(&mut self) -> Result<(), EngineError> {
        let socket = self.notify_dir.join(libcontainer::NOTIFY_SOCKET);
        let report = self.report.take().ok_or_else(|| {
            EngineError::io("start", &socket)(io::Error::other("the container has been started before"))
        })?;
        if let Err(source) = libcontainer::notify(&self.notify_dir) {
            // It has ended: what is in the pipe, or how it ended, says more than a refused connection.
            if ProcessId::is_alive(&self.process) {
                self.report = Some(report);
                return Err(EngineError::Io { operation: "start through", subject: socket, source });
            }
        }
        // A container that shares its process namespace can stop it on the way.
        match tokio::time::timeout(self.time_limit, executed(report, self.pidfd.as_fd())).await {
            Ok(result) => result,
            Err(_) => {
                end(self.process).await?;
                Err(EngineError::TimedOut(self.time_limit))
            }
        }
    }
}

/// Runs a process in a container and returns once it has executed its command.
///
/// # Errors
/// [`EngineError`]; the process has ended and is reaped then.
pub async fn exec(launcher: &Launcher, request: ExecRequest<'_>) -> Result<Process, EngineError> {
    let ExecRequest { target, spec, process, cgroup, stdio } = request;
    sanitise::refuse_in_exec(process)?;
    let mut settings = sanitise::settings_of(process, spec.linux().as_ref())?;
    let bpf = launcher.seccomp_program(spec, &mut settings)?;
    let target_fd = target.pidfd().map_err(EngineError::io("open", format!("/proc/{target}")))?;
    let target_fd = target_fd.ok_or_else(|| {
        EngineError::io("enter process", target.to_string())(io::Error::from_raw_os_error(libc::ESRCH))
    })?;
    let request = Request { mode: Mode::Exec { target: *target }, settings, cgroup_procs: cgroup.procs_files() };
    let Outcome { process, pidfd, reply, terminal, report } =
        match launcher.launch(&request, &bpf, stdio, Some(target_fd.as_fd())).await {
            Ok(outcome) => outcome,
            Err(failed) => {
                if let Some(process) = failed.process {
                    end(process).await?;
                }
                return Err(failed.error);
            }
        };
    let executed = tokio::time::timeout(launcher.time_limit(), executed(report, pidfd.as_fd())).await;
    match executed {
        Ok(result) => result?,
        Err(_) => {
            end(process).await?;
            return Err(EngineError::TimedOut(launcher.time_limit()));
        }
    }
    let terminal = match terminal {
        Some(fd) => Some(fd),
        None => launch::late_terminal(&reply).map_err(EngineError::io("receive", "terminal"))?,
    };
    Ok(Process { process, pidfd, terminal })
}

/// Kills and reaps a process of ours that is not to be.
async fn end(process: ProcessId) -> Result<(), EngineError> {
    let failed = || EngineError::io("kill", process.to_string());
    if let Some(pidfd) = process.pidfd().map_err(failed())? {
        process::send_signal(pidfd.as_fd(), Signal::KILL).map_err(failed())?;
        reap(pidfd).await.map_err(failed())?;
    }
    Ok(())
}

/// Waits for a process to end and reaps it if it is our child.
async fn reap(pidfd: OwnedFd) -> io::Result<()> {
    match process::wait_exit(pidfd.as_fd()).await {
        Ok(_) => Ok(()),
        Err(e) if e.raw_os_error() == Some(libc::ECHILD) => process::ended(pidfd.as_fd()).await,
        Err(e) => Err(e),
    }
}

/// Reads from the report pipe whether the process has executed its command.
async fn executed(report: OwnedFd, pidfd: std::os::fd::BorrowedFd<'_>) -> Result<(), EngineError> {
    let failed = || EngineError::io("read", "report pipe");
    let mut pipe = tokio::net::unix::pipe::Receiver::from_owned_fd(report).map_err(failed())?;
    let mut bytes = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut pipe, &mut bytes).await.map_err(failed())?;
    let about_to = bytes.first() == Some(&protocol::ABOUT_TO_EXEC);
    let rest = &bytes[usize::from(about_to)..];
    if about_to && rest.is_empty() {
        return Ok(());
    }
    let exit = process::wait_exit(pidfd).await.map_err(EngineError::io("reap", "process"))?;
    if rest.is_empty() {
        return Err(EngineError::Ended { code: exit.code });
    }
    let failure: ChildFailure = serde_json::from_slice(rest).map_err(|e| failed()(e.into()))?;
    Err(failure.into())
}
