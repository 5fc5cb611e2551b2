//! Link-layer addresses.

use serde::{Deserialize, Serialize};
use std::{fmt, net::Ipv4Addr};

/// A 48-bit link-layer address, written `0a:58:0a:f4:00:02`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr([u8; 6]);

/// Not six hexadecimal bytes, or an address no single link may have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("link-layer address {0:?} is not six hexadecimal bytes of a unicast address")]
pub struct BadMac(String);

impl MacAddr {
    /// The address that belongs to an IPv4 address: 0a:58 (locally administered, unicast; the prefix CNI's and
    /// Kubernetes' bridges use) and its four bytes. The same lease gives the same address, so a neighbour entry that
    /// outlives its link is still true for the next holder of the lease.
    pub fn of(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x0a, 0x58, a, b, c, d])
    }

    /// The six bytes, in the order they are sent.
    pub fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl std::str::FromStr for MacAddr {
    type Err = BadMac;
    fn from_str(text: &str) -> Result<Self, BadMac> {
        let bad = || BadMac(text.to_owned());
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts
                .next()
                .filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
            *octet = u8::from_str_radix(part.ok_or_else(bad)?, 16).map_err(|_| bad())?;
        }
        let multicast = octets[0] & 1 == 1;
        if parts.next().is_some() || multicast || octets == [0; 6] {
            return Err(bad());
        }
        Ok(Self(octets))
    }
}

impl TryFrom<String> for MacAddr {
    type Error = BadMac;
    fn try_from(text: String) -> Result<Self, BadMac> {
        text.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> Self {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::MacAddr;
    use std::net::Ipv4Addr;

    #[test]
    fn derives_from_the_lease_and_reads_back() {
        let mac = MacAddr::of(Ipv4Addr::new(10, 244, 0, 2));
        assert_eq!(mac.to_string(), "0a:58:0a:f4:00:02");
        assert_eq!("0A:58:0a:f4:00:02".parse(), Ok(mac));
    }

    #[test]
    fn refuses_what_is_not_one_links_address() {
        for bad in [
            "",
            "0a:58:0a:f4:00",
            "0a:58:0a:f4:00:02:03",
            "0a58:0a:f4:00:02:1",
            "01:00:5e:00:00:01",
            "ff:ff:ff:ff:ff:ff",
            "00:00:00:00:00:00",
            "+a:58:0a:f4:00:02",
        ] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad:?} was taken");
        }
    }
}
