//! The network of a test: a stack of its own that plays the host, and another that plays the world outside.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

use crate::Cmd;

/// The host's address on its uplink (TEST-NET-2, RFC 5737).
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// The address that the outside has there.
pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// Bytes per packet of the uplink: not the usual 1500, so that pods are seen to take it over.
pub(crate) const MTU: u32 = 1400;

/// A network namespace outside of the private host, at the other end of its default route.
#[derive(Debug)]
pub struct Outside(File);

impl Outside {
    /// Moves the calling thread, and with it every command it starts from now on, into a network namespace of its own
    /// with `lo`, an uplink and a default route.
    pub(crate) fn private_host() -> Self {
        let outside = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("make the network namespace of the outside");
            File::open("/proc/thread-self/ns/net").expect("open the network namespace of the outside")
        });
        let outside = Self(outside.join().expect("the thread that makes the outside"));
        unshare(CloneFlags::CLONE_NEWNET).expect("make the network namespace of a private host");
        let there = format!("/proc/{}/fd/{}", std::process::id(), outside.0.as_raw_fd());
        ip(&format!("link add up0 mtu {MTU} type veth peer name down0 mtu {MTU} netns {there}"));
        outside.enter(|| {
            ip("link set lo up");
            ip(&format!("addr add {OUTSIDE}/24 dev down0"));
            ip("link set down0 up");
        });
        ip("link set lo up");
        ip(&format!("addr add {HOST}/24 dev up0"));
        ip("link set up0 up");
        ip(&format!("route add default via {OUTSIDE}"));
        // As on a machine that has just been installed; init_net's may have been changed by whoever used this one before.
        fs::write("/proc/sys/net/ipv4/ip_forward", "0").expect("switch forwarding off");
        outside
    }

    /// Its address: not the host's, reached over the default route.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        OUTSIDE
    }

    /// The host's address as the outside knows it.
    #[must_use]
    pub fn host(&self) -> Ipv4Addr {
        HOST
    }

    /// Runs `work` on a thread there.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).expect("enter the outside");
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

fn ip(args: &str) {
    let args: Vec<&str> = args.split(' ').collect();
    let _printed = Cmd::new("ip").args(args).run().ok();
}
