//! A container of a plan as an OCI runtime spec.
//!
//! What is put together here is what podman and containerd give to an ordinary container of a Kubernetes pod: the
//! sources are named where a choice was made. Reads the image's user database, the seccomp profile and, for a privileged
//! container, the host's /dev; writes nothing but with [`write`].

mod bundle;
pub mod capabilities;
mod devices;
mod environment;
mod error;
pub mod expand;
mod mounts;
mod process;
mod resources;
pub mod seccomp;
mod user;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxNamespace, LinuxNamespaceType, Root, Spec};

pub use bundle::write;
pub use error::SpecError;
pub use resources::resources;
pub(crate) use environment::{Word, too_long};

use crate::plan::{ContainerPlan, PodPlan, RootSource};

/// The version of the runtime spec that is written; an older runtime of 1.x reads it as well.
const OCI_VERSION: &str = "1.2.0";

/// What a spec depends on besides the plan.
#[derive(Debug, Clone, Copy)]
pub struct SpecContext<'a> {
    /// The mounted root file system, for user names and as `root.path`; `None` when only checking: `root.path` is then
    /// `rootfs`, and a user given by name counts as root.
    pub rootfs: Option<&'a Path>,
    /// The pod's address.
    pub pod_ip: Option<IpAddr>,
    /// Name of this node.
    pub node_name: &'a str,
    /// The pod's own /etc files and /dev/shm.
    pub files: PodFiles<'a>,
    /// Host paths of the volumes, by name.
    pub volumes: &'a BTreeMap<String, PathBuf>,
    /// Host paths where the sub paths were staged ([`crate::volume::SubPath::stage`]), by volume and sub path.
    pub sub_paths: &'a BTreeMap<(String, PathBuf), PathBuf>,
    /// Host paths of the directories that the image wants ([`crate::volume::of_image`]), by their place in the container.
    pub image_volumes: &'a BTreeMap<PathBuf, PathBuf>,
    /// Which namespaces to join.
    pub namespaces: &'a Namespaces,
    /// `linux.cgroupsPath`.
    pub cgroups_path: &'a str,
    /// The host has only cgroup v2: the container gets a cgroup namespace and sees /sys/fs/cgroup.
    pub cgroup_v2: bool,
    /// Directory of `Localhost` seccomp profiles.
    pub seccomp_root: &'a Path,
}

/// Files of the host that are bound into every container of a pod; absent ones are left as the image has them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PodFiles<'a> {
    /// /etc/hosts
    pub hosts: Option<&'a Path>,
    /// /etc/hostname
    pub hostname: Option<&'a Path>,
    /// /etc/resolv.conf
    pub resolv_conf: Option<&'a Path>,
    /// /dev/shm, a tmpfs; without it the container gets one of its own
    pub shm: Option<&'a Path>,
}

/// The namespaces of a container; its mount namespace is always its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// Network.
    pub network: Namespace,
    /// System V IPC and POSIX message queues.
    pub ipc: Namespace,
    /// Host name.
    pub uts: Namespace,
    /// Processes.
    pub pid: Namespace,
}

/// Where a namespace comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Namespace {
    /// A new one.
    #[default]
    New,
    /// An existing one, such as `/proc/PID/ns/net` of pause.
    Path(PathBuf),
    /// The runtime's own.
    Host,
}

/// The spec of a container.
///
/// # Errors
/// [`SpecError`]: no command, an unknown user, root although `runAsNonRoot`, a volume without a host path, an unreadable
/// seccomp profile or bundle.
///
/// Spec: OCI runtime-spec `config.md`, `config-linux.md`.
pub fn container(pod: &PodPlan, container: &ContainerPlan, context: &SpecContext<'_>) -> Result<Spec, SpecError> {
    if let RootSource::Bundle(dir) = &container.root {
        return bundle::joined(pod, container, dir, context);
    }
    let mut spec = Spec::default();
    let process = process::process(pod, container, context)?;
    spec.set_version(OCI_VERSION.to_owned());
    spec.set_root(Some(root(container, context)));
    spec.set_linux(Some(linux(container, context)?));
    spec.set_mounts(Some(mounts::mounts(pod, container, context)?));
    spec.set_process(Some(process));
    // The pod's, which pause set in the UTS namespace that is joined.
    spec.set_hostname(None);
    spec.set_annotations(Some(annotations(pod, container)));
    Ok(spec)
}

/// What the manifest gives to the container's process.
fn given(container: &ContainerPlan) -> Result<environment::Given, SpecError> {
    environment::of_manifest(container).map_err(|(word, source)| SpecError::TooLong {
        container: container.name.clone(),
        word: match word {
            Word::Env(index) => format!("env {}", container.env[index].0),
            Word::Command(index) => format!("command[{index}]"),
            Word::Args(index) => format!("args[{index}]"),
        },
        source,
    })
}

fn root(container: &ContainerPlan, context: &SpecContext<'_>) -> Root {
    let mut root = Root::default();
    root.set_path(context.rootfs.unwrap_or(Path::new("rootfs")).to_owned());
    root.set_readonly(Some(container.security.read_only_root));
    root
}

/// Podman's masked paths (`pkg/specgen/generate/config_linux.go`).
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];

/// Podman's read-only paths.
const READ_ONLY: [&str; 6] = ["/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

fn linux(container: &ContainerPlan, context: &SpecContext<'_>) -> Result<Linux, SpecError> {
    let privileged = container.security.privileged;
    let paths = |list: &[&str]| (!privileged).then(|| list.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>());
    let mut linux = Linux::default();
    linux.set_namespaces(Some(namespaces(context)));
    linux.set_cgroups_path(Some(PathBuf::from(context.cgroups_path)));
    linux.set_masked_paths(paths(&MASKED));
    linux.set_readonly_paths(paths(&READ_ONLY));
    // Our cgroups set the limits (see `resources`).
    linux.set_resources(None);
    // Decides for every mount of the container; private also keeps what the host mounts later out.
    linux.set_rootfs_propagation(Some("private".to_owned()));
    linux.set_devices(if privileged { Some(devices::of_host()?) } else { None });
    linux.set_seccomp(seccomp::of(container, context.seccomp_root)?);
    Ok(linux)
}

fn namespaces(context: &SpecContext<'_>) -> Vec<LinuxNamespace> {
    let wanted = [
        (LinuxNamespaceType::Network, &context.namespaces.network),
        (LinuxNamespaceType::Ipc, &context.namespaces.ipc),
        (LinuxNamespaceType::Uts, &context.namespaces.uts),
        (LinuxNamespaceType::Pid, &context.namespaces.pid),
        (LinuxNamespaceType::Mount, &Namespace::New),
        // On v1 the hierarchies are not mounted, so there is nothing to hide.
        (LinuxNamespaceType::Cgroup, if context.cgroup_v2 { &Namespace::New } else { &Namespace::Host }),
    ];
    wanted
        .into_iter()
        .filter_map(|(kind, from)| {
            let mut namespace = LinuxNamespace::default();
            namespace.set_typ(kind);
            namespace.set_path(match from {
                Namespace::Host => return None,
                Namespace::New => None,
                Namespace::Path(path) => Some(path.clone()),
            });
            Some(namespace)
        })
        .collect()
}

/// The pod's annotations and, as containerd's CRI plugin writes them, the names of pod and container.
fn annotations(pod: &PodPlan, container: &ContainerPlan) -> HashMap<String, String> {
    let mut annotations: HashMap<String, String> = pod.annotations.clone().into_iter().collect();
    for (name, value) in [
        ("container-type", "container"),
        ("container-name", &container.name),
        ("image-name", &container.image),
        ("sandbox-id", &pod.uid),
        ("sandbox-name", &pod.name),
        ("sandbox-namespace", &pod.namespace),
        ("sandbox-uid", &pod.uid),
    ] {
        annotations.insert(format!("io.kubernetes.cri.{name}"), value.to_owned());
    }
    annotations
}
