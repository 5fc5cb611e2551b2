//! TCP under ureq: connects, sends and receives without ever sleeping past a cancel or a silent peer.
//!
//! ureq's own time-outs bound a whole body; a layer may take as long as it likes, as long as bytes come. And nothing of ureq's
//! can be cancelled. So sockets do not block here: every wait is a poll(2) in slices.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport};

use crate::cancel::Cancel;

/// How long a wait may last before the cancel is looked at.
pub(super) const SLICE: Duration = Duration::from_millis(200);

/// What ended a wait of ours; travels inside ureq's errors.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("cancelled")]
    Cancelled,
    #[error("no byte came for {0:?}")]
    Stalled(Duration),
    #[error("no connection")]
    Connect(#[source] io::Error),
    #[error("no such host")]
    UnknownHost,
    #[error("name server: {0}")]
    NameServer(String),
}

impl From<Fault> for ureq::Error {
    fn from(fault: Fault) -> Self {
        Self::Io(io::Error::other(fault))
    }
}

/// Makes the sockets of one client.
#[derive(Debug)]
pub(super) struct TcpConnector {
    pub(super) cancel: Cancel,
    pub(super) idle: Duration,
}

impl<In: Transport> Connector<In> for TcpConnector {
    type Out = Either<In, Tcp>;

    /// Tries the addresses one after the other; each gets its share of the time that is left. A tunnel through a proxy stays.
    fn connect(&self, details: &ConnectionDetails, tunnel: Option<In>) -> Result<Option<Self::Out>, ureq::Error> {
        if let Some(tunnel) = tunnel {
            return Ok(Some(Either::A(tunnel)));
        }
        let started = Instant::now();
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for (index, address) in details.addrs.iter().enumerate() {
            let left = details.timeout.after.saturating_sub(started.elapsed());
            let others = u32::try_from(details.addrs.len() - index).unwrap_or(1);
            match self.open(*address, left / others) {
                Ok(stream) => {
                    let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
                    return Ok(Some(Either::B(Tcp { stream, buffers, cancel: self.cancel.clone(), idle: self.idle })));
                }
                Err(Stop::Cancelled) => return Err(Fault::Cancelled.into()),
                Err(Stop::Failed(error)) => last = error,
            }
        }
        match last.kind() {
            io::ErrorKind::TimedOut => Err(ureq::Error::Timeout(ureq::Timeout::Connect)),
            _ => Err(Fault::Connect(last).into()),
        }
    }
}

/// Why a wait ended without what was waited for.
enum Stop {
    Cancelled,
    Failed(io::Error),
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Failed(errno.into())
    }
}

impl TcpConnector {
    fn open(&self, address: SocketAddr, limit: Duration) -> Result<TcpStream, Stop> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
        match connect(&socket, &address) {
            Ok(()) => {}
            Err(Errno::INPROGRESS | Errno::INTR) => {
                let stream = wait(&socket, PollFlags::OUT, limit, &self.cancel)?;
                if stream == Waited::TooLong {
                    return Err(Stop::Failed(io::ErrorKind::TimedOut.into()));
                }
                sockopt::socket_error(&socket)??;
            }
            Err(errno) => return Err(errno.into()),
        }
        let stream = TcpStream::from(socket);
        // Requests are small and each is waited for.
        stream.set_nodelay(true).map_err(Stop::Failed)?;
        Ok(stream)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waited {
    Ready,
    TooLong,
}

/// Waits in slices until the socket is ready.
fn wait(socket: &impl std::os::fd::AsFd, flags: PollFlags, limit: Duration, cancel: &Cancel) -> Result<Waited, Stop> {
    let started = Instant::now();
    loop {
        if cancel.is_cancelled() {
            return Err(Stop::Cancelled);
        }
        let left = limit.saturating_sub(started.elapsed());
        if left.is_zero() {
            return Ok(Waited::TooLong);
        }
        let slice = left.min(SLICE);
        let slice = Timespec { tv_sec: 0, tv_nsec: i64::from(slice.subsec_nanos()) };
        let mut polled = [PollFd::new(socket, flags)];
        match poll(&mut polled, Some(&slice)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(Waited::Ready),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Tcp {
    stream: TcpStream,
    buffers: LazyBuffers,
    cancel: Cancel,
    idle: Duration,
}

impl Tcp {
    /// Waits as long as the peer may be silent, and as ureq's time-out allows.
    fn ready(&self, flags: PollFlags, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let allowed = timeout.not_zero().map_or(self.idle, |after| (*after).min(self.idle));
        match wait(&self.stream, flags, allowed, &self.cancel) {
            Ok(Waited::Ready) => Ok(()),
            Ok(Waited::TooLong) if allowed < self.idle => Err(ureq::Error::Timeout(timeout.reason)),
            Ok(Waited::TooLong) => Err(Fault::Stalled(self.idle).into()),
            Err(Stop::Cancelled) => Err(Fault::Cancelled.into()),
            Err(Stop::Failed(error)) => Err(error.into()),
        }
    }
}

impl Transport for Tcp {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let mut sent = 0;
        while sent < amount {
            let output = self.buffers.output();
            match (&self.stream).write(&output[sent..amount]) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.ready(PollFlags::OUT, timeout)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        loop {
            // A peer that never stops sending would else never let a cancel through.
            if self.cancel.is_cancelled() {
                return Err(Fault::Cancelled.into());
            }
            match (&self.stream).read(self.buffers.input_append_buf()) {
                Ok(count) => {
                    self.buffers.input_appended(count);
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.ready(PollFlags::IN, timeout)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Nothing may come between two requests: what does is the end, or belongs to nobody.
    fn is_open(&mut self) -> bool {
        matches!(self.stream.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}
