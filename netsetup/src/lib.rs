//! Wires a network namespace to a bridge of this host: veth pair, address lease, routes, NAT and host ports.
//!
//! Knows no pods: whoever calls gives an opaque `owner` (the key of its lease) and a `label` (what a person sees in
//! `ip link`, `nft list` and error messages). Starts no external program; everything is netlink and /proc/sys.
//!
//! ```text
//!  host                                             network namespace of the caller's choosing
//!  eth0 ── routes ── minipod0 (bridge, gateway) ── mp-1a2b3c4d ═══ eth0 (lease) , lo
//!             │
//!             └ nft table `inet minipod`: masquerade, host ports, forward accept
//! ```
//!
//! Every function works in the network namespace of the calling thread, and never changes it: what must happen
//! inside the other namespace happens through a socket opened there by a short-lived thread.
//! The asynchronous functions want a tokio runtime with I/O enabled; current-thread is enough.
#![deny(unsafe_code)]

#[cfg(test)]
extern crate self as netsetup; // what the suites under tests/ share is used by the crate's own as well

mod address;
mod attach;
mod conflict;
mod detach;
mod error;
mod ipam;
mod leases;
mod link;
mod mac;
mod name;
mod nat;
mod netns;
mod network;
mod ports;
mod reconcile;
mod request;
mod route;
mod rtnl;
mod step;
mod subnet;
#[allow(unsafe_code)] // one descriptor changes hands; no decisions
mod sys;
mod sysctl;

pub use attach::{attach, attach_watched};
pub use conflict::{Conflict, Holder, check};
pub use detach::{detach, detach_watched};
pub use error::NetError;
pub use mac::MacAddr;
pub use name::{BadIfName, IfName};
pub use netns::{in_netns, loopback_up};
pub use network::{BadNetwork, Network};
pub use ports::{PortMapping, Protocol};
pub use reconcile::{Mode, reconcile};
pub use request::{Attachment, Request};
pub use step::{Step, Unwatched, Watch};
pub use subnet::{Choice, choose_subnet};
