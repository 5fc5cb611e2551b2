//! The shim's side of a launcher: start it, listen, reap it, and end it when it takes too long.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use oci_spec::runtime::Spec;
use rustix::io::fcntl_dupfd_cloexec;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use super::launcher::LAUNCHER_ARGV0;
use super::protocol::{
    ChildFailure, FIRST_UNUSED_FD, Message, REPLY_FD, REPORT_FD, REQUEST_FD, Request, STDIO_FDS, Settings, Stage,
    TARGET_FD, receive, write_request,
};
use super::seccomp::Cache;
use super::{EngineError, Stdio};
use crate::process::{self, ProcessId};
use crate::sys;

/// A launcher that has not finished by then never will.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Of libcontainer's log, the last lines are the innermost.
const MOST_LOG_LINES: usize = 5;

/// Starts launchers. The process that uses it must be a child sub-reaper (`PR_SET_CHILD_SUBREAPER`): what launchers
/// make becomes its child.
#[derive(Debug)]
pub struct Launcher {
    program: OwnedFd,
    seccomp: Cache,
    time_limit: Duration,
}

/// A launcher's work, done.
#[derive(Debug)]
pub(super) struct Outcome {
    pub process: ProcessId,
    pub pidfd: OwnedFd,
    pub terminal: Option<OwnedFd>,
    pub report: OwnedFd,
    pub reply: OwnedFd,
}

/// A launcher's work, failed; and the process it had made by then, if it said so.
pub(super) struct Failed {
    pub error: EngineError,
    pub process: Option<ProcessId>,
}

impl From<EngineError> for Failed {
    fn from(error: EngineError) -> Self {
        Self { error, process: None }
    }
}

#[derive(Default)]
struct Heard {
    ready: Option<ProcessId>,
    terminal: Option<OwnedFd>,
    failure: Option<ChildFailure>,
    logs: Vec<String>,
}

impl Launcher {
    /// `program` is our own executable, opened by [`super::protected`]; compiled seccomp programs are kept in
    /// `seccomp_cache` (made when needed).
    pub fn new(program: OwnedFd, seccomp_cache: PathBuf) -> Self {
        Self { program, seccomp: Cache::new(seccomp_cache), time_limit: TIME_LIMIT }
    }

    /// Another time limit than 30 seconds for each operation.
    pub fn with_time_limit(self, time_limit: Duration) -> Self {
        Self { time_limit, ..self }
    }

    pub(super) fn time_limit(&self) -> Duration {
        self.time_limit
    }

    /// The filter of the container, compiled; its flags go into `settings`.
    pub(super) fn seccomp_program(&self, spec: &Spec, settings: &mut Settings) -> Result<Vec<u8>, EngineError> {
        let Some(profile) = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) else {
            return Ok(Vec::new());
        };
        let program = self.seccomp.program(profile)?;
        settings.seccomp_flags = Some(program.flags);
        Ok(program.bpf.to_vec())
    }

    /// Runs a launcher to its end.
    pub(super) async fn launch(
        &self,
        request: &Request,
        bpf: &[u8],
        stdio: Stdio,
        target: Option<BorrowedFd<'_>>,
    ) -> Result<Outcome, Failed> {
        let failed = |operation| EngineError::io(operation, "launcher");
        if request.settings.terminal.is_some() != matches!(stdio, Stdio::Terminal) {
            let reason = io::Error::from(io::ErrorKind::InvalidInput);
            return Err(failed("match process.terminal with the descriptors of the")(reason).into());
        }
        if rustix::process::child_subreaper().map_err(|e| failed("ask who reaps for the")(e.into()))?.is_none() {
            return Err(failed("become child sub-reaper for the")(io::Error::other("the caller has not")).into());
        }
        let channels = || -> io::Result<_> {
            let flags = SocketFlags::CLOEXEC;
            let reply = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
            Ok((write_request(request, bpf)?, reply, pipe_with(PipeFlags::CLOEXEC)?))
        };
        let (memory, (reply, reply_theirs), (report, report_theirs)) =
            channels().map_err(failed("make the channels of the"))?;

        let (pid, pidfd) = {
            let mut fds = vec![
                (memory.as_fd(), REQUEST_FD),
                (reply_theirs.as_fd(), REPLY_FD),
                (report_theirs.as_fd(), REPORT_FD),
            ];
            if let Stdio::Pipes { stdin, stdout, stderr } = &stdio {
                fds.extend([stdin, stdout, stderr].into_iter().map(AsFd::as_fd).zip(STDIO_FDS));
            }
            fds.extend(target.map(|fd| (fd, TARGET_FD)));
            self.spawn(&fds).map_err(failed("start the"))?
        };
        // Ours would keep the other ends open.
        drop((memory, reply_theirs, report_theirs, stdio));

        let mut heard = Heard::default();
        match tokio::time::timeout(self.time_limit, listen(&reply, &pidfd, &mut heard)).await {
            Ok(result) => result.map_err(failed("listen to the"))?,
            Err(_) => {
                end(&pidfd, pid).await.map_err(failed("end the"))?;
                hear(&reply, &mut heard).map_err(failed("listen to the"))?;
                return Err(Failed { error: EngineError::TimedOut(self.time_limit), process: heard.ready });
            }
        }
        let exit = process::wait_exit(pidfd.as_fd()).await.map_err(failed("reap the"))?;
        hear(&reply, &mut heard).map_err(failed("listen to the"))?; // what it said last
        conclude(heard, exit.code, reply, report)
    }

    fn spawn(&self, fds: &[(BorrowedFd<'_>, i32)]) -> io::Result<(u32, OwnedFd)> {
        // Out of the way of the numbers they are to have.
        let lifted = |fd: BorrowedFd<'_>| fcntl_dupfd_cloexec(fd, FIRST_UNUSED_FD);
        let program = lifted(self.program.as_fd())?;
        let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
        let null = lifted(null.as_fd())?;
        let fds = fds.iter().map(|(fd, number)| Ok((lifted(*fd)?, *number))).collect::<io::Result<Vec<_>>>()?;
        let mut given: Vec<(BorrowedFd<'_>, i32)> = (0..3).map(|number| (null.as_fd(), number)).collect();
        given.extend(fds.iter().map(|(fd, number)| (fd.as_fd(), *number)));

        let path = CString::new(format!("/proc/self/fd/{}", program.as_raw_fd()))?;
        let pid = sys::spawn(&path, &CString::new(LAUNCHER_ARGV0)?, &given)?;
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        // Our child and not reaped, so the pid is its own.
        Ok((pid, pidfd_open(raw.ok_or_else(|| io::Error::other("pid 0"))?, PidfdFlags::empty())?))
    }
}

/// Kills a launcher and its children and reaps them all. Some of the children may be zombies already, which no cgroup
/// lists: left to us by the launcher's end, they would stay.
async fn end(pidfd: &OwnedFd, pid: u32) -> io::Result<()> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    // Not reaped while the launcher lives, so the pids are still theirs.
    let children = children.split_whitespace().filter_map(|child| ProcessId::of(child.parse().ok()?).ok());
    let children: Vec<OwnedFd> = children.filter_map(|child| child.pidfd().transpose()).collect::<io::Result<_>>()?;
    process::send_signal(pidfd.as_fd(), Signal::KILL)?;
    process::wait_exit(pidfd.as_fd()).await?;
    for child in children {
        process::send_signal(child.as_fd(), Signal::KILL)?;
        super::reap(child).await?;
    }
    Ok(())
}

/// Hears all the launcher says until it has ended. It ends at once when it is done.
async fn listen(reply: &OwnedFd, pidfd: &OwnedFd, heard: &mut Heard) -> io::Result<()> {
    let socket = sys::watch_readable(reply.try_clone()?)?;
    let ended = process::ended(pidfd.as_fd());
    tokio::pin!(ended);
    loop {
        tokio::select! {
            biased;
            result = &mut ended => return result,
            guard = socket.readable() => {
                let mut guard = guard?;
                if !hear(reply, heard)? {
                    // All senders are gone: only the end is left to wait for.
                    return ended.await;
                }
                guard.clear_ready();
            }
        }
    }
}

/// Hears what is there; `false` when no more can come.
fn hear(reply: &OwnedFd, heard: &mut Heard) -> io::Result<bool> {
    loop {
        match receive(reply.as_fd()) {
            Ok(Some((Message::Log(line), _))) => heard.logs.push(line),
            Ok(Some((Message::Terminal, fd))) => heard.terminal = fd,
            Ok(Some((Message::Ready(process), _))) => heard.ready = Some(process),
            // The first is the cause; later ones say that something failed.
            Ok(Some((Message::Failed(failure), _))) => {
                heard.failure.get_or_insert(failure);
            }
            Ok(None) => return Ok(false),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(e) => return Err(e),
        }
    }
}

/// The terminal of a process that had not made it yet when its launcher ended.
pub(super) fn late_terminal(reply: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let mut heard = Heard::default();
    hear(reply, &mut heard)?;
    Ok(heard.terminal)
}

fn conclude(heard: Heard, code: u8, reply: OwnedFd, report: OwnedFd) -> Result<Outcome, Failed> {
    let mut logs = heard.logs;
    logs.drain(..logs.len().saturating_sub(MOST_LOG_LINES));
    if let Some(mut failure) = heard.failure {
        if failure.stage == Stage::Libcontainer {
            failure.causes.extend(logs);
        }
        return Err(Failed { error: failure.into(), process: heard.ready });
    }
    let Some(process) = heard.ready else {
        return Err(EngineError::Silent { code, logs }.into());
    };
    let pidfd = process.pidfd().map_err(EngineError::io("open", format!("/proc/{process}")))?;
    let pidfd = pidfd.ok_or(EngineError::Ended { code: u8::MAX })?;
    Ok(Outcome { process, pidfd, terminal: heard.terminal, report, reply })
}
