//! What commands do with pods: check, create, stop, remove. Works with and without a living shim.

use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use bundles::plan::{ContainerPlan, NetworkMode, PodPlan, Protocol};
use ipnet::Ipv4Net;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::client::Client;
use crate::error::Error;
use crate::layout::Layout;
use crate::step::Step;
use crate::store::{NetworkRecord, PodDir, PodLock, Record, Stage, Store};
use crate::{process, teardown};

/// The bridge network a pod asks for.
#[derive(Debug, Clone)]
pub struct NetworkOptions {
    /// Name of the bridge.
    pub bridge: String,
    /// The node's pod CIDR.
    pub pod_cidr: Ipv4Net,
    /// The cluster's, inside which nothing is masqueraded.
    pub cluster_cidr: Ipv4Net,
    /// `--ip`: this address and no other.
    pub address: Option<Ipv4Addr>,
}

/// Between two looks at a pod that somebody is bringing up.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Where kubelet looks for `Localhost` seccomp profiles.
pub const SECCOMP_ROOT: &str = "/var/lib/kubelet/seccomp";

/// A pod that is on disk, with its name claimed, and nowhere else yet.
#[derive(Debug)]
pub struct NewPod {
    pub(crate) dir: PodDir,
    pub(crate) lock: PodLock,
    pub(crate) record: Record,
    pub(crate) plan: PodPlan,
    /// What stays of it when it cannot start.
    pub(crate) keep: Keep,
}

/// What stays of a pod that is taken down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Its directory and logs, to be looked at or started again.
    Pod,
    /// Nothing.
    Nothing,
}

impl NewPod {
    /// Its record.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &PodDir {
        &self.dir
    }

    /// Gives up before the shim is forked.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn discard(self, store: &Store) -> Result<(), Error> {
        self.files().discard(store)
    }

    pub(crate) fn files(&self) -> Files {
        Files { dir: self.dir.clone(), record: self.record.clone(), keep: self.keep }
    }
}

/// What there is of a pod while it is on disk only.
pub(crate) struct Files {
    dir: PodDir,
    pub(crate) record: Record,
    pub(crate) keep: Keep,
}

impl Files {
    /// Gives up: a new pod is gone then, and one that was stopped is so again.
    pub(crate) fn discard(&self, store: &Store) -> Result<(), Error> {
        match self.keep {
            Keep::Nothing => store.remove(&self.record),
            Keep::Pod => self.dir.write_record(&self.record.stopped()),
        }
    }
}

/// A network as netsetup knows it.
pub(crate) fn network(layout: &Layout, record: &NetworkRecord) -> Result<netsetup::Network, Error> {
    let bridge = netsetup::IfName::new(&record.bridge).map_err(|e| Error::System("name the bridge", std::io::Error::other(e)))?;
    Ok(netsetup::Network { bridge, subnet: record.subnet, cluster: record.cluster, leases: layout.leases(&record.bridge) })
}

/// All host ports of a pod.
pub(crate) fn port_mappings(plan: &PodPlan) -> Vec<netsetup::PortMapping> {
    let containers = plan.init_containers.iter().chain(&plan.containers);
    containers.flat_map(|c: &ContainerPlan| &c.host_ports).map(port_mapping).collect()
}

fn port_mapping(port: &bundles::plan::HostPort) -> netsetup::PortMapping {
    netsetup::PortMapping {
        host_ip: match port.host_ip {
            Some(std::net::IpAddr::V4(ip)) => Some(ip),
            _ => None,
        },
        host_port: port.host_port,
        container_port: port.container_port,
        protocol: match port.protocol {
            Protocol::Tcp => netsetup::Protocol::Tcp,
            Protocol::Udp => netsetup::Protocol::Udp,
        },
    }
}

/// Checks that pods can be created: names free, what images want possible, host ports free, addresses left. Changes nothing.
///
/// Returns the network with the pod CIDR that this host has room for.
///
/// # Errors
/// All problems found.
pub async fn preflight(store: &Store, plans: &[PodPlan], wanted: &NetworkOptions) -> Result<NetworkOptions, Vec<Error>> {
    let mut problems = Vec::new();
    for plan in plans {
        match store.owner(&plan.namespace, &plan.name) {
            Ok(None) => {}
            Ok(Some(dir)) => problems.push(name_taken(plan, &dir)),
            Err(e) => problems.push(e),
        }
    }
    for plan in plans {
        for container in plan.init_containers.iter().chain(&plan.containers) {
            if let Err(source) = bundles::volume::of_image(container) {
                let source = Box::new(Error::ImageVolumes(source));
                problems.push(Error::Container { action: "create", container: container.name.clone(), source });
            }
        }
    }
    let mut chosen = wanted.clone();
    let on_bridge: Vec<&PodPlan> = plans.iter().filter(|p| p.network == NetworkMode::Pod).collect();
    if !on_bridge.is_empty() {
        match check_network(store, &on_bridge, wanted).await {
            Ok(choice) => {
                if let Some(why) = &choice.why {
                    tracing::warn!("{why}");
                }
                (chosen.pod_cidr, chosen.cluster_cidr) = (choice.subnet, choice.cluster);
            }
            Err(e) => problems.push(e),
        }
    }
    if problems.is_empty() { Ok(chosen) } else { Err(problems) }
}

fn name_taken(plan: &PodPlan, dir: &PodDir) -> Error {
    let uid = dir.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let phase = dir.status().ok().and_then(|s| s.phase).unwrap_or_else(|| "Pending".to_owned());
    Error::NameTaken { namespace: plan.namespace.clone(), name: plan.name.clone(), uid, phase }
}

async fn check_network(store: &Store, plans: &[&PodPlan], wanted: &NetworkOptions) -> Result<netsetup::Choice, Error> {
    let label = || plans.iter().map(|p| format!("{}/{}", p.namespace, p.name)).collect::<Vec<_>>().join(", ");
    let fail = |source| Error::Network { pod: label(), source };
    let mut record = NetworkRecord { bridge: wanted.bridge.clone(), subnet: wanted.pod_cidr, cluster: wanted.cluster_cidr, address: wanted.address };
    let asked = network(&store.layout, &record)?;
    let choice = netsetup::choose_subnet(&asked.bridge, wanted.pod_cidr, wanted.cluster_cidr).await.map_err(fail)?;
    (record.subnet, record.cluster) = (choice.subnet, choice.cluster);
    let network = network(&store.layout, &record)?;
    let ports: Vec<_> = plans.iter().flat_map(|p| port_mappings(p)).collect();
    netsetup::check(&network, &ports, wanted.address).await.map_err(fail)?;
    Ok(choice)
}

/// Puts a pod on disk and claims its name; the next step is [`crate::shim::spawn`].
///
/// # Errors
/// [`Error::NameTaken`]; then nothing is left.
pub fn create(store: &Store, plan: &PodPlan, manifest: &Pod, options: &NetworkOptions) -> Result<NewPod, Error> {
    let network = (plan.network == NetworkMode::Pod).then(|| NetworkRecord {
        bridge: options.bridge.clone(),
        subnet: options.pod_cidr,
        cluster: options.cluster_cidr,
        address: options.address,
    });
    let record = Record {
        uid: plan.uid.clone(),
        name: plan.name.clone(),
        namespace: plan.namespace.clone(),
        created: Timestamp::now().to_string(),
        stage: Stage::Creating,
        network,
        netns_link: store.layout.netns_link(&plan.namespace, &plan.name),
        cgroup: store.layout.pod_cgroup(&plan.uid),
        seccomp_root: SECCOMP_ROOT.into(),
        shim: None,
        pause: None,
    };
    let (dir, lock) = store.create(&record, plan, manifest)?;
    Ok(NewPod { dir, lock, record, plan: plan.clone(), keep: Keep::Nothing })
}

/// A stopped pod, ready to be started again from what is on disk.
///
/// # Errors
/// [`Error::Reported`] when it runs, or was left by a shim that died; otherwise when its files cannot be read.
pub fn restore(dir: PodDir, record: Record) -> Result<NewPod, Error> {
    let refuse = |why: &str| Error::Reported { message: format!("pod {} {why}", record.label()), exit_code: 125 };
    let Some(lock) = dir.try_lock()? else { return Err(refuse("is running")) };
    // As it is now that nobody else works on it.
    let mut record = dir.record()?;
    if record.stage != Stage::Stopped {
        return Err(refuse("was left by a shim that died: take it down first, with `minipod stop`"));
    }
    let plan = dir.plan()?;
    record.stage = Stage::Creating;
    (record.shim, record.pause) = (None, None);
    dir.write_record(&record)?;
    Ok(NewPod { dir, lock, record, plan, keep: Keep::Pod })
}

/// Stops a pod: its containers within `grace` (the manifest's without one), then the sandbox. Its directory and logs stay.
///
/// Returns when nothing of it runs. A pod whose shim has died is taken down from what is on disk.
///
/// # Errors
/// When the shim refuses, or a step of the take-down fails.
pub async fn stop(store: &Store, dir: &PodDir, record: &Record, grace: Option<Duration>) -> Result<(), Error> {
    loop {
        if let Some(lock) = dir.try_lock()? {
            let record = dir.record()?;
            if record.stage == Stage::Stopped {
                return Ok(());
            }
            return take_down(store, dir, record, &lock).await;
        }
        let shim = dir.record()?.shim;
        let pidfd = shim.map(|s| s.pidfd()).transpose().map_err(|e| Error::System("open the shim", e))?.flatten();
        match (pidfd, Client::connect(dir, record).await) {
            (Some(pidfd), Ok(client)) => {
                client.stop(grace).await?;
                process::ended(pidfd.as_fd()).await.map_err(|e| Error::System("wait for the shim", e))?;
            }
            (_, Err(e)) if !matches!(e, Error::NotRunning(_)) => return Err(e),
            // A command that is about to fork a shim, a shim that is about to record itself or to serve, or one just gone: all of it
            // takes a moment, and none of it is told to us.
            _ => tokio::time::sleep(LOOK_AGAIN).await,
        }
        if !dir.path.is_dir() {
            return Ok(());
        }
    }
}

/// Takes down what a dead shim left, and records that.
async fn take_down(store: &Store, dir: &PodDir, record: Record, _lock: &PodLock) -> Result<(), Error> {
    teardown::take_down(&store.layout, dir, &record).await?;
    let mut status = dir.status()?;
    status.phase = Some("Failed".to_owned());
    status.reason = Some("ShimDied".to_owned());
    status.message = Some("the pod's shim died; what it left was removed".to_owned());
    dir.write_status(&status)?;
    Step::RecordStopped.take("", || dir.write_record(&record.stopped()))
}

/// Removes a stopped pod: its directory, its name, its logs.
///
/// # Errors
/// [`Error::Reported`] when it still runs.
pub async fn remove(store: &Store, dir: &PodDir, record: &Record) -> Result<(), Error> {
    let _lock = loop {
        match dir.try_lock()? {
            Some(lock) => break lock,
            // A shim that is about to be gone, a `gc` that looks, another `rm`: all of it takes a moment.
            None if dir.record()?.stage == Stage::Stopped => tokio::time::sleep(LOOK_AGAIN).await,
            None => {
                let message = format!("pod {} is running: stop it first, or use `minipod rm -f`", record.label());
                return Err(Error::Reported { message, exit_code: 125 });
            }
        }
    };
    let record = dir.record()?;
    if record.stage != Stage::Stopped {
        teardown::take_down(&store.layout, dir, &record).await?;
    }
    teardown::files(store, &record)
}

/// The pid and start time of a running container, as the shim put it on disk.
///
/// # Errors
/// When the file cannot be parsed.
pub fn container_process(dir: &PodDir, container: &str) -> Result<Option<process::ProcessId>, Error> {
    let path = dir.container(container).join("state.json");
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::Parse { path, source }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::file("read", path)(e)),
    }
}

/// Name of the host's end of a pod's veth pair.
#[must_use]
pub fn host_interface(uid: &str) -> String {
    format!("mp-{}", &uid[..8.min(uid.len())])
}

/// Where a container's logs are.
#[must_use]
pub fn log_dir(layout: &Layout, record: &Record, container: &str) -> std::path::PathBuf {
    layout.pod_logs(&record.namespace, &record.name, &record.uid).join(Path::new(container))
}
