//! Asks a pod's shim: the other end of its Task and Sandbox services.

use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::PathBuf;
use std::time::Duration;

use containerd_shim_protos::api;
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::sandbox_api as sb;
use containerd_shim_protos::sandbox_async::SandboxClient;
use containerd_shim_protos::shim_async::TaskClient;
use rustix::process::Signal;
use tokio::net::UnixStream;
use ttrpc::context::Context;
use ttrpc::r#async::Client as Ttrpc;
use ttrpc::r#async::transport::Socket;

use crate::error::Error;
use crate::process::{self, ProcessId};
use crate::store::{PodDir, Record};

pub use crate::shim::ExecOverrides;

/// A connection to one pod's shim.
#[derive(Clone)]
pub struct Client {
    task: TaskClient,
    sandbox: SandboxClient,
    dir: PodDir,
    uid: String,
    label: String,
}

/// Where an executed process' streams go.
#[derive(Debug, Clone, Default)]
pub struct ExecIo {
    /// A fifo whose writing end the caller holds; none means no input.
    pub stdin: Option<PathBuf>,
    /// A fifo whose reading end the caller holds; none means that output is thrown away.
    pub stdout: Option<PathBuf>,
    /// As stdout; unused with a terminal.
    pub stderr: Option<PathBuf>,
    /// Give it a terminal.
    pub terminal: bool,
}

/// A process to be executed, or executed, in a container.
pub struct Exec {
    client: Client,
    container: String,
    id: String,
}

impl Client {
    /// Connects to the pod's shim.
    ///
    /// # Errors
    /// [`Error::NotRunning`] when nobody listens.
    pub async fn connect(dir: &PodDir, record: &Record) -> Result<Self, Error> {
        let not_running = || Error::NotRunning(record.label());
        let Ok(open) = File::open(&dir.path) else { return Err(not_running()) };
        // By descriptor: the path itself may be longer than a socket address can be (unix(7)).
        let path = format!("/proc/self/fd/{}/shim.sock", open.as_raw_fd());
        let stream = UnixStream::connect(path).await.map_err(|_| not_running())?;
        let client = Ttrpc::new(Socket::from(stream));
        Ok(Self {
            task: TaskClient::new(client.clone()),
            sandbox: SandboxClient::new(client),
            dir: dir.clone(),
            uid: record.uid.clone(),
            label: record.label(),
        })
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(ttrpc::Error) -> Error {
        let pod = self.label.clone();
        move |source| match &source {
            // The shim has said it all; who said it is of no interest.
            ttrpc::Error::RpcStatus(status) => {
                let exit_code = match status.code() {
                    ttrpc::Code::NOT_FOUND => 127,
                    ttrpc::Code::PERMISSION_DENIED => 126,
                    _ => 125,
                };
                Error::Reported { message: status.message().to_owned(), exit_code }
            }
            _ => Error::Shim { pod, action, source },
        }
    }

    /// Stops the pod; without `grace`, within the manifest's. The shim ends soon after this returns.
    ///
    /// # Errors
    /// What the shim says; a shim that ends before it has answered has done what it was asked to.
    pub async fn stop(&self, grace: Option<Duration>) -> Result<(), Error> {
        let timeout_secs = grace.map_or(u32::MAX, |g| u32::try_from(g.as_secs()).unwrap_or(u32::MAX - 1));
        let request = sb::StopSandboxRequest { sandbox_id: self.uid.clone(), timeout_secs, ..Default::default() };
        match self.sandbox.stop_sandbox(Context::default(), &request).await {
            Ok(_) => Ok(()),
            Err(e @ ttrpc::Error::RpcStatus(_)) => Err(self.failed("stop")(e)),
            Err(_) => Ok(()),
        }
    }

    /// Sends a signal to a container's first process.
    ///
    /// # Errors
    /// When the container does not exist or does not run.
    pub async fn kill(&self, container: &str, signal: Signal) -> Result<(), Error> {
        let request = api::KillRequest { id: container.to_owned(), signal: signal.as_raw().unsigned_abs(), ..Default::default() };
        self.task.kill(Context::default(), &request).await.map(drop).map_err(self.failed("kill"))
    }

    /// Starts a container that has ended or waits in its back-off; returns when it runs.
    ///
    /// # Errors
    /// When the container does not exist.
    pub async fn start_container(&self, container: &str) -> Result<(), Error> {
        let request = api::StartRequest { id: container.to_owned(), ..Default::default() };
        self.task.start(Context::default(), &request).await.map(drop).map_err(self.failed("start a container"))
    }

    /// Ends a container within `grace` (the manifest's without one; by its stop signal, then SIGKILL) and starts it again, whatever restartPolicy says.
    /// One that does not run is started. Returns when the new process runs.
    ///
    /// # Errors
    /// When the container does not exist, or the shim ends.
    pub async fn restart_container(&self, container: &str, grace: Option<Duration>) -> Result<(), Error> {
        let request = api::CreateTaskRequest { id: container.to_owned(), ..Default::default() };
        let pid = self.task.create(Context::default(), &request).await.map_err(self.failed("restart a container"))?.pid;
        if pid == 0 {
            return self.start_container(container).await;
        }
        let plan = self.dir.plan()?;
        let signal = plan.init_containers.iter().chain(&plan.containers).find(|c| c.name == container).map_or(Signal::TERM, crate::signal::to_stop);
        let grace = grace.unwrap_or(Duration::from_secs(plan.grace_seconds));
        let process = ProcessId::of(pid).ok();
        let pidfd = process.and_then(|p| p.pidfd().ok()).flatten();
        // Gone already: then the shim is starting the next one.
        let (Some(process), Some(pidfd)) = (process, pidfd) else { return self.start_container(container).await };
        let system = |what| move |e| Error::System(what, e);
        process.signal(signal).map_err(system("send a signal"))?;
        let ended = process::ended(pidfd.as_fd());
        if tokio::time::timeout(grace, ended).await.is_err() {
            process.signal(Signal::KILL).map_err(system("send a signal"))?;
            process::ended(pidfd.as_fd()).await.map_err(system("wait for a container"))?;
        }
        self.start_container(container).await
    }

    /// Waits for the end of a container's process; returns its exit code.
    ///
    /// # Errors
    /// When the container does not exist, or the shim ends.
    pub async fn wait(&self, container: &str) -> Result<u32, Error> {
        let request = api::WaitRequest { id: container.to_owned(), ..Default::default() };
        self.task.wait(Context::default(), &request).await.map(|r| r.exit_status).map_err(self.failed("wait"))
    }

    /// Prepares a process in a container; `id` is new in that container.
    ///
    /// # Errors
    /// When the container does not run.
    pub async fn exec(&self, container: &str, id: &str, what: &ExecOverrides, io: &ExecIo) -> Result<Exec, Error> {
        let value = serde_json::to_vec(what).map_err(|e| Error::System("describe a process", e.into()))?;
        let mut spec = Any::new();
        spec.type_url = crate::shim::OVERRIDES.to_owned();
        spec.value = value;
        let path = |p: &Option<PathBuf>| p.as_ref().map(|p| p.to_string_lossy().into_owned()).unwrap_or_default();
        let request = api::ExecProcessRequest {
            id: container.to_owned(),
            exec_id: id.to_owned(),
            terminal: io.terminal,
            stdin: path(&io.stdin),
            stdout: path(&io.stdout),
            stderr: path(&io.stderr),
            spec: MessageField::some(spec),
            ..Default::default()
        };
        self.task.exec(Context::default(), &request).await.map_err(self.failed("execute"))?;
        Ok(Exec { client: self.clone(), container: container.to_owned(), id: id.to_owned() })
    }
}

impl Exec {
    /// Starts the process; returns its pid on the host.
    ///
    /// # Errors
    /// Exit code 127 when the command was not found, 126 when it cannot be executed.
    pub async fn start(&self) -> Result<u32, Error> {
        let request = api::StartRequest { id: self.container.clone(), exec_id: self.id.clone(), ..Default::default() };
        self.client.task.start(Context::default(), &request).await.map(|r| r.pid).map_err(self.client.failed("execute"))
    }

    /// Waits for its end; returns its exit code.
    ///
    /// # Errors
    /// When the shim ends.
    pub async fn wait(&self) -> Result<u32, Error> {
        let request = api::WaitRequest { id: self.container.clone(), exec_id: self.id.clone(), ..Default::default() };
        self.client.task.wait(Context::default(), &request).await.map(|r| r.exit_status).map_err(self.client.failed("wait"))
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn kill(&self, signal: Signal) -> Result<(), Error> {
        let request = api::KillRequest { id: self.container.clone(), exec_id: self.id.clone(), signal: signal.as_raw().unsigned_abs(), ..Default::default() };
        self.client.task.kill(Context::default(), &request).await.map(drop).map_err(self.client.failed("kill"))
    }

    /// Sets the size of its terminal, in characters.
    ///
    /// # Errors
    /// When the shim ends.
    pub async fn resize(&self, width: u16, height: u16) -> Result<(), Error> {
        let request = api::ResizePtyRequest { id: self.container.clone(), exec_id: self.id.clone(), width: width.into(), height: height.into(), ..Default::default() };
        self.client.task.resize_pty(Context::default(), &request).await.map(drop).map_err(self.client.failed("resize"))
    }

    /// Forgets a process that has ended, or that never started.
    ///
    /// # Errors
    /// When it still runs.
    pub async fn delete(&self) -> Result<(), Error> {
        let request = api::DeleteRequest { id: self.container.clone(), exec_id: self.id.clone(), ..Default::default() };
        self.client.task.delete(Context::default(), &request).await.map(drop).map_err(self.client.failed("delete"))
    }
}
