//! What an image's configuration calls `Volumes` (VOLUME in a Dockerfile): directories that each container of it has for itself,
//! filled with what the image has there, as containerd and podman do it.
//!
//! Source: containerd `internal/cri/server/container_create.go` (`volumeMounts`), `internal/cri/opts` (`WithVolumes`).

use std::collections::{BTreeSet, HashMap};
use std::ffi::{CStr, CString};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chmodat, chownat, fchmod,
    fchown, fgetxattr, fgetxattr_query, flistxattr, flistxattr_query, fsetxattr, ftruncate, futimens, linkat, mkdirat, mknodat, openat,
    readlinkat, seek, statat, symlinkat, utimensat,
};
use rustix::io::Errno;

use super::VolumeError;
use super::sub_path::open;
use crate::plan::{ContainerPlan, RootSource};

/// Most volumes of one image.
const MAX_VOLUMES: usize = 100;

/// Deepest directories that are copied: each level holds two descriptors open.
const MAX_DEPTH: usize = 128;

/// What the kernel or the pod has there; nothing of an image's may lie on it.
const FORBIDDEN: [&str; 3] = ["/proc", "/dev", "/sys"];

/// Files that the pod brings itself.
const OF_THE_POD: [&str; 3] = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];

/// Where a container gets directories of its own because its image says so: absolute and clean, parents first. Where the manifest
/// mounts something it gets none.
///
/// # Errors
/// [`VolumeError::OfImage`] for a place where nothing may be, or more than a hundred of them.
pub fn of_image(container: &ContainerPlan) -> Result<Vec<PathBuf>, VolumeError> {
    let RootSource::Image(image) = &container.root else { return Ok(Vec::new()) };
    let refuse = |why: String| VolumeError::OfImage { image: image.reference.clone(), why };
    let wanted = &image.config.volumes;
    if wanted.len() > MAX_VOLUMES {
        return Err(refuse(format!("its configuration has {} volumes, more than {MAX_VOLUMES} (the limit)", wanted.len())));
    }
    let mut places = BTreeSet::new();
    for text in wanted {
        let place = clean(text);
        if container.mounts.iter().any(|mount| mount.mount_path == place) || OF_THE_POD.iter().any(|file| place == Path::new(file)) {
            continue;
        }
        let taken = place == Path::new("/") || FORBIDDEN.iter().any(|forbidden| place.starts_with(forbidden));
        if taken || text.contains('\0') {
            let shown: String = text.chars().take(100).collect();
            return Err(refuse(format!("its configuration asks for a volume at {shown:?}, where none can be")));
        }
        places.insert((place.components().count(), place));
    }
    Ok(places.into_iter().map(|(_, place)| place).collect())
}

/// As a process whose root and working directory is the container's root would take it, links aside.
fn clean(text: &str) -> PathBuf {
    let mut place = PathBuf::from("/");
    for part in Path::new(text).components() {
        match part {
            Component::Normal(name) => place.push(name),
            Component::ParentDir => drop(place.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    place
}

/// Makes the directory `to` with what the image has at `place`: content, owners, modes, times, links. Without anything there it is
/// empty, root's, 0755. A directory that is there already is one of an earlier start, and left as it is.
///
/// `root` is the container's root, which nobody changes meanwhile. Links on the way to `place` are followed inside it.
///
/// # Errors
/// [`VolumeError::Fill`]: `place` is a file, a failed system call, such as for want of space. Then there is no `to`.
///
/// Source: openat2(2), RESOLVE_IN_ROOT.
pub fn fill(root: &Path, place: &Path, to: &Path) -> Result<(), VolumeError> {
    if fs::symlink_metadata(to).is_ok() {
        return Ok(());
    }
    let begun = to.with_extension("new");
    // Of a start that did not get to its end.
    super::remove(&begun)?;
    let filled = copy_place(root, place, &begun);
    if let Err((entry, source)) = filled {
        super::remove(&begun)?;
        return Err(VolumeError::Fill { place: place.to_owned(), entry, source });
    }
    fs::rename(&begun, to).map_err(VolumeError::io("name", to))
}

/// A failure, and the entry at which it came about.
type Failure = (PathBuf, io::Error);

fn copy_place(root: &Path, place: &Path, to: &Path) -> Result<(), Failure> {
    let here = |error: Errno| (PathBuf::new(), io::Error::from(error));
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(to).map_err(|error| (PathBuf::new(), error))?;
    let made = rustix::fs::open(to, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(here)?;
    let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(here)?;
    let inside = place.strip_prefix("/").unwrap_or(place);
    let found = match open(root.as_fd(), inside) {
        // Against the umask.
        Err(Errno::NOENT) => return fchmod(&made, Mode::from_raw_mode(0o755)).map_err(here),
        other => other.map_err(here)?,
    };
    let from = match openat(&found, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOTDIR) => return Err((PathBuf::new(), io::Error::new(io::ErrorKind::NotADirectory, "the image has a file there"))),
        other => other.map_err(here)?,
    };
    Copy { to: made.as_fd(), linked: HashMap::new() }.directory(&from, &made, Path::new(""), 0)
}

/// A tree being copied. Nothing is followed.
struct Copy<'a> {
    /// The top of the copy.
    to: BorrowedFd<'a>,
    /// Where a file with several names was copied first, by device and inode.
    linked: HashMap<(u64, u64), PathBuf>,
}

impl Copy<'_> {
    /// Copies the content of a directory, then what the directory itself has: copying into it changes its times.
    fn directory(&mut self, from: &OwnedFd, to: &OwnedFd, at: &Path, depth: usize) -> Result<(), Failure> {
        let fail = |error: Errno| (at.to_owned(), io::Error::from(error));
        if depth > MAX_DEPTH {
            return Err((at.to_owned(), io::Error::other(format!("more than {MAX_DEPTH} directories deep (the limit)"))));
        }
        let mut below = Vec::new();
        for entry in Dir::read_from(from).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name();
            if name != c"." && name != c".." && self.entry(from, to, name, at).map_err(|error| (join(at, name), error))? == Entry::Directory {
                below.push(name.to_owned());
            }
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for name in below {
            let at = join(at, &name);
            let fail = |error: Errno| (at.clone(), io::Error::from(error));
            let from = openat(from, &*name, flags, Mode::empty()).map_err(fail)?;
            mkdirat(to, &*name, Mode::RWXU).map_err(fail)?;
            let to = openat(to, &*name, flags, Mode::empty()).map_err(fail)?;
            self.directory(&from, &to, &at, depth + 1)?;
        }
        attributes(from.as_fd(), to.as_fd()).map_err(|error| (at.to_owned(), error))
    }

    fn entry(&mut self, from: &OwnedFd, to: &OwnedFd, name: &CStr, at: &Path) -> io::Result<Entry> {
        let stat = match statat(from, name, AtFlags::SYMLINK_NOFOLLOW) {
            // Overlay lists the name of what a lone layer hides.
            Err(Errno::NOENT) => return Ok(Entry::Done),
            other => other?,
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            return Ok(Entry::Directory);
        }
        let identity = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1
            && let Some(first) = self.linked.get(&identity)
        {
            match linkat(self.to, first, to, name, AtFlags::empty()) {
                // Too long a path, or a file system without: a copy does as well.
                Err(Errno::NAMETOOLONG | Errno::MLINK | Errno::PERM) => {}
                other => return Ok(other.map(|()| Entry::Done)?),
            }
        }
        match kind {
            FileType::RegularFile => regular(from, to, name, &stat)?,
            FileType::Symlink => {
                symlinkat(readlinkat(from, name, Vec::new())?, to, name)?;
                owner_and_times(to, name, &stat)?;
            }
            // Those that an image may have; the device cgroup has the last word.
            FileType::CharacterDevice | FileType::Fifo if stat.st_rdev != 0 || kind == FileType::Fifo => {
                mknodat(to, name, kind, Mode::from_raw_mode(stat.st_mode), stat.st_rdev)?;
                owner_and_times(to, name, &stat)?;
                chmodat(to, name, Mode::from_raw_mode(stat.st_mode), AtFlags::empty())?;
            }
            // Sockets mean nothing without the process that listened; no image has block devices.
            _ => return Ok(Entry::Done),
        }
        if stat.st_nlink > 1 {
            self.linked.entry(identity).or_insert_with(|| join(at, name));
        }
        Ok(Entry::Done)
    }
}

/// What became of an entry.
#[derive(PartialEq, Eq)]
enum Entry {
    /// It is copied, or left out.
    Done,
    /// It is to be copied when its own directory is read.
    Directory,
}

fn join(at: &Path, name: &CStr) -> PathBuf {
    at.join(std::ffi::OsStr::from_bytes(name.to_bytes()))
}

fn regular(from: &OwnedFd, to: &OwnedFd, name: &CStr, stat: &Stat) -> io::Result<()> {
    let from = File::from(openat(from, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let to = File::from(openat(to, name, flags, Mode::RUSR | Mode::WUSR)?);
    let size = u64::try_from(stat.st_size).unwrap_or_default();
    let mut end = 0;
    // Holes stay holes: an image of a few bytes must not fill the disk.
    while end < size {
        let start = match seek(&from, SeekFrom::Data(end)) {
            Err(Errno::NXIO) => break,
            other => other?,
        };
        end = seek(&from, SeekFrom::Hole(start))?;
        seek(&from, SeekFrom::Start(start))?;
        seek(&to, SeekFrom::Start(start))?;
        io::copy(&mut (&from).take(end - start), &mut &to)?;
    }
    ftruncate(&to, size)?;
    attributes(from.as_fd(), to.as_fd())
}

/// Owner, extended attributes, mode and times, in the order in which one does not undo the other.
fn attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let stat = rustix::fs::fstat(from)?;
    fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    xattrs(from, to)?;
    fchmod(to, Mode::from_raw_mode(stat.st_mode))?;
    Ok(futimens(to, &times(&stat))?)
}

fn owner_and_times(to: &OwnedFd, name: &CStr, stat: &Stat) -> io::Result<()> {
    chownat(to, name, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(utimensat(to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn times(stat: &Stat) -> Timestamps {
    let nanoseconds = i64::try_from(stat.st_mtime_nsec).unwrap_or_default();
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: nanoseconds },
    }
}

/// The kinds that the store unpacks. The kernel allows 64 KiB of names and of each value.
fn xattrs(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let wanted = |name: &[u8]| name.starts_with(b"user.") || name == b"security.capability" || name.starts_with(b"system.posix_acl_");
    let length = match flistxattr_query(from) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(()),
        other => other?,
    };
    let mut names = vec![0; length];
    let length = flistxattr(from, &mut names[..])?;
    for name in names[..length].split(|byte| *byte == 0).filter(|name| wanted(name)) {
        // It held no NUL: it was split there.
        let name = CString::new(name).map_err(io::Error::other)?;
        let mut value = vec![0; fgetxattr_query(from, &*name)?];
        let size = fgetxattr(from, &*name, &mut value[..])?;
        fsetxattr(to, &*name, &value[..size], XattrFlags::empty())?;
    }
    Ok(())
}
