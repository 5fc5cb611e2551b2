//! Copies what processes write to where it belongs: log files, fifos, terminals.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open};
use tokio::task::JoinHandle;

use super::log::SharedLog;
use crate::error::Error;
use crate::logs::Stream;
use crate::sys::{watch_readable, watch_writable};

/// Read at most this much at once: a pipe's default capacity (pipe(7)).
const CHUNK: usize = 64 * 1024;

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

/// Writes everything that comes out of `from` to the log, until its last writer is gone.
pub(crate) fn pump_to_log(from: OwnedFd, stream: Stream, log: SharedLog) -> JoinHandle<()> {
    tokio::task::spawn_local(async move {
        if let Err(error) = log_all(from, stream, &log).await {
            tracing::warn!(%error, "container output not read to its end");
        }
        if let Err(error) = log.finish().await {
            tracing::warn!(%error, "container log not ended");
        }
    })
}

async fn log_all(from: OwnedFd, stream: Stream, log: &SharedLog) -> io::Result<()> {
    set_nonblocking(&from)?;
    let from = watch_readable(from)?;
    loop {
        let mut ready = from.readable().await?;
        // Only for as long as something comes: most containers are silent most of the time.
        let mut buffer = vec![0; CHUNK];
        loop {
            match rustix::io::read(from.get_ref().as_fd(), &mut buffer[..]) {
                // EIO: the last process has closed its side of a terminal (pty(7)).
                Ok(0) | Err(rustix::io::Errno::IO) => return Ok(()),
                // Others have their turn while it is written.
                Ok(n) => buffer = log.write(stream, buffer, n).await?,
                Err(rustix::io::Errno::AGAIN) => break ready.clear_ready(),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
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
