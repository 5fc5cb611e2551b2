//! Transactions with nf_tables: several messages, all or none (the kernel's `nfnetlink_rcv_batch`).
//!
//! Sending is synchronous in the kernel: when send(2) returns, the transaction is done and all answers are queued.

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    nftables::NfTablesMessage, none::ControlMessage,
};
use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};
use std::io;

/// Subsystem that a batch is for (`NFNL_SUBSYS_NFTABLES`).
const NFTABLES: u16 = 10;

/// Room for one datagram of answers: the kernel's dumps use at most 32 KiB.
const ANSWER: usize = 64 << 10;

/// A socket by which something was deleted. Dropping it waits until the kernel has freed that, about 10 ms (an RCU
/// grace period; `nft_rcv_nl_event`), so it is better dropped after a lock is released.
#[derive(Default)]
#[must_use = "dropped here, it may wait under a lock"]
pub(crate) struct Closing(Vec<Socket>);

impl Closing {
    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

/// Changes that happen all or not at all.
#[derive(Default)]
pub(super) struct Batch(Vec<NfTablesMessage>);

impl Batch {
    pub(super) fn push(&mut self, message: NfTablesMessage) {
        self.0.push(message);
    }

    /// Does it, in the calling thread's namespace.
    pub(super) fn commit(self) -> io::Result<Closing> {
        let last = self.0.len();
        let mut buffer = Vec::new();
        let control = |message| {
            NetfilterMessage::new(header(NetfilterProtoFamily::Unspec, NFTABLES), message)
        };
        append(
            &mut buffer,
            control(ControlMessage::BatchBegin),
            NLM_F_REQUEST,
            0,
        );
        for (index, message) in self.0.into_iter().enumerate() {
            // The acknowledgement of the last one says that the transaction was done; errors come without asking.
            let ack = if index + 1 == last { NLM_F_ACK } else { 0 };
            let flags = NLM_F_REQUEST | creation(&message) | ack;
            append(&mut buffer, inet(message), flags, sequence(index));
        }
        append(
            &mut buffer,
            control(ControlMessage::BatchEnd),
            NLM_F_REQUEST,
            sequence(last),
        );
        let socket = open()?;
        socket.send(&buffer, 0)?;
        let mut acknowledged = false;
        while let Some(answers) = receive(&socket)? {
            for answer in answers {
                if let NetlinkPayload::Error(answer) = answer.payload {
                    match answer.code {
                        Some(_) => return Err(answer.to_io()),
                        None => acknowledged = true,
                    }
                }
            }
        }
        if acknowledged {
            Ok(Closing(vec![socket]))
        } else {
            Err(io::Error::other("the kernel did not answer"))
        }
    }
}

/// Asks one question; the answers, in order.
pub(super) fn ask(question: NfTablesMessage, dump: Extent) -> io::Result<Vec<NfTablesMessage>> {
    let flags = NLM_F_REQUEST
        | match dump {
            Extent::One => 0,
            Extent::All => NLM_F_DUMP,
        };
    let mut buffer = Vec::new();
    append(&mut buffer, inet(question), flags, 1);
    let socket = open()?;
    socket.send(&buffer, 0)?;
    let mut found = Vec::new();
    while let Some(answers) = receive(&socket)? {
        for answer in answers {
            match answer.payload {
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                NetlinkPayload::Done(_) => return Ok(found),
                NetlinkPayload::InnerMessage(NetfilterMessage {
                    inner: NetfilterMessageInner::NfTables(message),
                    ..
                }) => {
                    found.push(message);
                }
                _ => {}
            }
        }
    }
    Ok(found)
}

/// How much a question is about.
pub(super) enum Extent {
    /// The one thing named.
    One,
    /// Everything of that kind.
    All,
}

/// Rules go to the end of their chain, in the order given.
fn creation(message: &NfTablesMessage) -> u16 {
    match message {
        NfTablesMessage::NewRule(_) => NLM_F_CREATE | NLM_F_APPEND,
        NfTablesMessage::DeleteTable(_) | NfTablesMessage::DeleteSetElement(_) => 0,
        _ => NLM_F_CREATE,
    }
}

fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.set_non_blocking(true)?;
    socket.set_cap_ack(true)?; // errors do not repeat the request
    Ok(socket)
}

fn header(family: NetfilterProtoFamily, resource: u16) -> NetfilterHeader {
    NetfilterHeader::new(family, 0, resource)
}

fn inet(message: NfTablesMessage) -> NetfilterMessage {
    NetfilterMessage::new(header(NetfilterProtoFamily::Inet, 0), message)
}

fn sequence(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1)
}

fn append(buffer: &mut Vec<u8>, message: NetfilterMessage, flags: u16, sequence: u32) {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = flags;
    message.header.sequence_number = sequence;
    message.finalize();
    let start = buffer.len();
    buffer.resize(start + message.buffer_len().next_multiple_of(4), 0);
    message.serialize(&mut buffer[start..]);
}

/// The messages of the next datagram, or `None` when there is none.
fn receive(socket: &Socket) -> io::Result<Option<Vec<NetlinkMessage<NetfilterMessage>>>> {
    let mut datagram = Vec::with_capacity(ANSWER);
    match socket.recv(&mut datagram, 0) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut messages = Vec::new();
    let mut rest = datagram.as_slice();
    while !rest.is_empty() {
        let message =
            NetlinkMessage::<NetfilterMessage>::deserialize(rest).map_err(io::Error::other)?;
        let length = (message.header.length as usize).next_multiple_of(4).max(16);
        messages.push(message);
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(Some(messages))
}
