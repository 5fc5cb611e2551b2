//! Port mappings: what is asked for.

use serde::{Deserialize, Serialize};
use std::{fmt, net::Ipv4Addr};

/// Transport of a port mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
}

impl Protocol {
    /// The IP protocol number (IANA).
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Not a transport that can be mapped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("protocol {0:?} is neither TCP nor UDP")]
pub struct BadProtocol(String);

impl std::str::FromStr for Protocol {
    type Err = BadProtocol;
    fn from_str(text: &str) -> Result<Self, BadProtocol> {
        match text {
            "TCP" | "tcp" => Ok(Self::Tcp),
            "UDP" | "udp" => Ok(Self::Udp),
            other => Err(BadProtocol(other.to_owned())),
        }
    }
}

/// A port of this host that leads into the namespace (a Kubernetes `ContainerPort` with a `hostPort`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// The one local address it is reached at; `None` for all of them. A mapping of one address wins over one of all.
    pub host_ip: Option<Ipv4Addr>,
    /// Port on the host, not 0.
    pub host_port: u16,
    /// Port inside the namespace, not 0.
    pub container_port: u16,
    /// Transport.
    pub protocol: Protocol,
}

impl PortMapping {
    /// The mapping's place on the host: two mappings with the same key cannot both be.
    /// 0.0.0.0 is another way of saying "every address".
    pub(crate) fn key(&self) -> PortKey {
        (
            self.host_ip.filter(|ip| !ip.is_unspecified()),
            self.protocol,
            self.host_port,
        )
    }
}

/// Host address (`None`: all), transport and host port.
pub(crate) type PortKey = (Option<Ipv4Addr>, Protocol, u16);

impl fmt::Display for PortMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key().0 {
            Some(ip) => write!(f, "{ip}:{}/{}", self.host_port, self.protocol),
            None => write!(f, "{}/{}", self.host_port, self.protocol),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{PortMapping, Protocol};

    #[test]
    fn protocols_are_kubernetes_words() {
        assert_eq!("TCP".parse(), Ok(Protocol::Tcp));
        assert_eq!("udp".parse(), Ok(Protocol::Udp));
        for bad in ["", "SCTP", "Tcp", "6"] {
            assert!(bad.parse::<Protocol>().is_err(), "{bad:?} was taken");
        }
        assert_eq!(
            serde_json::to_string(&Protocol::Udp).expect("json"),
            "\"UDP\""
        );
    }

    #[test]
    fn mappings_print_as_people_write_them() {
        let mut mapping = PortMapping {
            host_ip: None,
            host_port: 8080,
            container_port: 80,
            protocol: Protocol::Tcp,
        };
        assert_eq!(mapping.to_string(), "8080/tcp");
        mapping.host_ip = Some([192, 0, 2, 1].into());
        assert_eq!(mapping.to_string(), "192.0.2.1:8080/tcp");
        mapping.host_ip = Some([0, 0, 0, 0].into());
        assert_eq!(mapping.to_string(), "8080/tcp");
    }
}
