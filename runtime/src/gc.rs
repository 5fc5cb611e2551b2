//! Removes what a crash left: pods whose creator or shim died, and leftovers that belong to no pod at all.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;

use crate::cgroup::{Cgroup, Hierarchy};
use crate::error::{Error, Failures};
use crate::pods::network;
use crate::store::{NetworkRecord, PodDir, Stage, Store, read_name, remove_file, remove_tree};
use crate::teardown;

/// Whether to remove, or only to say what would be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Look only.
    DryRun,
    /// Remove.
    Remove,
}

/// Removes, or lists, what crashes left. Pods that run and pods that stopped properly are not touched.
///
/// `bridge` is the network to look at besides those of the pods found.
///
/// # Errors
/// [`Error::CleanUp`] when a step failed; the others are done all the same.
pub async fn collect(store: &Store, default_network: &NetworkRecord, mode: Mode) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    let mut failures = Failures::default();
    let mut dead = HashSet::new();
    let mut networks = vec![default_network.clone()];
    for dir in store.dirs()? {
        let uid = dir.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Ok(record) = dir.record() {
            networks.extend(record.network);
        }
        let kept = failures.note("look at pod", collect_pod(store, &dir, mode, &mut found).await);
        if kept == Some(Kept::No) && mode == Mode::DryRun {
            dead.insert(uid);
        }
    }
    // Asked for each thing when it is found: a pod may come up while we look, and has a directory before it has anything else. A dead one
    // has none by now; even one that was removed before its creator had locked it may have been made again.
    let live = |uid: &str| !dead.contains(uid) && store.dir(uid).path.is_dir();
    failures.note("trash", trash(store, mode, &mut found));
    failures.note("names", stale_names(store, mode, &mut found));
    failures.note("netns links", stale_netns_links(store, mode, &mut found));
    failures.note("cgroups", stale_cgroups(store, &live, mode, &mut found).await);
    failures.note("volumes", stale_volumes(store, &live, mode, &mut found));
    networks.sort_by(|a, b| a.bridge.cmp(&b.bridge));
    networks.dedup_by(|a, b| a.bridge == b.bridge);
    for wanted in &networks {
        failures.note("network", stale_network(store, wanted, &live, mode, &mut found).await);
    }
    failures.into_result().map(|()| found)
}

#[derive(PartialEq)]
enum Kept {
    Yes,
    No,
}

async fn collect_pod(store: &Store, dir: &PodDir, mode: Mode, found: &mut Vec<String>) -> Result<Kept, Error> {
    let _lock = match dir.try_lock_leftover() {
        Ok(Some(lock)) => lock,
        Ok(None) => return Ok(Kept::Yes),
        // Somebody else has removed it since it was listed.
        Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(Kept::No),
        Err(e) => return Err(e),
    };
    let Ok(record) = dir.record() else {
        found.push(format!("pod directory without a record: {}", dir.path.display()));
        if mode == Mode::Remove {
            store.remove_dir(dir)?;
        }
        return Ok(Kept::No);
    };
    if record.stage == Stage::Stopped {
        return Ok(Kept::Yes);
    }
    found.push(format!("pod {} (uid {}), whose shim died", record.label(), record.uid));
    if mode == Mode::Remove {
        teardown::take_down(&store.layout, dir, &record).await?;
        teardown::files(store, &record)?;
    }
    Ok(Kept::No)
}

fn entries(dir: &Path) -> Result<Vec<fs::DirEntry>, Error> {
    match fs::read_dir(dir) {
        Ok(entries) => entries.collect::<io::Result<_>>().map_err(Error::file("read", dir)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(Error::file("read", dir)(e)),
    }
}

fn stale_names(store: &Store, mode: Mode, found: &mut Vec<String>) -> Result<(), Error> {
    for entry in entries(&store.layout.names())? {
        let link = entry.path();
        // Given back since it was listed?
        let Some(owner) = read_name(&link)? else { continue };
        if !store.dir(&owner).path.is_dir() {
            found.push(format!("name {} of no pod", entry.file_name().to_string_lossy()));
            if mode == Mode::Remove {
                store.release_name(&link, &owner)?;
            }
        }
    }
    Ok(())
}

/// Links of ours whose pause is gone.
fn stale_netns_links(store: &Store, mode: Mode, found: &mut Vec<String>) -> Result<(), Error> {
    let prefix = format!("{}-", store.layout.instance);
    let owned: HashSet<_> = store.list()?.into_iter().filter(|(_, r)| r.stage != Stage::Stopped).map(|(_, r)| r.netns_link).collect();
    for entry in entries(Path::new("/run/netns"))? {
        let link = entry.path();
        let ours = entry.file_name().to_string_lossy().starts_with(&prefix);
        // Dangling and of our shape: a link to /proc/<pid>/ns/net of a process that is gone.
        let to_proc = || fs::read_link(&link).is_ok_and(|to| to.starts_with("/proc") && !to.exists());
        if ours && !owned.contains(&link) && to_proc() {
            found.push(format!("link {}", link.display()));
            if mode == Mode::Remove {
                remove_file(&link)?;
            }
        }
    }
    Ok(())
}

/// Directories whose deletion was cut off.
fn trash(store: &Store, mode: Mode, found: &mut Vec<String>) -> Result<(), Error> {
    for entry in entries(&store.layout.trash())? {
        found.push(format!("files {}", entry.path().display()));
        if mode == Mode::Remove {
            remove_tree(&entry.path())?;
        }
    }
    Ok(())
}

async fn stale_cgroups(store: &Store, live: &impl Fn(&str) -> bool, mode: Mode, found: &mut Vec<String>) -> Result<(), Error> {
    let hierarchy = Hierarchy::detect().map_err(|e| Error::System("find the cgroup hierarchies", e))?;
    let parent = store.layout.cgroup();
    let pods = Cgroup::at(&hierarchy, &parent)?;
    for uid in pods.children()? {
        if live(&uid) {
            continue;
        }
        found.push(format!("cgroup {parent}/{uid}"));
        if mode == Mode::Remove {
            Cgroup::at(&hierarchy, &format!("{parent}/{uid}"))?.end().await?;
        }
    }
    match mode {
        Mode::Remove => Ok(pods.remove_empty()?),
        Mode::DryRun => Ok(()),
    }
}

fn stale_volumes(store: &Store, live: &impl Fn(&str) -> bool, mode: Mode, found: &mut Vec<String>) -> Result<(), Error> {
    for entry in entries(&store.layout.lib.join("pods"))? {
        if !live(entry.file_name().to_string_lossy().as_ref()) {
            found.push(format!("files {}", entry.path().display()));
            if mode == Mode::Remove {
                remove_tree(&entry.path())?;
            }
        }
    }
    Ok(())
}

async fn stale_network(store: &Store, wanted: &NetworkRecord, live: &impl Fn(&str) -> bool, mode: Mode, found: &mut Vec<String>) -> Result<(), Error> {
    let network = network(&store.layout, wanted)?;
    let mode = match mode {
        Mode::DryRun => netsetup::Mode::DryRun,
        Mode::Remove => netsetup::Mode::Apply,
    };
    let removed = netsetup::reconcile(&network, live, mode).await.map_err(|source| Error::Network { pod: "of nobody".to_owned(), source })?;
    found.extend(removed);
    Ok(())
}
