//! emptyDir: a directory of the pod's own, root's, open to all as kubelet makes it (0777).

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::VolumeError;

pub(super) fn make(dir: &Path, name: &str) -> Result<PathBuf, VolumeError> {
    let mut builder = fs::DirBuilder::new();
    // Others reach a volume through their mounts only.
    builder.recursive(true).mode(0o700).create(dir).map_err(VolumeError::io("make the volumes directory", dir))?;
    let path = dir.join(name);
    match fs::create_dir(&path) {
        // Against the umask.
        Ok(()) => fs::set_permissions(&path, Permissions::from_mode(0o777)).map_err(VolumeError::io("open to all", &path))?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = fs::symlink_metadata(&path).map_err(VolumeError::io("look at", &path))?;
            if !found.is_dir() {
                return Err(VolumeError::io("make the emptyDir", &path)(error));
            }
        }
        Err(error) => return Err(VolumeError::io("make the emptyDir", &path)(error)),
    }
    Ok(path)
}

pub(super) fn remove(dir: &Path) -> Result<(), VolumeError> {
    let device = match fs::symlink_metadata(dir) {
        Ok(found) => found.dev(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(VolumeError::Remove { path: dir.to_owned(), source }),
    };
    let mut first = None;
    clear(dir, device, &mut first);
    match first {
        None => Ok(()),
        Some((path, source)) => Err(VolumeError::Remove { path, source }),
    }
}

/// Removes a tree of one file system, and keeps the first failure. The containers are gone: nobody swaps links under us,
/// and links are removed, not followed.
fn clear(dir: &Path, device: u64, first: &mut Option<(PathBuf, io::Error)>) {
    let mut note = |path: &Path, error: io::Error| {
        if error.kind() != io::ErrorKind::NotFound {
            first.get_or_insert((path.to_owned(), error));
        }
    };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => return note(dir, error),
    };
    let mut below = Vec::new();
    for entry in entries {
        let found = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)));
        match found {
            Ok((path, found)) if found.is_dir() && found.dev() == device => below.push(path),
            Ok((path, found)) if found.is_dir() => note(&path, io::Error::new(io::ErrorKind::ResourceBusy, "still mounted")),
            Ok((path, _)) => {
                if let Err(error) = fs::remove_file(&path) {
                    note(&path, error);
                }
            }
            Err(error) => note(dir, error),
        }
    }
    for path in below {
        clear(&path, device, first);
    }
    if let Err(error) = fs::remove_dir(dir)
        && error.kind() != io::ErrorKind::NotFound
    {
        first.get_or_insert((dir.to_owned(), error));
    }
}
