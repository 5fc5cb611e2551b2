//! `ping`: ICMP echo, by a datagram socket where `net.ipv4.ping_group_range` lets (icmp(7)), else by a raw one.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::resolve::address;
use crate::sys::{self, Disposition};
use crate::tool::{Outcome, Usage, arguments, complain, plain, print};

const HELP: &str = "usage: ping [-4|-6] [-c COUNT] [-i SECONDS] [-W SECONDS] [-w SECONDS] [-s SIZE] [-q] HOST\n";
const HEADER: usize = 8;

struct Options {
    host: String,
    count: Option<u16>,
    interval: Duration,
    wait: Duration,
    deadline: Option<Duration>,
    size: usize,
    quiet: bool,
    v6: Option<bool>,
}

/// Runs `ping`: 0 when something answered, 1 when nothing did, 2 when it could not be tried.
pub(crate) fn main(args: &[std::ffi::OsString]) -> i32 {
    let args = arguments(args);
    if args.iter().any(|arg| arg == "-h" || arg == "--help") {
        return print(HELP);
    }
    match options(args).and_then(|options| run(&options)) {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(error) => {
            complain("ping", &error.to_string());
            2
        }
    }
}

fn options(args: Vec<String>) -> Outcome<Options> {
    let mut options = Options {
        host: String::new(),
        count: None,
        interval: Duration::from_secs(1),
        wait: Duration::from_secs(10),
        deadline: None,
        size: 56,
        quiet: false,
        v6: None,
    };
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let (flag, attached) = match arg.split_at_checked(2) {
            Some((flag, value)) if flag.starts_with('-') => (flag, value),
            _ => (arg.as_str(), ""),
        };
        let mut value = || {
            let text = if attached.is_empty() { args.next().unwrap_or_default() } else { attached.to_owned() };
            text.parse::<f64>().ok().filter(|value| (0.0..1e6).contains(value)).ok_or_else(|| Usage(format!("{flag}: needs a number")))
        };
        match flag {
            "-c" => options.count = Some(value()? as u16),
            "-i" => options.interval = Duration::from_secs_f64(value()?),
            "-W" => options.wait = Duration::from_secs_f64(value()?),
            "-w" => options.deadline = Some(Duration::from_secs_f64(value()?)),
            "-s" => options.size = (value()? as usize).min(65_000),
            "-q" => options.quiet = true,
            "-n" => {}
            "-4" => options.v6 = Some(false),
            "-6" => options.v6 = Some(true),
            _ if flag.starts_with('-') => return Err(Usage(format!("{flag}: unknown option\n{HELP}")).into()),
            _ => options.host = arg,
        }
    }
    if options.host.is_empty() { Err(Usage(HELP.to_owned()).into()) } else { Ok(options) }
}

/// A socket for echo requests, whichever kind one gets.
struct Pinger {
    socket: UdpSocket,
    to: IpAddr,
    raw: bool,
    id: u16,
}

impl Pinger {
    fn open(to: IpAddr) -> Outcome<Self> {
        let (family, protocol) = match to {
            IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
            IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
        };
        let open = |kind| socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol);
        let (fd, raw) = match open(SockType::Datagram) {
            Ok(fd) => (fd, false),
            Err(Errno::EACCES | Errno::EPERM | Errno::EPROTONOSUPPORT) => match open(SockType::Raw) {
                Ok(fd) => (fd, true),
                Err(error) => return Err(Usage(format!("open socket: {}: net.ipv4.ping_group_range does not have this group", error.desc())).into()),
            },
            Err(error) => return Err(error.into()),
        };
        // std's UdpSocket is any datagram socket with send_to and recv_from.
        Ok(Self { socket: UdpSocket::from(fd), to, raw, id: std::process::id() as u16 })
    }

    fn send(&self, sequence: u16, size: usize) -> std::io::Result<()> {
        let mut packet = vec![0; HEADER + size];
        packet[0] = if self.to.is_ipv4() { 8 } else { 128 };
        packet[4..6].copy_from_slice(&self.id.to_be_bytes());
        packet[6..8].copy_from_slice(&sequence.to_be_bytes());
        // The kernel does IPv6's checksum, and overwrites a datagram socket's with the same.
        if self.to.is_ipv4() {
            let sum = checksum(&packet);
            packet[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        self.socket.send_to(&packet, SocketAddr::new(self.to, 0)).map(drop)
    }

    /// The echo reply `sequence` that comes before `until`: its size and, of a raw socket, its TTL.
    fn receive(&self, sequence: u16, until: Instant) -> std::io::Result<Option<(usize, Option<u8>)>> {
        let mut buffer = [0; 65_536];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.set_read_timeout(Some(left))?;
            let (got, from) = match self.socket.recv_from(&mut buffer) {
                Ok(got) => got,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            };
            let (ttl, packet) = match self.to {
                // A raw IPv4 socket gives the IP header as well: its length is in words in the low nibble.
                IpAddr::V4(_) if self.raw && got > 20 => (Some(buffer[8]), &buffer[(usize::from(buffer[0] & 0xf) * 4).min(got)..got]),
                _ => (None, &buffer[..got]),
            };
            let reply = if self.to.is_ipv4() { 0 } else { 129 };
            let ours = packet.len() >= HEADER
                && packet[0] == reply
                && packet[6..8] == sequence.to_be_bytes()
                && (!self.raw || packet[4..6] == self.id.to_be_bytes())
                && from.ip() == self.to;
            if ours {
                return Ok(Some((packet.len(), ttl)));
            }
        }
    }
}

/// RFC 1071.
fn checksum(packet: &[u8]) -> u16 {
    let mut sum: u32 = packet.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn run(options: &Options) -> Outcome<bool> {
    let to = address(&options.host, options.v6)?;
    let pinger = Pinger::open(to)?;
    // Ctrl-C ends the waiting, and the summary follows.
    sys::on_signal(Signal::SIGINT, Disposition::Note)?;
    print(&format!("PING {} ({to}) {} data bytes\n", options.host, options.size));
    let started = Instant::now();
    let deadline = options.deadline.map(|deadline| started + deadline);
    let mut times: Vec<f64> = Vec::new();
    let mut sent = 0_u16;
    while options.count.is_none_or(|count| sent < count) && sys::pending().is_none() {
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            break;
        }
        let begun = Instant::now();
        sent += 1;
        match pinger.send(sent, options.size).and_then(|()| pinger.receive(sent, deadline.unwrap_or(begun + options.wait).min(begun + options.wait))) {
            Ok(Some((size, ttl))) => {
                let time = begun.elapsed().as_secs_f64() * 1000.0;
                times.push(time);
                if !options.quiet {
                    let ttl = ttl.map(|ttl| format!(" ttl={ttl}")).unwrap_or_default();
                    print(&format!("{size} bytes from {to}: icmp_seq={sent}{ttl} time={time:.3} ms\n"));
                }
            }
            Ok(None) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => break,
            Err(error) => {
                complain("ping", &format!("{to}: {}", plain(&error)));
            }
        }
        let last = options.count == Some(sent);
        if !last {
            sleep(options.interval.saturating_sub(begun.elapsed()));
        }
    }
    summary(options, sent, &times);
    Ok(!times.is_empty())
}

fn summary(options: &Options, sent: u16, times: &[f64]) {
    let lost = if sent == 0 { 0 } else { (usize::from(sent) - times.len()) * 100 / usize::from(sent) };
    let mut text = format!("\n--- {} ping statistics ---\n{sent} packets transmitted, {} packets received, {lost}% packet loss\n", options.host, times.len());
    if !times.is_empty() {
        let least = times.iter().copied().fold(f64::INFINITY, f64::min);
        let most = times.iter().copied().fold(0.0, f64::max);
        let mean = times.iter().sum::<f64>() / times.len() as f64;
        text.push_str(&format!("round-trip min/avg/max = {least:.3}/{mean:.3}/{most:.3} ms\n"));
    }
    print(&text);
}
