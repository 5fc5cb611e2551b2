//! Files below a directory nobody can be led out of.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// Names are the image's: links in them lead where they would lead inside a container whose root this is.
///
/// man: openat2(2)
const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// Opens a directory of our own.
pub(super) fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Opens `path` below `root`, following links as a process whose root is `root` would.
pub(super) fn open_in(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    // The kernel gives EAGAIN when a rename anywhere on the system may have raced with `..`.
    for _ in 0..128 {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), IN_ROOT) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// What is at `name`, itself and not what it links to; `None` when nothing is.
pub(super) fn stat(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Stat>, Errno> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

/// The type bits of a stat.
pub(super) fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Removes `name` and all below it, following nothing. It is fine when it is not there.
///
/// Depth costs neither memory nor descriptors: deep directories are moved up.
pub(super) fn remove_tree(dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Ok(root) => root,
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => return absent_is_fine(rustix::fs::unlinkat(dir, name, AtFlags::empty())),
        Err(e) => return Err(e),
    };
    let mut moved = 0;
    // Entries that appear while a directory is read may be missed: look again until it is empty.
    loop {
        match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            other => return absent_is_fine(other),
        }
        for entry in names(root.as_fd())? {
            if !remove_one(root.as_fd(), &entry)? {
                flatten(root.as_fd(), &entry, &mut moved)?;
            }
        }
    }
}

/// Empties the directory `name` of `root`, moving its own directories up to `root`.
fn flatten(root: BorrowedFd<'_>, name: &CStr, moved: &mut u64) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(root, name, flags, Mode::empty())?;
    for entry in names(dir.as_fd())? {
        if remove_one(dir.as_fd(), &entry)? {
            continue;
        }
        loop {
            *moved += 1;
            let free = format!(".minipod-removed-{moved}");
            match rustix::fs::renameat_with(&dir, &*entry, root, free, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => {}
                other => break other?,
            }
        }
    }
    match rustix::fs::unlinkat(root, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
        other => absent_is_fine(other),
    }
}

/// Removes a file or an empty directory; `false` when it is a directory with something in it.
fn remove_one(dir: BorrowedFd<'_>, name: &CStr) -> Result<bool, Errno> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        other => return absent_is_fine(other).map(|()| true),
    }
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        other => absent_is_fine(other).map(|()| true),
    }
}

/// A thousand names at most: memory stays flat in huge directories.
fn names(dir: BorrowedFd<'_>) -> Result<Vec<CString>, Errno> {
    let mut found = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            found.push(name.to_owned());
            if found.len() == 1000 {
                break;
            }
        }
    }
    Ok(found)
}

fn absent_is_fine(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn removes_deep_and_wide_trees_and_follows_nothing() {
        let base = tempfile::tempdir().unwrap();
        let keep = base.path().join("keep");
        fs::create_dir(&keep).unwrap();
        fs::write(keep.join("file"), "x").unwrap();
        let dir = open_dir(base.path()).unwrap();
        fs::create_dir(base.path().join("tree")).unwrap();
        // Deeper than descriptors (1024) or PATH_MAX allow to walk naively.
        let mut at = open_dir(&base.path().join("tree")).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            symlink(&keep, format!("/proc/self/fd/{}/link", std::os::fd::AsRawFd::as_raw_fd(&at))).unwrap();
            at = rustix::fs::openat(&at, "d", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        }
        for n in 0..2500 {
            fs::write(base.path().join(format!("tree/f{n}")), "").unwrap();
        }
        remove_tree(dir.as_fd(), b"tree").unwrap();
        remove_tree(dir.as_fd(), b"tree").unwrap();
        symlink(&keep, base.path().join("link")).unwrap();
        remove_tree(dir.as_fd(), b"link").unwrap();
        let left: Vec<_> = fs::read_dir(base.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["keep"]);
        assert!(keep.join("file").exists());
    }
}
