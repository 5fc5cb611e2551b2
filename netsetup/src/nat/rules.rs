//! The table's chains, maps and rules, in the order in which `nft list` shows them.

use super::{
    ADDRESS_PORTS, PORTS, comment,
    expr::{self, End, Is, MapKey, Phrase, Word},
};
use crate::Network;
use ipnet::Ipv4Net;
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Hook, InetHookNumber, NfTablesMessage, RuleAttribute,
    RuleMessage, SetAttribute, SetFlags, SetMessage, TableAttribute, TableMessage,
};
use std::net::Ipv4Addr;

/// Priorities of hooks (include/uapi/linux/netfilter_ipv4.h), by nft's names.
const RAW: i32 = -300;
const DSTNAT: i32 = -100;
const FILTER: i32 = 0;
const SRCNAT: i32 = 100;

/// Types of map fields, by nft's numbers (`enum datatypes`); a concatenation shifts by six bits per field. Only
/// nft(8) reads them, to print.
const IPV4_ADDR: u32 = 7;
const INET_PROTO: u32 = 12;
const INET_SERVICE: u32 = 13;
const TARGET: u32 = IPV4_ADDR << 6 | INET_SERVICE;

const ACCEPT: u32 = 1;
const SET_COMMENT: u8 = 7;
const OTHER_COMMENT: u8 = 0;

/// The table itself.
pub(super) fn table(network: &Network) -> NfTablesMessage {
    let text = format!("made by minipod for bridge {}", network.bridge);
    NfTablesMessage::NewTable(TableMessage {
        attributes: vec![
            TableAttribute::Name(network.table()),
            TableAttribute::UserData(comment(OTHER_COMMENT, &text)),
        ],
    })
}

/// What the table holds: maps first, since rules refer to them.
pub(super) fn contents(network: &Network) -> impl Iterator<Item = NfTablesMessage> {
    let table = network.table();
    let maps = [
        map(
            &table,
            1,
            PORTS,
            MapKey::Port,
            "host ports at every local address",
        ),
        map(
            &table,
            2,
            ADDRESS_PORTS,
            MapKey::AddressAndPort,
            "host ports at one local address",
        ),
    ];
    let chains = chains(network);
    maps.into_iter().chain(
        chains
            .into_iter()
            .flat_map(move |chain| chain.messages(&table)),
    )
}

struct Chain {
    name: &'static str,
    kind: &'static str,
    hook: InetHookNumber,
    priority: i32,
    rules: Vec<Rule>,
}

struct Rule {
    phrases: Vec<Phrase>,
    comment: &'static str,
}

fn chains(network: &Network) -> [Chain; 5] {
    use InetHookNumber::{Forward, LocalOut, PostRouting, PreRouting};
    [
        Chain {
            name: "loopback_guard",
            kind: "filter",
            hook: PreRouting,
            priority: RAW,
            rules: guard(network),
        },
        Chain {
            name: "prerouting",
            kind: "nat",
            hook: PreRouting,
            priority: DSTNAT,
            rules: host_ports(),
        },
        Chain {
            name: "output",
            kind: "nat",
            hook: LocalOut,
            priority: DSTNAT,
            rules: host_ports(),
        },
        Chain {
            name: "forward",
            kind: "filter",
            hook: Forward,
            priority: FILTER,
            rules: forward(network),
        },
        Chain {
            name: "postrouting",
            kind: "nat",
            hook: PostRouting,
            priority: SRCNAT,
            rules: postrouting(network),
        },
    ]
}

/// The bridge's route_localnet, which lets 127.0.0.1 reach host ports, must not let pods reach the host's 127.0.0.1
/// (CVE-2020-8558).
fn guard(network: &Network) -> Vec<Rule> {
    let loopback = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
    vec![Rule {
        phrases: vec![
            expr::link(End::Source, &network.bridge),
            expr::ipv4(),
            expr::ip(End::Destination, Is::In, loopback),
            expr::verdict(Word::Drop),
        ],
        comment: "the host's loopback is not for pods",
    }]
}

/// A mapping of one address wins over one of all addresses.
fn host_ports() -> Vec<Rule> {
    vec![
        Rule {
            phrases: vec![
                expr::to_local(),
                expr::dnat_by_map(ADDRESS_PORTS, MapKey::AddressAndPort),
            ],
            comment: "hostPort with hostIP",
        },
        Rule {
            phrases: vec![expr::to_local(), expr::dnat_by_map(PORTS, MapKey::Port)],
            comment: "hostPort",
        },
    ]
}

fn forward(network: &Network) -> Vec<Rule> {
    vec![
        Rule {
            phrases: vec![
                expr::link(End::Source, &network.bridge),
                expr::verdict(Word::Accept),
            ],
            comment: "from pods",
        },
        Rule {
            phrases: vec![
                expr::link(End::Destination, &network.bridge),
                expr::verdict(Word::Accept),
            ],
            comment: "to pods",
        },
    ]
}

fn postrouting(network: &Network) -> Vec<Rule> {
    let loopback = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
    let multicast = Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4);
    let mut rules = vec![
        Rule {
            phrases: vec![
                expr::ipv4(),
                expr::ip(End::Source, Is::In, loopback),
                expr::link(End::Destination, &network.bridge),
                expr::masquerade(),
            ],
            comment: "127.0.0.1 to hostPort: a pod cannot answer a loopback address",
        },
        Rule {
            phrases: vec![
                expr::ipv4(),
                expr::ip(End::Source, Is::In, network.subnet),
                expr::link(End::Destination, &network.bridge),
                expr::was_dnatted(),
                expr::masquerade(),
            ],
            comment: "pod to hostPort of a pod here: the answer must come back this way",
        },
    ];
    // A cluster that is the whole world leaves nothing outside (and a comparison of no bits is none).
    if network.cluster.prefix_len() > 0 {
        rules.push(Rule {
            phrases: vec![
                expr::ipv4(),
                expr::ip(End::Source, Is::In, network.subnet),
                expr::ip(End::Destination, Is::NotIn, network.cluster),
                expr::ip(End::Destination, Is::NotIn, multicast),
                expr::masquerade(),
            ],
            comment: "pods leave the cluster with this node's address",
        });
    }
    rules
}

impl Chain {
    fn messages(self, table: &str) -> Vec<NfTablesMessage> {
        let chain = NfTablesMessage::NewChain(ChainMessage {
            attributes: vec![
                ChainAttribute::Table(table.to_owned()),
                ChainAttribute::Name(self.name.to_owned()),
                ChainAttribute::Type(self.kind.to_owned()),
                ChainAttribute::Policy(ACCEPT),
                ChainAttribute::Hook(vec![
                    Hook::Number(self.hook.into()),
                    Hook::Priority(self.priority.cast_unsigned()),
                ]),
            ],
        });
        let rules = self
            .rules
            .into_iter()
            .map(|rule| rule.message(table, self.name));
        std::iter::once(chain).chain(rules).collect()
    }
}

impl Rule {
    fn message(self, table: &str, chain: &str) -> NfTablesMessage {
        NfTablesMessage::NewRule(RuleMessage {
            attributes: vec![
                RuleAttribute::Table(table.to_owned()),
                RuleAttribute::Chain(chain.to_owned()),
                RuleAttribute::Expressions(
                    self.phrases.into_iter().flatten().map(Into::into).collect(),
                ),
                RuleAttribute::UserData(comment(OTHER_COMMENT, self.comment)),
            ],
        })
    }
}

fn map(table: &str, id: u32, name: &str, key: MapKey, text: &str) -> NfTablesMessage {
    let port = INET_PROTO << 6 | INET_SERVICE;
    let (key_type, key_length) = match key {
        MapKey::Port => (port, 8),
        MapKey::AddressAndPort => (IPV4_ADDR << 12 | port, 12),
    };
    NfTablesMessage::NewSet(SetMessage {
        attributes: vec![
            SetAttribute::Table(table.to_owned()),
            SetAttribute::Name(name.to_owned()),
            SetAttribute::Flags(SetFlags::Map),
            SetAttribute::KeyType(key_type),
            SetAttribute::KeyLen(key_length),
            SetAttribute::DataType(TARGET),
            SetAttribute::DataLen(8),
            SetAttribute::Id(id),
            SetAttribute::UserData(comment(SET_COMMENT, text)),
        ],
    })
}
