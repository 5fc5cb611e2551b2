//! Where the cgroup file systems are, and which of them we use.

use std::io;
use std::path::{Path, PathBuf};

/// A v1 controller that we use, and why. Few of them: each costs a directory and a move per container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Controller {
    /// Counts and limits processes; ours to list the members by, and to stop them forking while we kill them.
    Pids,
    /// Limits memory and counts OOM kills.
    Memory,
    /// Shares and quota.
    Cpu,
    /// CPU time used (usually mounted together with `cpu`).
    Cpuacct,
    /// Which device nodes may be made and opened.
    Devices,
}

/// Members first: `Pids` stands before all others because we list processes by it.
const V1_CONTROLLERS: [(Controller, &str); 5] = [
    (Controller::Pids, "pids"),
    (Controller::Memory, "memory"),
    (Controller::Cpu, "cpu"),
    (Controller::Cpuacct, "cpuacct"),
    (Controller::Devices, "devices"),
];

/// The cgroup mounts of this mount namespace.
#[derive(Clone, Debug)]
pub struct Hierarchy(pub(super) Kind);

#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// One tree that has the controllers.
    V2 { root: PathBuf },
    /// A tree per controller (also "hybrid", where a v2 tree without our controllers exists beside them).
    V1 {
        /// The controllers we use and their mount points.
        used: Vec<(Controller, PathBuf)>,
        /// Every v1 mount point: libcontainer may have made directories in the others (privileged containers).
        all: Vec<PathBuf>,
    },
}

impl Hierarchy {
    /// Finds the mounts in `/proc/self/mountinfo`: v2 when its tree has the memory or the pids controller or when no
    /// v1 tree is mounted, v1 otherwise.
    ///
    /// # Errors
    /// `NotFound` when no cgroup file system is mounted or, on v1, `pids` is missing; what reading reports.
    pub fn detect() -> io::Result<Self> {
        Self::from_mountinfo(&std::fs::read_to_string("/proc/self/mountinfo")?)
    }

    /// As [`Self::detect`], of another mount namespace that has the mounts at the same places.
    ///
    /// # Errors
    /// As [`Self::detect`].
    pub fn from_mountinfo(text: &str) -> io::Result<Self> {
        Self::choose(text, |root| std::fs::read_to_string(root.join("cgroup.controllers")))
    }

    /// Whether this is cgroup v2.
    pub fn is_v2(&self) -> bool {
        matches!(self.0, Kind::V2 { .. })
    }

    fn choose(text: &str, controllers: impl Fn(&Path) -> io::Result<String>) -> io::Result<Self> {
        let mounts: Vec<CgroupMount> = text.lines().filter_map(CgroupMount::parse).collect();
        let unified = mounts.iter().find(|m| m.v2).map(|m| m.at.clone());
        let v1: Vec<&CgroupMount> = mounts.iter().filter(|m| !m.v2).collect();

        if let Some(root) = unified {
            let has = controllers(&root)?;
            if v1.is_empty() || has.split_whitespace().any(|c| c == "memory" || c == "pids") {
                return Ok(Self(Kind::V2 { root }));
            }
        }

        let mut used: Vec<(Controller, PathBuf)> = Vec::new();
        for (controller, name) in V1_CONTROLLERS {
            if let Some(mount) = v1.iter().find(|m| m.options.iter().any(|o| o == name)) {
                used.push((controller, mount.at.clone()));
            }
        }
        if used.first().is_none_or(|(first, _)| *first != Controller::Pids) {
            let reason = "no cgroup hierarchy with the pids controller is mounted";
            return Err(io::Error::new(io::ErrorKind::NotFound, reason));
        }
        let all = v1.iter().map(|m| m.at.clone()).collect();
        Ok(Self(Kind::V1 { used, all }))
    }
}

struct CgroupMount {
    at: PathBuf,
    v2: bool,
    options: Vec<String>,
}

impl CgroupMount {
    /// proc_pid_mountinfo(5): `36 35 98:0 /root /at options... - fstype source super-options`.
    fn parse(line: &str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let at = left.split(' ').nth(4)?;
        let mut right = right.split(' ');
        let v2 = match right.next()? {
            "cgroup2" => true,
            "cgroup" => false,
            _ => return None,
        };
        let options = right.nth(1)?.split(',').map(str::to_owned).collect();
        Some(Self { at: PathBuf::from(at), v2, options })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
23 27 0:22 / /sys rw,relatime - sysfs sysfs rw
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn hybrid_is_v1_unless_the_unified_tree_has_the_controllers() {
        let hybrid = Hierarchy::choose(HYBRID, |_| Ok("hugetlb\n".into())).unwrap();
        let Kind::V1 { used, all } = hybrid.0 else { panic!("v1 expected") };
        let names: Vec<Controller> = used.iter().map(|(c, _)| *c).collect();
        assert_eq!(vec![Controller::Pids, Controller::Memory, Controller::Cpu, Controller::Cpuacct], names);
        assert_eq!(used[2].1, used[3].1, "mounted together");
        assert_eq!(4, all.len());

        let v2 = Hierarchy::choose(HYBRID, |_| Ok("cpu memory pids\n".into())).unwrap();
        assert!(v2.is_v2());
    }

    #[test]
    fn no_cgroups_is_an_error_that_says_so() {
        let error = Hierarchy::choose("", |_| Ok(String::new())).unwrap_err();
        assert_eq!(io::ErrorKind::NotFound, error.kind());
    }

    #[test]
    fn this_machine_has_cgroups() {
        Hierarchy::detect().unwrap();
    }
}
