//! One process executed in a running container besides its own.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use oci_spec::runtime::{Process, Spec};
use rustix::fs::OFlags;
use rustix::termios::{Winsize, tcsetwinsize};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::container::{Container, Running};
use super::io;
use super::pod::Pod;
use crate::engine::{self, ExecRequest, Stdio};
use crate::error::Error;
use crate::process::{self, Exit, ProcessId};

/// What a client wants to differ from the container's own process; empty means the container's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecOverrides {
    /// The command.
    pub args: Vec<String>,
    /// `NAME=value`, added to the container's.
    pub env: Vec<String>,
    /// The working directory.
    pub cwd: Option<std::path::PathBuf>,
    /// `user[:group]`, by name or number.
    pub user: Option<String>,
}

/// `Any.type_url` of [`ExecOverrides`] in a Task API `Exec` request.
pub(crate) const OVERRIDES: &str = "minipod.dev/ExecOverrides";

/// Where a client wants the streams: fifos it has made; empty for none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Streams {
    pub(crate) stdin: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) terminal: bool,
}

/// An executed process.
pub(crate) struct Exec {
    process: Process,
    streams: Streams,
    started: RefCell<Option<Started>>,
    size: Cell<Option<(u16, u16)>>,
    pub(crate) exits: watch::Sender<Option<Exit>>,
}

struct Started {
    process: ProcessId,
    pidfd: Rc<OwnedFd>,
    terminal: Option<OwnedFd>,
}

impl Exec {
    pub(crate) fn new(process: Process, streams: Streams) -> Self {
        Self { process, streams, started: RefCell::default(), size: Cell::default(), exits: watch::channel(None).0 }
    }

    /// Starts it in `container`; returns its pid.
    pub(crate) async fn start(self: &Rc<Self>, pod: &Pod, container: &Container) -> Result<u32, Error> {
        let running = container.running.borrow().clone().ok_or_else(|| Error::NotRunning(format!("{}/{}", pod.plan.name, container.name())))?;
        let stdio = if self.streams.terminal { Stdio::Terminal } else { self.open_streams()? };
        let request = ExecRequest { target: &running.process, spec: &running.spec, process: &self.process, cgroup: &running.cgroup, stdio };
        let engine::Process { process, pidfd, terminal } = engine::exec(pod.engine.launcher(), request).await?;
        let mut pumps = Vec::new();
        if let Some(master) = &terminal {
            let copy = || master.try_clone().map_err(|e| Error::System("copy the terminal", e));
            pumps.push(io::copy(copy()?, self.open(&self.streams.stdout, OFlags::WRONLY)?));
            if !self.streams.stdin.is_empty() {
                // Ends with the client's end of the fifo; is no reason to wait.
                io::copy(self.open(&self.streams.stdin, OFlags::RDONLY)?, copy()?);
            }
        }
        let pidfd = Rc::new(pidfd);
        *self.started.borrow_mut() = Some(Started { process, pidfd: Rc::clone(&pidfd), terminal });
        if let Some((width, height)) = self.size.get() {
            self.resize(width, height)?;
        }
        let this = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let exit = process::wait_exit(pidfd.as_fd()).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "exit status of an executed process lost");
                Exit { code: 255, signal: None }
            });
            // What it wrote to its terminal reaches the client before its exit does.
            if let Some(started) = this.started.borrow_mut().as_mut() {
                started.terminal = None;
            }
            futures::future::join_all(pumps).await;
            this.exits.send_replace(Some(exit));
        });
        Ok(process.pid)
    }

    fn open_streams(&self) -> Result<Stdio, Error> {
        let input = if self.streams.stdin.is_empty() { io::dev_null()? } else { self.open(&self.streams.stdin, OFlags::RDONLY)? };
        let output = |path: &str| if path.is_empty() { sink() } else { self.open(path, OFlags::WRONLY) };
        Ok(Stdio::Pipes { stdin: input, stdout: output(&self.streams.stdout)?, stderr: output(&self.streams.stderr)? })
    }

    fn open(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Error> {
        io::open_fifo(Path::new(path), flags)
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.started.borrow().as_ref().map(|s| s.process.pid)
    }

    /// Sends a signal; false when it has not started or has ended.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) -> Result<bool, Error> {
        match &*self.started.borrow() {
            Some(started) => process::send_signal(started.pidfd.as_fd(), signal).map_err(|e| Error::System("send a signal", e)),
            None => Ok(false),
        }
    }

    /// Sets the size of its terminal, in characters; remembered when it has not started yet.
    pub(crate) fn resize(&self, width: u16, height: u16) -> Result<(), Error> {
        self.size.set(Some((width, height)));
        match &*self.started.borrow() {
            Some(Started { terminal: Some(master), .. }) => resize(master, width, height),
            _ => Ok(()),
        }
    }
}

/// Sets the size of a terminal, in characters.
pub(crate) fn resize(master: &OwnedFd, width: u16, height: u16) -> Result<(), Error> {
    let size = Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size).map_err(|e| Error::System("resize a terminal", e.into()))
}

/// Output that nobody wants: a pipe's end whose reader drains it would cost a task, so /dev/null, opened for writing.
fn sink() -> Result<OwnedFd, Error> {
    rustix::fs::open("/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, rustix::fs::Mode::empty()).map_err(|e| Error::file("open", "/dev/null")(e.into()))
}

/// The container's own process with a client's wishes laid over it.
pub(crate) fn override_process(running: &Running, overrides: ExecOverrides, terminal: bool) -> Result<Process, Error> {
    let spec: &Spec = &running.spec;
    let mut process = spec.process().clone().unwrap_or_default();
    process.set_args(Some(overrides.args));
    let mut env = process.env().clone().unwrap_or_default();
    for entry in overrides.env {
        let name = entry.split('=').next().unwrap_or_default().to_owned();
        env.retain(|e| e.split('=').next() != Some(&name));
        env.push(entry);
    }
    if terminal && !env.iter().any(|e| e.starts_with("TERM=")) {
        env.push("TERM=xterm".to_owned());
    }
    process.set_env(Some(env));
    process.set_terminal(Some(terminal));
    if let Some(cwd) = overrides.cwd {
        process.set_cwd(cwd);
    }
    if let Some(user) = overrides.user {
        let root = format!("/proc/{}/root", running.process.pid);
        let user = bundles::image::user::resolve(Path::new(&root), &user).map_err(|e| Error::Reported { message: crate::error::chain(&e), exit_code: 126 })?;
        let mut oci = oci_spec::runtime::User::default();
        oci.set_uid(user.uid).set_gid(user.gid).set_additional_gids(Some(user.additional_gids));
        process.set_user(oci);
    }
    Ok(process)
}
