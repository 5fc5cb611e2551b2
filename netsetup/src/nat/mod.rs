//! The nft table of a network: what it holds, and how host ports come and go.
//!
//! Everything is made once by the first attach, in one transaction. Later attaches add map elements, never rules,
//! so the cost per packet and per attach does not grow with the number of pods.

mod expr;
mod rules;
mod wire;

use crate::{
    NetError, Network, PortMapping,
    leases::{Lease, Leases},
    link::libc_errno::{EBUSY, EEXIST, ENOENT},
    name::shorten,
    ports::PortKey,
};
use netlink_packet_netfilter::nftables::{
    DataAttribute, ListAttribute, NfTablesMessage, SetElementAttribute, SetElementList,
    SetElementMessage, TableAttribute, TableMessage,
};
use std::{collections::HashSet, fmt, io, net::Ipv4Addr};
pub(crate) use wire::Closing;
use wire::{Batch, Extent};

/// Host ports of every local address: inet_proto . inet_service -> ipv4_addr . inet_service.
const PORTS: &str = "host_ports";
/// Host ports of one address: ipv4_addr . inet_proto . inet_service -> ipv4_addr . inet_service.
const ADDRESS_PORTS: &str = "host_ip_ports";

/// Longest comment that nft(8) takes, in bytes, without the NUL (`NFTNL_UDATA_COMMENT_MAXLEN` is 128).
const COMMENT: usize = 127;

/// Makes the table, which does not exist, with the elements of all leases.
///
/// Deleting a remainder in the same transaction would be easy, but closing the socket would then wait for the
/// kernel to free it (see [`Closing`]); a transaction leaves no remainder.
pub(crate) fn create(network: &Network, leases: &Leases) -> Result<(), NetError> {
    let table = network.table();
    let mut batch = Batch::default();
    batch.push(rules::table(network));
    rules::contents(network).for_each(|message| batch.push(message));
    for lease in &leases.entries {
        elements(&table, lease)
            .into_iter()
            .for_each(|message| batch.push(NfTablesMessage::NewSetElement(message)));
    }
    batch
        .commit()
        .map(drop)
        .map_err(NetError::netlink("create nft table inet", table))
}

/// Does the table exist? (Someone may have flushed the ruleset.)
pub(crate) fn exists(network: &Network) -> Result<bool, NetError> {
    match wire::ask(
        NfTablesMessage::GetTable(named(&network.table())),
        Extent::One,
    ) {
        Ok(answers) => Ok(!answers.is_empty()),
        Err(error) if error.raw_os_error() == Some(ENOENT) => Ok(false),
        Err(source) => Err(NetError::netlink("look up nft table inet", network.table())(source)),
    }
}

/// Removes the table; one that is gone already is no failure.
pub(crate) fn delete(network: &Network) -> Result<Closing, NetError> {
    let mut batch = Batch::default();
    batch.push(NfTablesMessage::DeleteTable(named(&network.table())));
    tolerate_missing(batch.commit())
        .map_err(NetError::netlink("delete nft table inet", network.table()))
}

/// Maps a lease's host ports. One without host ports costs nothing.
pub(crate) fn add_ports(network: &Network, lease: &Lease) -> Result<(), NetError> {
    let fresh = elements(&network.table(), lease);
    if fresh.is_empty() {
        return Ok(());
    }
    let add = || {
        let mut batch = Batch::default();
        fresh
            .iter()
            .for_each(|message| batch.push(NfTablesMessage::NewSetElement(message.clone())));
        batch.commit().map(drop)
    };
    match add() {
        // Leases say who has which port, and are locked: an element in our way is left over from a lost file.
        Err(error) if matches!(error.raw_os_error(), Some(EEXIST | EBUSY)) => {
            drop(remove_ports(network, lease)?);
            add()
        }
        done => done,
    }
    .map_err(NetError::netlink("map host ports of", &lease.label))
}

/// Unmaps a lease's host ports; those that are gone already are no failure.
pub(crate) fn remove_ports(network: &Network, lease: &Lease) -> Result<Closing, NetError> {
    let keys: Vec<PortKey> = lease.ports.iter().map(PortMapping::key).collect();
    remove_keys(network, &keys).map_err(NetError::netlink("unmap host ports of", &lease.label))
}

fn remove_keys(network: &Network, keys: &[PortKey]) -> io::Result<Closing> {
    let table = network.table();
    let delete = |keys: &[PortKey]| {
        let mut batch = Batch::default();
        for key in keys {
            let element = ListAttribute::Element(vec![SetElementAttribute::Key(
                DataAttribute::Value(key_bytes(*key)),
            )]);
            batch.push(NfTablesMessage::DeleteSetElement(in_map(
                &table,
                map_of(*key),
                vec![element],
            )));
        }
        batch.commit()
    };
    match keys {
        [] => Ok(Closing::default()),
        [_] => tolerate_missing(delete(keys)),
        // One that is missing fails the whole transaction; the others must go nevertheless.
        _ => match delete(keys) {
            Err(error) if error.raw_os_error() == Some(ENOENT) => {
                let mut closing = Closing::default();
                keys.iter().try_for_each(|key| {
                    tolerate_missing(delete(&[*key])).map(|one| closing.extend(one))
                })?;
                Ok(closing)
            }
            done => done,
        },
    }
}

/// Host ports that are mapped although no lease has them.
pub(crate) fn orphans(network: &Network, leases: &Leases) -> Result<Vec<Orphan>, NetError> {
    let held: HashSet<PortKey> = leases
        .entries
        .iter()
        .flat_map(|lease| lease.ports.iter().map(PortMapping::key))
        .collect();
    let mut found = Vec::new();
    for map in [PORTS, ADDRESS_PORTS] {
        let question = NfTablesMessage::GetSetElement(in_map(&network.table(), map, Vec::new()));
        let answers = match wire::ask(question, Extent::All) {
            Err(error) if error.raw_os_error() == Some(ENOENT) => continue,
            other => other.map_err(NetError::netlink("list nft map", map))?,
        };
        found.extend(
            answers
                .iter()
                .flat_map(keys_of)
                .filter(|key| !held.contains(key))
                .map(Orphan),
        );
    }
    Ok(found)
}

/// A mapped host port that no lease has.
pub(crate) struct Orphan(PortKey);

impl Orphan {
    pub(crate) fn remove(&self, network: &Network) -> Result<Closing, NetError> {
        remove_keys(network, &[self.0]).map_err(NetError::netlink("unmap", self))
    }
}

impl fmt::Display for Orphan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host_ip, protocol, host_port) = self.0;
        write!(
            f,
            "host port {}",
            PortMapping {
                host_ip,
                protocol,
                host_port,
                container_port: 0
            }
        )
    }
}

/// The elements of a lease, one message for each map it uses.
fn elements(table: &str, lease: &Lease) -> Vec<SetElementMessage> {
    let Some(address) = lease.v4() else {
        return Vec::new();
    };
    let element = |port: &PortMapping| {
        ListAttribute::Element(vec![
            SetElementAttribute::Key(DataAttribute::Value(key_bytes(port.key()))),
            SetElementAttribute::Data(DataAttribute::Value(target_bytes(
                address,
                port.container_port,
            ))),
            SetElementAttribute::UserData(comment(0, &lease.label)),
        ])
    };
    [PORTS, ADDRESS_PORTS]
        .iter()
        .filter_map(|map| {
            let mine: Vec<_> = lease
                .ports
                .iter()
                .filter(|port| map_of(port.key()) == *map)
                .map(element)
                .collect();
            (!mine.is_empty()).then(|| in_map(table, map, mine))
        })
        .collect()
}

fn in_map(
    table: &str,
    map: &str,
    elements: Vec<ListAttribute<SetElementAttribute>>,
) -> SetElementMessage {
    let mut attributes = vec![
        SetElementList::Table(table.to_owned()),
        SetElementList::Set(map.to_owned()),
    ];
    if !elements.is_empty() {
        attributes.push(SetElementList::Elements(elements));
    }
    SetElementMessage { attributes }
}

fn named(table: &str) -> TableMessage {
    TableMessage {
        attributes: vec![TableAttribute::Name(table.to_owned())],
    }
}

fn map_of(key: PortKey) -> &'static str {
    if key.0.is_some() {
        ADDRESS_PORTS
    } else {
        PORTS
    }
}

/// A concatenation: every field in network order, filled up with zeros to four bytes.
fn key_bytes((host_ip, protocol, port): PortKey) -> Vec<u8> {
    let mut bytes = host_ip.map(|ip| ip.octets().to_vec()).unwrap_or_default();
    bytes.extend([protocol.number(), 0, 0, 0]);
    bytes.extend(port.to_be_bytes());
    bytes.extend([0, 0]);
    bytes
}

fn target_bytes(address: Ipv4Addr, port: u16) -> Vec<u8> {
    let mut bytes = address.octets().to_vec();
    bytes.extend(port.to_be_bytes());
    bytes.extend([0, 0]);
    bytes
}

/// The keys of the elements in a kernel's answer.
fn keys_of(answer: &NfTablesMessage) -> Vec<PortKey> {
    let NfTablesMessage::NewSetElement(SetElementMessage { attributes }) = answer else {
        return Vec::new();
    };
    let elements = attributes.iter().filter_map(|attribute| match attribute {
        SetElementList::Elements(elements) => Some(elements),
        _ => None,
    });
    elements
        .flatten()
        .filter_map(|element| match element {
            ListAttribute::Element(attributes) => {
                attributes.iter().find_map(|attribute| match attribute {
                    SetElementAttribute::Key(DataAttribute::Value(bytes)) => parse_key(bytes),
                    _ => None,
                })
            }
            _ => None,
        })
        .collect()
}

fn parse_key(bytes: &[u8]) -> Option<PortKey> {
    let (host_ip, rest) = match bytes.len() {
        8 => (None, bytes),
        12 => (
            Some(Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[..4]).ok()?)),
            &bytes[4..],
        ),
        _ => return None,
    };
    let protocol = match rest[0] {
        6 => crate::Protocol::Tcp,
        17 => crate::Protocol::Udp,
        _ => return None,
    };
    Some((host_ip, protocol, u16::from_be_bytes([rest[4], rest[5]])))
}

/// User data that nft(8) shows as a comment: type, length, text with NUL (libnftnl's udata). The type is 0 for
/// tables, rules and elements, 7 for sets and maps.
fn comment(kind: u8, text: &str) -> Vec<u8> {
    let text = shorten(text, COMMENT).replace(['"', '\0', '\n'], "'"); // nft cannot read these back
    let mut bytes = vec![kind, u8::try_from(text.len() + 1).unwrap_or(u8::MAX)];
    bytes.extend(text.as_bytes());
    bytes.push(0);
    bytes
}

fn tolerate_missing(done: io::Result<Closing>) -> io::Result<Closing> {
    match done {
        Err(error) if error.raw_os_error() == Some(ENOENT) => Ok(Closing::default()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::{comment, key_bytes, parse_key, target_bytes};
    use crate::Protocol;
    use proptest::prelude::*;

    #[test]
    fn bytes_are_those_that_nft_sends() {
        // From `nft --debug=mnl` for: tcp . 8080 : 10.244.0.2 . 80 and 10.1.1.1 . udp . 8080
        assert_eq!(
            key_bytes((None, Protocol::Tcp, 8080)),
            [6, 0, 0, 0, 0x1f, 0x90, 0, 0]
        );
        assert_eq!(
            key_bytes((Some([10, 1, 1, 1].into()), Protocol::Udp, 8080)),
            [10, 1, 1, 1, 17, 0, 0, 0, 0x1f, 0x90, 0, 0]
        );
        assert_eq!(
            target_bytes([10, 244, 0, 2].into(), 80),
            [10, 244, 0, 2, 0, 80, 0, 0]
        );
        assert_eq!(comment(0, "default/web"), b"\x00\x0cdefault/web\x00");
    }

    #[test]
    fn a_comment_fits_and_can_be_read_back() {
        assert_eq!(comment(0, &"ä".repeat(200)).len(), 2 + 126 + 1);
        assert_eq!(comment(7, "a\"b\nc"), b"\x07\x06a'b'c\0");
    }

    proptest! {
        #[test]
        fn keys_read_back(ip in any::<Option<[u8; 4]>>(), tcp in any::<bool>(), port in any::<u16>()) {
            let key = (ip.map(Into::into), if tcp { Protocol::Tcp } else { Protocol::Udp }, port);
            prop_assert_eq!(parse_key(&key_bytes(key)), Some(key));
        }

        #[test]
        fn no_bytes_confuse_the_parser(bytes in prop::collection::vec(any::<u8>(), 0..16)) {
            if let Some(key) = parse_key(&bytes) {
                prop_assert_eq!(key_bytes(key).len(), bytes.len());
            }
        }
    }
}
