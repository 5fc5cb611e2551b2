//! Undoes a pod from its record alone: works in the shim, and without one, on whatever part of it exists.

use std::os::fd::AsFd as _;

use crate::cgroup::{Cgroup, Hierarchy};
use crate::error::{Error, Failures};
use crate::layout::Layout;
use crate::pods::network;
use crate::step::{NetworkSteps, Step};
use crate::store::{PodDir, Record, Store, remove_file, remove_tree};
use crate::{process, rootfs, sandbox};

/// Ends every process of the pod and gives back what it has on the host; its directory and logs stay.
///
/// Goes on past failed steps and reports them together; may be repeated.
pub(crate) async fn take_down(layout: &Layout, dir: &PodDir, record: &Record) -> Result<(), Error> {
    let mut failures = Failures::default();
    let hierarchy = failures.note("detect cgroups", Hierarchy::detect());
    let cgroup = hierarchy.as_ref().and_then(|h| failures.note("open cgroup", Cgroup::at(h, &record.cgroup)));
    if let Some(cgroup) = &cgroup {
        failures.follow(Step::KillPod, "", cgroup.kill()).await;
    }
    failures.follow(Step::EndPause, "", end_pause(record)).await;
    failures.note("detach from the network", detach(layout, record).await);
    if let Some(cgroup) = &cgroup {
        failures.follow(Step::RemoveCgroup, "", cgroup.end()).await;
    }
    if let Some(pods) = hierarchy.as_ref().and_then(|h| failures.note("open the pods' cgroup", Cgroup::at(h, &layout.cgroup()))) {
        // While other pods are in it, it stays.
        failures.take(Step::RemovePodsCgroup, "", || pods.remove_empty());
    }
    failures.take(Step::UnlinkNetns, "", || unlink_netns(record));
    failures.take(Step::Unmount, "", || unmount(layout, dir, record));
    failures.take(Step::RemoveState, "", || remove_state(dir));
    failures.take(Step::RemoveVolumes, "", || remove_tree(&layout.pod_lib(&record.uid)));
    failures.into_result()
}

/// Unless it leads to another pod by now: a name may be given anew while something of its last pod is still to be taken down.
fn unlink_netns(record: &Record) -> Result<(), Error> {
    let ours = record.pause.map(|pause| sandbox::namespace_of(&pause, "net"));
    let leads_to = std::fs::read_link(&record.netns_link).ok();
    if leads_to.is_some() && leads_to == ours { remove_file(&record.netns_link) } else { Ok(()) }
}

/// Mounts live in the shim's mount namespace: for anybody else there is nothing to unmount.
fn unmount(layout: &Layout, dir: &PodDir, record: &Record) -> Result<(), Error> {
    let mut failures = Failures::default();
    failures.note("/dev/shm", rootfs::unmount(&dir.path.join("shm")));
    failures.note("volumes", rootfs::unmount_below(&layout.pod_lib(&record.uid).join("volumes")));
    failures.into_result()
}

fn remove_state(dir: &PodDir) -> Result<(), Error> {
    let mut failures = Failures::default();
    for part in ["shm", "etc", "root", "io", "containers"] {
        failures.note(part, remove_tree(&dir.path.join(part)));
    }
    failures.note("socket", remove_file(&dir.socket()));
    failures.into_result()
}

/// Removes a pod's logs, directory and name: the last of it.
pub(crate) fn files(store: &Store, record: &Record) -> Result<(), Error> {
    let mut failures = Failures::default();
    let logs = store.layout.pod_logs(&record.namespace, &record.name, &record.uid);
    failures.take(Step::RemoveLogs, "", || remove_tree(&logs));
    // What is left can be found by the record only.
    failures.into_result()?;
    store.remove(record)
}

/// Pause is in the pod's cgroup and so was killed with it, unless its creator died before it was moved there.
async fn end_pause(record: &Record) -> Result<(), Error> {
    let fail = |e| Error::System("kill pause", e);
    let Some(pause) = record.pause else { return Ok(()) };
    let Some(pidfd) = pause.pidfd().map_err(fail)? else { return Ok(()) };
    process::send_signal(pidfd.as_fd(), rustix::process::Signal::KILL).map_err(fail)?;
    process::ended(pidfd.as_fd()).await.map_err(fail)?;
    match process::try_reap(pidfd.as_fd()) {
        // Not our child: its parent has reaped it, or will.
        Err(e) if e.raw_os_error() == Some(libc::ECHILD) => Ok(()),
        other => other.map(drop).map_err(fail),
    }
}

async fn detach(layout: &Layout, record: &Record) -> Result<(), Error> {
    let Some(wanted) = &record.network else { return Ok(()) };
    let network = network(layout, wanted)?;
    netsetup::detach_watched(&network, &record.uid, &NetworkSteps::default()).await.map_err(|source| Error::Network { pod: record.label(), source })
}
