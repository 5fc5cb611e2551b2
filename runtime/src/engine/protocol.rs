//! What passes between the shim and a launcher.
//!
//! ```text
//! shim                                       launcher                        container (or exec'd) process
//!   memfd: Request + BPF             fd 3 -->  reads it, resets itself
//!                                              joins the cgroup
//!                                              create: libcontainer  ----->    prepares itself
//!                                              exec:   setns, fork   ----->    prepares itself
//!       <-- Log*, Terminal(+pty), Failed ------------------------------ fd 4
//!       <-- Ready | Failed ------------- fd 4
//!       <-- exit (pidfd) ---------------       exits; the process is the shim's child now
//!   create: "start" to notify.sock   ------------------------------------->    may go
//!       <-- ABOUT_TO_EXEC ------------------------------------------- fd 5     last step before execve
//!       <-- end of file (close-on-exec): it runs; or ChildFailure --- fd 5
//! ```

use std::io::{self, IoSlice, IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use serde::{Deserialize, Serialize};

use crate::process::ProcessId;

/// The launcher's descriptors by number. 0 to 2 are `/dev/null` while it works.
pub(super) const REQUEST_FD: i32 = 3;
pub(super) const REPLY_FD: i32 = 4;
pub(super) const REPORT_FD: i32 = 5;
pub(super) const STDIO_FDS: [i32; 3] = [6, 7, 8];
pub(super) const TARGET_FD: i32 = 9;
pub(super) const FIRST_UNUSED_FD: i32 = 10;

/// Written to [`REPORT_FD`] when all that is left is execve(2).
pub(super) const ABOUT_TO_EXEC: u8 = b'X';

/// A message must fit into one datagram of the socket's default buffer.
const MAX_MESSAGE: usize = 64 * 1024;

#[derive(Serialize, Deserialize)]
pub(super) struct Request {
    pub mode: Mode,
    pub settings: Settings,
    /// `cgroup.procs` files to join first.
    pub cgroup_procs: Vec<PathBuf>,
}

#[derive(Serialize, Deserialize)]
pub(super) enum Mode {
    /// Create a container with libcontainer.
    Create {
        id: String,
        /// Holds the `config.json` for libcontainer's eyes.
        bundle: PathBuf,
        /// libcontainer's state goes to a directory named `id` in it.
        state_root: PathBuf,
        /// Whether to hide `/sys/fs/cgroup` from libcontainer.
        hide_cgroups: bool,
    },
    /// Run a process in the namespaces of the one behind [`TARGET_FD`].
    Exec { target: ProcessId },
}

/// What the process is to be when it executes its program; everything in it is applied by us, not by libcontainer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Settings {
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub cwd: PathBuf,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub umask: u32,
    pub capabilities: Capabilities,
    pub no_new_privileges: bool,
    /// Flags of seccomp(2); the program follows the request. `None`: no filter.
    pub seccomp_flags: Option<u32>,
    pub rlimits: Vec<Rlimit>,
    /// Set by the launcher itself (exec only; libcontainer does it on create).
    pub oom_score_adj: Option<i32>,
    /// Set by the process itself (exec only; libcontainer does it on create).
    pub apparmor_profile: Option<String>,
    /// Set in a UTS namespace that is joined; libcontainer sets it only in one it makes.
    pub hostname: Option<String>,
    /// `Some`: a terminal of this size, else the three descriptors of [`STDIO_FDS`].
    pub terminal: Option<TerminalSize>,
}

/// Bit sets numbered as in capabilities(7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Capabilities {
    pub bounding: u64,
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
    pub ambient: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rlimit {
    pub resource: u32,
    pub soft: u64,
    pub hard: u64,
}

/// Characters; 0 by 0 when nobody has said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TerminalSize {
    pub rows: u16,
    pub columns: u16,
}

/// Where in a launcher something failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // the text of Display says it
pub enum Stage {
    Request,
    Prologue,
    Cgroup,
    HideCgroups,
    Libcontainer,
    JoinNamespaces,
    Fork,
    Session,
    Terminal,
    Stdio,
    Hostname,
    WorkingDirectory,
    Rlimits,
    AppArmor,
    User,
    Capabilities,
    FindExecutable,
    NoNewPrivileges,
    Seccomp,
    Execute,
    Panic,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Request => "read the request",
            Self::Prologue => "reset the launcher",
            Self::Cgroup => "join the cgroup",
            Self::HideCgroups => "hide the cgroup mounts from libcontainer",
            Self::Libcontainer => "create the container",
            Self::JoinNamespaces => "join the container's namespaces",
            Self::Fork => "fork",
            Self::Session => "start a session",
            Self::Terminal => "set up the terminal",
            Self::Stdio => "set up standard input and output",
            Self::Hostname => "set the host name",
            Self::WorkingDirectory => "enter the working directory",
            Self::Rlimits => "set resource limits",
            Self::AppArmor => "set the AppArmor profile",
            Self::User => "become the user",
            Self::Capabilities => "set capabilities",
            Self::FindExecutable => "find the command",
            Self::NoNewPrivileges => "set no_new_privs",
            Self::Seccomp => "load the seccomp filter",
            Self::Execute => "execute the command",
            Self::Panic => "panic in the launcher",
        })
    }
}

/// A failure in a launcher or in the process it made, whole: it crosses the process boundary as JSON.
#[derive(Clone, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{stage}{}", .causes.iter().map(|c| format!(": {c}")).collect::<String>())]
pub struct ChildFailure {
    /// What was being done.
    pub stage: Stage,
    /// The kernel's reason, if it was the kernel that refused.
    pub errno: Option<i32>,
    /// From the outermost to the innermost; names the subject.
    pub causes: Vec<String>,
}

impl ChildFailure {
    pub(super) fn new(stage: Stage, subject: impl Into<String>, error: &io::Error) -> Self {
        Self { stage, errno: error.raw_os_error(), causes: vec![subject.into(), error.to_string()] }
    }

    /// For `map_err`.
    pub(super) fn at<E: Into<io::Error>>(stage: Stage, subject: impl Into<String>) -> impl FnOnce(E) -> Self {
        let subject = subject.into();
        move |error| Self::new(stage, subject, &error.into())
    }

    pub(super) fn of(stage: Stage, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut causes = Vec::new();
        let mut next = Some(error);
        let mut errno = None;
        while let Some(error) = next {
            let text = error.to_string();
            if causes.last() != Some(&text) {
                causes.push(text);
            }
            errno = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error).or(errno);
            next = error.source();
        }
        Self { stage, errno, causes }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) enum Message {
    /// An error that libcontainer only logs.
    Log(String),
    /// The master of the terminal comes with it.
    Terminal,
    /// The process exists (exec: has been forked).
    Ready(ProcessId),
    Failed(ChildFailure),
}

/// The request and its BPF program in a sealed memfd: nobody can change it any more.
pub(super) fn write_request(request: &Request, bpf: &[u8]) -> io::Result<OwnedFd> {
    let json = serde_json::to_vec(request)?;
    let length = u32::try_from(json.len()).map_err(io::Error::other)?;
    let fd = rustix::fs::memfd_create("minipod-request", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = std::fs::File::from(fd);
    let mut all = Vec::with_capacity(4 + json.len() + bpf.len());
    all.extend_from_slice(&length.to_ne_bytes());
    all.extend_from_slice(&json);
    all.extend_from_slice(bpf);
    file.write_all(&all)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file.into())
}

pub(super) fn read_request(fd: OwnedFd) -> io::Result<(Request, Vec<u8>)> {
    let mut file = std::fs::File::from(fd);
    file.rewind()?; // the shim wrote through the same open file
    let mut length = [0; 4];
    file.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_ne_bytes(length)).map_err(io::Error::other)?;
    let mut all = Vec::new();
    file.read_to_end(&mut all)?;
    let json = all.get(..length).ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
    let request = serde_json::from_slice(json)?;
    Ok((request, all.split_off(length)))
}

/// Sends one message, with a descriptor if there is one.
pub(super) fn send(socket: BorrowedFd<'_>, message: &Message, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let json = serde_json::to_vec(message)?;
    let fds = fd.map(|fd| [fd]);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if let Some(fds) = &fds
        && !control.push(SendAncillaryMessage::ScmRights(fds))
    {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(socket, &[IoSlice::new(&json)], &mut control, SendFlags::NOSIGNAL)
    })?;
    Ok(())
}

/// Receives one message without waiting: `WouldBlock` when there is none, `None` when all senders are gone.
pub(super) fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<(Message, Option<OwnedFd>)>> {
    let mut buffer = vec![0; MAX_MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let got = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(socket.as_fd(), &mut [IoSliceMut::new(&mut buffer)], &mut control, flags)
    })?;
    if got.bytes == 0 {
        return Ok(None);
    }
    let mut received = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let fd = received.next().and_then(|mut fds| fds.next());
    let message = serde_json::from_slice(&buffer[..got.bytes])?;
    Ok(Some((message, fd)))
}
