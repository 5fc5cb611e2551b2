//! What is asked of [`crate::attach`] and what comes back.

use crate::{IfName, MacAddr, PortMapping};
use serde::{Deserialize, Serialize};
use std::{net::Ipv4Addr, os::fd::BorrowedFd};

/// One namespace to be wired to a network.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Key of the lease: opaque, unique on this host, stable until [`crate::detach`].
    pub owner: &'a str,
    /// What a person sees: the host link's alias, the comment in `nft list`, the holder named in a conflict.
    pub label: &'a str,
    /// The namespace. It is left with `lo` and the new link up.
    pub netns: BorrowedFd<'a>,
    /// Name of the host's end of the pair; must not exist.
    pub host_if: IfName,
    /// Name of the other end, `eth0` in a pod.
    pub pod_if: IfName,
    /// The address wanted; `None` for the next free one.
    pub address: Option<Ipv4Addr>,
    /// The link-layer address wanted; `None` for one derived from the lease.
    pub mac: Option<MacAddr>,
    /// Bytes per packet; `None` for the network's, which is that of the link of the default route.
    pub mtu: Option<u32>,
    /// Host ports that lead to the new address.
    pub ports: &'a [PortMapping],
}

/// How a namespace is wired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// Leased address.
    pub address: Ipv4Addr,
    /// Length of the subnet's prefix, in bits.
    pub prefix_len: u8,
    /// Default route's next hop: the bridge.
    pub gateway: Ipv4Addr,
    /// Link-layer address inside the namespace.
    pub mac: MacAddr,
    /// The host's end of the pair.
    pub host_if: IfName,
    /// The bridge it is a port of.
    pub bridge: IfName,
    /// Bytes per packet.
    pub mtu: u32,
}
