//! One container of a pod, from its root file system to its last exit. Knows its pod; knows nothing of who asks.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bundles::plan::{ContainerPlan, RootSource};
use bundles::volume::Missing;
use jiff::Timestamp;
use oci_spec::runtime::Spec;
use rustix::process::Signal;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::backoff::BackOff;
use super::exec::Exec;
use super::io;
use super::log::SharedLog;
use super::pod::{OwnMounts, Pod, SubPaths};
use crate::cgroup::{Cgroup, DeviceAccess, Limits};
use crate::engine::{CreateRequest, Created, Engine as _, Stdio};
use crate::error::{Error, Failures, chain};
use crate::logs::Stream;
use crate::process::{self, Exit, ProcessId};
use crate::status::{ContainerSeen, ContainerState, Termination, restarts};
use crate::step::Step;
use crate::{rootfs, store};

/// How long the outputs of an ended container may stay open: by then only a process outside its cgroup holds them.
const DRAIN: Duration = Duration::from_secs(2);

/// Where sub paths are staged, in a container's directory.
const SUB_PATHS: &str = "sub-paths";

/// A container of the manifest.
pub(crate) struct Container {
    pub(crate) plan: ContainerPlan,
    pub(crate) seen: RefCell<ContainerSeen>,
    /// Set while its process runs.
    pub(crate) running: RefCell<Option<Rc<Running>>>,
    /// Counts attempts to start it, those that failed too.
    pub(crate) attempts: watch::Sender<u64>,
    /// The last exit of its process; `None` while it runs or has not run.
    pub(crate) exits: watch::Sender<Option<Exit>>,
    pub(crate) execs: RefCell<HashMap<String, Rc<Exec>>>,
    /// Cuts a back-off short.
    pub(crate) wake: Notify,
    /// Made before its first start, which takes it.
    early_cgroup: RefCell<Option<Cgroup>>,
    /// Its next exit is followed by a start whatever the policy says.
    pub(crate) restart_once: Cell<bool>,
}

/// A container's live process.
pub(crate) struct Running {
    pub(crate) process: ProcessId,
    pub(crate) pidfd: OwnedFd,
    pub(crate) cgroup: Cgroup,
    pub(crate) spec: Spec,
    /// The pty master, when it has a terminal.
    pub(crate) terminal: Option<OwnedFd>,
    /// The other end of stdin, when the manifest wants it open.
    _stdin: Option<OwnedFd>,
    started: Timestamp,
    began: Instant,
    pumps: RefCell<Vec<JoinHandle<()>>>,
}

/// A container that was created and waits to be started.
pub(crate) struct Prepared {
    created: Created,
    cgroup: Cgroup,
    spec: Spec,
    stdin: Option<OwnedFd>,
    pumps: Vec<JoinHandle<()>>,
}

impl Container {
    pub(crate) fn new(plan: ContainerPlan) -> Self {
        let image_id = match &plan.root {
            RootSource::Image(image) => image.id.clone(),
            _ => String::new(),
        };
        let seen = ContainerSeen {
            name: plan.name.clone(),
            image: plan.image.clone(),
            image_id,
            id: None,
            state: ContainerState::Waiting { reason: "PodInitializing", message: None },
            last: None,
            restarts: 0,
        };
        Self {
            plan,
            seen: RefCell::new(seen),
            running: RefCell::default(),
            attempts: watch::channel(0).0,
            exits: watch::channel(None).0,
            execs: RefCell::default(),
            wake: Notify::new(),
            early_cgroup: RefCell::default(),
            restart_once: Cell::new(false),
        }
    }

    /// Starts it at once when it has ended or waits in its back-off; returns its pid once it runs.
    pub(crate) async fn start_now(&self) -> Result<u32, String> {
        let pid = || self.running.borrow().as_ref().map(|r| r.process.pid);
        if let (Some(pid), false) = (pid(), self.restart_once.get()) {
            return Ok(pid);
        }
        let mut attempts = self.attempts.subscribe();
        let before = *attempts.borrow_and_update();
        let waits = match &self.seen.borrow().state {
            ContainerState::Waiting { reason, .. } => *reason == "CrashLoopBackOff",
            ContainerState::Terminated(_) => true,
            ContainerState::Running { .. } => false,
        };
        if waits {
            self.wake.notify_one();
        }
        // The sender lives as long as the container.
        if attempts.wait_for(|n| *n > before).await.is_err() {
            return Err("the pod is ending".to_owned());
        }
        pid().ok_or_else(|| match &self.seen.borrow().state {
            ContainerState::Terminated(t) => t.message.clone().unwrap_or_else(|| "it ended at once".to_owned()),
            _ => "it ended at once".to_owned(),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.plan.name
    }

    /// Makes its root, cgroup and process; the process waits to be started. A failure leaves nothing.
    pub(crate) async fn create(&self, pod: &Pod) -> Result<Prepared, Error> {
        let prepared = self.try_create(pod).await;
        if prepared.is_err() {
            self.clean_up(pod).await;
        }
        prepared.map_err(|e| self.error("create", e))
    }

    fn error(&self, action: &'static str, source: Error) -> Error {
        Error::Container { action, container: self.plan.name.clone(), source: Box::new(source) }
    }

    async fn try_create(&self, pod: &Pod) -> Result<Prepared, Error> {
        let bundle = pod.dir.container(self.name());
        store::private_dir(&bundle)?;
        let rootfs = Step::MountRoot.take(self.name(), || self.mount_root(pod, &bundle))?;
        let image_volumes = Step::ImageVolumes.take(self.name(), || self.fill_image_volumes(pod, &rootfs))?;
        let early = self.early_cgroup.take();
        let cgroup = early.map_or_else(|| self.make_cgroup(pod), Ok)?;
        let sub_paths = Step::SubPaths.take(self.name(), || self.stage_sub_paths(pod, &bundle))?;
        let spec = pod.spec(&self.plan, &rootfs, cgroup.path(), &OwnMounts { sub_paths, image_volumes })?;
        let attempt = self.seen.borrow().restarts;
        let log_path = pod.log_dir(self.name()).join(format!("{attempt}.log"));
        let log = Step::Log.take(self.name(), || SharedLog::open(&pod.dir, self.name(), &log_path))?;
        let mut pumps = Vec::new();
        let mut stdin = None;
        let stdio = if self.plan.tty {
            Stdio::Terminal
        } else {
            let (out_read, out_write) = io::pipe()?;
            let (err_read, err_write) = io::pipe()?;
            pumps.push(io::pump_to_log(out_read, Stream::Stdout, log.clone()));
            pumps.push(io::pump_to_log(err_read, Stream::Stderr, log.clone()));
            let input = if self.plan.stdin {
                let (read, write) = io::pipe()?;
                stdin = Some(write);
                read
            } else {
                io::dev_null()?
            };
            Stdio::Pipes { stdin: input, stdout: out_write, stderr: err_write }
        };
        let id = format!("{}-{}", pod.plan.uid, self.name());
        let state_dir = bundle.join("engine");
        store::private_dir(&state_dir)?;
        let request = CreateRequest { id: &id, bundle: &bundle, spec: &spec, state_dir: &state_dir, cgroup: &cgroup, stdio };
        let created = Step::Launch.follow(self.name(), pod.engine.create(request)).await?;
        if let Some(master) = &created.terminal {
            let copy = master.try_clone().map_err(|e| Error::System("copy the terminal", e))?;
            pumps.push(io::pump_to_log(copy, Stream::Stdout, log));
        }
        Ok(Prepared { created, cgroup, spec, stdin, pumps })
    }

    /// Where its root is on the host; mounts it when it is an overlay.
    fn mount_root(&self, pod: &Pod, bundle: &Path) -> Result<PathBuf, Error> {
        let target = bundle.join("rootfs");
        let scratch = pod.store.layout.pod_lib(&pod.plan.uid).join("containers").join(self.name());
        match &self.plan.root {
            RootSource::Image(image) => rootfs::mount_overlay(&image.layers, &scratch, &target).map(|()| target),
            RootSource::Directory(dir) => rootfs::mount_overlay(std::slice::from_ref(dir), &scratch, &target).map(|()| target),
            RootSource::Bundle(dir) => Ok(dir.clone()),
            RootSource::Reference => Err(Error::Reported { message: format!("image {} was not resolved", self.plan.image), exit_code: 125 }),
        }
    }

    /// The directories that its image wants. They are the pod's: a restart finds what was written.
    fn fill_image_volumes(&self, pod: &Pod, rootfs: &Path) -> Result<BTreeMap<PathBuf, PathBuf>, Error> {
        let fail = Error::ImageVolumes;
        let dir = pod.store.layout.pod_lib(&pod.plan.uid).join("image-volumes").join(self.name());
        let mut filled = BTreeMap::new();
        for (number, place) in bundles::volume::of_image(&self.plan).map_err(fail)?.into_iter().enumerate() {
            let path = dir.join(number.to_string());
            store::private_dir(&dir)?;
            bundles::volume::fill(rootfs, &place, &path).map_err(fail)?;
            filled.insert(place, path);
        }
        Ok(filled)
    }

    /// Binds the sub paths of its mounts to places of ours: resolved once, inside the volume, with nothing to race for later.
    fn stage_sub_paths(&self, pod: &Pod, bundle: &Path) -> Result<SubPaths, Error> {
        let mut staged = SubPaths::new();
        for mount in &self.plan.mounts {
            let (Some(sub_path), Some(volume)) = (&mount.sub_path, pod.volume(&mount.volume)) else { continue };
            let key = (mount.volume.clone(), sub_path.clone());
            if staged.contains_key(&key) {
                continue;
            }
            let target = bundle.join(SUB_PATHS).join(staged.len().to_string());
            store::private_dir(&bundle.join(SUB_PATHS))?;
            let fail = |source| Error::Volume { name: mount.volume.clone(), source };
            // Every mount of a plan names one of its volumes.
            let missing = pod.plan.volumes.get(&mount.volume).map_or(Missing::Refuse, Missing::of);
            bundles::volume::sub_path(volume, sub_path, missing).and_then(|found| found.stage(&target)).map_err(fail)?;
            staged.insert(key, target);
        }
        Ok(staged)
    }

    fn make_cgroup(&self, pod: &Pod) -> Result<Cgroup, Error> {
        let limits = self.limits()?;
        Step::Cgroup.take(self.name(), || Cgroup::create(&pod.hierarchy, &self.cgroup_path(pod), &limits))
    }

    /// Makes the cgroup of its first start before that start.
    pub(crate) fn make_cgroup_early(&self, pod: &Pod) -> Result<(), Error> {
        let cgroup = self.make_cgroup(pod).map_err(|e| self.error("create", e))?;
        *self.early_cgroup.borrow_mut() = Some(cgroup);
        Ok(())
    }

    fn cgroup_path(&self, pod: &Pod) -> String {
        format!("{}/{}", pod.record.borrow().cgroup, self.name())
    }

    fn limits(&self) -> Result<Limits, Error> {
        let resources = bundles::spec::resources(&self.plan);
        let limits = Limits::from_resources(&resources);
        let mut limits = limits.map_err(|field| Error::System("set limits", std::io::Error::other(format!("{field} is not supported"))))?;
        if !self.plan.security.privileged {
            limits.devices = DeviceAccess::Container(Vec::new());
        }
        Ok(limits)
    }

    /// Lets a created container execute its entry point.
    pub(crate) async fn start(&self, pod: &Pod, prepared: Prepared) -> Result<(), Error> {
        let Prepared { mut created, cgroup, spec, stdin, pumps } = prepared;
        if let Err(e) = Step::Start.follow(self.name(), created.start()).await {
            drop((created, cgroup, pumps));
            self.clean_up(pod).await;
            return Err(self.error("start", e));
        }
        let started = Timestamp::now();
        let Created { process, pidfd, terminal, .. } = created;
        let attempt = {
            let mut seen = self.seen.borrow_mut();
            seen.state = ContainerState::Running { since: started };
            seen.id = Some(format!("minipod://{}/{}/{}", pod.plan.uid, self.name(), seen.restarts));
            seen.restarts
        };
        let running = Running { process, pidfd, cgroup, spec, terminal, _stdin: stdin, started, began: Instant::now(), pumps: RefCell::new(pumps) };
        *self.running.borrow_mut() = Some(Rc::new(running));
        self.exits.send_replace(None);
        self.attempts.send_modify(|n| *n += 1);
        Step::RecordStart.take(self.name(), || pod.write_container_state(self.name(), &process))?;
        pod.events.normal("Started", Some(self.name()), &format!("Started container {} (attempt {attempt})", self.name()));
        pod.publish();
        Ok(())
    }

    /// Follows the container until it will not run again: waits, records, restarts with back-off.
    pub(crate) async fn supervise(&self, pod: &Pod) {
        let mut back_off = BackOff::new(pod.back_off_base());
        loop {
            let ended = self.finish(pod).await;
            // Asked for: without back-off.
            let asked = self.restart_once.take();
            let again = !pod.is_stopping() && (asked || restarts(pod.restart_policy(self), ended.exit_code));
            let ran = Duration::try_from(ended.finished.duration_since(ended.started)).unwrap_or_default();
            if !again {
                // Ended for good, unless somebody asks for it while the rest of the pod still runs.
                if !pod.park(self).await {
                    return;
                }
                back_off = BackOff::new(pod.back_off_base());
            }
            self.seen.borrow_mut().last = Some(ended.clone());
            let wait = if asked { Duration::ZERO } else { back_off.after(ran) };
            if !wait.is_zero() && !self.wait_back_off(pod, wait, ended).await {
                return;
            }
            {
                let mut seen = self.seen.borrow_mut();
                seen.restarts += 1;
                seen.state = ContainerState::Waiting { reason: "ContainerCreating", message: None };
            }
            let tried = Timestamp::now();
            let again = match self.create(pod).await {
                Ok(prepared) => self.start(pod, prepared).await,
                Err(e) => Err(e),
            };
            if let Err(e) = again {
                self.cannot_run(pod, &e, tried);
            }
        }
    }

    /// Returns false when the pod is stopped meanwhile.
    async fn wait_back_off(&self, pod: &Pod, wait: Duration, ended: Termination) -> bool {
        let message = format!("back-off {}s restarting failed container={} pod={}", wait.as_secs(), self.name(), pod.record.borrow().label());
        pod.events.warning("BackOff", Some(self.name()), &message);
        self.seen.borrow_mut().state = ContainerState::Waiting { reason: "CrashLoopBackOff", message: Some(message) };
        pod.publish();
        tokio::select! {
            () = tokio::time::sleep(wait) => true,
            () = self.wake.notified() => true,
            _ = pod.stop_requested() => {
                self.seen.borrow_mut().state = ContainerState::Terminated(ended);
                false
            }
        }
    }

    /// Records a start that failed as an end of the container, as kubelet shows it.
    pub(crate) fn cannot_run(&self, pod: &Pod, error: &Error, tried: Timestamp) {
        let message = chain(error);
        pod.events.warning("Failed", Some(self.name()), &message);
        self.seen.borrow_mut().state = ContainerState::Terminated(Termination {
            exit_code: error.exit_code().into(),
            signal: None,
            reason: "ContainerCannotRun",
            message: Some(message),
            started: tried,
            finished: Timestamp::now(),
        });
        self.attempts.send_modify(|n| *n += 1);
        pod.publish();
    }

    /// Waits for the end of the running process (asking for it when the pod is stopped), records it and cleans up.
    /// A container that does not run has ended before.
    async fn finish(&self, pod: &Pod) -> Termination {
        let running = self.running.borrow().clone();
        let Some(running) = running else { return self.last_termination() };
        let exit = self.wait_or_stop(pod, &running).await;
        let oom = running.cgroup.oom_kills().is_ok_and(|kills| kills > 0);
        let reason = match exit {
            Exit { signal: Some(9), .. } if oom => "OOMKilled",
            Exit { code: 0, .. } => "Completed",
            _ => "Error",
        };
        let ended = Termination {
            exit_code: exit.code.into(),
            signal: exit.signal.map(i32::from),
            reason,
            message: None,
            started: running.started,
            finished: running.started + jiff::SignedDuration::try_from(running.began.elapsed()).unwrap_or_default(),
        };
        *self.running.borrow_mut() = None;
        self.release(pod, running).await;
        self.clean_up(pod).await;
        self.seen.borrow_mut().state = ContainerState::Terminated(ended.clone());
        pod.events.normal("Exited", Some(self.name()), &format!("Container {} ended with exit code {} ({reason})", self.name(), exit.code));
        pod.publish();
        self.exits.send_replace(Some(exit));
        ended
    }

    fn last_termination(&self) -> Termination {
        match &self.seen.borrow().state {
            ContainerState::Terminated(t) => t.clone(),
            _ => Termination { exit_code: 125, signal: None, reason: "ContainerStatusUnknown", message: None, started: Timestamp::now(), finished: Timestamp::now() },
        }
    }

    async fn wait_or_stop(&self, pod: &Pod, running: &Running) -> Exit {
        let exit = process::wait_exit(running.pidfd.as_fd());
        tokio::pin!(exit);
        let deadline = tokio::select! {
            biased;
            exit = &mut exit => return known(exit),
            deadline = pod.stop_requested() => deadline,
        };
        pod.events.normal("Killing", Some(self.name()), &format!("Stopping container {}", self.name()));
        let mut stop = pod.watch_stop();
        let mut deadline = deadline;
        if deadline > Instant::now() {
            let signal = crate::signal::to_stop(&self.plan);
            let sent = Step::Signal.take(self.name(), || {
                self.send(running, signal);
                Ok::<_, Error>(())
            });
            if let Err(error) = sent {
                tracing::warn!(container = self.name(), %error, "stop signal not sent");
            }
        }
        loop {
            tokio::select! {
                exit = &mut exit => return known(exit),
                () = tokio::time::sleep_until(deadline.into()) => break,
                // A second, shorter stop brings the deadline forward.
                Ok(()) = stop.changed() => deadline = (*stop.borrow()).unwrap_or(deadline),
            }
        }
        if let Err(error) = running.cgroup.kill().await {
            tracing::warn!(container = self.name(), %error, "cgroup not killed; killing the process");
        }
        self.send(running, Signal::KILL);
        known(exit.await)
    }

    fn send(&self, running: &Running, signal: Signal) {
        if let Err(error) = process::send_signal(running.pidfd.as_fd(), signal) {
            tracing::warn!(container = self.name(), ?signal, %error, "signal not sent");
        }
    }

    /// Ends what the container's first process left behind, and lets its last output reach the log.
    async fn release(&self, pod: &Pod, running: Rc<Running>) {
        let mut failures = Failures::default();
        failures.follow(Step::KillContainer, self.name(), running.cgroup.kill()).await;
        failures.follow(Step::Drain, self.name(), self.drain(&running)).await;
        failures.take(Step::ForgetProcess, self.name(), || pod.remove_container_state(self.name()));
        self.warn("not released", failures);
    }

    async fn drain(&self, running: &Running) -> Result<(), Error> {
        let pumps: Vec<_> = running.pumps.borrow_mut().drain(..).collect();
        let aborts: Vec<_> = pumps.iter().map(JoinHandle::abort_handle).collect();
        if tokio::time::timeout(DRAIN, futures::future::join_all(pumps)).await.is_err() {
            aborts.iter().for_each(tokio::task::AbortHandle::abort);
            let why = "its outputs are still open in another process; their log ends here";
            return Err(Error::System("read the last output", std::io::Error::other(why)));
        }
        Ok(())
    }

    /// Removes what `create` made. Works on whatever part of it exists; what it cannot remove the pod's tear-down will.
    pub(crate) async fn clean_up(&self, pod: &Pod) {
        let bundle = pod.dir.container(self.name());
        self.early_cgroup.take();
        let mut failures = Failures::default();
        failures.follow(Step::RemoveContainerCgroup, self.name(), self.remove_cgroup(pod)).await;
        failures.take(Step::UnmountSubPaths, self.name(), || {
            rootfs::unmount_below(&bundle.join(SUB_PATHS))?;
            store::remove_tree(&bundle.join(SUB_PATHS))
        });
        failures.take(Step::UnmountRoot, self.name(), || rootfs::unmount(&bundle.join("rootfs")));
        failures.take(Step::RemoveContainerFiles, self.name(), || self.remove_files(pod, &bundle));
        self.warn("not cleaned up", failures);
    }

    /// With what is in it: nothing, unless the container could not be made or started.
    async fn remove_cgroup(&self, pod: &Pod) -> Result<(), Error> {
        Ok(Cgroup::at(&pod.hierarchy, &self.cgroup_path(pod))?.end().await?)
    }

    fn remove_files(&self, pod: &Pod, bundle: &Path) -> Result<(), Error> {
        let upper = pod.store.layout.pod_lib(&pod.plan.uid).join("containers").join(self.name());
        let mut failures = Failures::default();
        failures.note("engine state", store::remove_tree(&bundle.join("engine")));
        failures.note("upper directory", store::remove_tree(&upper));
        failures.note("config.json", store::remove_file(&bundle.join("config.json")));
        failures.into_result()
    }

    fn warn(&self, what: &str, failures: Failures) {
        if let Err(error) = failures.into_result() {
            tracing::warn!(container = self.name(), %error, "{what}");
        }
    }
}

/// A child that cannot be waited for was reaped by somebody else: its code is lost.
fn known(exit: std::io::Result<Exit>) -> Exit {
    exit.unwrap_or_else(|error| {
        tracing::warn!(%error, "exit status lost");
        Exit { code: 255, signal: None }
    })
}
