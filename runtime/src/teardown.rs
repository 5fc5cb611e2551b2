//! Undoes a pod from its record alone: works in the shim, and without one, on whatever part of it exists.

use std::io;
use std::os::fd::AsFd as _;

use crate::cgroup::{Cgroup, Hierarchy};
use crate::error::{Error, Failures};
use crate::layout::Layout;
use crate::pods::network;
use crate::store::{PodDir, Record, Store, remove_file, remove_tree};
use crate::{process, rootfs};

/// Ends every process of the pod and gives back what it has on the host; its directory and logs stay.
///
/// Goes on past failed steps and reports them together; may be repeated.
pub(crate) async fn sandbox(layout: &Layout, dir: &PodDir, record: &Record) -> Result<(), Error> {
    let mut failures = Failures::default();
    let cgroup = failures.note("detect cgroups", Hierarchy::detect()).and_then(|h| failures.note("open cgroup", Cgroup::at(&h, &record.cgroup)));
    if let Some(cgroup) = &cgroup {
        failures.note("kill processes", cgroup.kill().await);
    }
    failures.note("end pause", end_pause(record).await);
    failures.note("detach from the network", detach(layout, record).await);
    if let Some(cgroup) = &cgroup {
        failures.note("remove cgroup", cgroup.remove().await);
    }
    failures.note("remove the pods' cgroup", remove_parent(layout));
    failures.note("remove netns link", remove_file(&record.netns_link));
    // Mounts live in the shim's mount namespace: for anybody else there is nothing to unmount.
    failures.note("unmount /dev/shm", rootfs::unmount(&dir.path.join("shm")));
    failures.note("unmount volumes", rootfs::unmount_below(&layout.pod_lib(&record.uid).join("volumes")));
    for part in ["shm", "etc", "root", "io", "containers"] {
        failures.note("remove state", remove_tree(&dir.path.join(part)));
    }
    failures.note("remove socket", remove_file(&dir.socket()));
    failures.note("remove volumes", remove_tree(&layout.pod_lib(&record.uid)));
    failures.into_result()
}

/// The cgroup above all pods goes with the last of them; while others are in it, it stays.
fn remove_parent(layout: &Layout) -> Result<(), Error> {
    let hierarchy = Hierarchy::detect().map_err(|e| Error::System("detect cgroups", e))?;
    Ok(Cgroup::at(&hierarchy, &layout.cgroup())?.remove_empty()?)
}

/// Removes a pod's logs, directory and name: the last of it.
pub(crate) fn files(store: &Store, record: &Record) -> Result<(), Error> {
    let mut failures = Failures::default();
    failures.note("remove logs", remove_tree(&store.layout.pod_logs(&record.namespace, &record.name, &record.uid)));
    failures.note("remove pod", store.remove(record));
    failures.into_result()
}

/// Pause is in the pod's cgroup and so was killed with it, unless its creator died before it was moved there.
async fn end_pause(record: &Record) -> io::Result<()> {
    let Some(pause) = record.pause else { return Ok(()) };
    let Some(pidfd) = pause.pidfd()? else { return Ok(()) };
    process::send_signal(pidfd.as_fd(), rustix::process::Signal::KILL)?;
    process::ended(pidfd.as_fd()).await?;
    match process::try_reap(pidfd.as_fd()) {
        // Not our child: its parent has reaped it, or will.
        Err(e) if e.raw_os_error() == Some(libc::ECHILD) => Ok(()),
        other => other.map(drop),
    }
}

async fn detach(layout: &Layout, record: &Record) -> Result<(), Error> {
    let Some(wanted) = &record.network else { return Ok(()) };
    let network = network(layout, wanted)?;
    netsetup::detach(&network, &record.uid).await.map_err(|source| Error::Network { pod: record.label(), source })
}
