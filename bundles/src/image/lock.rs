//! Who may change the store.
//!
//! ```text
//! load.lock     exclusive: one load or removal at a time
//! content.lock  shared: `Hold` (content stays while it is used); exclusive: removal
//! index.lock    exclusive: index.json is read, changed and replaced
//! embedded.lock exclusive: the embedded image is unpacked
//! ```
//!
//! Taken in this order. Reading index.json takes none: it is replaced whole. A lock goes with the process that held it.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::error::{ImageError, sys};

/// How to share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    Shared,
    Exclusive,
}

/// A lock on a file, given back when dropped.
///
/// man: flock(2). Each lock opens the file anew, so threads exclude each other too.
#[derive(Debug)]
pub(super) struct Lock {
    fd: OwnedFd,
}

impl Lock {
    /// Waits until the lock is free.
    pub(super) fn wait(dir: &Path, name: &str, share: Share) -> Result<Self, ImageError> {
        let path = dir.join(name);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR).map_err(sys("open lock", &path))?;
        let operation = match share {
            Share::Shared => FlockOperation::LockShared,
            Share::Exclusive => FlockOperation::LockExclusive,
        };
        loop {
            match rustix::fs::flock(&fd, operation) {
                Err(Errno::INTR) => {}
                other => break other.map_err(sys("lock", path))?,
            }
        }
        Ok(Self { fd })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Not only closed: a forked child may still have the descriptor.
        if let Err(error) = rustix::fs::flock(&self.fd, FlockOperation::Unlock) {
            tracing::debug!(%error, "unlock");
        }
    }
}

/// While it lives, nothing is removed from the store: take it before looking up an image and drop it once the use of its
/// layers is on disk, where the caller of [`ImageStore::gc`](super::ImageStore::gc) looks.
///
/// Who holds it must not remove or collect in the same thread: that waits for the hold to end.
///
/// A process that forks must drop it in the parent only after the child no longer needs it: either's drop ends both.
#[derive(Debug)]
pub struct Hold {
    _lock: Lock,
}

impl Hold {
    pub(super) fn new(dir: &Path) -> Result<Self, ImageError> {
        Ok(Self { _lock: Lock::wait(dir, "content.lock", Share::Shared)? })
    }
}
