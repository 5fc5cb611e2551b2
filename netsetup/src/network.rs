//! One bridge network of this host.

use crate::{IfName, MacAddr};
use ipnet::Ipv4Net;
use std::{net::Ipv4Addr, path::PathBuf};

/// The default bridge, whose nft table has the plain name.
const DEFAULT_BRIDGE: &str = "minipod0";

/// One bridge network of this host. Two networks of one host differ in bridge, subnet and lease file.
#[derive(Clone, Debug)]
pub struct Network {
    /// The bridge's name; made by the first attach and removed by the last detach.
    pub bridge: IfName,
    /// This node's slice of the cluster: leases come from here. Host bits are ignored.
    pub subnet: Ipv4Net,
    /// All nodes' slices: not masqueraded inside. Host bits are ignored.
    pub cluster: Ipv4Net,
    /// The lease file; its directory is made on demand and its lock file lies beside it (extension `lock`).
    pub leases: PathBuf,
}

/// A network that cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadNetwork {
    /// Gateway, one lease, network and broadcast address need four addresses.
    #[error("subnet {0} has no room: a /30 or larger is needed")]
    TooSmall(Ipv4Net),
    /// Traffic to other nodes would be masqueraded, and replies would be lost.
    #[error("subnet {subnet} lies outside the cluster range {cluster}")]
    OutsideCluster {
        /// This node's slice.
        subnet: Ipv4Net,
        /// The range it should be a slice of.
        cluster: Ipv4Net,
    },
    /// Loopback, multicast, link-local and 0.0.0.0/8 cannot be given to links.
    #[error("subnet {0} is not made of addresses a link may have")]
    NotUnicast(Ipv4Net),
}

impl Network {
    /// The bridge's own address: the first of the subnet.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.subnet.network().to_bits().wrapping_add(1))
    }

    /// Name of the nft table (family inet).
    pub fn table(&self) -> String {
        if self.bridge.as_str() == DEFAULT_BRIDGE {
            "minipod".to_owned()
        } else {
            format!("minipod-{}", self.bridge)
        }
    }

    /// The bridge's fixed link-layer address: without one it would change with the lowest port's, and every
    /// neighbour entry for the gateway would be wrong for a while.
    pub(crate) fn bridge_mac(&self) -> MacAddr {
        MacAddr::of(self.gateway())
    }

    /// Checks what no kernel call would: that the subnet can be used at all.
    ///
    /// # Errors
    /// [`BadNetwork`] says why not.
    pub fn validate(&self) -> Result<(), BadNetwork> {
        let first = self.subnet.network();
        if self.subnet.prefix_len() > 30 {
            return Err(BadNetwork::TooSmall(self.subnet));
        }
        if first.is_loopback()
            || first.is_link_local()
            || first.octets()[0] == 0
            || first.octets()[0] >= 224
        {
            return Err(BadNetwork::NotUnicast(self.subnet));
        }
        if !self.cluster.contains(&self.subnet) {
            return Err(BadNetwork::OutsideCluster {
                subnet: self.subnet,
                cluster: self.cluster,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{BadNetwork, Network};
    use crate::IfName;

    fn network(bridge: &str, subnet: &str, cluster: &str) -> Network {
        Network {
            bridge: IfName::new(bridge).expect("bridge"),
            subnet: subnet.parse().expect("subnet"),
            cluster: cluster.parse().expect("cluster"),
            leases: "/nonexistent/leases.json".into(),
        }
    }

    #[test]
    fn names_follow_the_bridge_and_addresses_the_subnet() {
        let default = network("minipod0", "10.244.3.77/24", "10.244.0.0/16");
        assert_eq!(default.table(), "minipod");
        assert_eq!(default.gateway().to_string(), "10.244.3.1");
        assert_eq!(default.bridge_mac().to_string(), "0a:58:0a:f4:03:01");
        assert_eq!(
            network("br7", "10.1.0.0/30", "10.1.0.0/30").table(),
            "minipod-br7"
        );
    }

    #[test]
    fn unusable_subnets_are_refused() {
        assert!(
            network("b", "10.244.0.0/30", "10.244.0.0/16")
                .validate()
                .is_ok()
        );
        assert!(matches!(
            network("b", "10.244.0.0/31", "10.244.0.0/16").validate(),
            Err(BadNetwork::TooSmall(_))
        ));
        assert!(matches!(
            network("b", "10.245.0.0/24", "10.244.0.0/16").validate(),
            Err(BadNetwork::OutsideCluster { .. })
        ));
        for wrong in [
            "127.0.0.0/8",
            "224.1.0.0/16",
            "169.254.0.0/16",
            "0.1.0.0/24",
        ] {
            assert!(
                matches!(
                    network("b", wrong, wrong).validate(),
                    Err(BadNetwork::NotUnicast(_))
                ),
                "{wrong}"
            );
        }
    }
}
