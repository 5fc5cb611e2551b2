//! Directories of work in progress, and how trees of the store go.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::error::{ImageError, sys};
use super::inroot;

/// A directory in tmp/, removed when dropped.
pub(super) struct WorkDir {
    pub(super) path: PathBuf,
}

impl WorkDir {
    pub(super) fn new(root: &Path, prefix: &str) -> Result<Self, ImageError> {
        let tmp = root.join("tmp");
        let dir = tempfile::Builder::new().prefix(prefix).tempdir_in(&tmp).map_err(sys("create a directory in", tmp))?;
        Ok(Self { path: dir.keep() })
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        remove_dir(&self.path);
    }
}

/// Removes a tree of the store. What cannot be removed stays for gc, which reports it.
pub(super) fn remove_dir(path: &Path) {
    if let Err(error) = try_remove_dir(path) {
        tracing::warn!(path = %path.display(), %error, "remove from the image store");
    }
}

/// Removes a directory that has its final name. The name goes at once and the files then: whatever ends us, nobody finds half of it.
/// The caller has content.lock for himself.
pub(super) fn retire(root: &Path, dir: &Path) -> Result<(), ImageError> {
    let Some(name) = dir.file_name() else { return Ok(()) };
    // No new directory: this has to work when the disk is full.
    let aside = root.join("tmp").join(format!("removed-{}", name.to_string_lossy()));
    try_remove_dir(&aside)?;
    fs::rename(dir, &aside).map_err(sys("remove", dir))?;
    try_remove_dir(&aside)
}

/// Removes a tree of the store.
pub(super) fn try_remove_dir(path: &Path) -> Result<(), ImageError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let dir = inroot::open_dir(parent).map_err(sys("open", parent))?;
    inroot::remove_tree(dir.as_fd(), name.as_encoded_bytes()).map_err(sys("remove", path))
}

/// Removes a file that may be gone already.
pub(super) fn absent_is_fine(path: &Path) -> Result<(), ImageError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(sys("remove", path)),
    }
}
