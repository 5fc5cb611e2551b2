//! Copies what processes write to where it belongs: log files, fifos, terminals.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open};
use tokio::task::JoinHandle;

use crate::error::Error;
use crate::logs::{LogWriter, Stream};
use crate::sys::{watch_readable, watch_writable};

/// Read at most this much at once: a pipe's default capacity (pipe(7)).
const CHUNK: usize = 64 * 1024;

thread_local! {
    // One buffer for all pumps: nothing is awaited between a read and the write that follows it.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; CHUNK]);
}

/// A pipe for one output of a container: the end to read, the end for the container.
pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| Error::System("make a pipe", e.into()))
}

/// /dev/null, for a container without stdin.
pub(crate) fn dev_null() -> Result<OwnedFd, Error> {
    open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(|e| Error::file("open", "/dev/null")(e.into()))
}

/// Opens a client's fifo, which has another end already, without waiting for it.
pub(crate) fn open_fifo(path: &Path, flags: OFlags) -> Result<OwnedFd, Error> {
    let opened = (|| {
        let fd = open(path, flags | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?;
        fcntl_setfl(&fd, fcntl_getfl(&fd)? - OFlags::NONBLOCK)?;
        Ok(fd)
    })();
    opened.map_err(|e: rustix::io::Errno| Error::file("open", path)(e.into()))
}

/// Where the log of one attempt is written; its pumps share it.
pub(crate) type SharedLog = Rc<RefCell<LogWriter>>;

/// Writes everything that comes out of `from` to the log, until its last writer is gone.
pub(crate) fn pump_to_log(from: OwnedFd, stream: Stream, log: SharedLog) -> JoinHandle<()> {
    tokio::task::spawn_local(async move {
        let copied = read_all(from, |bytes| {
            // A full disk stops the log, not the container; the writer counts what it drops and says so when it can.
            if let Err(error) = log.borrow_mut().write(stream, bytes) {
                tracing::warn!(%error, "container log not written");
            }
            Ok(())
        })
        .await;
        if let Err(error) = copied {
            tracing::warn!(%error, "container output not read to its end");
        }
    })
}

/// Reads until the end of file and hands each chunk over.
async fn read_all(from: OwnedFd, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    set_nonblocking(&from)?;
    let from = watch_readable(from)?;
    loop {
        let mut ready = from.readable().await?;
        let end = BUFFER.with_borrow_mut(|buffer| match rustix::io::read(from.get_ref().as_fd(), &mut buffer[..]) {
            // EIO: the last process has closed its side of a terminal (pty(7)).
            Ok(0) | Err(rustix::io::Errno::IO) => Ok(true),
            Ok(n) => each(&buffer[..n]).map(|()| false),
            Err(rustix::io::Errno::AGAIN) => {
                ready.clear_ready();
                Ok(false)
            }
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(e) => Err(e.into()),
        })?;
        if end {
            return Ok(());
        }
    }
}

/// Copies one descriptor into another until the end of file, or until nobody reads any more.
pub(crate) fn copy(from: OwnedFd, to: OwnedFd) -> JoinHandle<()> {
    tokio::task::spawn_local(async move {
        match copy_all(from, to).await {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) => tracing::warn!(%error, "copy of a process's stream ended early"),
        }
    })
}

async fn copy_all(from: OwnedFd, to: OwnedFd) -> io::Result<()> {
    set_nonblocking(&from)?;
    set_nonblocking(&to)?;
    let (from, to) = (watch_readable(from)?, watch_writable(to)?);
    // Its own buffer: a slow reader is awaited between read and write.
    let mut buffer = vec![0; 8 * 1024];
    loop {
        let n = from.async_io(tokio::io::Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut buffer[..])?)).await;
        let n = match n {
            Ok(0) => return Ok(()),
            Err(e) if e.raw_os_error() == Some(libc::EIO) => return Ok(()),
            other => other?,
        };
        let mut rest = &buffer[..n];
        while !rest.is_empty() {
            let written = to.async_io(tokio::io::Interest::WRITABLE, |fd| Ok(rustix::io::write(fd, rest)?)).await?;
            rest = &rest[written..];
        }
    }
}

fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    Ok(fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?)
}
