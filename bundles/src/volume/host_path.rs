//! hostPath: what must be there, and what is created.
//!
//! Source: Kubernetes `pkg/volume/hostpath/host_path.go`.

use std::fs::{self, FileType, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::VolumeError;
use crate::plan::HostPathKind;

/// Checks a hostPath, and creates it where its type says so. Links are followed, as in Kubernetes.
pub(super) fn check(path: &Path, kind: HostPathKind) -> Result<(), VolumeError> {
    match fs::metadata(path) {
        Ok(found) => fits(path, kind, found.file_type()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(path, kind),
        Err(error) => Err(VolumeError::io("look at hostPath", path)(error)),
    }
}

fn wanted(kind: HostPathKind) -> &'static str {
    match kind {
        HostPathKind::Unchecked => "anything",
        HostPathKind::DirectoryOrCreate | HostPathKind::Directory => "a directory",
        HostPathKind::FileOrCreate | HostPathKind::File => "a regular file",
        HostPathKind::Socket => "a unix socket",
        HostPathKind::CharDevice => "a character device",
        HostPathKind::BlockDevice => "a block device",
    }
}

fn name(found: FileType) -> &'static str {
    if found.is_dir() {
        "a directory"
    } else if found.is_file() {
        "a regular file"
    } else if found.is_socket() {
        "a unix socket"
    } else if found.is_char_device() {
        "a character device"
    } else if found.is_block_device() {
        "a block device"
    } else if found.is_fifo() {
        "a named pipe"
    } else {
        "something else"
    }
}

fn fits(path: &Path, kind: HostPathKind, found: FileType) -> Result<(), VolumeError> {
    let (wanted, found) = (wanted(kind), name(found));
    if kind == HostPathKind::Unchecked || wanted == found {
        return Ok(());
    }
    Err(VolumeError::WrongKind { path: path.to_owned(), wanted, found })
}

fn create(path: &Path, kind: HostPathKind) -> Result<(), VolumeError> {
    let missing = |or| VolumeError::Missing { path: path.to_owned(), wanted: wanted(kind), or };
    match kind {
        HostPathKind::Unchecked | HostPathKind::DirectoryOrCreate => {
            fs::create_dir_all(path).map_err(VolumeError::io("create hostPath directory", path))?;
            fs::set_permissions(path, Permissions::from_mode(0o755)).map_err(VolumeError::io("set the mode of", path))
        }
        HostPathKind::FileOrCreate => {
            let file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path);
            match file {
                Ok(file) => file
                    .set_permissions(Permissions::from_mode(0o644))
                    .map_err(VolumeError::io("set the mode of", path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let found = fs::metadata(path).map_err(VolumeError::io("look at hostPath", path))?;
                    fits(path, kind, found.file_type())
                }
                // Kubernetes makes no parents either.
                Err(error) => Err(VolumeError::io("create hostPath file", path)(error)),
            }
        }
        HostPathKind::Directory => Err(missing("DirectoryOrCreate")),
        HostPathKind::File => Err(missing("FileOrCreate")),
        HostPathKind::Socket | HostPathKind::CharDevice | HostPathKind::BlockDevice => Err(missing("DirectoryOrCreate or FileOrCreate")),
    }
}
