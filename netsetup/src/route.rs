//! Routes.

use crate::{
    NetError, link,
    rtnl::{Rtnl, answer},
};
use futures::TryStreamExt;
use ipnet::Ipv4Net;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType,
};
use rtnetlink::RouteMessageBuilder;
use std::net::Ipv4Addr;

/// Bytes per packet when no default route says otherwise: Ethernet's.
const ETHERNET_MTU: u32 = 1500;

/// One IPv4 route of the main table.
pub(crate) struct Route {
    pub(crate) to: Ipv4Net,
    /// Index of the link it leaves by, if by one.
    pub(crate) link: Option<u32>,
    metric: u32,
}

/// The IPv4 routes of the main table.
pub(crate) async fn main_table(net: &Rtnl) -> Result<Vec<Route>, NetError> {
    let all = net
        .handle()
        .route()
        .get(RouteMessageBuilder::<Ipv4Addr>::new().build())
        .execute();
    let all = all
        .map_err(answer)
        .try_collect::<Vec<_>>()
        .await
        .map_err(NetError::netlink("list", "routes"))?;
    Ok(all.iter().filter_map(parse).collect())
}

fn parse(message: &RouteMessage) -> Option<Route> {
    let unicast = message.header.kind == RouteType::Unicast;
    if message.header.table != RouteHeader::RT_TABLE_MAIN || !unicast {
        return None;
    }
    let (mut to, mut link, mut metric) = (Ipv4Addr::UNSPECIFIED, None, 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => to = *address,
            RouteAttribute::Oif(index) => link = Some(*index),
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::MultiPath(hops) => link = hops.first().map(|hop| hop.interface_index),
            _ => {}
        }
    }
    Some(Route {
        to: Ipv4Net::new(to, message.header.destination_prefix_length).ok()?,
        link,
        metric,
    })
}

/// Bytes per packet of the link that the preferred default route leaves by; [`ETHERNET_MTU`] without one.
pub(crate) async fn default_mtu(net: &Rtnl) -> Result<u32, NetError> {
    let routes = main_table(net).await?;
    let default = routes
        .iter()
        .filter(|route| route.to.prefix_len() == 0)
        .min_by_key(|route| route.metric);
    match default.and_then(|route| route.link) {
        Some(index) => Ok(link::by_index(net, index).await?.mtu),
        None => Ok(ETHERNET_MTU),
    }
}

/// Routes everything that is not local to `gateway`.
pub(crate) async fn add_default(net: &Rtnl, gateway: Ipv4Addr) -> Result<(), NetError> {
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .gateway(gateway)
        .build();
    let done = net
        .handle()
        .route()
        .add(route)
        .execute()
        .await
        .map_err(answer);
    done.map_err(NetError::netlink("add default route via", gateway))
}
