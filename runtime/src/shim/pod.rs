//! The pod inside its shim: the order in which it comes up and goes down. What a container does is in `container`.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bundles::plan::{IpcMode, NetworkMode, PidMode, PodPlan, RestartPolicy, RootSource, VolumeSource};
use bundles::spec::{Namespace, Namespaces, PodFiles, SpecContext};
use bundles::volume::PodMount;
use futures::future::join_all;
use jiff::Timestamp;
use nix::mount::MsFlags;
use oci_spec::runtime::Spec;
use tokio::sync::{Notify, watch};

use super::capabilities;
use super::container::Container;
use super::events::EventLog;
use crate::cgroup::{Cgroup, Hierarchy, Limits};
use crate::engine::Libcontainer;
use crate::error::{Error, chain};
use crate::etc::EtcFiles;
use crate::pods::{Keep, NewPod, host_interface, network, port_mappings};
use crate::process::{self, ProcessId};
use crate::sandbox::{self, Sandbox};
use crate::status::PodSeen;
use crate::step::{NetworkSteps, Step};
use crate::store::{PodDir, PodLock, Record, Stage, Store};
use crate::{rootfs, store, teardown};

/// /dev/shm of a pod, as containerd makes it.
const SHM_BYTES: u64 = 64 * 1024 * 1024;
/// Second wait of the restart back-off (kubelet).
const BACK_OFF: Duration = Duration::from_secs(10);
/// How long to wait for room for a status.
const PUBLISH_AGAIN: Duration = Duration::from_secs(1);
/// Annotation that shortens it in labs, in seconds.
const BACK_OFF_ANNOTATION: &str = "minipod.dev/restart-backoff-seconds";

/// One pod.
pub(crate) struct Pod {
    pub(crate) store: Store,
    pub(crate) dir: PodDir,
    pub(crate) plan: PodPlan,
    pub(crate) record: RefCell<Record>,
    pub(crate) engine: Libcontainer,
    pub(crate) hierarchy: Hierarchy,
    pub(crate) init: Vec<Rc<Container>>,
    pub(crate) app: Vec<Rc<Container>>,
    pub(crate) events: EventLog,
    sandbox: RefCell<Option<Sandbox>>,
    env: OnceCell<Env>,
    stop: watch::Sender<Option<Instant>>,
    down: watch::Sender<bool>,
    /// App containers that run or will run again.
    active: watch::Sender<usize>,
    started: Timestamp,
    finished: Cell<bool>,
    failure: RefCell<Option<(&'static str, String)>>,
    /// Told when the status could not be put on disk.
    unpublished: Notify,
    /// Held until the shim is gone.
    _lock: PodLock,
}

/// What every container of the pod gets.
struct Env {
    pod_ip: Option<IpAddr>,
    etc: EtcFiles,
    shm: Option<PathBuf>,
    volumes: BTreeMap<String, PathBuf>,
}

/// Where the sub paths of a container's mounts were staged, by volume and sub path.
pub(crate) type SubPaths = BTreeMap<(String, PathBuf), PathBuf>;

/// What is mounted for one container alone.
pub(crate) struct OwnMounts {
    pub(crate) sub_paths: SubPaths,
    /// The volumes that its image wants, by their place in it.
    pub(crate) image_volumes: BTreeMap<PathBuf, PathBuf>,
}

/// Why a pod did not come up.
pub(crate) enum NotStarted {
    /// It cannot: undo everything.
    Cannot(Error),
    /// An init container failed for good: the pod has failed, and stays to be looked at.
    InitFailed { container: String, exit_code: u8 },
    /// It was stopped meanwhile.
    Stopped,
}

impl From<Error> for NotStarted {
    fn from(e: Error) -> Self {
        Self::Cannot(e)
    }
}

impl Pod {
    pub(crate) fn new(store: Store, new: NewPod, engine: Libcontainer, hierarchy: Hierarchy) -> Result<Rc<Self>, Error> {
        let NewPod { dir, lock, mut record, plan, .. } = new;
        record.shim = Some(ProcessId::of(std::process::id()).map_err(|e| Error::System("identify the shim", e))?);
        Step::RecordShim.take("", || dir.write_record(&record))?;
        let events = EventLog::open(&dir.events())?;
        let containers = |plans: &[bundles::plan::ContainerPlan]| plans.iter().cloned().map(Container::new).map(Rc::new).collect();
        Ok(Rc::new(Self {
            init: containers(&plan.init_containers),
            app: containers(&plan.containers),
            store,
            dir,
            record: RefCell::new(record),
            engine,
            hierarchy,
            events,
            sandbox: RefCell::default(),
            env: OnceCell::new(),
            stop: watch::channel(None).0,
            down: watch::channel(false).0,
            active: watch::channel(plan.containers.len()).0,
            started: Timestamp::now(),
            finished: Cell::new(false),
            failure: RefCell::default(),
            unpublished: Notify::new(),
            plan,
            _lock: lock,
        }))
    }

    /// Brings the pod up: sandbox, network, files, init containers in order, app containers.
    pub(crate) async fn start(&self) -> Result<(), NotStarted> {
        self.publish();
        self.create_sandbox()?;
        let pod_ip = self.attach().await?;
        self.prepare_files(pod_ip)?;
        self.publish();
        for container in &self.init {
            self.run_init(container).await?;
        }
        self.start_apps().await
    }

    async fn run_init(&self, container: &Container) -> Result<(), NotStarted> {
        let prepared = container.create(self).await;
        // Why pause could not be is the better reason.
        self.pause_ready()?;
        let prepared = prepared?;
        container.start(self, prepared).await?;
        container.supervise(self).await;
        if self.is_stopping() {
            return Err(NotStarted::Stopped);
        }
        if container.seen.borrow().succeeded() {
            return Ok(());
        }
        let exit_code = container.exits.borrow().map_or(125, |exit| exit.code);
        Err(NotStarted::InitFailed { container: container.name().to_owned(), exit_code })
    }

    /// Creates the app containers side by side and starts them in the manifest's order.
    async fn start_apps(&self) -> Result<(), NotStarted> {
        for container in &self.app {
            container.seen.borrow_mut().state = crate::status::ContainerState::Waiting { reason: "ContainerCreating", message: None };
        }
        let created = join_all(self.app.iter().map(|c| c.create(self))).await;
        let mut prepared = Vec::new();
        let mut failed = None;
        for result in created {
            match result {
                Ok(p) => prepared.push(p),
                Err(e) => failed = failed.or(Some(e)),
            }
        }
        self.pause_ready()?;
        if let Some(e) = failed {
            return Err(e.into());
        }
        for (container, prepared) in self.app.iter().zip(prepared) {
            if self.is_stopping() {
                return Err(NotStarted::Stopped);
            }
            container.start(self, prepared).await?;
        }
        Ok(Step::RecordRunning.take("", || self.set_stage(Stage::Running))?)
    }

    /// Follows the app containers until none of them will run again.
    pub(crate) async fn supervise(&self) {
        join_all(self.app.iter().map(|c| c.supervise(self))).await;
    }

    /// Where a container that has ended waits while others run; true when it is asked to start again.
    pub(crate) async fn park(&self, container: &Container) -> bool {
        if self.is_init(container) || self.is_stopping() {
            return false;
        }
        self.active.send_modify(|n| *n -= 1);
        let mut active = self.active.subscribe();
        tokio::select! {
            // The sender lives as long as the pod.
            _ = active.wait_for(|n| *n == 0) => false,
            _ = self.stop_requested() => false,
            () = container.wake.notified() => {
                self.active.send_modify(|n| *n += 1);
                true
            }
        }
    }

    /// Pause is itself, and has given the pod its host name. Its move into its cgroup may have taken 10 ms (cgroup v1 waits for RCU
    /// after a quiet time): time enough to make the first containers, but for their start.
    fn pause_ready(&self) -> Result<(), Error> {
        match &mut *self.sandbox.borrow_mut() {
            Some(sandbox) if sandbox.is_awaited() => Step::PauseReady.take("", || sandbox.ready()),
            _ => Ok(()),
        }
    }

    fn is_init(&self, container: &Container) -> bool {
        self.init.iter().any(|c| std::ptr::eq(&raw const **c, container))
    }

    /// Pause first: everything else joins what it holds.
    fn create_sandbox(&self) -> Result<(), Error> {
        let cgroup_path = self.record.borrow().cgroup.clone();
        Step::PodCgroup.take("", || Cgroup::create(&self.hierarchy, &cgroup_path, &Limits::default()))?;
        // No container can be called so.
        let pause_path = format!("{cgroup_path}/_pause");
        let cgroup = Step::PauseCgroup.take("", || Cgroup::create(&self.hierarchy, &pause_path, &Limits::default()))?;
        // Before pause joins its own: on v1 that holds the kernel's lock on cgroups for as long as it waits for RCU.
        for container in if self.init.is_empty() { &self.app[..] } else { &self.init[..1] } {
            container.make_cgroup_early(self)?;
        }
        let scratch = self.dir.path.join("root");
        store::private_dir(&scratch)?;
        let mut sandbox = Step::Pause.take("", || Sandbox::create(&self.plan, &scratch, &cgroup))?;
        // Known to our own tear-down from here on, whether it can be written or not.
        self.record.borrow_mut().pause = Some(sandbox.pause);
        Step::RecordPause.take("", || self.dir.write_record(&self.record.borrow()))?;
        Step::ReleasePause.take("", || sandbox.release())?;
        if self.plan.network != NetworkMode::Host {
            Step::LinkNetns.take("", || sandbox::link_netns(&self.record.borrow().netns_link, &sandbox.pause))?;
        }
        *self.sandbox.borrow_mut() = Some(sandbox);
        Ok(())
    }

    /// Wires pause's network namespace; returns the pod's address.
    async fn attach(&self) -> Result<Option<IpAddr>, Error> {
        let record = self.record.borrow().clone();
        let netns = match (&*self.sandbox.borrow(), self.plan.network) {
            (Some(sandbox), NetworkMode::Pod | NetworkMode::None) => sandbox::open_netns(sandbox)?,
            _ => return Ok(None),
        };
        let label = record.label();
        let fail = |source| Error::Network { pod: label.clone(), source };
        let Some(wanted) = &record.network else {
            netsetup::loopback_up(netns.as_fd()).await.map_err(fail)?;
            return Ok(None);
        };
        let ports = port_mappings(&self.plan);
        let name = |n: &str| netsetup::IfName::new(n).map_err(|e| Error::System("name an interface", io::Error::other(e)));
        let request = netsetup::Request {
            owner: &record.uid,
            label: &label,
            netns: netns.as_fd(),
            host_if: name(&host_interface(&record.uid))?,
            pod_if: name("eth0")?,
            address: wanted.address,
            mac: None,
            mtu: None,
            ports: &ports,
        };
        let network = network(&self.store.layout, wanted)?;
        let attached = netsetup::attach_watched(&network, &request, &NetworkSteps::default()).await.map_err(fail)?;
        self.events.normal("Attached", None, &format!("{} has {}/{} on {}", label, attached.address, attached.prefix_len, wanted.bridge));
        Ok(Some(attached.address.into()))
    }

    /// /etc files, /dev/shm and volumes.
    fn prepare_files(&self, pod_ip: Option<IpAddr>) -> Result<(), Error> {
        let v4 = match pod_ip {
            Some(IpAddr::V4(ip)) => Some(ip),
            _ => None,
        };
        let etc = Step::EtcFiles.take("", || EtcFiles::write(&self.dir.path.join("etc"), &self.plan, v4))?;
        let no_exec = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let shm = match self.plan.ipc {
            IpcMode::Host => PathBuf::from("/dev/shm"),
            IpcMode::Pod => {
                let shm = self.dir.path.join("shm");
                Step::Shm.take("", || rootfs::mount_tmpfs(&shm, 0o1777, Some(SHM_BYTES), no_exec))?;
                shm
            }
        };
        let mut volumes = BTreeMap::new();
        for (name, source) in &self.plan.volumes {
            let path = Step::Volume.take(name, || self.prepare_volume(name, source))?;
            volumes.insert(name.clone(), path);
        }
        // Set once: a pod comes up once.
        self.env.get_or_init(|| Env { pod_ip, etc, shm: Some(shm), volumes });
        Ok(())
    }

    fn prepare_volume(&self, name: &str, source: &VolumeSource) -> Result<PathBuf, Error> {
        let fail = |source| Error::Volume { name: name.to_owned(), source };
        let dir = self.store.layout.pod_lib(&self.plan.uid).join("volumes");
        let prepared = bundles::volume::prepare(source, &dir, name).map_err(fail)?;
        match &prepared.mount {
            None => {}
            Some(PodMount::Tmpfs(tmpfs)) => {
                rootfs::mount_tmpfs(&prepared.path, tmpfs.mode, tmpfs.size, MsFlags::MS_NOSUID | MsFlags::MS_NODEV)?;
            }
            Some(PodMount::Layers(layers)) => rootfs::mount_layers(layers, &prepared.path)?,
        }
        Ok(prepared.path)
    }

    /// Host path of a volume.
    pub(crate) fn volume(&self, name: &str) -> Option<&Path> {
        self.env.get().and_then(|env| env.volumes.get(name)).map(PathBuf::as_path)
    }

    /// The OCI spec of one container, joined to the sandbox.
    pub(crate) fn spec(&self, container: &bundles::plan::ContainerPlan, rootfs: &Path, cgroup: &str, own: &OwnMounts) -> Result<Spec, Error> {
        let env = self.env.get().ok_or_else(|| Error::System("make a spec", io::Error::other("the sandbox has no files yet")))?;
        let node = nix::unistd::gethostname().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let namespaces = self.namespaces();
        let seccomp_root = self.record.borrow().seccomp_root.clone();
        let context = SpecContext {
            rootfs: (!matches!(container.root, RootSource::Bundle(_))).then_some(rootfs),
            pod_ip: env.pod_ip,
            node_name: &node,
            files: PodFiles {
                hosts: Some(&env.etc.hosts),
                hostname: Some(&env.etc.hostname),
                resolv_conf: Some(&env.etc.resolv_conf),
                shm: env.shm.as_deref(),
            },
            volumes: &env.volumes,
            sub_paths: &own.sub_paths,
            image_volumes: &own.image_volumes,
            namespaces: &namespaces,
            cgroups_path: cgroup,
            cgroup_v2: self.hierarchy.is_v2(),
            seccomp_root: &seccomp_root,
        };
        let mut spec = bundles::spec::container(&self.plan, container, &context)?;
        let withheld = capabilities::limit_to_ours(&mut spec)?;
        if !withheld.is_empty() {
            let message = format!("container {} does not get {}: this host does not give them to minipod", container.name, withheld.join(", "));
            self.events.warning("CapabilitiesWithheld", Some(&container.name), &message);
        }
        Ok(spec)
    }

    fn namespaces(&self) -> Namespaces {
        let sandbox = self.sandbox.borrow();
        let join = |name: &str| sandbox.as_ref().map_or(Namespace::New, |s| Namespace::Path(s.namespace(name)));
        let host_network = self.plan.network == NetworkMode::Host;
        Namespaces {
            network: if host_network { Namespace::Host } else { join("net") },
            uts: if host_network { Namespace::Host } else { join("uts") },
            ipc: if self.plan.ipc == IpcMode::Host { Namespace::Host } else { join("ipc") },
            pid: match self.plan.pid {
                PidMode::Container => Namespace::New,
                PidMode::Host => Namespace::Host,
                PidMode::Pod => join("pid"),
            },
        }
    }

    /// Ends containers that a start which failed has left running or created.
    pub(crate) async fn finish_containers(&self) {
        join_all(self.init.iter().chain(&self.app).map(|container| async move {
            if container.running.borrow().is_some() {
                container.supervise(self).await;
            } else {
                container.clean_up(self).await;
            }
        }))
        .await;
    }

    /// Takes everything down and records it.
    ///
    /// What a failed step has left is still on record, so that `stop`, `rm` and `gc` try again.
    pub(crate) async fn tear_down(&self, keep: Keep) -> Result<(), Error> {
        // From here on pause ends because we end it.
        self.finished.set(true);
        let record = self.record.borrow().clone();
        let mut result = teardown::take_down(&self.store.layout, &self.dir, &record).await;
        self.sandbox.borrow_mut().take();
        self.publish();
        if result.is_ok() {
            result = match keep {
                Keep::Pod => Step::RecordStopped.take("", || self.record_stopped()),
                Keep::Nothing => teardown::files(&self.store, &record),
            };
        }
        self.down.send_replace(true);
        result
    }

    fn record_stopped(&self) -> Result<(), Error> {
        let stopped = self.record.borrow().stopped();
        self.dir.write_record(&stopped)
    }

    /// Ends the pod when pause ends: without it, nobody holds the namespaces that a restarted container would join.
    pub(crate) async fn watch_pause(&self) {
        let Some(pidfd) = self.sandbox.borrow().as_ref().and_then(|s| s.pidfd.try_clone().ok()) else { return };
        match process::ended(pidfd.as_fd()).await {
            Ok(()) if !self.finished.get() && !self.is_stopping() => {
                self.fail("SandboxDied", "the pause process ended".to_owned());
                self.request_stop(Some(Duration::ZERO));
            }
            Ok(()) => {}
            Err(error) => tracing::warn!(%error, "pause is not watched"),
        }
    }

    /// Marks the pod as failed as a whole.
    pub(crate) fn fail(&self, reason: &'static str, message: String) {
        self.events.warning(reason, None, &message);
        *self.failure.borrow_mut() = Some((reason, message));
    }

    /// Asks every container to end within `grace`, the manifest's without one. A later, shorter request wins.
    pub(crate) fn request_stop(&self, grace: Option<Duration>) {
        let grace = grace.unwrap_or(Duration::from_secs(self.plan.grace_seconds));
        let deadline = Instant::now() + grace;
        self.stop.send_if_modified(|stop| {
            let sooner = stop.is_none_or(|before| deadline < before);
            if sooner {
                *stop = Some(deadline);
            }
            sooner
        });
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.borrow().is_some()
    }

    pub(crate) fn watch_stop(&self) -> watch::Receiver<Option<Instant>> {
        let mut receiver = self.stop.subscribe();
        receiver.mark_unchanged();
        receiver
    }

    /// Resolves once the pod is asked to stop, with the time by which its containers must have ended.
    pub(crate) async fn stop_requested(&self) -> Instant {
        let mut receiver = self.stop.subscribe();
        // The sender lives as long as the pod, so this cannot fail; now is the safe answer.
        receiver.wait_for(Option::is_some).await.ok().and_then(|deadline| *deadline).unwrap_or_else(Instant::now)
    }

    /// Resolves once everything is taken down.
    pub(crate) async fn is_down(&self) {
        let mut down = self.down.subscribe();
        while !*down.borrow_and_update() && down.changed().await.is_ok() {}
    }

    pub(crate) fn restart_policy(&self, container: &Container) -> RestartPolicy {
        match self.plan.restart_policy {
            // An init container runs to success once, whatever its pod's policy.
            RestartPolicy::Always if self.is_init(container) => RestartPolicy::OnFailure,
            policy => policy,
        }
    }

    pub(crate) fn back_off_base(&self) -> Duration {
        let seconds = self.plan.annotations.get(BACK_OFF_ANNOTATION).and_then(|text| text.parse().ok());
        seconds.filter(|s: &f64| s.is_finite() && *s >= 0.0).map_or(BACK_OFF, Duration::from_secs_f64)
    }

    pub(crate) fn container(&self, name: &str) -> Option<&Rc<Container>> {
        self.init.iter().chain(&self.app).find(|c| c.name() == name)
    }

    pub(crate) fn pause(&self) -> Option<ProcessId> {
        self.sandbox.borrow().as_ref().map(|s| s.pause)
    }

    pub(crate) fn log_dir(&self, container: &str) -> PathBuf {
        crate::pods::log_dir(&self.store.layout, &self.record.borrow(), container)
    }

    fn set_stage(&self, stage: Stage) -> Result<(), Error> {
        let mut record = self.record.borrow_mut();
        record.stage = stage;
        self.dir.write_record(&record)
    }

    /// Puts what is seen now on disk.
    pub(crate) fn publish(&self) {
        let seen = |containers: &[Rc<Container>]| containers.iter().map(|c| c.seen.borrow().clone()).collect::<Vec<_>>();
        let (init, app) = (seen(&self.init), seen(&self.app));
        let finished = self.finished.get();
        let status = PodSeen {
            started: self.started,
            host_ip: None,
            pod_ip: self.env.get().and_then(|env| env.pod_ip).filter(|_| !finished).map(|ip| ip.to_string()),
            sandbox: !finished && self.sandbox.borrow().is_some(),
            init: &init,
            app: &app,
            finished,
            failure: self.failure.borrow().clone(),
        }
        .to_v1();
        if let Err(e) = self.dir.write_status(&status) {
            tracing::warn!(error = chain(&e), "status not written");
            self.unpublished.notify_one();
        }
    }

    /// Puts a status on disk for which there was no room before, as soon as there is.
    pub(crate) async fn publish_late(&self) {
        loop {
            self.unpublished.notified().await;
            tokio::time::sleep(PUBLISH_AGAIN).await;
            self.publish();
        }
    }

    /// Tells everybody which process a container is.
    pub(crate) fn write_container_state(&self, name: &str, process: &ProcessId) -> Result<(), Error> {
        store::write_json(&self.dir.container(name).join("state.json"), process)
    }

    pub(crate) fn remove_container_state(&self, name: &str) -> Result<(), Error> {
        store::remove_file(&self.dir.container(name).join("state.json"))
    }

    /// The pod's directory as an open descriptor, for socket addresses that would be too long as paths (unix(7): 108 bytes).
    pub(crate) fn short_path(dir: &fs::File, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{file}", dir.as_raw_fd()))
    }
}
