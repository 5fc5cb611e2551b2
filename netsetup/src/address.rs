//! Addresses of links.

use crate::{
    NetError,
    link::{Link, libc_errno::EEXIST},
    rtnl::{Rtnl, answer},
};
use futures::TryStreamExt;
use ipnet::Ipv4Net;
use netlink_packet_route::address::AddressAttribute;
use std::net::{IpAddr, Ipv4Addr};

/// Gives a link an address; one that it has already is no failure.
pub(crate) async fn add(
    net: &Rtnl,
    link: u32,
    address: Ipv4Addr,
    prefix_len: u8,
) -> Result<(), NetError> {
    match net
        .handle()
        .address()
        .add(link, IpAddr::V4(address), prefix_len)
        .execute()
        .await
        .map_err(answer)
    {
        Err(error) if error.raw_os_error() == Some(EEXIST) => Ok(()),
        done => done.map_err(NetError::netlink(
            "add address",
            format_args!("{address}/{prefix_len}"),
        )),
    }
}

/// The IPv4 addresses of a link, with their prefixes.
pub(crate) async fn of(net: &Rtnl, link: &Link) -> Result<Vec<Ipv4Net>, NetError> {
    let all = net
        .handle()
        .address()
        .get()
        .set_link_index_filter(link.index)
        .execute();
    let all = all.map_err(answer).try_collect::<Vec<_>>().await;
    let all = all.map_err(NetError::netlink(
        "list addresses of link number",
        link.index,
    ))?;
    // Kernels without strict checking ignore the filter and list every link's.
    let ours = all
        .iter()
        .filter(|message| message.header.index == link.index);
    Ok(ours
        .filter_map(|message| {
            let address = message
                .attributes
                .iter()
                .find_map(|attribute| match attribute {
                    AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
                    _ => None,
                })?;
            Ipv4Net::new(address, message.header.prefix_len).ok()
        })
        .collect())
}
