//! Collisions, found before anything is made.

use crate::{NetError, Network, PortMapping, Protocol, leases::Leases};
use ipnet::Ipv4Net;
use std::{
    fmt, fs, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, TcpListener, UdpSocket},
    path::Path,
};

/// One way in which a request collides with what is there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Conflict {
    /// The request itself has it twice.
    #[error("host port {port} is asked for twice")]
    PortRepeated {
        /// Which.
        port: PortMapping,
    },
    /// Another owner has it.
    #[error("host port {port} is taken by {label}")]
    PortTaken {
        /// Which.
        port: PortMapping,
        /// The owner's label.
        label: String,
    },
    /// A program of the host listens there: the mapping would hide it.
    #[error("host port {port} is taken by {holder}")]
    PortInUse {
        /// Which.
        port: PortMapping,
        /// The program.
        holder: Holder,
    },
    /// Not an address that can be leased here.
    #[error("address {address} is not one of {first} to {last}")]
    OutOfRange {
        /// The address asked for.
        address: Ipv4Addr,
        /// First that can be leased.
        first: Ipv4Addr,
        /// Last that can be leased.
        last: Ipv4Addr,
    },
    /// Another owner has it.
    #[error("address {address} is taken by {label}")]
    AddressTaken {
        /// The address asked for.
        address: Ipv4Addr,
        /// The owner's label.
        label: String,
    },
    /// Every address is leased.
    #[error("subnet {subnet} is exhausted: all {leases} addresses are leased")]
    Exhausted {
        /// The full subnet.
        subnet: Ipv4Net,
        /// How many leases it holds.
        leases: u32,
    },
}

/// Who listens on a port of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// A process, by its id and its name in proc_pid_comm(5).
    Process {
        /// Process id.
        pid: u32,
        /// Name, at most 15 bytes.
        comm: String,
    },
    /// Nobody whom we can see: the kernel, or a process hidden from us.
    Unknown,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, comm } => write!(f, "process {pid} ({comm})"),
            Self::Unknown => f.write_str("a program of this host"),
        }
    }
}

/// Would this request collide with leases, or with programs listening on this host? Makes nothing (a host port is
/// tried with bind(2), and freed again at once).
///
/// # Errors
/// [`NetError::Conflicts`] with all of them; [`NetError::BadNetwork`], [`NetError::OtherSubnet`]; or the lease file
/// cannot be read.
pub async fn check(
    network: &Network,
    ports: &[PortMapping],
    address: Option<Ipv4Addr>,
) -> Result<(), NetError> {
    network.validate()?;
    let leases = Leases::read(network)?;
    leases.check_subnet(network)?;
    let (_, mut conflicts) = leases.plan(network, ports, address);
    conflicts.extend(ports.iter().filter_map(listener));
    if conflicts.is_empty() {
        Ok(())
    } else {
        Err(NetError::Conflicts(conflicts))
    }
}

/// The program that listens where `port` wants to be, if one does.
fn listener(port: &PortMapping) -> Option<Conflict> {
    let (host_ip, protocol, number) = port.key();
    let wanted = host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED);
    let tried = match protocol {
        // The standard library sets SO_REUSEADDR, so connections that linger are no conflict.
        Protocol::Tcp => TcpListener::bind(SocketAddrV4::new(wanted, number)).map(drop),
        Protocol::Udp => UdpSocket::bind(SocketAddrV4::new(wanted, number)).map(drop),
    };
    match tried {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Some(Conflict::PortInUse {
            port: *port,
            holder: holder(wanted, protocol, number),
        }),
        // EADDRNOTAVAIL and the like: nobody listens at an address that is not there (yet).
        _ => None,
    }
}

/// Names the holder of a port: socket tables give the inode, /proc/PID/fd the process.
fn holder(wanted: Ipv4Addr, protocol: Protocol, port: u16) -> Holder {
    let inodes: Vec<u64> = ["", "6"]
        .iter()
        .filter_map(|family| {
            fs::read_to_string(format!("/proc/thread-self/net/{protocol}{family}")).ok()
        })
        .flat_map(|table| table.lines().skip(1).filter_map(parse).collect::<Vec<_>>())
        .filter(|socket| {
            socket.port == port && socket.open_for(protocol) && socket.overlaps(wanted)
        })
        .map(|socket| socket.inode)
        .collect();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .find(|pid| has_socket(*pid, &inodes))
        .map_or(Holder::Unknown, |pid| {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            Holder::Process {
                pid,
                comm: comm.trim_end().to_owned(),
            }
        })
}

fn has_socket(pid: u32, inodes: &[u64]) -> bool {
    let links = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    let target = |path: &Path| {
        fs::read_link(path)
            .ok()?
            .to_str()?
            .strip_prefix("socket:[")?
            .strip_suffix(']')?
            .parse()
            .ok()
    };
    links
        .filter_map(|link| target(&link.path()))
        .any(|inode: u64| inodes.contains(&inode))
}

/// One line of /proc/net/{tcp,udp}[6] (proc_net_tcp(5)).
struct Socket {
    /// `None`: every address, IPv4's too (an IPv6 wildcard usually takes both).
    address: Option<Ipv4Addr>,
    port: u16,
    state: u8,
    inode: u64,
}

impl Socket {
    /// TCP_LISTEN is 0x0A; an unconnected UDP socket is in TCP_CLOSE, 0x07 (include/net/tcp_states.h).
    fn open_for(&self, protocol: Protocol) -> bool {
        self.state
            == match protocol {
                Protocol::Tcp => 0x0a,
                Protocol::Udp => 0x07,
            }
    }

    /// Could the two not be bound side by side? A wildcard collides with every address.
    fn overlaps(&self, wanted: Ipv4Addr) -> bool {
        wanted.is_unspecified() || self.address.is_none_or(|address| address == wanted)
    }
}

/// `  0: 0100007F:1F90 00000000:0000 0A ... uid timeout inode`; `None` also for a socket of one real IPv6 address.
fn parse(line: &str) -> Option<Socket> {
    let mut fields = line.split_whitespace();
    let (address, port) = fields.nth(1)?.split_once(':')?;
    let state = u8::from_str_radix(fields.nth(1)?, 16).ok()?;
    let inode = fields.nth(5)?.parse().ok()?;
    let address = match address.len() {
        8 => Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?.to_ne_bytes()),
        32 => v6(address)?,
        _ => return None,
    };
    let address = (!address.is_unspecified()).then_some(address);
    Some(Socket {
        address,
        port: u16::from_str_radix(port, 16).ok()?,
        state,
        inode,
    })
}

/// The IPv4 address that an IPv6 socket's address stands for: four words, each in the host's byte order.
fn v6(hex: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 16];
    for (index, octets) in octets.chunks_exact_mut(4).enumerate() {
        let word = u32::from_str_radix(hex.get(index * 8..index * 8 + 8)?, 16).ok()?;
        octets.copy_from_slice(&word.to_ne_bytes());
    }
    let address = Ipv6Addr::from(octets);
    if address.is_unspecified() {
        Some(Ipv4Addr::UNSPECIFIED)
    } else {
        address.to_ipv4_mapped()
    }
}

#[cfg(test)]
mod tests {
    use super::{listener, parse};
    use crate::{Conflict, Holder, PortMapping, Protocol};
    use std::net::{Ipv4Addr, TcpListener, UdpSocket};

    const V4: &str = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 24461 1 0 100 0 0 10 0";
    const V6: &str = "   1: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1234 1";
    const MAPPED: &str = "   1: 0000000000000000FFFF00000100007F:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1234 1";
    const REAL_V6: &str = "   1: B80D0120000000000000000001000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1234 1";

    #[test]
    #[cfg(target_endian = "little")] // the samples are
    fn reads_the_kernels_tables() {
        let socket = parse(V4).expect("line");
        assert_eq!(
            (socket.address, socket.port, socket.inode),
            (Some(Ipv4Addr::LOCALHOST), 8080, 24461)
        );
        assert!(socket.open_for(Protocol::Tcp) && !socket.open_for(Protocol::Udp));
        assert!(socket.overlaps(Ipv4Addr::UNSPECIFIED) && socket.overlaps(Ipv4Addr::LOCALHOST));
        assert!(!socket.overlaps(Ipv4Addr::new(192, 0, 2, 1)));
        let wild = parse(V6).expect("line");
        assert_eq!((wild.address, wild.port), (None, 22));
        assert!(wild.overlaps(Ipv4Addr::new(192, 0, 2, 1)));
        assert_eq!(
            parse(MAPPED).expect("line").address,
            Some(Ipv4Addr::LOCALHOST)
        );
        assert!(parse(REAL_V6).is_none());
        assert!(parse("garbage").is_none());
    }

    #[test]
    fn names_this_very_process() {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("listen");
        let udp = UdpSocket::bind("127.0.0.1:0").expect("bind");
        let ports = [
            (tcp.local_addr(), Protocol::Tcp),
            (udp.local_addr(), Protocol::Udp),
        ];
        for (address, protocol) in ports {
            let host_port = address.expect("address").port();
            for host_ip in [None, Some(Ipv4Addr::LOCALHOST)] {
                let port = PortMapping {
                    host_ip,
                    host_port,
                    container_port: 80,
                    protocol,
                };
                match listener(&port) {
                    Some(Conflict::PortInUse {
                        holder: Holder::Process { pid, comm },
                        ..
                    }) => {
                        assert_eq!(pid, std::process::id());
                        assert!(!comm.is_empty());
                    }
                    other => panic!("{port}: {other:?}"),
                }
            }
            let elsewhere = PortMapping {
                host_ip: Some(Ipv4Addr::new(127, 0, 0, 9)),
                host_port,
                container_port: 80,
                protocol,
            };
            assert_eq!(listener(&elsewhere), None);
        }
    }
}
