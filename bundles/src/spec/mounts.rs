//! What a container sees besides its root.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;

use super::{Namespace, SpecContext, SpecError};
use crate::plan::{ContainerPlan, PodPlan, VolumeMount, VolumeSource};

/// In the order in which they are mounted: the kernel's file systems, the image's own volumes, the pod's files, the volumes.
pub(super) fn mounts(pod: &PodPlan, container: &ContainerPlan, context: &SpecContext<'_>) -> Result<Vec<Mount>, SpecError> {
    let mut volumes = volumes(pod, container, context)?;
    let covered = |path: &Path| {
        volumes.iter().any(|volume| {
            let target = volume.destination().as_path();
            // Who mounts a volume at /dev or /sys means all of it; elsewhere only the same place is taken.
            target == path || (matches!(target.to_str(), Some("/dev" | "/sys")) && path.starts_with(target))
        })
    };
    let mut mounts = kernel(container.security.privileged, context);
    let (within, own) = image_volumes(container, context);
    // /etc may be one of them.
    mounts.extend(own);
    mounts.extend(files(container, context));
    mounts.retain(|mount| !covered(mount.destination()));
    // Those of the image that lie in a volume of the pod come after it. Stable: the pod's order stays.
    volumes.extend(within);
    volumes.sort_by_key(|mount| mount.destination().components().count());
    mounts.extend(volumes);
    Ok(mounts)
}

fn mount(destination: &str, kind: &str, source: impl Into<PathBuf>, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount.set_destination(PathBuf::from(destination));
    mount.set_typ(Some(kind.to_owned()));
    mount.set_source(Some(source.into()));
    mount.set_options(Some(options.iter().map(|option| (*option).to_owned()).collect()));
    mount
}

fn kernel(privileged: bool, context: &SpecContext<'_>) -> Vec<Mount> {
    let access = if privileged { "rw" } else { "ro" };
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        // gid 5 is tty in every distribution; grantpt(3) wants it.
        mount("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        shm(context),
    ];
    mounts.push(if context.namespaces.network == Namespace::Host {
        // A sysfs can be mounted only by who owns the network namespace; the host's is bound.
        mount("/sys", "bind", "/sys", &["rbind", "rprivate", "nosuid", "noexec", "nodev", access])
    } else {
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access])
    });
    if context.cgroup_v2 {
        mounts.push(mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", access]));
    }
    mounts
}

/// The pod's /dev/shm, shared by its containers, as Kubernetes does.
fn shm(context: &SpecContext<'_>) -> Mount {
    match context.files.shm {
        Some(shm) => mount("/dev/shm", "bind", shm, &["rbind", "rprivate", "nosuid", "noexec", "nodev", "rw"]),
        None => mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    }
}

/// Writable as kubelet's, unless the root is not.
fn files(container: &ContainerPlan, context: &SpecContext<'_>) -> Vec<Mount> {
    let access = if container.security.read_only_root { "ro" } else { "rw" };
    let files = [
        ("/etc/hosts", context.files.hosts),
        ("/etc/hostname", context.files.hostname),
        ("/etc/resolv.conf", context.files.resolv_conf),
    ];
    files
        .into_iter()
        .filter_map(|(target, source)| Some(mount(target, "bind", source?, &["rbind", "rprivate", access])))
        .collect()
}

/// Parents before children, whatever their order in the manifest, as containerd does.
fn volumes(pod: &PodPlan, container: &ContainerPlan, context: &SpecContext<'_>) -> Result<Vec<Mount>, SpecError> {
    let mut volumes: Vec<&VolumeMount> = container.mounts.iter().collect();
    volumes.sort_by_key(|volume| volume.mount_path.components().count());
    volumes.into_iter().map(|volume| bind(pod, container, volume, context)).collect()
}

/// What the image wants, writable even below a read-only root: that which lies in a volume of the pod, and the rest. In the order
/// of their depth.
fn image_volumes(container: &ContainerPlan, context: &SpecContext<'_>) -> (Vec<Mount>, Vec<Mount>) {
    let mut all: Vec<(&PathBuf, &PathBuf)> = context.image_volumes.iter().collect();
    all.sort_by_key(|(place, _)| place.components().count());
    let mounts = all.into_iter().map(|(place, source)| {
        let mut mount = mount("", "bind", source.clone(), &["rbind", "rprivate", "rw"]);
        mount.set_destination(place.clone());
        mount
    });
    mounts.partition(|mount| container.mounts.iter().any(|volume| mount.destination().starts_with(&volume.mount_path)))
}

fn bind(pod: &PodPlan, container: &ContainerPlan, volume: &VolumeMount, context: &SpecContext<'_>) -> Result<Mount, SpecError> {
    let source = match &volume.sub_path {
        None => context.volumes.get(&volume.volume).ok_or_else(|| SpecError::Volume {
            container: container.name.clone(),
            volume: volume.volume.clone(),
        })?,
        Some(sub_path) => {
            let key = (volume.volume.clone(), sub_path.clone());
            context.sub_paths.get(&key).ok_or_else(|| SpecError::SubPath {
                container: container.name.clone(),
                volume: volume.volume.clone(),
                sub_path: sub_path.clone(),
            })?
        }
    };
    let options: &[&str] = match pod.volumes.get(&volume.volume) {
        // As kubelet has it. A remount with fewer flags than the volume's own mount would take them off.
        Some(VolumeSource::Image { .. }) => &["rbind", "rprivate", "nosuid", "noexec", "nodev", "ro"],
        _ if volume.read_only => &["rbind", "rprivate", "ro"],
        _ => &["rbind", "rprivate", "rw"],
    };
    let mut mount = mount("", "bind", source.clone(), options);
    mount.set_destination(volume.mount_path.clone());
    Ok(mount)
}
