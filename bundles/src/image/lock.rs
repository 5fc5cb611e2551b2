//! Who may change the store.
//!
//! ```text
//! tmp/ingest-*/lock      exclusive: the life sign of who brings images in (see `lease`)
//! fetching/<diff id>     exclusive: who unpacks a layer, so that others wait for it; gone with its holder's work
//! content.lock           shared: `Hold` (content stays while it is used), looking up what is there; exclusive: removal
//! index.lock             exclusive: index.json is read, changed and replaced
//! embedded.lock          exclusive: the embedded image is unpacked
//! ```
//!
//! Taken in this order, and nobody waits for a layer while he has one. Reading index.json takes none: it is replaced whole. A lock
//! goes with the process that held it.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::digest::Digest;
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
        let fd = open(&path)?;
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

    /// The lock to oneself, when nobody has it.
    pub(super) fn try_exclusive(dir: &Path, name: &str) -> Result<Option<Self>, ImageError> {
        let path = dir.join(name);
        let fd = open(&path)?;
        match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { fd })),
            Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(None),
            Err(e) => Err(sys("lock", path)(e)),
        }
    }

    /// Whether the file that is locked still has this name.
    fn is_at(&self, path: &Path) -> Result<bool, ImageError> {
        let ours = rustix::fs::fstat(&self.fd).map_err(sys("look at", path))?;
        match rustix::fs::lstat(path) {
            Ok(there) => Ok((there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)),
            Err(Errno::NOENT) => Ok(false),
            Err(e) => Err(sys("look at", path)(e)),
        }
    }
}

fn open(path: &Path) -> Result<OwnedFd, ImageError> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR).map_err(sys("open lock", path))
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Not only closed: a forked child may still have the descriptor.
        if let Err(error) = rustix::fs::flock(&self.fd, FlockOperation::Unlock) {
            tracing::debug!(%error, "unlock");
        }
    }
}

/// The right to unpack a layer; its file goes with it.
#[derive(Debug)]
pub(super) struct LayerLock {
    path: PathBuf,
    _lock: Lock,
}

/// Between two looks at a lock. flock(2) can neither be given a time nor be waited for beside a wish to stop.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

impl LayerLock {
    /// Waits until nobody else unpacks the layer, and calls `waits` once when somebody does. `rest` waits for the time it is given, and
    /// says whether to stop.
    pub(super) fn wait(root: &Path, diff_id: &Digest, rest: &dyn Fn(Duration) -> bool, waits: &dyn Fn()) -> Result<Self, ImageError> {
        let (dir, name) = (root.join("fetching"), diff_id.hex());
        let path = dir.join(&name);
        let mut told = false;
        loop {
            // A file that lost its name while we opened it is no lock: whoever comes next makes a new one.
            if let Some(lock) = Lock::try_exclusive(&dir, &name)?
                && lock.is_at(&path)?
            {
                return Ok(Self { path, _lock: lock });
            }
            if !told {
                told = true;
                waits();
            }
            if rest(LOOK_AGAIN) {
                return Err(ImageError::Cancelled);
            }
        }
    }
}

impl Drop for LayerLock {
    fn drop(&mut self) {
        // Before the lock is given up, which happens when the fields are dropped.
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "remove a lock's file");
        }
    }
}

/// While it lives, nothing is removed from the store: take it before looking up an image and drop it once the use of its
/// layers is on disk, where the caller of [`ImageStore::gc`](super::ImageStore::gc) looks.
///
/// Who holds it must not remove, collect, load or pull in the same thread: the first two wait for the hold to end, and so do the
/// others when they fail, for they remove what they made.
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::{fs, thread};

    use super::*;

    #[test]
    fn one_at_a_time_has_a_layer_although_the_file_comes_and_goes() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("fetching")).unwrap();
        let (layer, taken) = (Digest::of(b"layer"), AtomicBool::new(false));
        let rest = |_| {
            thread::yield_now();
            false
        };
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let lock = LayerLock::wait(dir.path(), &layer, &rest, &|| {}).unwrap();
                        assert!(!taken.swap(true, Ordering::SeqCst), "two have it");
                        thread::yield_now();
                        taken.store(false, Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(dir.path().join("fetching")).unwrap().count(), 0);
    }
}
