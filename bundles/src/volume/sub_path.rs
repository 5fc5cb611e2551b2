//! Sub paths: resolved inside the volume as if it were the root, held by descriptor, so that a container that swaps a
//! directory for a link (CVE-2017-1002101, CVE-2021-25741) wins nothing.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::VolumeError;
use crate::plan::VolumeSource;

/// A place in a volume, held open.
#[derive(Debug)]
pub struct SubPath {
    fd: OwnedFd,
    directory: bool,
}

/// What to do about a sub path that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Make it as a directory (0750, the volume's owner's), as kubelet does.
    Create,
    /// Nothing: the volume cannot be written.
    Refuse,
}

impl Missing {
    /// As the volume's source has it.
    pub fn of(source: &VolumeSource) -> Self {
        match source {
            VolumeSource::EmptyDir { .. } | VolumeSource::HostPath { .. } => Self::Create,
            VolumeSource::Image { .. } => Self::Refuse,
        }
    }
}

/// Opens `sub_path` inside the volume at `volume`; links in it cannot lead out.
///
/// # Errors
/// [`VolumeError::SubPath`]: a `..`, a part that is no directory, a failed system call. [`VolumeError::NoSubPath`] when it is
/// missing and may not be made.
///
/// Source: openat2(2), RESOLVE_IN_ROOT; Kubernetes `pkg/volume/util/subpath`.
pub fn sub_path(volume: &Path, sub_path: &Path, missing: Missing) -> Result<SubPath, VolumeError> {
    let failed = |source| VolumeError::SubPath { volume: volume.to_owned(), sub_path: sub_path.to_owned(), source };
    if sub_path.is_absolute() || sub_path.components().any(|part| part == Component::ParentDir) {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "it has to be relative and without '..'")));
    }
    let root = rustix::fs::openat(CWD, volume, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| failed(error.into()))?;
    let fd = match open(root.as_fd(), sub_path) {
        Err(Errno::NOENT) if missing == Missing::Refuse => return Err(VolumeError::NoSubPath { sub_path: sub_path.to_owned() }),
        Err(Errno::NOENT) => create(root.as_fd(), sub_path),
        other => other,
    };
    let fd = fd.map_err(|error| failed(error.into()))?;
    let kind = rustix::fs::fstat(&fd).map_err(|error| failed(error.into()))?.st_mode;
    Ok(SubPath { directory: FileType::from_raw_mode(kind) == FileType::Directory, fd })
}

/// Opens a place, its links followed as if `root` were the root.
pub(super) fn open(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), inside) {
            // A rename elsewhere in the tree while it looked: openat2(2) says to try again.
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Makes the missing parts one by one, each below a parent that is held open.
fn create(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    let mut here = open(root, Path::new("."))?;
    let mut done = PathBuf::new();
    let mode = Mode::from_raw_mode(0o750);
    for part in path.components().filter(|part| *part != Component::CurDir) {
        done.push(part);
        here = match open(root, &done) {
            Err(Errno::NOENT) => {
                match rustix::fs::mkdirat(&here, part.as_os_str().as_bytes(), mode) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error),
                }
                // Not a link that took its place meanwhile.
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                rustix::fs::openat(&here, part.as_os_str().as_bytes(), flags, Mode::empty())?
            }
            other => other?,
        };
    }
    Ok(here)
}

impl SubPath {
    /// True for a directory, false for a file.
    pub fn is_directory(&self) -> bool {
        self.directory
    }

    /// Binds it to `target`, which is made (a directory or a file, like itself), and returns nothing: bind `target` into
    /// containers. Undone by unmounting and removing `target`. Call it in a private mount namespace.
    ///
    /// # Errors
    /// [`VolumeError::Io`].
    pub fn stage(&self, target: &Path) -> Result<(), VolumeError> {
        if self.directory {
            fs::create_dir_all(target).map_err(VolumeError::io("make", target))?;
        } else {
            let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(target);
            drop(made.map_err(VolumeError::io("make", target))?);
        }
        // The descriptor's own link leads to the very inode, whatever its path has become.
        let source = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        rustix::mount::mount_bind_recursive(source, target)
            .map_err(|error| VolumeError::io("bind a subPath to", target)(error.into()))
    }
}

impl AsFd for SubPath {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
