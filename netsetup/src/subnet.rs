//! Which addresses a network can have on this host.

use crate::{IfName, NetError, address, link, route, rtnl::Rtnl};
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

/// Ranges to turn to when the whole cluster range is taken: private ones (RFC 1918) that home routers, clouds,
/// Docker and the usual Kubernetes installers do not begin with.
const OTHER_RANGES: [Ipv4Net; 4] = [
    Ipv4Net::new_assert(Ipv4Addr::new(10, 201, 0, 0), 16),
    Ipv4Net::new_assert(Ipv4Addr::new(172, 29, 0, 0), 16),
    Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 240, 0), 20),
    Ipv4Net::new_assert(Ipv4Addr::new(10, 137, 0, 0), 16),
];

/// The addresses a network gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// This node's slice.
    pub subnet: Ipv4Net,
    /// All nodes' slices.
    pub cluster: Ipv4Net,
    /// Why they are not those that were asked for, in words for a person; `None` when they are.
    pub why: Option<String>,
}

/// Chooses the subnet of a network: the bridge's own if it exists; else the wanted one; else, when a route of this
/// host overlaps it, the next free slice of the cluster range, or of another range. Reads only.
///
/// # Errors
/// The kernel cannot be asked, or every range is taken ([`NetError::NoSubnet`]).
pub async fn choose_subnet(
    bridge: &IfName,
    wanted: Ipv4Net,
    cluster: Ipv4Net,
) -> Result<Choice, NetError> {
    let host = Rtnl::here()?;
    let (wanted, cluster) = (wanted.trunc(), cluster.trunc());
    // Routes before the bridge: when somebody is just making it, its route is seen only if its address is, too.
    let routes = route::main_table(&host).await?;
    let own = link::find(&host, bridge).await?;
    if let Some(link) = &own
        && let Some(current) = address::of(&host, link).await?.first().map(Ipv4Net::trunc)
    {
        let why = (current != wanted)
            .then(|| format!("bridge {bridge} has {current} already, not {wanted}"));
        let cluster = if cluster.contains(&current) {
            cluster
        } else {
            range_of(current)
        };
        return Ok(Choice {
            subnet: current,
            cluster,
            why,
        });
    }
    let own = own.map(|link| link.index);
    let taken: Vec<Ipv4Net> = routes
        .iter()
        .filter(|route| route.to.prefix_len() > 0 && (own.is_none() || route.link != own))
        .map(|route| route.to)
        .collect();
    pick(wanted, cluster, &taken).ok_or(NetError::NoSubnet { wanted })
}

/// The range a subnet was taken from.
fn range_of(subnet: Ipv4Net) -> Ipv4Net {
    OTHER_RANGES
        .into_iter()
        .find(|range| range.contains(&subnet))
        .unwrap_or(subnet)
}

fn pick(wanted: Ipv4Net, cluster: Ipv4Net, taken: &[Ipv4Net]) -> Option<Choice> {
    let overlapped = |subnet: &Ipv4Net| {
        taken
            .iter()
            .find(|route| route.contains(subnet) || subnet.contains(*route))
    };
    let Some(route) = overlapped(&wanted) else {
        return Some(Choice {
            subnet: wanted,
            cluster,
            why: None,
        });
    };
    let ranges = std::iter::once(cluster).chain(OTHER_RANGES);
    let slices = ranges.flat_map(|range| {
        // A range smaller than a slice has none.
        range
            .subnets(wanted.prefix_len().max(range.prefix_len()))
            .into_iter()
            .flatten()
            .map(move |slice| (slice, range))
    });
    let (subnet, range) = slices
        .into_iter()
        .find(|(slice, _)| overlapped(slice).is_none())?;
    Some(Choice {
        subnet,
        cluster: range,
        why: Some(format!(
            "this host has a route to {route}, which overlaps {wanted}: using {subnet}"
        )),
    })
}

#[cfg(test)]
mod tests {
    use super::pick;
    use ipnet::Ipv4Net;

    fn net(text: &str) -> Ipv4Net {
        text.parse().expect("network")
    }

    fn chosen(taken: &[&str]) -> (String, String, bool) {
        let taken: Vec<Ipv4Net> = taken.iter().map(|route| net(route)).collect();
        let choice = pick(net("10.244.0.0/24"), net("10.244.0.0/16"), &taken).expect("free");
        (
            choice.subnet.to_string(),
            choice.cluster.to_string(),
            choice.why.is_some(),
        )
    }

    #[test]
    fn takes_what_is_wanted_when_it_is_free() {
        assert_eq!(
            chosen(&["192.0.2.0/24", "10.244.1.0/24"]),
            ("10.244.0.0/24".into(), "10.244.0.0/16".into(), false)
        );
    }

    #[test]
    fn takes_the_next_slice_when_a_route_overlaps() {
        for route in ["10.244.0.0/24", "10.244.0.128/25", "10.244.0.7/32"] {
            assert_eq!(
                chosen(&[route, "10.244.1.0/24"]),
                ("10.244.2.0/24".into(), "10.244.0.0/16".into(), true),
                "{route}"
            );
        }
    }

    #[test]
    fn takes_another_range_when_the_whole_cluster_range_is_routed() {
        assert_eq!(
            chosen(&["10.244.0.0/16"]),
            ("10.201.0.0/24".into(), "10.201.0.0/16".into(), true)
        );
        assert_eq!(
            chosen(&["10.0.0.0/8"]),
            ("172.29.0.0/24".into(), "172.29.0.0/16".into(), true)
        );
    }

    #[test]
    fn says_so_when_nothing_is_free() {
        let all = [
            net("10.0.0.0/8"),
            net("172.16.0.0/12"),
            net("192.168.0.0/16"),
        ];
        assert_eq!(pick(net("10.244.0.0/24"), net("10.244.0.0/16"), &all), None);
    }
}
