//! rtnetlink(7), asked and answered synchronously.

use std::fs::File;
use std::io::{self, Read, Write};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use nix::sys::socket::{AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket};

/// A socket to the kernel's routing tables.
pub(crate) struct Route(File);

/// Dumps come in pieces of at most 32 KiB (linux/netlink.h, NLMSG_GOODSIZE and netlink_dump).
const BUFFER: usize = 64 * 1024;

impl Route {
    /// Opens the socket.
    ///
    /// # Errors
    /// As socket(2) and bind(2).
    pub(crate) fn open() -> io::Result<Self> {
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
        bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &NetlinkAddr::new(0, 0))?;
        Ok(Self(File::from(socket)))
    }

    /// All answers to a question such as "which links are there".
    ///
    /// # Errors
    /// The kernel's refusal, or a message that makes no sense.
    pub(crate) fn dump(&mut self, question: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.ask(question, NLM_F_DUMP)
    }

    /// Has something changed; `flags` such as NLM_F_CREATE.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(crate) fn change(&mut self, request: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.ask(request, NLM_F_ACK | flags).map(drop)
    }

    fn ask(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(message));
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = 1;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.0.write_all(&bytes)?;
        let mut answers = Vec::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            let got = self.0.read(&mut buffer)?;
            let mut rest = &buffer[..got];
            while !rest.is_empty() {
                let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
                // Messages are padded to four bytes.
                let length = (answer.header.length as usize).next_multiple_of(4).min(rest.len());
                rest = &rest[length.max(4)..];
                match answer.payload {
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(answers),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                    _ => {}
                }
            }
        }
    }
}
