//! Redirections: `>file`, `2>&1`, `<<END`, and putting descriptors back afterwards.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::IntoRawFd;

use brush_parser::ast::{IoFileRedirectKind as Kind, IoFileRedirectTarget as Target, IoRedirect};

use super::state::{Run, Shell};
use crate::sys;

/// What descriptors were before redirections: number and copy, `None` when it was closed.
#[derive(Default)]
pub(crate) struct Saved(Vec<(i32, Option<i32>)>);

impl Saved {
    /// Remembers what `fd` is.
    fn keep(&mut self, fd: i32) {
        if !self.0.iter().any(|(known, _)| *known == fd) {
            self.0.push((fd, sys::dup_away(fd).ok()));
        }
    }

    /// Puts everything back.
    pub(crate) fn restore(self) {
        for (fd, copy) in self.0.into_iter().rev() {
            match copy {
                Some(copy) => {
                    // Both numbers are open ones of ours: this cannot fail but for EINTR, which dup2 does not give on Linux.
                    drop(sys::dup_to(copy, fd));
                    sys::close(copy);
                }
                None => sys::close(fd),
            }
        }
    }

    /// Leaves everything as redirected (`exec >file`).
    pub(crate) fn forget(self) {
        for copy in self.0.into_iter().filter_map(|(_, copy)| copy) {
            sys::close(copy);
        }
    }
}

/// A here-document of at most this much goes through a pipe: no more fits for sure.
const PIPE_ROOM: usize = 4096;

impl Shell {
    /// Redirects. A failure is said, undone, and gives status 1.
    ///
    /// # Errors
    /// The jump of an expansion that failed; `Ok(None)` when a redirection did.
    pub(crate) fn redirect(&mut self, redirects: &[&IoRedirect]) -> Run<Option<Saved>> {
        let mut saved = Saved::default();
        for redirect in redirects {
            match self.redirect_one(redirect, &mut saved) {
                Ok(Ok(())) => {}
                Ok(Err((what, error))) => {
                    saved.restore();
                    self.complain(&format!("{what}: {}", plain(&error)));
                    self.status = 1;
                    return Ok(None);
                }
                Err(jump) => {
                    saved.restore();
                    return Err(jump);
                }
            }
        }
        Ok(Some(saved))
    }

    fn redirect_one(&mut self, redirect: &IoRedirect, saved: &mut Saved) -> Run<Result<(), (String, io::Error)>> {
        Ok(match redirect {
            IoRedirect::File(fd, kind, target) => {
                let fd = fd.unwrap_or(match kind {
                    Kind::Read | Kind::ReadAndWrite | Kind::DuplicateInput => 0,
                    _ => 1,
                });
                match target {
                    Target::Filename(word) => {
                        let path = self.single(&word.value)?;
                        self.open(kind, &path).and_then(|opened| put(opened, fd, saved)).map_err(|error| (path, error))
                    }
                    Target::Fd(from) => duplicate(&from.to_string(), fd, saved),
                    Target::Duplicate(word) => {
                        let from = self.single(&word.value)?;
                        duplicate(&from, fd, saved)
                    }
                    Target::ProcessSubstitution(..) => return Err(self.error("process substitution: not in this shell")),
                }
            }
            IoRedirect::HereDocument(fd, document) => {
                let text = if document.requires_expansion { self.here_document(&document.doc.value)? } else { document.doc.value.clone() };
                here(&text, fd.unwrap_or(0), saved)
            }
            IoRedirect::HereString(fd, word) => {
                let text = self.single(&word.value)?;
                here(&format!("{text}\n"), fd.unwrap_or(0), saved)
            }
            IoRedirect::OutputAndError(word, append) => {
                let path = self.single(&word.value)?;
                let kind = if *append { Kind::Append } else { Kind::Write };
                let opened = self.open(&kind, &path).and_then(|opened| put(opened, 1, saved)).map_err(|error| (path, error));
                opened.and_then(|()| duplicate("1", 2, saved))
            }
        })
    }

    fn open(&self, kind: &Kind, path: &str) -> io::Result<i32> {
        let mut options = OpenOptions::new();
        match kind {
            Kind::Read | Kind::DuplicateInput => options.read(true),
            Kind::Append => options.append(true).create(true),
            Kind::ReadAndWrite => options.read(true).write(true).create(true).truncate(false),
            Kind::Write if self.options.noclobber && std::fs::metadata(path).is_ok_and(|meta| meta.is_file()) => {
                return Err(io::Error::from_raw_os_error(nix::libc::EEXIST));
            }
            _ => options.write(true).create(true).truncate(true),
        };
        // A FIFO's open waits for the other end; a signal with a trap must not make it fail.
        loop {
            match options.open(path) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                opened => return opened.map(IntoRawFd::into_raw_fd),
            }
        }
    }
}

/// Makes `opened` be `fd`.
fn put(opened: i32, fd: i32, saved: &mut Saved) -> io::Result<()> {
    if opened == fd {
        // It took the very number, which so was closed before; std opens close-on-exec, the script wants it inherited.
        saved.0.push((fd, None));
        let away = sys::dup_away(fd)?;
        let done = sys::dup_to(away, fd);
        sys::close(away);
        return done;
    }
    saved.keep(fd);
    let done = sys::dup_to(opened, fd);
    sys::close(opened);
    done
}

/// `fd>&from`, with `-` to close.
fn duplicate(from: &str, fd: i32, saved: &mut Saved) -> Result<(), (String, io::Error)> {
    if from == "-" {
        saved.keep(fd);
        sys::close(fd);
        return Ok(());
    }
    let result = match from.parse() {
        Ok(number) => {
            saved.keep(fd);
            sys::dup_to(number, fd)
        }
        Err(_) => Err(io::Error::from_raw_os_error(nix::libc::EBADF)),
    };
    result.map_err(|error| (from.to_owned(), error))
}

/// Makes `text` what `fd` reads: through a pipe when it fits, else through a file without a name.
fn here(text: &str, fd: i32, saved: &mut Saved) -> Result<(), (String, io::Error)> {
    let made = (|| {
        if text.len() <= PIPE_ROOM {
            let (read, write) = sys::pipe()?;
            let written = sys::write_all(write, text.as_bytes());
            sys::close(write);
            return written.map(|()| read);
        }
        let file = nix::sys::memfd::memfd_create(c"here-document", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?.into_raw_fd();
        sys::write_all(file, text.as_bytes())?;
        // Opened anew, so that it is read from its start.
        let opened = std::fs::File::open(format!("/proc/self/fd/{file}"));
        sys::close(file);
        opened.map(IntoRawFd::into_raw_fd)
    })();
    made.and_then(|read| put(read, fd, saved)).map_err(|error| ("here-document".to_owned(), error))
}

/// An error without Rust's "(os error 2)".
pub(crate) fn plain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    }
}
