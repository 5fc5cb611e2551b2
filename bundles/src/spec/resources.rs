//! Limits in the kernel's terms.

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};

use crate::plan::ContainerPlan;

/// The period of a CPU quota, in microseconds: Kubernetes' default.
const PERIOD: u64 = 100_000;
/// The least CPU quota the kernel takes, in microseconds.
const LEAST_QUOTA: i64 = 1000;
/// The least CPU shares the kernel takes.
const LEAST_SHARES: u64 = 2;

/// The limits of a container, for our own cgroups: CPU quota (microseconds per 100 ms) and shares (1024 for one CPU), and
/// memory in bytes. The spec itself carries none.
///
/// Source: Kubernetes `pkg/kubelet/cm/helpers_linux.go`, `MilliCPUToQuota`, `MilliCPUToShares`.
pub fn resources(container: &ContainerPlan) -> LinuxResources {
    let limits = &container.resources;
    let mut cpu = LinuxCpu::default();
    let shares = limits.cpu_request_milli.unwrap_or(0).saturating_mul(1024) / 1000;
    cpu.set_shares(Some(shares.clamp(LEAST_SHARES, 262_144)));
    if let Some(milli) = limits.cpu_limit_milli.filter(|milli| *milli > 0) {
        let quota = i64::try_from(milli.saturating_mul(PERIOD / 1000)).unwrap_or(i64::MAX);
        cpu.set_quota(Some(quota.max(LEAST_QUOTA)));
        cpu.set_period(Some(PERIOD));
    }
    let mut memory = LinuxMemory::default();
    let bytes = |value: Option<u64>| value.filter(|value| *value > 0).map(|value| i64::try_from(value).unwrap_or(i64::MAX));
    memory.set_limit(bytes(limits.memory_limit));
    memory.set_reservation(bytes(limits.memory_request));
    let mut resources = LinuxResources::default();
    resources.set_cpu(Some(cpu));
    resources.set_memory(Some(memory));
    resources.set_devices(None);
    resources
}
