//! Our cgroups on v1, hybrid and v2: create, limit, list, kill, count, remove.
//!
//! libcontainer finds its v1 directories anew for each controller, which is a quarter of its time, and leaves parents
//! behind. A pod needs cgroups above its containers anyway, so all of them are made here.

mod devices;
mod hierarchy;
mod limits;

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::process::{self, ProcessId};
use hierarchy::{Controller, Kind};
pub use hierarchy::Hierarchy;
pub use limits::{CpuQuota, DeviceAccess, Limits};

/// What went wrong with a cgroup.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}", path.display())]
pub struct CgroupError {
    operation: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl CgroupError {
    /// Whether a process lives where none should.
    fn is_busy(&self) -> bool {
        self.source.raw_os_error() == Some(libc::EBUSY)
    }

    fn at(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self { operation, path, source }
    }
}

/// What the processes of a cgroup have used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// CPU time in nanoseconds.
    pub cpu_ns: u64,
    /// Bytes of memory charged, page cache included.
    pub memory_bytes: u64,
    /// Bytes of page cache that could be dropped at once; `memory_bytes` less this is the working set.
    pub inactive_file_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
}

/// So many processes of a pod are made at a time, as a rule; each may come late once.
const LATECOMERS: usize = 16;

/// A cgroup of ours: one directory on v2, one per controller on v1. Dropping it changes nothing.
#[derive(Clone, Debug)]
pub struct Cgroup {
    path: String,
    dirs: Dirs,
}

#[derive(Clone, Debug)]
enum Dirs {
    V2(PathBuf),
    /// Directories we use (`Pids` first), then the same path below every other v1 mount.
    V1 { used: Vec<(Controller, PathBuf)>, others: Vec<PathBuf> },
}

impl Cgroup {
    /// The cgroup at `path` (absolute below the hierarchy's root, `/minipod/<uid>/<container>`). Touches nothing.
    ///
    /// # Errors
    /// When `path` is not absolute, is the root itself, or contains `..`.
    pub fn at(hierarchy: &Hierarchy, path: &str) -> Result<Self, CgroupError> {
        let relative = path.strip_prefix('/').filter(|p| {
            !p.is_empty() && p.split('/').all(|part| !matches!(part, "" | "." | ".."))
        });
        let relative = relative.ok_or_else(|| CgroupError {
            operation: "use as a cgroup path",
            path: PathBuf::from(path),
            source: io::Error::from(io::ErrorKind::InvalidInput),
        })?;
        let dirs = match &hierarchy.0 {
            Kind::V2 { root } => Dirs::V2(root.join(relative)),
            Kind::V1 { used, all } => {
                let used: Vec<_> = used.iter().map(|(c, root)| (*c, root.join(relative))).collect();
                let others = all.iter().map(|root| root.join(relative));
                let others = others.filter(|dir| used.iter().all(|(_, u)| u != dir)).collect();
                Dirs::V1 { used, others }
            }
        };
        Ok(Self { path: path.to_owned(), dirs })
    }

    /// Makes the cgroup, its missing parents too, and sets its limits. One that exists is given the limits.
    ///
    /// # Errors
    /// The file or directory and what the kernel said. Nothing that this call made is left.
    pub fn create(hierarchy: &Hierarchy, path: &str, limits: &Limits) -> Result<Self, CgroupError> {
        let cgroup = Self::at(hierarchy, path)?;
        let mut made = Made::default();
        match (&hierarchy.0, &cgroup.dirs) {
            (Kind::V2 { root }, Dirs::V2(dir)) => cgroup.create_v2(root, dir, limits, &mut made)?,
            (Kind::V1 { .. }, Dirs::V1 { used, .. }) => {
                for (controller, dir) in used {
                    made.dir_and_parents(dir)?;
                    write_all(dir, &limits.v1(*controller))?;
                }
            }
            _ => unreachable!("Cgroup::at made the directories from this hierarchy"),
        }
        made.keep();
        Ok(cgroup)
    }

    fn create_v2(&self, root: &Path, dir: &Path, limits: &Limits, made: &mut Made) -> Result<(), CgroupError> {
        made.dir_and_parents(dir)?;
        let parents: Vec<&Path> = dir.ancestors().skip(1).take_while(|p| p.starts_with(root)).collect();
        for parent in parents.into_iter().rev() {
            enable(parent, limits)?;
        }
        set_v2(dir, limits)
    }

    /// Changes the limits that `limits` sets; those it leaves out stay.
    ///
    /// # Errors
    /// The file and what the kernel said.
    pub fn set(&self, limits: &Limits) -> Result<(), CgroupError> {
        match &self.dirs {
            Dirs::V2(dir) => set_v2(dir, limits),
            Dirs::V1 { used, .. } => used.iter().try_for_each(|(c, dir)| write_all(dir, &limits.v1(*c))),
        }
    }

    /// The path below the hierarchy's root, as given.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether the cgroup exists.
    pub fn exists(&self) -> bool {
        self.members_dir().is_dir()
    }

    /// The `cgroup.procs` files through which a process joins: it writes its pid, or 0 for itself, to each.
    pub fn procs_files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = match &self.dirs {
            Dirs::V2(dir) => vec![dir.join("cgroup.procs")],
            Dirs::V1 { used, .. } => used.iter().map(|(_, dir)| dir.join("cgroup.procs")).collect(),
        };
        files.dedup(); // cpu and cpuacct are often one mount
        files
    }

    /// Moves a process here, with all its threads.
    ///
    /// # Errors
    /// The file and what the kernel said; `ESRCH` when the process is gone.
    pub fn add(&self, pid: u32) -> Result<(), CgroupError> {
        for file in self.procs_files() {
            fs::write(&file, pid.to_string()).map_err(CgroupError::at("add a process to", &file))?;
        }
        Ok(())
    }

    /// The processes here and in cgroups below; none when the cgroup does not exist.
    ///
    /// # Errors
    /// What reading `cgroup.procs` reports.
    pub fn procs(&self) -> Result<Vec<u32>, CgroupError> {
        let mut pids = Vec::new();
        for dir in descendants(self.members_dir())? {
            let file = dir.join("cgroup.procs");
            let text = match gone_is_none(fs::read_to_string(&file)) {
                Ok(text) => text.unwrap_or_default(),
                Err(e) => return Err(CgroupError::at("list the processes of", dir)(e)),
            };
            pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid != 0));
        }
        Ok(pids)
    }

    /// Kills every process here and below with SIGKILL, and waits until they have ended. They are not reaped.
    ///
    /// v2 kills at once (`cgroup.kill`, Linux 5.14). Otherwise forking is forbidden by `pids.max` and each member is
    /// killed through a pidfd.
    ///
    /// # Errors
    /// What the kernel said; a cgroup that does not exist is no error.
    pub async fn kill(&self) -> Result<(), CgroupError> {
        loop {
            let members = self.kill_now()?;
            if members.is_empty() {
                return Ok(());
            }
            for member in members {
                process::ended(member.as_fd()).await.map_err(CgroupError::at("wait for the processes of", &self.path))?;
            }
        }
    }

    /// Sends SIGKILL to every process here and below and returns their pidfds, without waiting.
    ///
    /// # Errors
    /// As [`Self::kill`].
    pub fn kill_now(&self) -> Result<Vec<OwnedFd>, CgroupError> {
        let mut members = self.members()?;
        if members.is_empty() {
            return Ok(members);
        }
        let kill = self.members_dir().join("cgroup.kill");
        if matches!(self.dirs, Dirs::V2(_)) && kill.exists() {
            gone_is_none(fs::write(&kill, "1")).map_err(CgroupError::at("kill the processes of", &kill))?;
            return Ok(members);
        }
        let max = self.members_dir().join("pids.max");
        if max.exists() {
            gone_is_none(fs::write(&max, "0")).map_err(CgroupError::at("stop forks in", &max))?;
            members = self.members()?; // what was forked between the first look and the limit
        }
        for member in &members {
            process::send_signal(member.as_fd(), Signal::KILL)
                .map_err(CgroupError::at("kill the processes of", &self.path))?;
        }
        Ok(members)
    }

    /// Pidfds of the members that run; a pidfd taken for a pid read from `cgroup.procs` may be of a process that got
    /// the pid just now, so membership is looked at again with the pidfd in hand.
    fn members(&self) -> Result<Vec<OwnedFd>, CgroupError> {
        let mut found = Vec::new();
        for pid in self.procs()? {
            let wrong = || CgroupError::at("find the processes of", &self.path);
            let id = match gone_is_none(ProcessId::of(pid)).map_err(wrong())? {
                Some(id) => id,
                None => continue,
            };
            if let Some(fd) = id.pidfd().map_err(wrong())? {
                found.push((pid, fd));
            }
        }
        let still = if found.is_empty() { Vec::new() } else { self.procs()? };
        Ok(found.into_iter().filter(|(pid, _)| still.contains(pid)).map(|(_, fd)| fd).collect())
    }

    /// Removes the cgroup and those below it, children first. Its processes must have ended: one that is just ending
    /// is waited for. A cgroup that does not exist is no error.
    ///
    /// # Errors
    /// `EBUSY` when a process lives in it; what rmdir(2) reports.
    pub async fn remove(&self) -> Result<(), CgroupError> {
        // A process leaves its cgroup a moment after its pidfd turns readable, and v1 tells nobody: look again, at
        // growing distances, for at most two seconds in all.
        let mut pause = Duration::from_micros(50);
        loop {
            match self.remove_now() {
                Err(e) if e.is_busy() && pause < Duration::from_secs(1) => {
                    if self.procs()?.iter().any(|pid| ProcessId::of(*pid).is_ok_and(|id| id.is_alive())) {
                        return Err(e);
                    }
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                done => return done,
            }
        }
    }

    /// Kills what is in it and removes it, and with it who joins meanwhile: a process whose shim has died may be on its way (pause, a
    /// launcher). Whoever comes later finds no cgroup, and ends by itself.
    ///
    /// # Errors
    /// As [`Self::kill`] and [`Self::remove`].
    pub async fn end(&self) -> Result<(), CgroupError> {
        for _ in 0..LATECOMERS {
            self.kill().await?;
            match self.remove().await {
                Err(e) if e.is_busy() => {}
                done => return done,
            }
        }
        self.remove().await
    }

    /// As [`Self::remove`], but tries once.
    ///
    /// # Errors
    /// As [`Self::remove`].
    pub fn remove_now(&self) -> Result<(), CgroupError> {
        let mut first_failure = None;
        for top in self.all_dirs() {
            for dir in descendants(top)?.into_iter().rev() {
                if let Err(e) = gone_is_none(fs::remove_dir(&dir)) {
                    first_failure.get_or_insert(CgroupError::at("remove cgroup", dir)(e));
                }
            }
        }
        first_failure.map_or(Ok(()), Err)
    }

    /// Removes this cgroup alone, in every hierarchy in which nothing is in it.
    ///
    /// # Errors
    /// What rmdir(2) reports, but for a cgroup that is in use or gone.
    pub fn remove_empty(&self) -> Result<(), CgroupError> {
        for dir in self.all_dirs() {
            match fs::remove_dir(dir) {
                Err(e) if !matches!(e.raw_os_error(), Some(libc::EBUSY | libc::ENOTEMPTY | libc::ENOENT)) => {
                    return Err(CgroupError::at("remove cgroup", dir)(e));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// How often the kernel killed a process here for lack of memory.
    ///
    /// # Errors
    /// What reading reports; without the memory controller the count is 0.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        let file = match (&self.dirs, self.v1(Controller::Memory)) {
            (Dirs::V2(dir), _) => dir.join("memory.events"),
            (_, Some(dir)) => dir.join("memory.oom_control"),
            _ => return Ok(0),
        };
        Ok(read_keyed(&file, "oom_kill")?.unwrap_or(0))
    }

    /// What the processes of this cgroup have used.
    ///
    /// # Errors
    /// What reading reports; a number whose controller is absent is 0.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        let read = |dir: Option<&Path>, file: &str| {
            dir.map_or(Ok(None), |dir| read_number(&dir.join(file))).map(Option::unwrap_or_default)
        };
        let keyed = |dir: Option<&Path>, file: &str, key: &str| {
            dir.map_or(Ok(None), |dir| read_keyed(&dir.join(file), key)).map(Option::unwrap_or_default)
        };
        match &self.dirs {
            Dirs::V2(dir) => Ok(Stats {
                cpu_ns: keyed(Some(dir), "cpu.stat", "usage_usec")?.saturating_mul(1000),
                memory_bytes: read(Some(dir), "memory.current")?,
                inactive_file_bytes: keyed(Some(dir), "memory.stat", "inactive_file")?,
                pids: read(Some(dir), "pids.current")?,
            }),
            Dirs::V1 { .. } => Ok(Stats {
                cpu_ns: read(self.v1(Controller::Cpuacct), "cpuacct.usage")?,
                memory_bytes: read(self.v1(Controller::Memory), "memory.usage_in_bytes")?,
                inactive_file_bytes: keyed(self.v1(Controller::Memory), "memory.stat", "total_inactive_file")?,
                pids: read(self.v1(Controller::Pids), "pids.current")?,
            }),
        }
    }

    fn v1(&self, controller: Controller) -> Option<&Path> {
        match &self.dirs {
            Dirs::V2(_) => None,
            Dirs::V1 { used, .. } => used.iter().find(|(c, _)| *c == controller).map(|(_, dir)| dir.as_path()),
        }
    }

    /// Names of the cgroups right below this one, in any hierarchy.
    ///
    /// # Errors
    /// What reading a directory reports; a cgroup that does not exist has none.
    pub fn children(&self) -> Result<std::collections::BTreeSet<String>, CgroupError> {
        let mut names = std::collections::BTreeSet::new();
        for dir in self.all_dirs() {
            let failed = |e| CgroupError::at("list", dir)(e);
            for entry in gone_is_none(fs::read_dir(dir)).map_err(failed)?.into_iter().flatten() {
                let entry = entry.map_err(failed)?;
                if entry.file_type().map_err(failed)?.is_dir() {
                    names.insert(entry.file_name().to_string_lossy().into_owned());
                }
            }
        }
        Ok(names)
    }

    /// The directory that knows the members.
    fn members_dir(&self) -> &Path {
        match &self.dirs {
            Dirs::V2(dir) => dir,
            Dirs::V1 { used, .. } => &used[0].1,
        }
    }

    fn all_dirs(&self) -> Vec<&Path> {
        match &self.dirs {
            Dirs::V2(dir) => vec![dir],
            Dirs::V1 { used, others } => {
                used.iter().map(|(_, dir)| dir.as_path()).chain(others.iter().map(PathBuf::as_path)).collect()
            }
        }
    }
}

/// Directories made so far, removed again on drop unless kept.
#[derive(Default)]
struct Made(Vec<PathBuf>);

impl Made {
    fn dir_and_parents(&mut self, dir: &Path) -> Result<(), CgroupError> {
        match fs::create_dir(dir) {
            Ok(()) => self.0.push(dir.to_owned()),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let parent = dir.parent().ok_or_else(|| CgroupError::at("make cgroup", dir)(e))?;
                self.dir_and_parents(parent)?;
                return self.dir_and_parents(dir);
            }
            Err(e) => return Err(CgroupError::at("make cgroup", dir)(e)),
        }
        Ok(())
    }

    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for dir in self.0.iter().rev() {
            if let Err(error) = fs::remove_dir(dir) {
                // The caller already gets the error that brought us here; another pod may use the parent by now.
                tracing::debug!(dir = %dir.display(), %error, "leave cgroup");
            }
        }
    }
}

/// Gives the children of `parent` the controllers that `limits` need, and those we count by where there are any.
fn enable(parent: &Path, limits: &Limits) -> Result<(), CgroupError> {
    let read = |file: &str| {
        fs::read_to_string(parent.join(file)).map_err(CgroupError::at("read the controllers of", parent))
    };
    let (available, enabled) = (read("cgroup.controllers")?, read("cgroup.subtree_control")?);
    let has = |list: &str, name: &str| list.split_whitespace().any(|c| c == name);
    let needed = limits.v2_controllers();
    let mut wanted = String::new();
    for name in ["cpu", "memory", "pids"] {
        if has(&enabled, name) {
            continue;
        }
        if has(&available, name) {
            wanted.push_str(" +");
            wanted.push_str(name);
        } else if needed.contains(&name) {
            let reason = io::Error::new(io::ErrorKind::Unsupported, format!("it has no {name} controller"));
            return Err(CgroupError::at("enable controllers in", parent)(reason));
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let file = parent.join("cgroup.subtree_control");
    fs::write(&file, wanted.trim_start()).map_err(CgroupError::at("write", &file))
}

fn set_v2(dir: &Path, limits: &Limits) -> Result<(), CgroupError> {
    write_all(dir, &limits.v2())?;
    match limits.devices.rules() {
        Some(rules) => devices::allow(dir, rules).map_err(CgroupError::at("limit the devices of", dir)),
        None => Ok(()),
    }
}

fn write_all(dir: &Path, writes: &[limits::Write]) -> Result<(), CgroupError> {
    for write in writes {
        let file = dir.join(write.file);
        match fs::write(&file, &write.value) {
            // cgroupfs has no new files: opening with O_CREAT what is not there gives EACCES or ENOENT.
            Err(_) if write.optional && !file.exists() => {}
            other => other.map_err(CgroupError::at("write", &file))?,
        }
    }
    Ok(())
}

/// `top` and all directories below it, parents before children; empty when `top` does not exist.
fn descendants(top: &Path) -> Result<Vec<PathBuf>, CgroupError> {
    let mut all = Vec::new();
    let mut open = vec![top.to_owned()];
    while let Some(dir) = open.pop() {
        let failed = || CgroupError::at("list cgroup", &dir);
        let Some(entries) = gone_is_none(fs::read_dir(&dir)).map_err(failed())? else { continue };
        for entry in entries {
            let Some(entry) = gone_is_none(entry).map_err(failed())? else { continue };
            if gone_is_none(entry.file_type()).map_err(failed())?.is_some_and(|kind| kind.is_dir()) {
                open.push(entry.path());
            }
        }
        all.push(dir);
    }
    Ok(all)
}

/// A process or cgroup that vanished between two looks is the outcome we want, not an error (`ENODEV`: a removed
/// cgroup read through an open file; `ESRCH`: a process).
fn gone_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENODEV | libc::ESRCH)) => Ok(None),
        Err(e) => Err(e),
    }
}

fn read_number(file: &Path) -> Result<Option<u64>, CgroupError> {
    let text = gone_is_none(fs::read_to_string(file)).map_err(CgroupError::at("read", file))?;
    Ok(text.and_then(|text| text.trim().parse().ok()))
}

fn read_keyed(file: &Path, key: &str) -> Result<Option<u64>, CgroupError> {
    let text = gone_is_none(fs::read_to_string(file)).map_err(CgroupError::at("read", file))?;
    let text = text.unwrap_or_default();
    Ok(text.lines().filter_map(|line| line.split_once(' ')).find(|(k, _)| *k == key).and_then(|(_, v)| v.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_the_tree_are_refused() {
        let hierarchy = Hierarchy::detect().unwrap();
        for path in ["", "/", "minipod", "/a/../b", "/a//b", "/a/."] {
            assert!(Cgroup::at(&hierarchy, path).is_err(), "{path:?}");
        }
        assert!(Cgroup::at(&hierarchy, "/minipod/a").is_ok());
    }
}
