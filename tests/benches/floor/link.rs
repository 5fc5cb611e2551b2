//! A veth from pause's network namespace to a bridge, with address and default route: six netlink messages (rtnetlink(7)).

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv, send, socket};
use rustix::net::netdevice::name_to_index;

const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;

/// The name of a pod's link and cgroup.
pub(crate) fn name(state: &Path) -> String {
    format!("fl-{}", state.file_name().unwrap_or_default().to_string_lossy())
}

/// One netlink message being written.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: i32) -> Self {
        let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags).expect("flags have 16 bits");
        let mut bytes = vec![0; 16]; // length, kind, flags, sequence, sender
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        Self(bytes)
    }

    /// An `ifinfomsg`: this link, up.
    fn link(mut self, index: u32) -> Self {
        let up = (libc::IFF_UP as u32).to_ne_bytes();
        self.0.extend([0; 4]);
        self.0.extend(index.to_ne_bytes());
        self.0.extend(up);
        self.0.extend(up);
        self
    }

    fn attribute(mut self, kind: u16, data: &[u8]) -> Self {
        let length = u16::try_from(data.len() + 4).expect("attributes are short");
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// The attributes alone, to be put into another.
    fn nested() -> Self {
        Self(Vec::new())
    }

    fn send(mut self, socket: &OwnedFd) -> io::Result<()> {
        let length = u32::try_from(self.0.len()).expect("messages are short");
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        send(socket.as_raw_fd(), &self.0, MsgFlags::empty())?;
        let mut answer = [0; 4096];
        let read = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        // An acknowledgement is an error message whose error is 0.
        match answer[..read].get(16..20).map(|error| i32::from_ne_bytes(error.try_into().expect("four bytes"))) {
            Some(0) => Ok(()),
            Some(error) => Err(io::Error::from_raw_os_error(-error)),
            None => Err(io::Error::other("a short answer from the kernel")),
        }
    }
}

fn open() -> io::Result<OwnedFd> {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    connect(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?; // the kernel
    Ok(socket)
}

fn text(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

/// Wires the network namespace of process `pause`.
pub(crate) fn attach(pause: i32, bridge: &str, name: &str, address: &str) -> io::Result<()> {
    let (ip, length) = address.split_once('/').ok_or_else(|| io::Error::other("an address has a length"))?;
    let (ip, length): (Ipv4Addr, u8) = (ip.parse().map_err(io::Error::other)?, length.parse().map_err(io::Error::other)?);
    let gateway = Ipv4Addr::from_bits((ip.to_bits() & (u32::MAX << (32 - length))) + 1);

    let host = open()?;
    // The peer's ifinfomsg is all zero: a veth cannot be up before its other end exists.
    let peer = Message(vec![0; 16]).attribute(libc::IFLA_IFNAME, &text("eth0")).attribute(libc::IFLA_NET_NS_PID, &pause.to_ne_bytes());
    let data = Message::nested().attribute(VETH_INFO_PEER, &peer.0);
    let info = Message::nested().attribute(IFLA_INFO_KIND, b"veth").attribute(IFLA_INFO_DATA, &data.0);
    Message::new(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL)
        .link(0)
        .attribute(libc::IFLA_IFNAME, &text(name))
        .attribute(libc::IFLA_MASTER, &name_to_index(&host, bridge)?.to_ne_bytes())
        .attribute(libc::IFLA_LINKINFO, &info.0)
        .send(&host)?;

    let own = File::open("/proc/self/ns/net")?;
    setns(File::open(format!("/proc/{pause}/ns/net"))?, CloneFlags::CLONE_NEWNET)?;
    let inside = open()?;
    let index = name_to_index(&inside, "eth0")?;
    setns(own, CloneFlags::CLONE_NEWNET)?;
    Message::new(libc::RTM_NEWLINK, 0).link(1).send(&inside)?; // lo is always the first
    Message::new(libc::RTM_NEWLINK, 0).link(index).send(&inside)?;
    let mut add = Message::new(libc::RTM_NEWADDR, libc::NLM_F_CREATE);
    add.0.extend([libc::AF_INET as u8, length, 0, 0]);
    add.0.extend(index.to_ne_bytes());
    add.attribute(libc::IFA_LOCAL, &ip.octets()).attribute(libc::IFA_ADDRESS, &ip.octets()).send(&inside)?;
    let mut route = Message::new(libc::RTM_NEWROUTE, libc::NLM_F_CREATE);
    route.0.extend([libc::AF_INET as u8, 0, 0, 0, libc::RT_TABLE_MAIN, libc::RTPROT_STATIC, libc::RT_SCOPE_UNIVERSE, libc::RTN_UNICAST]);
    route.0.extend([0; 4]);
    route.attribute(libc::RTA_GATEWAY, &gateway.octets()).send(&inside)
}

/// Removes the link; the bridge stays. Its namespace, whose processes have been killed, may have taken it along.
pub(crate) fn detach(name: &str) -> io::Result<()> {
    let host = open()?;
    let Ok(index) = name_to_index(&host, name) else { return Ok(()) };
    match Message::new(libc::RTM_DELLINK, 0).link(index).send(&host) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        done => done,
    }
}
