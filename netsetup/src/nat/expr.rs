//! Expressions of rules, one function for each phrase of nft(8).
//!
//! `fib`, `nat`, `masq` and `ct` are not among netlink-packet-netfilter's typed expressions; they are given as raw
//! attributes. Constants: include/uapi/linux/netfilter/nf_tables.h.

use crate::IfName;
use ipnet::Ipv4Net;
use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, Expressions, Immediate, Lookup, Meta, MetaKey, Operator, Payload,
    Register, Verdict, VerdictAttribute,
};

const NFPROTO_IPV4: u8 = 2;
const RTN_LOCAL: u32 = 2;
const IPS_DST_NAT: u32 = 1 << 5;

const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const SOURCE: u32 = 12;
const DESTINATION: u32 = 16;
const DESTINATION_PORT: u32 = 2;

/// A phrase of a rule.
pub(super) type Phrase = Vec<Expressions>;

/// The word `accept` or `drop`.
#[derive(Clone, Copy)]
pub(super) enum Word {
    Drop = 0,
    Accept = 1,
}

/// Whether a phrase is about equality.
#[derive(Clone, Copy)]
pub(super) enum Is {
    In,
    NotIn,
}

/// Which address of the packet.
#[derive(Clone, Copy)]
pub(super) enum End {
    Source,
    Destination,
}

/// `meta nfproto ipv4`, which nft shows only where nothing else implies it.
pub(super) fn ipv4() -> Phrase {
    vec![
        meta(MetaKey::Nfproto, Register::Reg1),
        compare(Operator::Equal, vec![NFPROTO_IPV4]),
    ]
}

/// `ip saddr NET`, `ip daddr != NET` and so on; needs [`ipv4`] before it.
pub(super) fn ip(end: End, is: Is, net: Ipv4Net) -> Phrase {
    let offset = match end {
        End::Source => SOURCE,
        End::Destination => DESTINATION,
    };
    let operator = match is {
        Is::In => Operator::Equal,
        Is::NotIn => Operator::NotEqual,
    };
    // As nft(8) writes it, and so that it knows it again: whole bytes are compared alone, others by a mask of all four.
    let whole_bytes = net.prefix_len().is_multiple_of(8);
    let bytes = if whole_bytes { net.prefix_len() / 8 } else { 4 };
    let network = net.network().octets()[..usize::from(bytes)].to_vec();
    let mut phrase = vec![payload(
        NETWORK_HEADER,
        offset,
        bytes.into(),
        Register::Reg1,
    )];
    if !whole_bytes {
        phrase.push(masked(net.netmask().octets().to_vec()));
    }
    phrase.push(compare(operator, network));
    phrase
}

/// `iifname NAME` or `oifname NAME`, by where the packet comes from or goes to.
pub(super) fn link(end: End, name: &IfName) -> Phrase {
    let key = match end {
        End::Source => MetaKey::Iifname,
        End::Destination => MetaKey::Oifname,
    };
    let mut padded = name.as_str().as_bytes().to_vec();
    padded.resize(16, 0); // IFNAMSIZ
    vec![meta(key, Register::Reg1), compare(Operator::Equal, padded)]
}

/// `fib daddr type local`.
pub(super) fn to_local() -> Phrase {
    let (dreg, result, flags) = (1, 2, 3);
    let (addrtype, daddr) = (3, 1 << 1);
    vec![
        raw(
            "fib",
            &[
                (dreg, register(Register::Reg1)),
                (result, addrtype),
                (flags, daddr),
            ],
        ),
        compare(Operator::Equal, RTN_LOCAL.to_ne_bytes().to_vec()),
    ]
}

/// `ct status dnat`.
pub(super) fn was_dnatted() -> Phrase {
    let (dreg, key) = (1, 2);
    let status = 2;
    vec![
        raw("ct", &[(dreg, register(Register::Reg1)), (key, status)]),
        masked(IPS_DST_NAT.to_ne_bytes().to_vec()),
        compare(Operator::NotEqual, vec![0; 4]),
    ]
}

/// `dnat ip to [ip daddr .] meta l4proto . th dport map @NAME`.
pub(super) fn dnat_by_map(map: &str, key: MapKey) -> Phrase {
    // Each field of a concatenation fills 32-bit registers; Reg1 is the first of them.
    let mut phrase = Vec::new();
    let (protocol, port) = match key {
        MapKey::Port => (Register::Reg1, Register::Reg32_01),
        MapKey::AddressAndPort => {
            phrase.extend(ipv4());
            phrase.push(payload(NETWORK_HEADER, DESTINATION, 4, Register::Reg1));
            (Register::Reg32_01, Register::Reg32_02)
        }
    };
    phrase.push(meta(MetaKey::L4Proto, protocol));
    phrase.push(payload(TRANSPORT_HEADER, DESTINATION_PORT, 2, port));
    phrase.push(Expressions::Lookup(vec![
        Lookup::Set(map.to_owned()),
        Lookup::SourceRegister(Register::Reg1),
        Lookup::DestinationRegister(Register::Reg1),
    ]));
    let (kind, family, address, port) = (1, 2, 3, 5);
    let dnat = 1;
    phrase.push(raw(
        "nat",
        &[
            (kind, dnat),
            (family, NFPROTO_IPV4.into()),
            (address, register(Register::Reg1)),
            (port, register(Register::Reg32_01)),
        ],
    ));
    phrase
}

/// What a map is looked up by.
#[derive(Clone, Copy)]
pub(super) enum MapKey {
    /// inet_proto . inet_service
    Port,
    /// ipv4_addr . inet_proto . inet_service
    AddressAndPort,
}

/// `masquerade`.
pub(super) fn masquerade() -> Phrase {
    vec![raw("masq", &[])]
}

/// `accept` or `drop`.
pub(super) fn verdict(word: Word) -> Phrase {
    let code = VerdictAttribute::Code(Verdict::Other(word as u32));
    vec![Expressions::Immediate(vec![
        Immediate::DestinationRegister(Register::Verdict),
        Immediate::Data(DataAttribute::Verdict(vec![code])),
    ])]
}

fn meta(key: MetaKey, to: Register) -> Expressions {
    Expressions::Meta(vec![Meta::Key(key), Meta::DestinationRegister(to)])
}

fn payload(base: u32, offset: u32, length: u32, to: Register) -> Expressions {
    Expressions::Payload(vec![
        Payload::DestinationRegister(to),
        Payload::Base(base),
        Payload::Offset(offset),
        Payload::Len(length),
    ])
}

fn compare(operator: Operator, with: Vec<u8>) -> Expressions {
    Expressions::Cmp(vec![
        Cmp::SourceRegister(Register::Reg1),
        Cmp::Op(operator),
        Cmp::Data(DataAttribute::Value(with)),
    ])
}

fn masked(mask: Vec<u8>) -> Expressions {
    let length = mask.len();
    Expressions::Bitwise(vec![
        Bitwise::SourceRegister(Register::Reg1),
        Bitwise::DestinationRegister(Register::Reg1),
        Bitwise::Length(u32::try_from(length).unwrap_or(0)),
        Bitwise::Mask(DataAttribute::Value(mask)),
        Bitwise::Xor(DataAttribute::Value(vec![0; length])),
    ])
}

fn register(register: Register) -> u32 {
    register.into()
}

/// An expression that the crate has no type for; all attributes we need are 32-bit big-endian numbers.
fn raw(name: &str, attributes: &[(u16, u32)]) -> Expressions {
    let attributes = attributes
        .iter()
        .map(|(kind, value)| DefaultNla::new(*kind, value.to_be_bytes().to_vec()));
    Expressions::Other {
        expression_type: name.to_owned(),
        attributes: attributes.collect(),
    }
}
