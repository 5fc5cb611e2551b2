//! Copies root file systems out of unpacked layers: what an overlay of them would show, as one tree.

use std::collections::HashMap;
use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chownat, lgetxattr, llistxattr, lsetxattr, mknodat,
    utimensat,
};

use crate::error::Error;

/// What overlay keeps for itself (kernel `Documentation/filesystems/overlayfs.rst`).
const OVERLAY_XATTRS: &[u8] = b"trusted.overlay.";
const OPAQUE: &str = "trusted.overlay.opaque";

/// Whether a tree speaks of what lies below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tree {
    /// Character devices 0:0 and opaque directories hide what lower layers have.
    Layer,
    /// All is as it is.
    Plain,
}

/// Copies layers, topmost first, into one new directory.
pub(crate) fn merge(layers: &[PathBuf], to: &Path) -> Result<(), Error> {
    fs::create_dir(to).map_err(Error::file("create", to))?;
    layers.iter().rev().try_for_each(|layer| Copy::new(Tree::Layer).directory(layer, to))
}

/// Copies one tree into a new directory.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    fs::create_dir(to).map_err(Error::file("create", to))?;
    Copy::new(Tree::Plain).directory(from, to)
}

/// One tree being copied.
struct Copy {
    tree: Tree,
    /// Where a file with several names was copied first, by device and inode.
    linked: HashMap<(u64, u64), PathBuf>,
}

impl Copy {
    fn new(tree: Tree) -> Self {
        Self { tree, linked: HashMap::new() }
    }

    /// Copies the content of a directory into one that exists, then what the directory itself has.
    fn directory(&mut self, from: &Path, to: &Path) -> Result<(), Error> {
        let meta = fs::symlink_metadata(from).map_err(Error::file("stat", from))?;
        for entry in fs::read_dir(from).map_err(Error::file("read", from))? {
            let entry = entry.map_err(Error::file("read", from))?;
            self.entry(&entry, &to.join(entry.file_name()))?;
        }
        // Last, for copying into it changes its times.
        attributes(from, to, &meta)
    }

    fn entry(&mut self, entry: &DirEntry, to: &Path) -> Result<(), Error> {
        let from = entry.path();
        let meta = entry.metadata().map_err(Error::file("stat", &from))?;
        if meta.is_dir() {
            return self.subdirectory(&from, to);
        }
        // Whatever a lower layer has here is replaced; links are never followed.
        clear(to)?;
        let kind = meta.file_type();
        if self.tree == Tree::Layer && kind.is_char_device() && meta.rdev() == 0 {
            return Ok(()); // a whiteout
        }
        if meta.nlink() > 1
            && let Some(first) = self.linked.get(&(meta.dev(), meta.ino()))
        {
            return fs::hard_link(first, to).map_err(Error::file("link", to));
        }
        if kind.is_symlink() {
            let target = fs::read_link(&from).map_err(Error::file("read link", &from))?;
            symlink(target, to).map_err(Error::file("link", to))?;
        } else if kind.is_file() {
            fs::copy(&from, to).map_err(Error::file("copy", &from))?;
        } else if kind.is_socket() {
            return Ok(()); // means nothing without the process that listened
        } else {
            let kind = FileType::from_raw_mode(meta.mode());
            mknodat(CWD, to, kind, Mode::from_raw_mode(meta.mode()), meta.rdev()).map_err(|e| Error::file("make node", to)(e.into()))?;
        }
        self.linked.insert((meta.dev(), meta.ino()), to.to_owned());
        attributes(&from, to, &meta)
    }

    fn subdirectory(&mut self, from: &Path, to: &Path) -> Result<(), Error> {
        let there = fs::symlink_metadata(to).is_ok_and(|meta| meta.is_dir());
        if !there || (self.tree == Tree::Layer && is_opaque(from)?) {
            clear(to)?;
            fs::create_dir(to).map_err(Error::file("create", to))?;
        }
        self.directory(from, to)
    }
}

fn is_opaque(directory: &Path) -> Result<bool, Error> {
    let mut value = [0; 8];
    match lgetxattr(directory, OPAQUE, &mut value[..]) {
        Ok(length) => Ok(value[..length] == *b"y"),
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::NOTSUP) => Ok(false),
        Err(e) => Err(Error::file("read attributes of", directory)(e.into())),
    }
}

fn clear(path: &Path) -> Result<(), Error> {
    let gone = |e: &io::Error| e.kind() == io::ErrorKind::NotFound;
    match fs::symlink_metadata(path) {
        Err(e) if gone(&e) => Ok(()),
        Err(e) => Err(Error::file("stat", path)(e)),
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path).map_err(Error::file("remove", path)),
        Ok(_) => fs::remove_file(path).map_err(Error::file("remove", path)),
    }
}

/// Owner, extended attributes, mode and times, in the order in which one does not undo the other.
fn attributes(from: &Path, to: &Path, meta: &Metadata) -> Result<(), Error> {
    let fail = |operation| move |e: rustix::io::Errno| Error::file(operation, to)(e.into());
    let (uid, gid) = (Uid::from_raw(meta.uid()), Gid::from_raw(meta.gid()));
    chownat(CWD, to, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(fail("change owner of"))?;
    xattrs(from, to)?;
    if !meta.is_symlink() {
        fs::set_permissions(to, meta.permissions()).map_err(Error::file("change mode of", to))?;
    }
    let times = Timestamps {
        last_access: Timespec { tv_sec: meta.atime(), tv_nsec: meta.atime_nsec() },
        last_modification: Timespec { tv_sec: meta.mtime(), tv_nsec: meta.mtime_nsec() },
    };
    utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(fail("set times of"))
}

fn xattrs(from: &Path, to: &Path) -> Result<(), Error> {
    let fail = |path: &Path, e: rustix::io::Errno| Error::file("copy attributes of", path)(e.into());
    // XATTR_LIST_MAX and XATTR_SIZE_MAX of the kernel.
    let mut names = vec![0; 64 * 1024];
    let length = match llistxattr(from, &mut names[..]) {
        Ok(0) | Err(rustix::io::Errno::NOTSUP) => return Ok(()),
        other => other.map_err(|e| fail(from, e))?,
    };
    let mut value = vec![0; 64 * 1024];
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty() && !name.starts_with(OVERLAY_XATTRS)) {
        let name = std::ffi::OsStr::from_bytes(name);
        let size = lgetxattr(from, name, &mut value[..]).map_err(|e| fail(from, e))?;
        lsetxattr(to, name, &value[..size], XattrFlags::empty()).map_err(|e| fail(to, e))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names(root: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for entry in fs::read_dir(root).unwrap() {
            let path = entry.unwrap().path();
            if path.symlink_metadata().unwrap().is_dir() {
                found.extend(names(&path));
            }
            found.push(path.display().to_string());
        }
        found.sort();
        found
    }

    #[test]
    fn upper_layers_hide_replace_and_add() {
        let dir = tempfile::tempdir().unwrap();
        let (lower, upper, to) = (dir.path().join("lower"), dir.path().join("upper"), dir.path().join("to"));
        for path in ["etc/opaque/old", "etc/kept", "etc/gone", "usr/bin/sh"] {
            let path = lower.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "lower").unwrap();
        }
        symlink("usr/bin", lower.join("bin")).unwrap();
        fs::create_dir_all(upper.join("etc/opaque")).unwrap();
        fs::write(upper.join("etc/opaque/new"), "upper").unwrap();
        lsetxattr(upper.join("etc/opaque"), OPAQUE, b"y", XattrFlags::empty()).unwrap();
        mknodat(CWD, upper.join("etc/gone"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
        // A directory where the lower layer has a link: it replaces the link and leaves the link's target alone.
        fs::create_dir(upper.join("bin")).unwrap();
        fs::write(upper.join("bin/su"), "upper").unwrap();
        fs::hard_link(upper.join("bin/su"), upper.join("bin/other")).unwrap();
        fs::set_permissions(upper.join("bin/su"), fs::Permissions::from_mode(0o4755)).unwrap();
        merge(&[upper, lower], &to).unwrap();
        let wanted = ["bin", "bin/other", "bin/su", "etc", "etc/kept", "etc/opaque", "etc/opaque/new", "usr", "usr/bin", "usr/bin/sh"];
        assert_eq!(names(&to), wanted.map(|name| to.join(name).display().to_string()));
        let su = fs::metadata(to.join("bin/su")).unwrap();
        assert_eq!(su.mode() & 0o7777, 0o4755);
        assert_eq!(su.ino(), fs::metadata(to.join("bin/other")).unwrap().ino());
        assert_eq!(rustix::fs::llistxattr_query(to.join("etc/opaque")).unwrap(), 0);
    }

    #[test]
    fn a_plain_tree_is_copied_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir(&from).unwrap();
        mknodat(CWD, from.join("zero"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
        symlink("/nowhere", from.join("link")).unwrap();
        chownat(CWD, from.join("link"), Some(Uid::from_raw(7)), None, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        copy(&from, &to).unwrap();
        assert!(fs::symlink_metadata(to.join("zero")).unwrap().file_type().is_char_device());
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/nowhere"));
        assert_eq!(fs::symlink_metadata(to.join("link")).unwrap().uid(), 7);
    }
}
