//! What a cgroup may use, and how each number is written to v1 and to v2.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, LinuxResources};
use serde::{Deserialize, Serialize};

use super::hierarchy::Controller;

/// Limits of one cgroup. `None` leaves the kernel's default: no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// CPU time per period.
    pub cpu_quota: Option<CpuQuota>,
    /// Relative weight as cgroup v1 counts it, 2 to 262144 (Kubernetes: millicores * 1024 / 1000). Converted on v2.
    pub cpu_shares: Option<u64>,
    /// Bytes of memory. Swap beyond it is refused, as containerd does, where the kernel accounts swap.
    pub memory_bytes: Option<u64>,
    /// Number of processes and threads.
    pub pids: Option<u64>,
    /// Which devices may be used.
    pub devices: DeviceAccess,
}

/// At most `quota_us` microseconds of CPU time in every `period_us` microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuQuota {
    /// Microseconds, all CPUs together; at least 1000.
    pub quota_us: u64,
    /// Microseconds, 1000 to 1000000.
    pub period_us: u64,
}

/// Device access of a cgroup. On v1 files hold the rules, on v2 an eBPF program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceAccess {
    /// Whatever the parent allows: pods and privileged containers.
    #[default]
    Inherit,
    /// The usual nodes of a container (null, zero, full, random, urandom, tty, console, ptmx, pts), any mknod, and
    /// these rules in `devices.allow` syntax (`c 10:229 rwm`).
    Container(Vec<String>),
}

/// runc's default list: making any node is harmless where opening it is denied.
const CONTAINER_DEVICES: [&str; 12] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",   // null
    "c 1:5 rwm",   // zero
    "c 1:7 rwm",   // full
    "c 1:8 rwm",   // random
    "c 1:9 rwm",   // urandom
    "c 5:0 rwm",   // tty
    "c 5:1 rwm",   // console
    "c 5:2 rwm",   // ptmx
    "c 136:* rwm", // pts
    "c 10:200 rwm", // net/tun, useless without CAP_NET_ADMIN
];

impl DeviceAccess {
    /// What is allowed, in `devices.allow` syntax; `None` when nothing is denied.
    pub(super) fn rules(&self) -> Option<impl Iterator<Item = &str>> {
        match self {
            Self::Inherit => None,
            Self::Container(more) => Some(CONTAINER_DEVICES.into_iter().chain(more.iter().map(String::as_str))),
        }
    }
}

/// One file to write.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Write {
    pub file: &'static str,
    pub value: String,
    /// The kernel may be built without it (swap accounting).
    pub optional: bool,
}

fn write(file: &'static str, value: impl ToString) -> Write {
    Write { file, value: value.to_string(), optional: false }
}

fn optional(file: &'static str, value: impl ToString) -> Write {
    Write { file, value: value.to_string(), optional: true }
}

impl Limits {
    /// The limits in a spec's `linux.resources`, so that a bundle made elsewhere can be run.
    ///
    /// # Errors
    /// The path of the first field that we would have to ignore.
    pub fn from_resources(resources: &LinuxResources) -> Result<Self, &'static str> {
        let mut limits = Self::default();
        for (set, name) in [
            (resources.block_io().is_some(), "linux.resources.blockIO"),
            (resources.hugepage_limits().as_ref().is_some_and(|h| !h.is_empty()), "linux.resources.hugepageLimits"),
            (resources.network().is_some(), "linux.resources.network"),
            (resources.rdma().as_ref().is_some_and(|r| !r.is_empty()), "linux.resources.rdma"),
            (resources.unified().as_ref().is_some_and(|u| !u.is_empty()), "linux.resources.unified"),
        ] {
            if set {
                return Err(name);
            }
        }
        if let Some(cpu) = resources.cpu() {
            if cpu.cpus().is_some() || cpu.mems().is_some() {
                return Err("linux.resources.cpu.cpus");
            }
            limits.cpu_shares = cpu.shares().filter(|shares| *shares > 0);
            limits.cpu_quota = cpu.quota().and_then(|quota| u64::try_from(quota).ok()).filter(|q| *q > 0).map(
                |quota_us| CpuQuota { quota_us, period_us: cpu.period().unwrap_or(100_000) },
            );
        }
        if let Some(memory) = resources.memory() {
            limits.memory_bytes = memory.limit().and_then(|limit| u64::try_from(limit).ok()).filter(|l| *l > 0);
        }
        limits.pids = resources.pids().as_ref().and_then(|p| u64::try_from(p.limit()).ok()).filter(|l| *l > 0);
        if let Some(devices) = resources.devices() {
            limits.devices = device_access(devices);
        }
        Ok(limits)
    }

    pub(super) fn v1(&self, controller: Controller) -> Vec<Write> {
        match controller {
            Controller::Pids => self.pids.map(|n| write("pids.max", n)).into_iter().collect(),
            Controller::Memory => self.memory_bytes.map_or_else(Vec::new, |bytes| {
                // The order matters: memory+swap may not be below memory.
                vec![write("memory.limit_in_bytes", bytes), optional("memory.memsw.limit_in_bytes", bytes)]
            }),
            Controller::Cpu => {
                let quota = self.cpu_quota.into_iter().flat_map(|q| {
                    [write("cpu.cfs_period_us", q.period_us), write("cpu.cfs_quota_us", q.quota_us)]
                });
                self.cpu_shares.map(|shares| write("cpu.shares", shares)).into_iter().chain(quota).collect()
            }
            Controller::Cpuacct => Vec::new(),
            Controller::Devices => self.devices.rules().map_or_else(Vec::new, |rules| {
                std::iter::once(write("devices.deny", "a")).chain(rules.map(|rule| write("devices.allow", rule))).collect()
            }),
        }
    }

    pub(super) fn v2(&self) -> Vec<Write> {
        let mut all = Vec::new();
        all.extend(self.pids.map(|n| write("pids.max", n)));
        if let Some(bytes) = self.memory_bytes {
            all.push(write("memory.max", bytes));
            all.push(optional("memory.swap.max", 0));
        }
        all.extend(self.cpu_shares.map(|shares| write("cpu.weight", weight_of(shares))));
        all.extend(self.cpu_quota.map(|q| write("cpu.max", format!("{} {}", q.quota_us, q.period_us))));
        all
    }

    /// The v2 controllers these limits need.
    pub(super) fn v2_controllers(&self) -> Vec<&'static str> {
        let mut needed = Vec::new();
        for (wanted, name) in [
            (self.cpu_quota.is_some() || self.cpu_shares.is_some(), "cpu"),
            (self.memory_bytes.is_some(), "memory"),
            (self.pids.is_some(), "pids"),
        ] {
            if wanted {
                needed.push(name);
            }
        }
        needed
    }
}

/// cgroup v1 shares (2 to 262144) as cgroup v2 weight (1 to 10000), linear, as Kubernetes and runc convert them
/// (KEP-2254).
fn weight_of(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

fn device_access(rules: &[LinuxDeviceCgroup]) -> DeviceAccess {
    let allows_all = rules.iter().any(|r| {
        r.allow() && matches!(r.typ(), None | Some(LinuxDeviceType::A)) && r.major().is_none() && r.minor().is_none()
    });
    if allows_all {
        return DeviceAccess::Inherit;
    }
    let number = |n: Option<i64>| n.filter(|n| *n >= 0).map_or_else(|| "*".to_owned(), |n| n.to_string());
    let more = rules.iter().filter(|r| r.allow()).map(|r| {
        let typ = r.typ().unwrap_or(LinuxDeviceType::A);
        let access = r.access().clone().unwrap_or_else(|| "rwm".to_owned());
        format!("{} {}:{} {access}", typ.as_str(), number(r.major()), number(r.minor()))
    });
    DeviceAccess::Container(more.collect())
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{LinuxCpuBuilder, LinuxResourcesBuilder};

    use super::*;

    fn all() -> Limits {
        Limits {
            cpu_quota: Some(CpuQuota { quota_us: 50_000, period_us: 100_000 }),
            cpu_shares: Some(1024),
            memory_bytes: Some(64 << 20),
            pids: Some(32),
            devices: DeviceAccess::Container(vec!["c 10:229 rwm".into()]),
        }
    }

    #[test]
    fn shares_become_weights_as_kubernetes_does() {
        assert_eq!([1, 39, 10_000], [2, 1024, 262_144].map(weight_of));
        assert_eq!([1, 10_000], [0, u64::MAX].map(weight_of), "out of range is clamped");
    }

    #[test]
    fn v2_values() {
        let written: Vec<String> = all().v2().iter().map(|w| format!("{}={}", w.file, w.value)).collect();
        assert_eq!(
            vec!["pids.max=32", "memory.max=67108864", "memory.swap.max=0", "cpu.weight=39", "cpu.max=50000 100000"],
            written
        );
        assert_eq!(vec!["cpu", "memory", "pids"], all().v2_controllers());
    }

    #[test]
    fn v1_sets_memory_before_memory_and_swap_and_denies_devices_first() {
        let memory: Vec<&str> = all().v1(Controller::Memory).iter().map(|w| w.file).collect();
        assert_eq!(vec!["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"], memory);
        let devices = all().v1(Controller::Devices);
        assert_eq!(write("devices.deny", "a"), devices[0]);
        assert_eq!("c 10:229 rwm", devices.last().unwrap().value);
        assert!(Limits::default().v1(Controller::Devices).is_empty());
    }

    #[test]
    fn a_resource_we_cannot_give_is_named() {
        let cpu = LinuxCpuBuilder::default().cpus("0-1").build().unwrap();
        let resources = LinuxResourcesBuilder::default().cpu(cpu).build().unwrap();
        assert_eq!(Err("linux.resources.cpu.cpus"), Limits::from_resources(&resources));
    }
}
