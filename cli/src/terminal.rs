//! The user's terminal: raw mode, size and input for `exec`, hidden input for passwords.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Keeps the terminal raw (every key goes to the program in the container), until it is dropped.
#[derive(Debug)]
pub(crate) struct Raw {
    before: Termios,
}

impl Raw {
    /// Makes standard input raw; `None` when it is no terminal.
    ///
    /// # Errors
    /// What tcsetattr(3) reports.
    pub(crate) fn enter() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        if !isatty(&stdin) {
            return Ok(None);
        }
        let before = tcgetattr(&stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        // Not Flush: what was typed ahead belongs to the command.
        tcsetattr(&stdin, OptionalActions::Drain, &raw)?;
        Ok(Some(Self { before }))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        put_back(&self.before);
    }
}

/// Does not show what is typed, until it is dropped.
#[derive(Debug)]
pub(crate) struct Hidden {
    before: Termios,
}

impl Hidden {
    /// Hides what is typed into standard input, which must be a terminal.
    ///
    /// # Errors
    /// What tcsetattr(3) reports.
    pub(crate) fn enter() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        // The end of the line is shown all the same.
        hidden.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
        Ok(Self { before })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        put_back(&self.before);
    }
}

fn put_back(before: &Termios) {
    if let Err(e) = tcsetattr(io::stdin(), OptionalActions::Drain, before) {
        tracing::warn!(error = %e, "terminal not put back; `reset` does so");
    }
}

/// Columns and rows of the user's terminal, when there is one.
pub(crate) fn size() -> Option<(u16, u16)> {
    let of = |fd: BorrowedFd<'_>| tcgetwinsize(fd).ok().filter(|size| size.ws_col > 0);
    let found = of(io::stdout().as_fd()).or_else(|| of(io::stdin().as_fd()))?;
    Some((found.ws_col, found.ws_row))
}

/// A descriptor read without a thread and without O_NONBLOCK, which would hold for everybody who shares the open file (the
/// user's shell, for one).
#[derive(Debug)]
pub(crate) struct Input {
    fd: Readable,
}

#[derive(Debug)]
enum Readable {
    /// A terminal, pipe or socket.
    Waits(AsyncFd<OwnedFd>),
    /// A file, /dev/null: always ready, and epoll refuses it.
    Ready(OwnedFd),
}

impl Input {
    /// Wraps a copy of a descriptor. Needs to be inside a tokio runtime.
    ///
    /// # Errors
    /// When it cannot be copied or watched.
    pub(crate) fn new(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let copy = fd.try_clone_to_owned()?;
        #[allow(deprecated)] // an OwnedFd always names the same open descriptor, which is what the unsafe successor asks for
        let fd = match AsyncFd::with_interest(copy, Interest::READABLE) {
            Ok(waits) => Readable::Waits(waits),
            // epoll_ctl(2): EPERM, the file does not support it.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Readable::Ready(fd.try_clone_to_owned()?),
            Err(e) => return Err(e),
        };
        Ok(Self { fd })
    }

    /// Reads what is there, waiting for the first byte; 0 at the end.
    ///
    /// # Errors
    /// What read(2) reports.
    pub(crate) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.fd {
            Readable::Ready(fd) => Ok(rustix::io::read(fd, buffer)?),
            Readable::Waits(fd) => fd.async_io(Interest::READABLE, |fd| read_if_ready(fd, buffer)).await,
        }
    }
}

/// epoll tells edges: it may have told one that an earlier read used up. So asks again before a read that would block.
fn read_if_ready(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    if poll(&mut fds, Some(&Timespec::default()))? == 0 {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    Ok(rustix::io::read(fd, buffer)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    async fn all(mut input: Input) -> Vec<u8> {
        let (mut read, mut buffer) = (Vec::new(), [0; 7]);
        loop {
            match input.read(&mut buffer).await.unwrap() {
                0 => return read,
                n => read.extend_from_slice(&buffer[..n]),
            }
        }
    }

    #[test]
    fn pipes_and_files_are_read_to_their_end() {
        let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        rt.block_on(async {
            let (reader, mut writer) = io::pipe().unwrap();
            let input = Input::new(reader.as_fd()).unwrap();
            let text = b"more than one buffer of text";
            writer.write_all(text).unwrap();
            drop(writer);
            assert_eq!(all(input).await, text);
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(text).unwrap();
            let open = std::fs::File::open(file.path()).unwrap();
            assert_eq!(all(Input::new(open.as_fd()).unwrap()).await, text);
        });
    }
}
