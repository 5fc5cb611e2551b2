//! Links: the bridge, veth pairs, `lo`.

use crate::{
    IfName, MacAddr, NetError,
    name::shorten,
    rtnl::{Rtnl, answer},
};
use futures::TryStreamExt;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridgePort, InfoData, InfoKind, InfoPortData,
    InfoPortKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth};
use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

/// The loopback link is the first of every namespace (the kernel's `LOOPBACK_IFINDEX`).
const LOOPBACK: u32 = 1;

/// The longest alias, in bytes (IFALIASZ is 256 with the NUL).
const ALIAS: usize = 255;

/// What is asked about a link that exists.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) kind: Option<InfoKind>,
    pub(crate) up: bool,
    pub(crate) mtu: u32,
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            kind: None,
            up: message.header.flags.contains(LinkFlags::Up),
            mtu: 0,
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::LinkInfo(infos) => {
                    link.kind = infos.into_iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        link
    }
}

/// The link of that name, if there is one.
pub(crate) async fn find(net: &Rtnl, name: &IfName) -> Result<Option<Link>, NetError> {
    let answers = net
        .handle()
        .link()
        .get()
        .match_name(name.as_str())
        .execute();
    match answers.map_err(answer).try_collect::<Vec<_>>().await {
        Ok(found) => Ok(found.into_iter().next().map(Link::from)),
        Err(error) if error.raw_os_error() == Some(libc_errno::ENODEV) => Ok(None),
        Err(source) => Err(NetError::netlink("look up link", name)(source)),
    }
}

/// The link of that index.
pub(crate) async fn by_index(net: &Rtnl, index: u32) -> Result<Link, NetError> {
    let answers = net.handle().link().get().match_index(index).execute();
    let found = answers.map_err(answer).try_collect::<Vec<_>>().await;
    let found = found
        .map_err(NetError::netlink("look up link number", index))?
        .into_iter()
        .next();
    found.map(Link::from).ok_or_else(|| {
        NetError::netlink("look up link number", index)(io::ErrorKind::NotFound.into())
    })
}

/// Indices of the ports of a bridge.
pub(crate) async fn ports(net: &Rtnl, bridge: &Link) -> Result<Vec<u32>, NetError> {
    let all = net
        .handle()
        .link()
        .get()
        .execute()
        .map_err(answer)
        .try_collect::<Vec<_>>()
        .await;
    let all = all.map_err(NetError::netlink("list", "links"))?;
    let is_port = |link: &LinkMessage| {
        link.attributes
            .contains(&LinkAttribute::Controller(bridge.index))
    };
    Ok(all
        .iter()
        .filter(|link| is_port(link))
        .map(|link| link.header.index)
        .collect())
}

/// Makes a bridge, down: whoever finds it up may take it for complete.
pub(crate) async fn add_bridge(
    net: &Rtnl,
    name: &IfName,
    mac: MacAddr,
    mtu: u32,
) -> Result<(), NetError> {
    let bridge = LinkMessageBuilder::<LinkBridge>::new(name.as_str())
        .address(mac.octets().to_vec())
        .mtu(mtu)
        .build();
    let done = net
        .handle()
        .link()
        .add(bridge)
        .execute()
        .await
        .map_err(answer);
    done.map_err(NetError::netlink("create bridge", name))
}

/// Brings a link up.
pub(crate) async fn up(net: &Rtnl, index: u32, name: impl std::fmt::Display) -> Result<(), NetError> {
    let change = LinkUnspec::new_with_index(index).up().build();
    let done = net
        .handle()
        .link()
        .change(change)
        .execute()
        .await
        .map_err(answer);
    done.map_err(NetError::netlink("bring up link", name))
}

/// Brings `lo` up.
pub(crate) async fn loopback_up(net: &Rtnl) -> Result<(), NetError> {
    up(net, LOOPBACK, "lo").await
}

/// A pair to be made: `host` here, as a port of `bridge`; `pod` born inside `netns`.
pub(crate) struct Veth<'a> {
    pub(crate) host: &'a IfName,
    pub(crate) bridge: u32,
    pub(crate) pod: &'a IfName,
    pub(crate) netns: BorrowedFd<'a>,
    pub(crate) mac: MacAddr,
    pub(crate) mtu: u32,
}

/// Makes the pair in one request. Both ends are down: a veth cannot be up before both exist (`veth_open`).
pub(crate) async fn add_veth(net: &Rtnl, veth: &Veth<'_>) -> Result<(), NetError> {
    let peer = LinkUnspec::new_with_name(veth.pod.as_str())
        .address(veth.mac.octets().to_vec())
        .mtu(veth.mtu)
        .setns_by_fd(veth.netns.as_raw_fd())
        .build();
    let pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(veth.host.as_str())
        .mtu(veth.mtu)
        .controller(veth.bridge)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build();
    let done = net
        .handle()
        .link()
        .add(pair)
        .execute()
        .await
        .map_err(answer);
    done.map_err(NetError::netlink("create veth pair", veth.host))
}

/// What the kernel takes only for a link that exists: alias, hairpin mode (a frame may leave by the port it came
/// from, which is how a pod reaches itself through its own host port), no IPv6 address of its own; and up.
pub(crate) async fn set_bridge_port(
    net: &Rtnl,
    host: &IfName,
    alias: &str,
) -> Result<(), NetError> {
    let change = LinkUnspec::new_with_name(host.as_str())
        .alias(shorten(alias, ALIAS))
        .append_extra_attribute(no_link_local())
        .set_port_kind(InfoPortKind::Bridge)
        .set_port_data(InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(
            true,
        )]))
        .up()
        .build();
    let done = net
        .handle()
        .link()
        .set_port(change)
        .execute()
        .await
        .map_err(answer);
    done.map_err(NetError::netlink("set up bridge port", host))
}

/// Removes a link; one that is gone already is no failure.
pub(crate) async fn delete(net: &Rtnl, name: &IfName, kind: &InfoKind) -> Result<(), NetError> {
    match find(net, name).await? {
        Some(link) if link.kind.as_ref() == Some(kind) => {
            match net
                .handle()
                .link()
                .del(link.index)
                .execute()
                .await
                .map_err(answer)
            {
                Err(error) if error.raw_os_error() == Some(libc_errno::ENODEV) => Ok(()),
                done => done.map_err(NetError::netlink("delete link", name)),
            }
        }
        // Somebody else's link took the name; ours is gone.
        _ => Ok(()),
    }
}

fn no_link_local() -> LinkAttribute {
    LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(
        In6AddrGenMode::None,
    )])])
}

/// errno(3) values that are answers, not failures.
pub(crate) mod libc_errno {
    pub(crate) const ENOENT: i32 = nix::errno::Errno::ENOENT as i32;
    pub(crate) const ENODEV: i32 = nix::errno::Errno::ENODEV as i32;
    /// nf_tables: an element of the same key has other data.
    pub(crate) const EBUSY: i32 = nix::errno::Errno::EBUSY as i32;
    pub(crate) const EEXIST: i32 = nix::errno::Errno::EEXIST as i32;
}
