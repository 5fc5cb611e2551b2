//! The shim's front door: containerd's Task service and Sandbox service (ttrpc on a unix socket).
//!
//! Handlers run anywhere; the pod lives on one thread. Each request becomes a job that is sent there.

use std::future::Future;
use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use containerd_shim_protos::api;
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim_protos::sandbox_api as sb;
use containerd_shim_protos::sandbox_async::{Sandbox, create_sandbox};
use containerd_shim_protos::shim_async::{Task, create_task};
use futures::future::LocalBoxFuture;
use rustix::process::Signal;
use tokio::sync::{mpsc, oneshot};
use ttrpc::r#async::{Server, TtrpcContext};
use ttrpc::{Code, get_status};

use super::container::Container;
use super::exec::{Exec, ExecOverrides, OVERRIDES, Streams, override_process, resize};
use super::pod::Pod;
use crate::error::{Error, chain};
use crate::process;
use crate::status::ContainerState;

type Job = Box<dyn FnOnce(Rc<Pod>) -> LocalBoxFuture<'static, ()> + Send>;
type Reply<T> = ttrpc::Result<T>;

/// The running server.
pub(super) struct Serving {
    server: Server,
    busy: Rc<tokio::sync::Semaphore>,
}

/// Requests served at once; more wait.
const REQUESTS: u32 = 1024;

impl Serving {
    /// Takes no new connection and lets requests under way be answered.
    pub(super) async fn finish(mut self) {
        self.server.stop_listen().await;
        // Requests that wait for something that will not happen any more are not waited for.
        let idle = tokio::time::timeout(Duration::from_millis(100), self.busy.acquire_many(REQUESTS)).await;
        if idle.is_err() {
            tracing::debug!("ended with requests under way");
        }
    }
}

/// Serves the pod's socket.
pub(super) async fn serve(pod: &Rc<Pod>) -> Result<Serving, Error> {
    let path = pod.dir.socket();
    crate::store::remove_file(&path)?;
    let dir = std::fs::File::open(&pod.dir.path).map_err(Error::file("open", &pod.dir.path))?;
    let listener = UnixListener::bind(Pod::short_path(&dir, "shim.sock")).map_err(Error::file("bind", &path))?;
    listener.set_nonblocking(true).map_err(Error::file("listen on", &path))?;
    let listener = ttrpc::r#async::transport::Listener::try_from(listener).map_err(Error::file("listen on", &path))?;
    let (jobs, mut queue) = mpsc::unbounded_channel::<Job>();
    let service = Arc::new(Service { jobs });
    let mut server = Server::new()
        .add_listener(listener)
        .register_service(create_task(Arc::clone(&service) as Arc<dyn Task + Send + Sync>))
        .register_service(create_sandbox(service as Arc<dyn Sandbox + Send + Sync>));
    server.start().await.map_err(|e| Error::System("serve the pod's socket", std::io::Error::other(e)))?;
    let busy = Rc::new(tokio::sync::Semaphore::new(REQUESTS as usize));
    tokio::task::spawn_local({
        let (pod, busy) = (Rc::clone(pod), Rc::clone(&busy));
        async move {
            while let Some(job) = queue.recv().await {
                let (pod, busy) = (Rc::clone(&pod), Rc::clone(&busy));
                tokio::task::spawn_local(async move {
                    let _permit = busy.acquire().await;
                    job(pod).await;
                });
            }
        }
    });
    Ok(Serving { server, busy })
}

struct Service {
    jobs: mpsc::UnboundedSender<Job>,
}

impl Service {
    /// Runs `work` on the pod's thread.
    async fn on_pod<T, F, W>(&self, work: W) -> Reply<T>
    where
        T: Send + 'static,
        F: Future<Output = Reply<T>> + 'static,
        W: FnOnce(Rc<Pod>) -> F + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |pod| {
            Box::pin(async move {
                if reply.send(work(pod).await).is_err() {
                    tracing::debug!("the client did not wait for the answer");
                }
            })
        });
        let ending = || status(Code::UNAVAILABLE, "the shim is ending");
        self.jobs.send(job).map_err(|_| ending())?;
        answer.await.map_err(|_| ending())?
    }
}

fn status(code: Code, message: impl ToString) -> ttrpc::Error {
    ttrpc::Error::RpcStatus(get_status(code, message))
}

fn unimplemented<T>(what: &str) -> Reply<T> {
    Err(status(Code::UNIMPLEMENTED, format!("{what} is not implemented for a pod of minipod")))
}

/// An error of ours on the wire: its chain of causes, and minipod's exit code where it is not 125.
fn failed(e: Error) -> ttrpc::Error {
    let code = match e.exit_code() {
        127 => Code::NOT_FOUND,
        126 => Code::PERMISSION_DENIED,
        _ => match &e {
            Error::NotRunning(_) => Code::FAILED_PRECONDITION,
            Error::NotFound(_) => Code::INVALID_ARGUMENT,
            _ => Code::UNKNOWN,
        },
    };
    status(code, chain(&e))
}

fn container(pod: &Pod, id: &str) -> Reply<Rc<Container>> {
    pod.container(id).cloned().ok_or_else(|| status(Code::INVALID_ARGUMENT, format!("pod {} has no container {id}", pod.plan.name)))
}

fn exec_of(pod: &Pod, id: &str, exec_id: &str) -> Reply<(Rc<Container>, Rc<Exec>)> {
    let container = container(pod, id)?;
    let exec = container.execs.borrow().get(exec_id).cloned();
    exec.map(|exec| (container, exec)).ok_or_else(|| status(Code::INVALID_ARGUMENT, format!("container {id} has no exec {exec_id}")))
}

fn now() -> MessageField<Timestamp> {
    let now = jiff::Timestamp::now();
    let mut at = Timestamp::new();
    at.seconds = now.as_second();
    at.nanos = now.subsec_nanosecond();
    MessageField::some(at)
}

#[async_trait]
impl Task for Service {
    async fn state(&self, _: &TtrpcContext, req: api::StateRequest) -> Reply<api::StateResponse> {
        self.on_pod(move |pod| async move {
            let mut response = api::StateResponse { id: req.id.clone(), exec_id: req.exec_id.clone(), ..Default::default() };
            if req.exec_id.is_empty() {
                let container = container(&pod, &req.id)?;
                response.bundle = pod.dir.container(&req.id).to_string_lossy().into_owned();
                response.pid = container.running.borrow().as_ref().map_or(0, |r| r.process.pid);
                response.terminal = container.plan.tty;
                let (state, code) = match &container.seen.borrow().state {
                    ContainerState::Waiting { .. } => (api::Status::CREATED, 0),
                    ContainerState::Running { .. } => (api::Status::RUNNING, 0),
                    ContainerState::Terminated(t) => (api::Status::STOPPED, t.exit_code.unsigned_abs()),
                };
                response.status = state.into();
                response.exit_status = code;
            } else {
                let (_, exec) = exec_of(&pod, &req.id, &req.exec_id)?;
                response.pid = exec.pid().unwrap_or(0);
                let exit = *exec.exits.borrow();
                response.exit_status = exit.map_or(0, |e| e.code.into());
                response.status = match (exec.pid(), exit) {
                    (_, Some(_)) => api::Status::STOPPED,
                    (Some(_), None) => api::Status::RUNNING,
                    (None, None) => api::Status::CREATED,
                }
                .into();
            }
            Ok(response)
        })
        .await
    }

    /// Creating a container of the manifest anew: its next end is followed by a start, whatever restartPolicy says.
    async fn create(&self, _: &TtrpcContext, req: api::CreateTaskRequest) -> Reply<api::CreateTaskResponse> {
        self.on_pod(move |pod| async move {
            let Some(container) = pod.container(&req.id) else {
                return unimplemented("creating a container beside those of the manifest");
            };
            let pid = container.running.borrow().as_ref().map_or(0, |r| r.process.pid);
            container.restart_once.set(pid != 0);
            Ok(api::CreateTaskResponse { pid, ..Default::default() })
        })
        .await
    }

    /// Starts an executed process; or a container of the pod that has ended or waits in its back-off, at once.
    async fn start(&self, _: &TtrpcContext, req: api::StartRequest) -> Reply<api::StartResponse> {
        self.on_pod(move |pod| async move {
            let pid = if req.exec_id.is_empty() {
                container(&pod, &req.id)?.start_now().await.map_err(|why| status(Code::UNKNOWN, why))?
            } else {
                let (container, exec) = exec_of(&pod, &req.id, &req.exec_id)?;
                exec.start(&pod, &container).await.map_err(failed)?
            };
            Ok(api::StartResponse { pid, ..Default::default() })
        })
        .await
    }

    async fn delete(&self, _: &TtrpcContext, req: api::DeleteRequest) -> Reply<api::DeleteResponse> {
        self.on_pod(move |pod| async move {
            if req.exec_id.is_empty() {
                return unimplemented("deleting a container of the manifest");
            }
            let (container, exec) = exec_of(&pod, &req.id, &req.exec_id)?;
            let exit = *exec.exits.borrow();
            let (pid, exit_status) = match (exec.pid(), exit) {
                (Some(_), None) => return Err(status(Code::FAILED_PRECONDITION, format!("exec {} is running", req.exec_id))),
                (pid, exit) => (pid.unwrap_or(0), exit.map_or(0, |e| e.code.into())),
            };
            container.execs.borrow_mut().remove(&req.exec_id);
            Ok(api::DeleteResponse { pid, exit_status, exited_at: now(), ..Default::default() })
        })
        .await
    }

    async fn pids(&self, _: &TtrpcContext, req: api::PidsRequest) -> Reply<api::PidsResponse> {
        self.on_pod(move |pod| async move {
            let running = container(&pod, &req.id)?.running.borrow().clone();
            let pids = match running {
                Some(running) => running.cgroup.procs().map_err(|e| failed(e.into()))?,
                None => Vec::new(),
            };
            let processes = pids.into_iter().map(|pid| api::ProcessInfo { pid, ..Default::default() }).collect();
            Ok(api::PidsResponse { processes, ..Default::default() })
        })
        .await
    }

    async fn pause(&self, _: &TtrpcContext, _: api::PauseRequest) -> Reply<api::Empty> {
        unimplemented("pausing a container")
    }

    async fn resume(&self, _: &TtrpcContext, _: api::ResumeRequest) -> Reply<api::Empty> {
        unimplemented("resuming a container")
    }

    async fn checkpoint(&self, _: &TtrpcContext, _: api::CheckpointTaskRequest) -> Reply<api::Empty> {
        unimplemented("checkpointing a container")
    }

    /// Signals one container's process, or all of its processes, or an executed one.
    async fn kill(&self, _: &TtrpcContext, req: api::KillRequest) -> Reply<api::Empty> {
        self.on_pod(move |pod| async move {
            let signal = i32::try_from(req.signal).ok().and_then(Signal::from_named_raw);
            let signal = signal.ok_or_else(|| status(Code::INVALID_ARGUMENT, format!("no such signal: {}", req.signal)))?;
            let sent = if req.exec_id.is_empty() {
                kill_container(&pod, &req, signal)?
            } else {
                exec_of(&pod, &req.id, &req.exec_id)?.1.signal(signal).map_err(failed)?
            };
            if sent { Ok(api::Empty::new()) } else { Err(failed(Error::NotRunning(format!("{}/{}", pod.plan.name, req.id)))) }
        })
        .await
    }

    async fn exec(&self, _: &TtrpcContext, req: api::ExecProcessRequest) -> Reply<api::Empty> {
        self.on_pod(move |pod| async move {
            let container = container(&pod, &req.id)?;
            let running = container.running.borrow().clone();
            let running = running.ok_or_else(|| failed(Error::NotRunning(format!("{}/{}", pod.plan.name, req.id))))?;
            let bad = |e: serde_json::Error| status(Code::INVALID_ARGUMENT, format!("exec spec: {e}"));
            let process = if req.spec.type_url == OVERRIDES {
                let overrides: ExecOverrides = serde_json::from_slice(&req.spec.value).map_err(bad)?;
                override_process(&running, overrides, req.terminal).map_err(failed)?
            } else {
                serde_json::from_slice(&req.spec.value).map_err(bad)?
            };
            let streams = Streams { stdin: req.stdin, stdout: req.stdout, stderr: req.stderr, terminal: req.terminal };
            let mut execs = container.execs.borrow_mut();
            if execs.contains_key(&req.exec_id) {
                return Err(status(Code::ALREADY_EXISTS, format!("exec {} exists", req.exec_id)));
            }
            execs.insert(req.exec_id, Rc::new(Exec::new(process, streams)));
            Ok(api::Empty::new())
        })
        .await
    }

    async fn resize_pty(&self, _: &TtrpcContext, req: api::ResizePtyRequest) -> Reply<api::Empty> {
        self.on_pod(move |pod| async move {
            let (width, height) = (u16::try_from(req.width).unwrap_or(u16::MAX), u16::try_from(req.height).unwrap_or(u16::MAX));
            if !req.exec_id.is_empty() {
                exec_of(&pod, &req.id, &req.exec_id)?.1.resize(width, height).map_err(failed)?;
            } else if let Some(master) = container(&pod, &req.id)?.running.borrow().as_ref().and_then(|r| r.terminal.as_ref()) {
                resize(master, width, height).map_err(failed)?;
            }
            Ok(api::Empty::new())
        })
        .await
    }

    /// Processes hold their clients' fifos themselves: their stdin ends when the client closes its end.
    async fn close_io(&self, _: &TtrpcContext, _: api::CloseIORequest) -> Reply<api::Empty> {
        Ok(api::Empty::new())
    }

    async fn update(&self, _: &TtrpcContext, _: api::UpdateTaskRequest) -> Reply<api::Empty> {
        unimplemented("updating a container's resources")
    }

    async fn wait(&self, _: &TtrpcContext, req: api::WaitRequest) -> Reply<api::WaitResponse> {
        self.on_pod(move |pod| async move {
            let mut exits = if req.exec_id.is_empty() {
                container(&pod, &req.id)?.exits.subscribe()
            } else {
                exec_of(&pod, &req.id, &req.exec_id)?.1.exits.subscribe()
            };
            let exit = exits.wait_for(Option::is_some).await.ok().and_then(|exit| *exit);
            let exit = exit.ok_or_else(|| status(Code::UNAVAILABLE, "the process is gone"))?;
            Ok(api::WaitResponse { exit_status: exit.code.into(), exited_at: now(), ..Default::default() })
        })
        .await
    }

    async fn stats(&self, _: &TtrpcContext, _: api::StatsRequest) -> Reply<api::StatsResponse> {
        unimplemented("statistics of a container")
    }

    async fn connect(&self, _: &TtrpcContext, req: api::ConnectRequest) -> Reply<api::ConnectResponse> {
        self.on_pod(move |pod| async move {
            let task_pid = pod.container(&req.id).and_then(|c| c.running.borrow().as_ref().map(|r| r.process.pid)).unwrap_or(0);
            Ok(api::ConnectResponse { shim_pid: std::process::id(), task_pid, version: env!("CARGO_PKG_VERSION").to_owned(), ..Default::default() })
        })
        .await
    }

    async fn shutdown(&self, _: &TtrpcContext, req: api::ShutdownRequest) -> Reply<api::Empty> {
        self.on_pod(move |pod| async move {
            pod.request_stop(req.now.then_some(Duration::ZERO));
            Ok(api::Empty::new())
        })
        .await
    }
}

fn kill_container(pod: &Pod, req: &api::KillRequest, signal: Signal) -> Reply<bool> {
    let running = container(pod, &req.id)?.running.borrow().clone();
    let Some(running) = running else { return Ok(false) };
    let fail = |e| failed(Error::System("send a signal", e));
    if !req.all {
        return process::send_signal(std::os::fd::AsFd::as_fd(&running.pidfd), signal).map_err(fail);
    }
    for pid in running.cgroup.procs().map_err(|e| failed(e.into()))? {
        // One that ended since is fine.
        if let Ok(process) = process::ProcessId::of(pid) {
            process.signal(signal).map_err(fail)?;
        }
    }
    Ok(true)
}

#[async_trait]
impl Sandbox for Service {
    async fn create_sandbox(&self, _: &TtrpcContext, _: sb::CreateSandboxRequest) -> Reply<sb::CreateSandboxResponse> {
        unimplemented("creating a sandbox beside the pod's")
    }

    async fn start_sandbox(&self, _: &TtrpcContext, _: sb::StartSandboxRequest) -> Reply<sb::StartSandboxResponse> {
        unimplemented("starting a sandbox beside the pod's")
    }

    async fn platform(&self, _: &TtrpcContext, _: sb::PlatformRequest) -> Reply<sb::PlatformResponse> {
        let mut platform = containerd_shim_protos::types::platform::Platform::new();
        platform.os = "linux".to_owned();
        platform.architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }
        .to_owned();
        Ok(sb::PlatformResponse { platform: MessageField::some(platform), ..Default::default() })
    }

    /// Stops the pod within `timeout_secs` (0: at once; the largest value: the manifest's grace period) and answers when all is down.
    async fn stop_sandbox(&self, _: &TtrpcContext, req: sb::StopSandboxRequest) -> Reply<sb::StopSandboxResponse> {
        self.on_pod(move |pod| async move {
            pod.request_stop((req.timeout_secs != u32::MAX).then(|| Duration::from_secs(req.timeout_secs.into())));
            pod.is_down().await;
            Ok(sb::StopSandboxResponse::new())
        })
        .await
    }

    async fn wait_sandbox(&self, _: &TtrpcContext, _: sb::WaitSandboxRequest) -> Reply<sb::WaitSandboxResponse> {
        self.on_pod(move |pod| async move {
            pod.is_down().await;
            Ok(sb::WaitSandboxResponse { exited_at: now(), ..Default::default() })
        })
        .await
    }

    async fn sandbox_status(&self, _: &TtrpcContext, req: sb::SandboxStatusRequest) -> Reply<sb::SandboxStatusResponse> {
        self.on_pod(move |pod| async move {
            let pause = pod.pause();
            Ok(sb::SandboxStatusResponse {
                sandbox_id: req.sandbox_id,
                pid: pause.map_or(0, |p| p.pid),
                state: if pause.is_some() { "SANDBOX_READY" } else { "SANDBOX_NOTREADY" }.to_owned(),
                ..Default::default()
            })
        })
        .await
    }

    async fn ping_sandbox(&self, _: &TtrpcContext, _: sb::PingRequest) -> Reply<sb::PingResponse> {
        Ok(sb::PingResponse::new())
    }

    async fn shutdown_sandbox(&self, _: &TtrpcContext, _: sb::ShutdownSandboxRequest) -> Reply<sb::ShutdownSandboxResponse> {
        self.on_pod(|pod| async move {
            pod.request_stop(Some(Duration::ZERO));
            pod.is_down().await;
            Ok(sb::ShutdownSandboxResponse::new())
        })
        .await
    }

    async fn sandbox_metrics(&self, _: &TtrpcContext, _: sb::SandboxMetricsRequest) -> Reply<sb::SandboxMetricsResponse> {
        unimplemented("metrics of a sandbox")
    }
}
