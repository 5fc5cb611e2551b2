//! Names to addresses: /etc/hosts, then the nameservers of /etc/resolv.conf.
//!
//! Not getaddrinfo(3): in a static glibc program it loads shared libraries at run time, which the image has none of.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, TYPE};

use crate::tool::{Outcome, Usage, arguments, complain, print};

/// As resolv.conf(5): five seconds for an answer, two tries.
const ANSWER_TIME: Duration = Duration::from_secs(5);
const TRIES: usize = 2;

/// What resolv.conf(5) says.
struct Config {
    servers: Vec<IpAddr>,
    search: Vec<String>,
    /// A name with fewer dots is looked for in `search` first.
    ndots: usize,
}

impl Config {
    fn read() -> Self {
        let mut config = Self { servers: Vec::new(), search: Vec::new(), ndots: 1 };
        let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => config.servers.extend(words.next().and_then(|server| server.parse::<IpAddr>().ok())),
                Some("search" | "domain") => config.search = words.map(str::to_owned).collect(),
                Some("options") => {
                    if let Some(n) = words.find_map(|option| option.strip_prefix("ndots:")?.parse().ok()) {
                        config.ndots = n;
                    }
                }
                _ => {}
            }
        }
        if config.servers.is_empty() {
            config.servers.push(Ipv4Addr::LOCALHOST.into());
        }
        config
    }
}

/// The addresses of a name or of an address's text, IPv4 first.
///
/// # Errors
/// When no nameserver answers or the name does not exist.
pub(crate) fn resolve(name: &str) -> Outcome<Vec<IpAddr>> {
    if let Ok(address) = name.trim_matches(['[', ']']).parse() {
        return Ok(vec![address]);
    }
    let known = hosts(name);
    if !known.is_empty() {
        return Ok(known);
    }
    ask_all(&Config::read(), name)
}

/// The address to talk to, of the wanted family if one is wanted.
///
/// # Errors
/// As [`resolve`], or when there is none of that family.
pub(crate) fn address(name: &str, v6: Option<bool>) -> Outcome<IpAddr> {
    let found = resolve(name)?;
    let wanted = found.into_iter().find(|address| v6.is_none_or(|v6| v6 == address.is_ipv6()));
    wanted.ok_or_else(|| Usage(format!("{name}: no address of that family")).into())
}

fn hosts(name: &str) -> Vec<IpAddr> {
    let text = fs::read_to_string("/etc/hosts").unwrap_or_default();
    let mut found: Vec<IpAddr> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split('#').next()?.split_whitespace();
            let address = words.next()?.parse().ok()?;
            words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
        })
        .collect();
    found.sort_by_key(IpAddr::is_ipv6);
    found
}

fn ask_all(config: &Config, name: &str) -> Outcome<Vec<IpAddr>> {
    let mut candidates: Vec<String> = Vec::new();
    if let Some(absolute) = name.strip_suffix('.') {
        candidates.push(absolute.to_owned());
    } else {
        candidates.extend(config.search.iter().map(|domain| format!("{name}.{}", domain.trim_end_matches('.'))));
        let first = name.matches('.').count() >= config.ndots;
        candidates.insert(if first { 0 } else { candidates.len() }, name.to_owned());
    }
    let mut last = None;
    for candidate in candidates {
        let mut found = Vec::new();
        for kind in [TYPE::A, TYPE::AAAA] {
            match query(config, &candidate, kind) {
                Ok(addresses) => found.extend(addresses),
                Err(error) => last = Some(error),
            }
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    match last {
        Some(error) => Err(Usage(format!("bad address '{name}': {error}")).into()),
        None => Err(Usage(format!("bad address '{name}'")).into()),
    }
}

/// Asks the nameservers in turn; an answer that the name does not exist is one (no addresses).
fn query(config: &Config, name: &str, kind: TYPE) -> io::Result<Vec<IpAddr>> {
    let mut last = io::Error::other("no nameserver");
    for _ in 0..TRIES {
        for server in &config.servers {
            match query_one(*server, name, kind) {
                Ok(found) => return Ok(found),
                Err(error) => last = error,
            }
        }
    }
    Err(last)
}

fn query_one(server: IpAddr, name: &str, kind: TYPE) -> io::Result<Vec<IpAddr>> {
    let id = u16::try_from(std::process::id() & 0xffff).unwrap_or(1) ^ (TYPE_MARK * u16::from(kind == TYPE::AAAA));
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(Name::new(name).map_err(io::Error::other)?, kind.into(), CLASS::IN.into(), false));
    let bytes = packet.build_bytes_vec().map_err(io::Error::other)?;
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(SocketAddr::new(server, 53))?;
    socket.set_read_timeout(Some(ANSWER_TIME))?;
    socket.send(&bytes)?;
    let mut buffer = [0; 4096];
    loop {
        let got = socket.recv(&mut buffer)?;
        let Ok(answer) = Packet::parse(&buffer[..got]) else { continue };
        if answer.id() != id {
            continue;
        }
        return match answer.rcode() {
            RCODE::NoError | RCODE::NameError => Ok(answer
                .answers
                .iter()
                .filter_map(|record| match &record.rdata {
                    RData::A(a) => Some(Ipv4Addr::from(a.address).into()),
                    RData::AAAA(a) => Some(Ipv6Addr::from(a.address).into()),
                    _ => None,
                })
                .collect()),
            other => Err(io::Error::other(format!("{server} answered {other:?}"))),
        };
    }
}

/// Sets the AAAA question's number apart from the A question's.
const TYPE_MARK: u16 = 0x8000;

/// Runs `nslookup NAME [SERVER]`.
pub(crate) fn nslookup(args: &[std::ffi::OsString]) -> i32 {
    let args = arguments(args);
    let mut config = Config::read();
    let (name, server) = match args.as_slice() {
        [name] => (name, None),
        [name, server] => (name, Some(server)),
        _ => return complain("nslookup", "usage: nslookup NAME [SERVER]"),
    };
    if let Some(server) = server {
        match address(server, None) {
            Ok(address) => config.servers = vec![address],
            Err(error) => return complain("nslookup", &error.to_string()),
        }
    }
    match ask_all(&config, name) {
        Ok(found) => {
            let list: String = found.iter().map(|address| format!("Name:\t{name}\nAddress: {address}\n")).collect();
            print(&format!("Server:\t\t{}\nAddress:\t{}:53\n\n{list}", config.servers[0], config.servers[0]))
        }
        Err(error) => complain("nslookup", &error.to_string()),
    }
}
