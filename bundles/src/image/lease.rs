//! What an image that comes in relies on before the index names it.
//!
//! ```text
//! tmp/ingest-*/lock             held while its maker lives
//!              uses/<diff id>   a layer it has found or makes; an empty file
//!              <diff id>/       a layer being unpacked
//! ```
//!
//! Layers get their names one by one, as soon as they are whole, so that others need not fetch them again. Until the index names
//! them a lease keeps them: removal passes over what a live lease uses, and takes what only dead ones did.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::IFlags;

use super::digest::Digest;
use super::error::{ImageError, sys};
use super::inroot;
use super::lock::{Lock, Share};
use super::work::{WorkDir, remove_dir, try_remove_dir};

const PREFIX: &str = "ingest-";
const LOCK: &str = "lock";
const USES: &str = "uses";

/// One's own lease; gives up what it keeps when dropped.
pub(super) struct Lease {
    root: PathBuf,
    work: WorkDir,
    _lock: Lock,
}

impl Lease {
    /// Takes a lease on nothing yet.
    pub(super) fn new(root: &Path) -> Result<Self, ImageError> {
        // Nobody removes while the directory has no lock yet.
        let _content = Lock::wait(root, "content.lock", Share::Shared)?;
        let work = WorkDir::new(root, PREFIX)?;
        spread(&work.path);
        let uses = work.path.join(USES);
        DirBuilder::new().mode(0o700).create(&uses).map_err(sys("create", uses))?;
        let lock = Lock::wait(&work.path, LOCK, Share::Exclusive)?;
        Ok(Self { root: root.to_owned(), work, _lock: lock })
    }

    /// Keeps a layer, whether it is there or not. To be called before looking whether it is.
    pub(super) fn keep(&self, diff_id: &Digest) -> Result<(), ImageError> {
        let path = self.work.path.join(USES).join(diff_id.hex());
        File::create(&path).map(drop).map_err(sys("create", path))
    }

    /// Where a layer may be unpacked.
    pub(super) fn work(&self, diff_id: &Digest) -> PathBuf {
        self.work.path.join(diff_id.hex())
    }

    /// A directory for other files.
    pub(super) fn path(&self) -> &Path {
        &self.work.path
    }
}

/// Asks ext4 to put the directories that are made in `dir` into block groups of their own (chattr(1), T). Layers are unpacked side by side,
/// and in one group they wait for each other; worse, where many files were deleted in the last minutes (an image removed, then pulled
/// again) each new file costs a look at all of them. Other file systems have no use for it.
fn spread(dir: &Path) {
    let set = |fd: OwnedFd| {
        let flags = rustix::fs::ioctl_getflags(&fd)?;
        Ok(rustix::fs::ioctl_setflags(&fd, flags | IFlags::TOPDIR)?)
    };
    if let Err(error) = inroot::open_dir(dir).and_then(set) {
        tracing::debug!(dir = %dir.display(), %error, "layers not spread over the disk");
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Nobody looks at it while it goes.
        match Lock::wait(&self.root, "content.lock", Share::Shared) {
            Ok(_content) => remove_dir(&self.work.path),
            Err(error) => tracing::warn!(%error, "give up a lease"),
        }
    }
}

/// Removes what is left in tmp/ of work that somebody did not end, and tells which layers the live leases keep. The caller has
/// content.lock for himself: no lease comes or goes, and what is no lease is made under content.lock only.
pub(super) fn sweep(root: &Path) -> Result<BTreeSet<String>, ImageError> {
    let mut kept = BTreeSet::new();
    let tmp = root.join("tmp");
    for name in entries(&tmp)? {
        let dir = tmp.join(&name);
        if !name.starts_with(PREFIX) {
            try_remove_dir(&dir)?;
            continue;
        }
        match Lock::try_exclusive(&dir, LOCK)? {
            Some(_dead) => try_remove_dir(&dir)?,
            None => kept.extend(entries(&dir.join(USES))?),
        }
    }
    Ok(kept)
}

/// Names in a directory of ours; none when it does not exist.
pub(super) fn entries(dir: &Path) -> Result<Vec<String>, ImageError> {
    let read = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(sys("read", dir))?,
    };
    let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    read.map(name).collect::<io::Result<_>>().map_err(sys("read", dir))
}
