//! `ip`: addresses, links, routes and neighbours, in iproute2's words (ip(8)).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, State};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Message};

use super::netlink::Route;
use crate::tool::{Outcome, Usage, arguments, complain, print};

const HELP: &str = "usage: ip [-4|-6] [-br] [-o] {address|link|route|neigh} [show] [dev DEV]
       ip link set DEV {up|down} [mtu N]      ip link add NAME type {dummy|bridge}     ip link del DEV
       ip addr {add|del} ADDR/LEN dev DEV     ip route {add|del} {NET/LEN|default} [via ADDR] [dev DEV]
";

/// How to show things.
#[derive(Default)]
struct Style {
    family: Option<AddressFamily>,
    brief: bool,
    oneline: bool,
}

impl Style {
    fn shows(&self, address: &IpAddr) -> bool {
        match self.family {
            Some(AddressFamily::Inet) => address.is_ipv4(),
            Some(AddressFamily::Inet6) => address.is_ipv6(),
            _ => true,
        }
    }
}

/// Runs `ip`.
pub(crate) fn main(args: &[std::ffi::OsString]) -> i32 {
    let mut style = Style::default();
    let args = arguments(args);
    let mut rest = args.iter().map(String::as_str).peekable();
    while let Some(option) = rest.next_if(|arg| arg.starts_with('-')) {
        match option {
            "-4" => style.family = Some(AddressFamily::Inet),
            "-6" => style.family = Some(AddressFamily::Inet6),
            "-br" | "-brief" | "--brief" => style.brief = true,
            "-o" | "-oneline" => style.oneline = true,
            "-c" | "-color" | "-d" | "-details" | "-s" | "-stats" | "-n" | "-N" => {}
            "-h" | "-help" | "--help" => return print(HELP),
            _ => return complain("ip", &format!("{option}: unknown option\n{HELP}")),
        }
    }
    let object = rest.next().unwrap_or_default().to_owned();
    let words: Vec<&str> = rest.collect();
    let outcome = match object.as_str() {
        "" | "help" => return print(HELP),
        o if "address".starts_with(o) || o == "addr" => address(&style, &words),
        o if "link".starts_with(o) => link(&style, &words),
        o if "route".starts_with(o) => route(&style, &words),
        o if "neighbour".starts_with(o) || o == "neighbor" => neighbour(&style, &words),
        _ => Err(Usage(format!("object \"{object}\" is unknown, try \"ip help\"")).into()),
    };
    match outcome {
        Ok(text) => print(&text),
        Err(error) => complain("ip", &error.to_string()),
    }
}

/// What is known of a link.
struct Link {
    index: u32,
    name: String,
    message: LinkMessage,
}

fn links(kernel: &mut Route) -> io::Result<Vec<Link>> {
    let found = kernel.dump(Message::GetLink(LinkMessage::default()))?;
    Ok(found
        .into_iter()
        .filter_map(|answer| match answer {
            Message::NewLink(message) => {
                let name = message.attributes.iter().find_map(|attribute| match attribute {
                    LinkAttribute::IfName(name) => Some(name.clone()),
                    _ => None,
                })?;
                Some(Link { index: message.header.index, name, message })
            }
            _ => None,
        })
        .collect())
}

fn index_of(links: &[Link], name: &str) -> Result<u32, Usage> {
    let bare = name.split('@').next().unwrap_or(name);
    links.iter().find(|link| link.name == bare).map(|link| link.index).ok_or_else(|| Usage(format!("cannot find device \"{name}\"")))
}

fn name_of(links: &[Link], index: u32) -> String {
    links.iter().find(|link| link.index == index).map_or_else(|| format!("if{index}"), |link| link.name.clone())
}

impl Link {
    fn find<T>(&self, pick: impl Fn(&LinkAttribute) -> Option<T>) -> Option<T> {
        self.message.attributes.iter().find_map(pick)
    }

    /// `eth0@if5`: the other end, by name when it is in this namespace (then there is no LinkNetNsId).
    fn full_name(&self, links: &[Link]) -> String {
        let Some(peer) = self.find(|attribute| if let LinkAttribute::Link(peer) = attribute { Some(*peer) } else { None }).filter(|peer| *peer != 0) else {
            return self.name.clone();
        };
        let elsewhere = self.find(|attribute| matches!(attribute, LinkAttribute::LinkNetNsId(_)).then_some(())).is_some();
        match links.iter().find(|link| link.index == peer) {
            Some(link) if !elsewhere => format!("{}@{}", self.name, link.name),
            _ => format!("{}@if{peer}", self.name),
        }
    }

    fn state(&self) -> &'static str {
        match self.find(|attribute| if let LinkAttribute::OperState(state) = attribute { Some(*state) } else { None }) {
            Some(State::Up) => "UP",
            Some(State::Down) => "DOWN",
            Some(State::LowerLayerDown) => "LOWERLAYERDOWN",
            Some(State::Dormant) => "DORMANT",
            Some(State::NotPresent) => "NOTPRESENT",
            Some(State::Testing) => "TESTING",
            _ => "UNKNOWN",
        }
    }

    fn flags(&self) -> String {
        let flags = self.message.header.flags;
        let mut names = Vec::new();
        if flags.contains(LinkFlags::Up) && !flags.contains(LinkFlags::Running) {
            names.push("NO-CARRIER");
        }
        for (flag, name) in [
            (LinkFlags::Loopback, "LOOPBACK"),
            (LinkFlags::Broadcast, "BROADCAST"),
            (LinkFlags::Pointopoint, "POINTOPOINT"),
            (LinkFlags::Multicast, "MULTICAST"),
            (LinkFlags::Noarp, "NOARP"),
            (LinkFlags::Allmulti, "ALLMULTI"),
            (LinkFlags::Promisc, "PROMISC"),
            (LinkFlags::Controller, "MASTER"),
            (LinkFlags::Port, "SLAVE"),
            (LinkFlags::Up, "UP"),
            (LinkFlags::LowerUp, "LOWER_UP"),
        ] {
            if flags.contains(flag) {
                names.push(name);
            }
        }
        names.join(",")
    }

    fn hardware(&self) -> String {
        self.find(|attribute| if let LinkAttribute::Address(bytes) = attribute { Some(colons(bytes)) } else { None }).unwrap_or_default()
    }

    fn kind(&self) -> &'static str {
        use netlink_packet_route::link::LinkLayerType as T;
        match self.message.header.link_layer_type {
            T::Loopback => "loopback",
            T::Ether => "ether",
            T::None => "none",
            _ => "other",
        }
    }

    fn head(&self, links: &[Link]) -> String {
        let mut text = format!("{}: {}: <{}>", self.index, self.full_name(links), self.flags());
        for attribute in &self.message.attributes {
            match attribute {
                LinkAttribute::Mtu(mtu) => text.push_str(&format!(" mtu {mtu}")),
                LinkAttribute::Qdisc(qdisc) => text.push_str(&format!(" qdisc {qdisc}")),
                LinkAttribute::Controller(index) => text.push_str(&format!(" master {}", name_of(links, *index))),
                _ => {}
            }
        }
        text.push_str(&format!(" state {}", self.state()));
        if let Some(group) = self.find(|attribute| if let LinkAttribute::Group(group) = attribute { Some(*group) } else { None }) {
            text.push_str(&if group == 0 { " group default".to_owned() } else { format!(" group {group}") });
        }
        if let Some(length) = self.find(|attribute| if let LinkAttribute::TxQueueLen(length) = attribute { Some(*length) } else { None }).filter(|n| *n > 0) {
            text.push_str(&format!(" qlen {length}"));
        }
        text
    }

    fn layer_two(&self) -> String {
        let broadcast = self.find(|attribute| if let LinkAttribute::Broadcast(bytes) = attribute { Some(colons(bytes)) } else { None });
        let netns = self.find(|attribute| if let LinkAttribute::LinkNetNsId(id) = attribute { Some(*id) } else { None });
        let mut text = format!("    link/{} {}", self.kind(), self.hardware());
        if let Some(broadcast) = broadcast {
            text.push_str(&format!(" brd {broadcast}"));
        }
        if let Some(id) = netns {
            text.push_str(&format!(" link-netnsid {id}"));
        }
        text
    }
}

fn colons(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

/// The device of `show dev eth0` and `show eth0`.
fn wanted<'a>(words: &[&'a str]) -> Option<&'a str> {
    match words {
        ["show" | "list" | "ls" | "s", rest @ ..] => wanted(rest),
        ["dev", name, ..] | [name, ..] => Some(name),
        [] => None,
    }
}

fn link(style: &Style, words: &[&str]) -> Outcome<String> {
    let mut kernel = Route::open()?;
    let links = links(&mut kernel)?;
    match words {
        ["set", "dev", rest @ ..] | ["set", rest @ ..] => return set_link(&mut kernel, &links, rest),
        ["add", "name", name, "type", kind] | ["add", name, "type", kind] => {
            let kind = match *kind {
                "dummy" => InfoKind::Dummy,
                "bridge" => InfoKind::Bridge,
                _ => return Err(Usage(format!("{kind}: this ip makes dummy and bridge links only")).into()),
            };
            let mut message = LinkMessage::default();
            message.attributes = vec![LinkAttribute::IfName((*name).to_owned()), LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)])];
            kernel.change(Message::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)?;
            return Ok(String::new());
        }
        ["del" | "delete", "dev", name] | ["del" | "delete", name] => {
            let mut message = LinkMessage::default();
            message.header.index = index_of(&links, name)?;
            kernel.change(Message::DelLink(message), 0)?;
            return Ok(String::new());
        }
        _ => {}
    }
    let only = wanted(words).map(|name| index_of(&links, name)).transpose()?;
    let mut text = String::new();
    for link in links.iter().filter(|link| only.is_none_or(|index| index == link.index)) {
        if style.brief {
            text.push_str(&format!("{:<16} {:<14} {} <{}> \n", link.full_name(&links), link.state(), link.hardware(), link.flags()));
        } else {
            let separator = if style.oneline { "\\" } else { "\n" };
            text.push_str(&format!("{}{separator}{}\n", link.head(&links), link.layer_two()));
        }
    }
    Ok(text)
}

fn set_link(kernel: &mut Route, links: &[Link], words: &[&str]) -> Outcome<String> {
    let [name, changes @ ..] = words else { return Err(Usage("set: needs a device".to_owned()).into()) };
    let mut message = LinkMessage::default();
    message.header.index = index_of(links, name)?;
    let mut changes = changes.iter();
    while let Some(change) = changes.next() {
        match *change {
            "up" => {
                message.header.flags |= LinkFlags::Up;
                message.header.change_mask |= LinkFlags::Up;
            }
            "down" => {
                message.header.flags &= !LinkFlags::Up;
                message.header.change_mask |= LinkFlags::Up;
            }
            "mtu" => {
                let mtu = changes.next().and_then(|text| text.parse().ok()).ok_or_else(|| Usage("mtu: needs a number".to_owned()))?;
                message.attributes.push(LinkAttribute::Mtu(mtu));
            }
            "name" => {
                let new = changes.next().ok_or_else(|| Usage("name: needs one".to_owned()))?;
                message.attributes.push(LinkAttribute::IfName((*new).to_owned()));
            }
            "master" => {
                let bridge = changes.next().ok_or_else(|| Usage("master: needs a device".to_owned()))?;
                message.attributes.push(LinkAttribute::Controller(index_of(links, bridge)?));
            }
            "nomaster" => message.attributes.push(LinkAttribute::Controller(0)),
            other => return Err(Usage(format!("{other}: this ip sets up, down, mtu, name and master only")).into()),
        }
    }
    kernel.change(Message::SetLink(message), 0)?;
    Ok(String::new())
}

/// `10.0.0.1/24`: the address, and its prefix or that of a single address.
fn prefixed(text: &str) -> Outcome<(IpAddr, u8)> {
    let (address, length) = text.split_once('/').unwrap_or((text, ""));
    let address: IpAddr = address.parse().map_err(|_| Usage(format!("\"{text}\": not an address")))?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let length = if length.is_empty() { most } else { length.parse().ok().filter(|length| *length <= most).ok_or_else(|| Usage(format!("\"{text}\": not a prefix")))? };
    Ok((address, length))
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn address(style: &Style, words: &[&str]) -> Outcome<String> {
    let mut kernel = Route::open()?;
    let links = links(&mut kernel)?;
    if let [verb @ ("add" | "del" | "delete"), text, "dev", name] = words {
        let (address, length) = prefixed(text)?;
        let mut message = AddressMessage::default();
        message.header.family = family(address);
        message.header.prefix_len = length;
        message.header.index = index_of(&links, name)?;
        message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
        match *verb {
            "add" => kernel.change(Message::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)?,
            _ => kernel.change(Message::DelAddress(message), 0)?,
        }
        return Ok(String::new());
    }
    let only = wanted(words).map(|name| index_of(&links, name)).transpose()?;
    let mut addresses: Vec<AddressMessage> = kernel
        .dump(Message::GetAddress(AddressMessage::default()))?
        .into_iter()
        .filter_map(|answer| if let Message::NewAddress(message) = answer { Some(message) } else { None })
        .collect();
    addresses.sort_by_key(|message| message.header.family != AddressFamily::Inet);
    let mut text = String::new();
    for link in links.iter().filter(|link| only.is_none_or(|index| index == link.index)) {
        let own: Vec<&AddressMessage> =
            addresses.iter().filter(|message| message.header.index == link.index && address_of(message).is_some_and(|address| style.shows(&address))).collect();
        if style.family.is_some() && own.is_empty() {
            continue;
        }
        if style.brief {
            let list: String = own.iter().filter_map(|message| Some(format!("{}/{} ", address_of(message)?, message.header.prefix_len))).collect();
            text.push_str(&format!("{:<16} {:<14} {list}\n", link.full_name(&links), link.state()));
            continue;
        }
        if style.oneline {
            for message in own {
                text.push_str(&format!("{}: {}    {}\n", link.index, link.name, one_address(message, &link.name).replace("\n      ", "\\      ").trim_start()));
            }
            continue;
        }
        text.push_str(&format!("{}\n", link.head(&links)));
        if style.family.is_none() {
            text.push_str(&format!("{}\n", link.layer_two()));
        }
        for message in own {
            text.push_str(&format!("    {}\n", one_address(message, &link.name)));
        }
    }
    Ok(text)
}

/// The interface's own address (Local; Address is the peer's on a point-to-point link).
fn address_of(message: &AddressMessage) -> Option<IpAddr> {
    let local = message.attributes.iter().find_map(|attribute| if let AddressAttribute::Local(address) = attribute { Some(*address) } else { None });
    local.or_else(|| message.attributes.iter().find_map(|attribute| if let AddressAttribute::Address(address) = attribute { Some(*address) } else { None }))
}

fn one_address(message: &AddressMessage, name: &str) -> String {
    let Some(address) = address_of(message) else { return String::new() };
    let mut text = format!("{} {address}/{}", if address.is_ipv4() { "inet" } else { "inet6" }, message.header.prefix_len);
    let mut lifetimes = None;
    let mut flags = AddressFlags::empty();
    let mut label = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Broadcast(broadcast) => text.push_str(&format!(" brd {broadcast}")),
            AddressAttribute::CacheInfo(info) => lifetimes = Some((info.ifa_valid, info.ifa_preferred)),
            AddressAttribute::Flags(set) => flags = *set,
            AddressAttribute::Label(text) => label = Some(text.clone()),
            _ => {}
        }
    }
    text.push_str(match message.header.scope {
        AddressScope::Universe => " scope global",
        AddressScope::Link => " scope link",
        AddressScope::Host => " scope host",
        AddressScope::Site => " scope site",
        _ => " scope other",
    });
    for (flag, name) in [
        (AddressFlags::Secondary, " secondary"),
        (AddressFlags::Tentative, " tentative"),
        (AddressFlags::Deprecated, " deprecated"),
        (AddressFlags::Noprefixroute, " noprefixroute"),
    ] {
        if flags.contains(flag) {
            text.push_str(name);
        }
    }
    if !flags.contains(AddressFlags::Permanent) {
        text.push_str(" dynamic");
    }
    if address.is_ipv4() {
        text.push_str(&format!(" {}", label.as_deref().unwrap_or(name)));
    }
    if let Some((valid, preferred)) = lifetimes {
        text.push_str(&format!("\n       valid_lft {} preferred_lft {}", lifetime(valid), lifetime(preferred)));
    }
    text
}

fn lifetime(seconds: u32) -> String {
    if seconds == u32::MAX { "forever".to_owned() } else { format!("{seconds}sec") }
}

fn route(style: &Style, words: &[&str]) -> Outcome<String> {
    let mut kernel = Route::open()?;
    let links = links(&mut kernel)?;
    if let [verb @ ("add" | "del" | "delete"), destination, rest @ ..] = words {
        let message = route_message(&links, destination, rest)?;
        match *verb {
            "add" => kernel.change(Message::NewRoute(message), NLM_F_CREATE | NLM_F_EXCL)?,
            _ => kernel.change(Message::DelRoute(message), 0)?,
        }
        return Ok(String::new());
    }
    let (words, table) = match words {
        [before @ .., "table", table] => (before, (*table).to_owned()),
        _ => (words, "main".to_owned()),
    };
    let only = wanted(words).map(|name| index_of(&links, name)).transpose()?;
    let mut question = RouteMessage::default();
    question.header.address_family = style.family.unwrap_or(AddressFamily::Inet);
    let text: String = kernel
        .dump(Message::GetRoute(question))?
        .into_iter()
        .filter_map(|answer| if let Message::NewRoute(message) = answer { Some(message) } else { None })
        .filter(|message| in_table(message, &table))
        .filter(|message| only.is_none_or(|index| message.attributes.contains(&RouteAttribute::Oif(index))))
        .map(|message| format!("{}\n", one_route(&message, &links)))
        .collect();
    Ok(text)
}

fn in_table(message: &RouteMessage, table: &str) -> bool {
    let number = message.attributes.iter().find_map(|attribute| if let RouteAttribute::Table(table) = attribute { Some(*table) } else { None });
    let number = number.unwrap_or_else(|| message.header.table.into());
    match table {
        "all" => true,
        "main" => number == 254,
        "local" => number == 255,
        "default" => number == 253,
        other => other == number.to_string(),
    }
}

fn one_route(message: &RouteMessage, links: &[Link]) -> String {
    let header = &message.header;
    let find = |pick: fn(&RouteAttribute) -> Option<String>| message.attributes.iter().find_map(pick);
    let destination = find(|attribute| if let RouteAttribute::Destination(address) = attribute { Some(show(address)) } else { None });
    let whole = if header.address_family == AddressFamily::Inet { 32 } else { 128 };
    let mut text = match header.kind {
        RouteType::Local => "local ",
        RouteType::Broadcast => "broadcast ",
        RouteType::Multicast => "multicast ",
        RouteType::Unreachable => "unreachable ",
        RouteType::BlackHole => "blackhole ",
        RouteType::Prohibit => "prohibit ",
        RouteType::Anycast => "anycast ",
        _ => "",
    }
    .to_owned();
    text.push_str(&match destination {
        None => "default".to_owned(),
        Some(address) if header.destination_prefix_length == whole => address,
        Some(address) => format!("{address}/{}", header.destination_prefix_length),
    });
    if let Some(gateway) = find(|attribute| if let RouteAttribute::Gateway(address) = attribute { Some(show(address)) } else { None }) {
        text.push_str(&format!(" via {gateway}"));
    }
    if let Some(index) = message.attributes.iter().find_map(|attribute| if let RouteAttribute::Oif(index) = attribute { Some(*index) } else { None }) {
        text.push_str(&format!(" dev {}", name_of(links, index)));
    }
    text.push_str(&match header.protocol {
        RouteProtocol::Kernel => " proto kernel".to_owned(),
        RouteProtocol::Static => " proto static".to_owned(),
        RouteProtocol::Dhcp => " proto dhcp".to_owned(),
        RouteProtocol::Ra => " proto ra".to_owned(),
        RouteProtocol::Boot | RouteProtocol::Unspec => String::new(),
        other => format!(" proto {}", u8::from(other)),
    });
    // iproute2 leaves out IPv6's scopes, which the kernel does not use.
    if header.address_family == AddressFamily::Inet {
        text.push_str(match header.scope {
            RouteScope::Link => " scope link",
            RouteScope::Host => " scope host",
            _ => "",
        });
    }
    if let Some(source) = find(|attribute| if let RouteAttribute::PrefSource(address) = attribute { Some(show(address)) } else { None }) {
        text.push_str(&format!(" src {source}"));
    }
    if let Some(metric) = find(|attribute| if let RouteAttribute::Priority(metric) = attribute { Some(metric.to_string()) } else { None }) {
        text.push_str(&format!(" metric {metric}"));
    }
    text.push(' ');
    text
}

fn show(address: &RouteAddress) -> String {
    match address {
        RouteAddress::Inet(address) => address.to_string(),
        RouteAddress::Inet6(address) => address.to_string(),
        other => format!("{other:?}"),
    }
}

fn route_message(links: &[Link], destination: &str, words: &[&str]) -> Outcome<RouteMessage> {
    let mut message = RouteMessage::default();
    let mut gateway: Option<IpAddr> = None;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| Usage(format!("{word}: needs a value")))?;
        match *word {
            "via" => gateway = Some(value.parse().map_err(|_| Usage(format!("\"{value}\": not an address")))?),
            "dev" => message.attributes.push(RouteAttribute::Oif(index_of(links, value)?)),
            "src" => {
                let source: IpAddr = value.parse().map_err(|_| Usage(format!("\"{value}\": not an address")))?;
                message.attributes.push(RouteAttribute::PrefSource(source.into()));
            }
            "metric" => message.attributes.push(RouteAttribute::Priority(value.parse().map_err(|_| Usage(format!("\"{value}\": not a number")))?)),
            other => return Err(Usage(format!("{other}: this ip takes via, dev, src and metric only")).into()),
        }
    }
    let (address, length) = match destination {
        "default" if gateway.is_some_and(|gateway| gateway.is_ipv6()) => (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
        "default" => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        text => prefixed(text)?,
    };
    message.header.address_family = family(address);
    message.header.destination_prefix_length = length;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Boot;
    message.header.kind = RouteType::Unicast;
    message.header.scope = if gateway.is_some() { RouteScope::Universe } else { RouteScope::Link };
    if length > 0 {
        message.attributes.push(RouteAttribute::Destination(address.into()));
    }
    if let Some(gateway) = gateway {
        message.attributes.push(RouteAttribute::Gateway(gateway.into()));
    }
    Ok(message)
}

fn neighbour(style: &Style, words: &[&str]) -> Outcome<String> {
    let mut kernel = Route::open()?;
    let links = links(&mut kernel)?;
    let only = wanted(words).map(|name| index_of(&links, name)).transpose()?;
    let mut question = NeighbourMessage::default();
    question.header.family = style.family.unwrap_or(AddressFamily::Unspec);
    let mut text = String::new();
    for answer in kernel.dump(Message::GetNeighbour(question))? {
        let Message::NewNeighbour(message) = answer else { continue };
        // As iproute2: entries without ARP (loopback, multicast) are of no interest.
        if message.header.state == NeighbourState::Noarp || only.is_some_and(|index| index != message.header.ifindex) {
            continue;
        }
        let address = message.attributes.iter().find_map(|attribute| match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(address.to_string()),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some(address.to_string()),
            _ => None,
        });
        let Some(address) = address else { continue };
        text.push_str(&format!("{address} dev {}", name_of(&links, message.header.ifindex)));
        let hardware = message.attributes.iter().find_map(|attribute| if let NeighbourAttribute::LinkLayerAddress(bytes) = attribute { Some(colons(bytes)) } else { None });
        if let Some(hardware) = hardware {
            text.push_str(&format!(" lladdr {hardware}"));
        }
        if message.header.flags.contains(NeighbourFlags::Router) {
            text.push_str(" router");
        }
        text.push_str(match message.header.state {
            NeighbourState::Incomplete => " INCOMPLETE \n",
            NeighbourState::Reachable => " REACHABLE \n",
            NeighbourState::Stale => " STALE \n",
            NeighbourState::Delay => " DELAY \n",
            NeighbourState::Probe => " PROBE \n",
            NeighbourState::Failed => " FAILED \n",
            NeighbourState::Permanent => " PERMANENT \n",
            _ => " NONE \n",
        });
    }
    Ok(text)
}
