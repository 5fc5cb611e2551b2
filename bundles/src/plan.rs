//! What the runtime needs to run one pod: a Pod manifest with every default applied and every name resolved,
//! so that nobody behind this border reads `Option`s of the Kubernetes API again.
//!
//! Built by [`crate::manifest`], turned into OCI specs by [`crate::spec`], kept on disk by the runtime as `plan.json`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::image::Image;

/// One pod, ready to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PodPlan {
    /// `metadata.uid`, a UUID; names everything the pod owns on the host.
    pub uid: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`, `default` when the manifest has none.
    pub namespace: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
    /// `spec.hostname`, else the pod's name cut to 63 bytes; the host's own with `hostNetwork`.
    pub hostname: String,
    /// `spec.restartPolicy`.
    pub restart_policy: RestartPolicy,
    /// `spec.terminationGracePeriodSeconds`, in seconds.
    pub grace_seconds: u64,
    /// Whose network stack the pod has.
    pub network: NetworkMode,
    /// `spec.hostIPC`.
    pub ipc: IpcMode,
    /// `spec.hostPID` and `spec.shareProcessNamespace`.
    pub pid: PidMode,
    /// `spec.hostAliases`.
    pub host_aliases: Vec<HostAlias>,
    /// `spec.dnsPolicy` and `spec.dnsConfig`.
    pub dns: DnsPlan,
    /// `spec.volumes`, by name.
    pub volumes: BTreeMap<String, VolumeSource>,
    /// `spec.initContainers`, in order.
    pub init_containers: Vec<ContainerPlan>,
    /// `spec.containers`, in order.
    pub containers: Vec<ContainerPlan>,
}

impl PodPlan {
    /// The images that its containers and volumes have been given, one for each use.
    pub fn images(&self) -> impl Iterator<Item = &Image> {
        let roots = self.init_containers.iter().chain(&self.containers).filter_map(|container| match &container.root {
            RootSource::Image(image) => Some(&**image),
            RootSource::Reference | RootSource::Directory(_) | RootSource::Bundle(_) => None,
        });
        let volumes = self.volumes.values().filter_map(|volume| match volume {
            VolumeSource::Image { image, .. } => image.as_deref(),
            VolumeSource::EmptyDir { .. } | VolumeSource::HostPath { .. } => None,
        });
        roots.chain(volumes)
    }

    /// Everything of it that names an image and has not been given one: init containers, containers, volumes.
    pub fn image_references_mut(&mut self) -> impl Iterator<Item = ImageReference<'_>> {
        let containers = self.init_containers.iter_mut().chain(&mut self.containers).filter_map(|container| {
            let ContainerPlan { name, image, pull_policy, root, .. } = container;
            let wanted = *root == RootSource::Reference;
            wanted.then_some(ImageReference { user: ImageUser::Container(name), reference: image, pull_policy: *pull_policy, slot: Slot::Root(root) })
        });
        let volumes = self.volumes.iter_mut().filter_map(|(name, volume)| match volume {
            VolumeSource::Image { reference, pull_policy, image: slot @ None } => {
                Some(ImageReference { user: ImageUser::Volume(name), reference, pull_policy: *pull_policy, slot: Slot::Volume(slot) })
            }
            VolumeSource::Image { .. } | VolumeSource::EmptyDir { .. } | VolumeSource::HostPath { .. } => None,
        });
        containers.chain(volumes)
    }
}

/// What an image is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageUser<'a> {
    /// The root of the container of this name.
    Container(&'a str),
    /// The volume of this name.
    Volume(&'a str),
}

impl fmt::Display for ImageUser<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container(name) => write!(f, "container {name}"),
            Self::Volume(name) => write!(f, "volume {name}"),
        }
    }
}

/// A place of a plan that waits for its image.
#[derive(Debug)]
pub struct ImageReference<'a> {
    /// What the image is for.
    pub user: ImageUser<'a>,
    /// The image, as the manifest names it.
    pub reference: &'a str,
    /// When to ask the registry.
    pub pull_policy: PullPolicy,
    slot: Slot<'a>,
}

#[derive(Debug)]
enum Slot<'a> {
    Root(&'a mut RootSource),
    Volume(&'a mut Option<Box<Image>>),
}

impl ImageReference<'_> {
    /// Gives it its image.
    pub fn set(self, image: Image) {
        match self.slot {
            Slot::Root(root) => *root = RootSource::Image(Box::new(image)),
            Slot::Volume(slot) => *slot = Some(Box::new(image)),
        }
    }
}

/// `spec.restartPolicy`: what follows the end of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// Whatever the exit code.
    Always,
    /// After a non-zero exit code.
    OnFailure,
    /// Never.
    Never,
}

/// Whose network stack a pod has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkMode {
    /// Its own, wired to the bridge.
    Pod,
    /// The host's (`spec.hostNetwork`).
    Host,
    /// Its own, with loopback only.
    None,
}

/// Whose System V IPC and POSIX queues a pod has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpcMode {
    /// One namespace for the pod.
    Pod,
    /// The host's (`spec.hostIPC`).
    Host,
}

/// Which processes a container sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PidMode {
    /// Its own only.
    Container,
    /// The pod's, pause being PID 1 (`spec.shareProcessNamespace`).
    Pod,
    /// The host's (`spec.hostPID`).
    Host,
}

/// One line of /etc/hosts (`spec.hostAliases[]`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostAlias {
    /// The address.
    pub ip: IpAddr,
    /// The names it gets.
    pub hostnames: Vec<String>,
}

/// What goes into /etc/resolv.conf.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsPlan {
    /// Start from the host's file (`dnsPolicy` Default, ClusterFirst without a cluster) or from nothing (None).
    pub inherit_host: bool,
    /// `dnsConfig.nameservers`, added behind.
    pub nameservers: Vec<IpAddr>,
    /// `dnsConfig.searches`, added behind.
    pub searches: Vec<String>,
    /// `dnsConfig.options`, as `name` or `name:value`.
    pub options: Vec<String>,
}

/// One container of a pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerPlan {
    /// `name`, unique in the pod, init containers included.
    pub name: String,
    /// `image`, as the manifest has it.
    pub image: String,
    /// `imagePullPolicy`, defaulted.
    pub pull_policy: PullPolicy,
    /// Where its root file system comes from.
    pub root: RootSource,
    /// `command`, unexpanded; replaces the image's entry point.
    pub command: Option<Vec<String>>,
    /// `args`, unexpanded; replaces the image's command.
    pub args: Option<Vec<String>>,
    /// `env`, in order, unexpanded.
    pub env: Vec<(String, String)>,
    /// `workingDir`.
    pub working_dir: Option<PathBuf>,
    /// `volumeMounts`.
    pub mounts: Vec<VolumeMount>,
    /// `ports` with a `hostPort`, and those of `--publish`.
    pub host_ports: Vec<HostPort>,
    /// `ports[].containerPort`, all of them.
    pub container_ports: Vec<u16>,
    /// `resources`.
    pub resources: Resources,
    /// Container's over pod's `securityContext`.
    pub security: Security,
    /// `tty`.
    pub tty: bool,
    /// `stdin`.
    pub stdin: bool,
}

/// Where a container's root file system comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum RootSource {
    /// An image, not looked up yet.
    Reference,
    /// An image of the store: its layers below a private upper directory.
    Image(Box<Image>),
    /// `minipod.dev/rootfs.<container>`: this directory below a private upper directory.
    Directory(PathBuf),
    /// `minipod.dev/bundle.<container>`: an OCI bundle used as it is, joined to the sandbox.
    Bundle(PathBuf),
}

/// `imagePullPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    /// Ask the registry each time.
    Always,
    /// Only when absent.
    IfNotPresent,
    /// Never; absent is an error.
    Never,
}

/// One `volumeMounts[]` entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    /// Name of the volume in [`PodPlan::volumes`].
    pub volume: String,
    /// Absolute path in the container.
    pub mount_path: PathBuf,
    /// `readOnly`.
    pub read_only: bool,
    /// `subPath`, relative, without `..`.
    pub sub_path: Option<PathBuf>,
}

/// What backs a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeSource {
    /// A fresh directory that lives as long as the pod.
    EmptyDir {
        /// `medium: Memory`: one tmpfs, shared by the pod's containers.
        memory: bool,
        /// `sizeLimit` in bytes (enforced on tmpfs).
        size_limit: Option<u64>,
    },
    /// A path of the host.
    HostPath {
        /// The path.
        path: PathBuf,
        /// What must be there.
        kind: HostPathKind,
    },
    /// The files of an image, read-only.
    Image {
        /// `reference`, as the manifest has it.
        reference: String,
        /// `pullPolicy`, defaulted.
        pull_policy: PullPolicy,
        /// The image of the store, once it has been looked up.
        image: Option<Box<Image>>,
    },
}

/// `hostPath.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostPathKind {
    /// No check; a missing path is created as a directory.
    Unchecked,
    /// A directory, created (0755) when missing.
    DirectoryOrCreate,
    /// An existing directory.
    Directory,
    /// A file, created (0644) when missing.
    FileOrCreate,
    /// An existing file.
    File,
    /// An existing unix socket.
    Socket,
    /// An existing character device.
    CharDevice,
    /// An existing block device.
    BlockDevice,
}

/// A port of the host that leads to a container's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPort {
    /// `hostIP`; any address of the host when absent.
    pub host_ip: Option<IpAddr>,
    /// `hostPort`.
    pub host_port: u16,
    /// `containerPort`.
    pub container_port: u16,
    /// `protocol`.
    pub protocol: Protocol,
}

/// Transport protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// `resources`, as the kernel wants them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// `limits.cpu` in thousandths of a CPU.
    pub cpu_limit_milli: Option<u64>,
    /// `requests.cpu` (or the limit) in thousandths of a CPU.
    pub cpu_request_milli: Option<u64>,
    /// `limits.memory` in bytes.
    pub memory_limit: Option<u64>,
    /// `requests.memory` in bytes.
    pub memory_request: Option<u64>,
}

/// `securityContext` of a container, the pod's filled in below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    /// `runAsUser`.
    pub user: Option<u32>,
    /// `runAsGroup`.
    pub group: Option<u32>,
    /// `runAsNonRoot`.
    pub non_root: bool,
    /// `supplementalGroups` (pod).
    pub supplemental_groups: Vec<u32>,
    /// `privileged`.
    pub privileged: bool,
    /// `allowPrivilegeEscalation`, defaulted (true).
    pub allow_privilege_escalation: bool,
    /// `readOnlyRootFilesystem`.
    pub read_only_root: bool,
    /// `capabilities.add`, without `CAP_`; may hold `ALL`.
    pub capabilities_add: Vec<String>,
    /// `capabilities.drop`, without `CAP_`; may hold `ALL`.
    pub capabilities_drop: Vec<String>,
    /// `seccompProfile`.
    pub seccomp: SeccompProfile,
}

/// `seccompProfile`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeccompProfile {
    /// minipod's own default profile; also when the manifest says nothing (as podman does).
    #[default]
    RuntimeDefault,
    /// No filter.
    Unconfined,
    /// A file below `--seccomp-profile-root`.
    Localhost(PathBuf),
}
