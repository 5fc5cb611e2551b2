//! Capabilities of an ordinary container: podman's defaults, changed by `add` and `drop`.

use std::str::FromStr;

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};

use crate::plan::Security;

/// podman's defaults (containers.conf): docker's without MKNOD, NET_RAW and AUDIT_WRITE.
pub const DEFAULT: [Capability; 11] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::NetBindService,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

/// Every capability, in the kernel's order (`linux/capability.h`).
pub const ALL: [Capability; 41] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

/// The capabilities a container may have: the bounding set.
///
/// `ALL` comes first in both lists, then each list name by name; what is both added and dropped by name is dropped.
/// Source: containerd `internal/cri/opts/spec_linux_opts.go`, `WithCapabilities`.
pub fn bounding(security: &Security) -> Capabilities {
    if security.privileged {
        return ALL.into_iter().collect();
    }
    let has_all = |list: &[String]| list.iter().any(|name| name == "ALL");
    let mut set: Capabilities = if has_all(&security.capabilities_add) {
        ALL.into_iter().collect()
    } else if has_all(&security.capabilities_drop) {
        Capabilities::new()
    } else {
        DEFAULT.into_iter().collect()
    };
    let named = |list: &[String]| list.iter().filter_map(|name| Capability::from_str(name).ok()).collect::<Vec<_>>();
    set.extend(named(&security.capabilities_add));
    for capability in named(&security.capabilities_drop) {
        set.remove(&capability);
    }
    set
}

/// The five sets. Root has all that is bounding; any other user has none until it executes a file that gives some, which
/// is what execve(2) would leave of them. Nothing is inheritable (CVE-2022-24769) nor ambient.
pub(super) fn of(security: &Security, uid: u32) -> LinuxCapabilities {
    let bounding = bounding(security);
    let held = if uid == 0 { bounding.clone() } else { Capabilities::new() };
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(bounding));
    sets.set_effective(Some(held.clone()));
    sets.set_permitted(Some(held));
    sets.set_inheritable(Some(Capabilities::new()));
    sets.set_ambient(Some(Capabilities::new()));
    sets
}
