//! Entering a network namespace, for as long as it takes and on a thread of its own.

use crate::{NetError, link, rtnl, sysctl};
use netlink_sys::Socket;
use nix::sched::{CloneFlags, setns};
use std::{io, os::fd::BorrowedFd, thread};

/// Runs `work` inside a network namespace, on its own thread: nothing can stay there, neither the caller's thread
/// nor one of its runtime's.
///
/// # Errors
/// When the thread cannot be made or the namespace not be entered (setns(2): needs CAP_SYS_ADMIN there and here).
///
/// # Panics
/// When `work` does.
pub fn in_netns<T: Send>(netns: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let inside = thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, move || {
                setns(netns, CloneFlags::CLONE_NEWNET)?;
                Ok(work())
            })?;
        inside
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Settings of a fresh namespace. Order matters not; each is of the namespace, and the kernel's defaults are older
/// than containers.
const SETTINGS: &[(&str, &str)] = &[
    // ping without CAP_NET_RAW, as podman and containerd set it (icmp(7))
    ("net/ipv4/ping_group_range", "0 2147483647"),
    // a port below 1024 is not privileged where the host has no part in it (ip(7))
    ("net/ipv4/ip_unprivileged_port_start", "0"),
];

/// IPv6 is not given to namespaces yet: without link-local addresses of new links there is no duplicate address
/// detection, which would take a second, and no multicast chatter. `lo` keeps ::1. 1 is IN6_ADDR_GEN_MODE_NONE.
const NO_LINK_LOCAL: (&str, &str) = ("net/ipv6/conf/default/addr_gen_mode", "1");

/// Makes the settings of a namespace and opens a routing socket in it.
pub(crate) fn prepare(netns: BorrowedFd<'_>) -> Result<Socket, NetError> {
    let inside = || {
        for (name, value) in SETTINGS {
            sysctl::ensure(name, value)?;
        }
        sysctl::ensure_if_known(NO_LINK_LOCAL.0, NO_LINK_LOCAL.1)?;
        rtnl::open_socket().map_err(NetError::netlink(
            "open",
            "routing netlink socket in the namespace",
        ))
    };
    in_netns(netns, inside).map_err(NetError::EnterNetns)?
}

/// For a namespace that stays without a network: makes the settings of a wired one and brings `lo` up.
///
/// # Errors
/// When the namespace cannot be entered, or the kernel refuses.
pub async fn loopback_up(netns: BorrowedFd<'_>) -> Result<(), NetError> {
    let inside = rtnl::Rtnl::with(prepare(netns)?);
    link::loopback_up(&inside).await
}
