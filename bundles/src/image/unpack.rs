//! Writes a layer's tar stream as a directory in overlay's own form.
//!
//! - Names are cleaned: a leading `/` and `.` mean nothing, `..` is refused. Links on the way are followed as they would be
//!   inside a container whose root the layer is (openat2, `RESOLVE_IN_ROOT`), so nothing outside can be reached.
//! - The last component is never followed. A later entry replaces an earlier one of its name, a directory with all below it.
//! - `.wh.NAME` becomes overlay's whiteout (character device 0:0), `.wh..wh..opq` the opaque mark.
//! - Devices: only those that show nothing of the host ([`HARMLESS_DEVICES`]); others are left out with a warning. A
//!   container gets its own /dev, and the device cgroup must not be the only thing between an image and the host's disks.
//! - Extended attributes: user.*, security.capability and POSIX ACLs. trusted.* and other security.* are the host's business
//!   (overlay's marks, SELinux labels) and are left out.
//!
//! Spec: image-spec `layer.md`; kernel Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories".

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::error::LayerError;
use super::inroot;
use super::limits::Limits;
use super::tarball::{Entry, Kind, Skip, TarReader};

/// Character devices an image may bring: null, zero, full, random, urandom, tty, ptmx; and 0:0, overlay's whiteout.
const HARMLESS_DEVICES: &[(u32, u32)] = &[(0, 0), (1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2)];

pub(super) const OPAQUE: &str = "trusted.overlay.opaque";
pub(super) const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// aufs' own files, of which only `.wh..wh..opq` means something.
const WHITEOUT_META_PREFIX: &[u8] = b".wh..wh.";
pub(super) const OPAQUE_NAME: &[u8] = b".wh..wh..opq";

/// What a layer holds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Contents {
    /// Bytes of file content, without holes.
    pub(super) bytes: u64,
    pub(super) entries: u64,
}

/// Unpacks all of `tar` into the empty directory `root`.
pub(super) fn unpack<R: Skip>(tar: &mut TarReader<'_, R>, root: OwnedFd, limits: &Limits) -> Result<Contents, LayerError> {
    let mut unpacker = Unpacker {
        root,
        limits,
        contents: Contents::default(),
        logical: 0,
        times: Vec::new(),
        time_names: 0,
        last: None,
        buffer: vec![0; 128 << 10],
    };
    while let Some(entry) = tar.next()? {
        unpacker.count_entry()?;
        unpacker.count_bytes(&entry)?;
        unpacker.entry(&entry, tar)?;
    }
    unpacker.set_directory_times()?;
    Ok(unpacker.contents)
}

/// A time: seconds since the epoch, and nanoseconds.
type Seconds = (i64, u32);

struct Unpacker<'a> {
    root: OwnedFd,
    limits: &'a Limits,
    contents: Contents,
    /// Bytes of file content with holes.
    logical: u64,
    /// Directories' times are set last: every entry made in one changes them.
    times: Vec<(Box<[u8]>, Seconds)>,
    time_names: u64,
    /// The directory of the last entry: most entries follow one of the same directory.
    last: Option<(Vec<u8>, OwnedFd)>,
    buffer: Vec<u8>,
}

/// A failed system call on an entry.
fn write_error<E: Into<io::Error>>(entry: &Entry, op: &'static str) -> impl FnOnce(E) -> LayerError {
    move |source| LayerError::Write { entry: entry.name(), op, source: source.into() }
}

fn refused(entry: &Entry, why: impl Into<String>) -> LayerError {
    LayerError::Refused { entry: entry.name(), why: why.into() }
}

/// Components joined by `/`, without empty ones and `.`; the root is empty.
fn clean(entry: &Entry, name: &[u8]) -> Result<Vec<u8>, LayerError> {
    let mut cleaned = Vec::with_capacity(name.len());
    for component in name.split(|&b| b == b'/') {
        match component {
            b"" | b"." => {}
            b".." => return Err(refused(entry, "`..` in a name could lead out of the image")),
            _ if component.contains(&0) => return Err(refused(entry, "a NUL byte in a name")),
            _ if component.len() > 255 => return Err(refused(entry, "a part of the name is longer than 255 bytes")),
            _ => {
                if !cleaned.is_empty() {
                    cleaned.push(b'/');
                }
                cleaned.extend_from_slice(component);
            }
        }
    }
    Ok(cleaned)
}

/// Directory and last component of a cleaned name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&b| b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

fn timestamps((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

fn mode(bits: u32) -> Mode {
    Mode::from_raw_mode(bits)
}

pub(super) fn is_whiteout(stat: &rustix::fs::Stat) -> bool {
    inroot::file_type(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

const DIR_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

impl Unpacker<'_> {
    fn count_entry(&mut self) -> Result<(), LayerError> {
        self.contents.entries += 1;
        if self.contents.entries > self.limits.layer_entries {
            return Err(LayerError::Limit { what: "entries in a layer", limit: self.limits.layer_entries });
        }
        Ok(())
    }

    /// Of every entry: the data of those that make no file has to be read as well.
    fn count_bytes(&mut self, entry: &Entry) -> Result<(), LayerError> {
        let size = match &entry.kind {
            Kind::SparseFile(sparse) => sparse.size,
            _ => entry.size,
        };
        self.logical = self.logical.saturating_add(size);
        if self.logical > self.limits.layer_bytes {
            return Err(LayerError::Limit { what: "bytes in a layer", limit: self.limits.layer_bytes });
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry, data: &mut impl Read) -> Result<(), LayerError> {
        let path = clean(entry, &entry.path)?;
        if path.is_empty() {
            return self.root_entry(entry);
        }
        let (parent_path, name) = split(&path);
        let aufs_meta = |part: &[u8]| part.starts_with(WHITEOUT_META_PREFIX);
        if parent_path.split(|&b| b == b'/').any(aufs_meta) || (aufs_meta(name) && name != OPAQUE_NAME) {
            return Ok(());
        }
        let parent = self.parent(entry, parent_path)?;
        if name == OPAQUE_NAME {
            return set_opaque(entry, parent.as_fd());
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT_PREFIX) {
            return whiteout(entry, parent.as_fd(), hidden);
        }
        match &entry.kind {
            Kind::Directory => self.directory(entry, parent.as_fd(), name, &path)?,
            Kind::File | Kind::SparseFile(_) => self.file(entry, parent.as_fd(), name, data)?,
            Kind::HardLink => self.hard_link(entry, parent.as_fd(), name)?,
            Kind::Symlink => {
                if entry.link.is_empty() || entry.link.contains(&0) {
                    return Err(refused(entry, "a symbolic link to nowhere"));
                }
                self.make(entry, parent.as_fd(), name, |dir| rustix::fs::symlinkat(&entry.link[..], dir, name))?;
                set_metadata_at(entry, parent.as_fd(), name)?;
            }
            Kind::Fifo => self.node(entry, parent.as_fd(), name, FileType::Fifo, (0, 0))?,
            Kind::CharDevice(major, minor) if HARMLESS_DEVICES.contains(&(*major, *minor)) => {
                self.node(entry, parent.as_fd(), name, FileType::CharacterDevice, (*major, *minor))?;
            }
            Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) => {
                tracing::warn!(entry = entry.name(), major, minor, "device of an image left out");
            }
        }
        self.keep_parent(parent_path, parent);
        Ok(())
    }

    /// `./`: the image's own root directory.
    fn root_entry(&mut self, entry: &Entry) -> Result<(), LayerError> {
        if entry.kind != Kind::Directory {
            return Err(refused(entry, "only a directory can be the image's root"));
        }
        set_metadata(entry, self.root.as_fd())?;
        self.remember_time(entry, b"")
    }

    fn keep_parent(&mut self, path: &[u8], parent: OwnedFd) {
        if self.last.is_none() {
            self.last = Some((path.to_vec(), parent));
        }
    }

    /// The directory `path`, made with its own parents when they have no entry (mode 0755, owner root).
    fn parent(&mut self, entry: &Entry, path: &[u8]) -> Result<OwnedFd, LayerError> {
        if let Some((_, fd)) = self.last.take_if(|(last, _)| last == path) {
            return Ok(fd);
        }
        self.last = None;
        let at = if path.is_empty() { b"." } else { path };
        match inroot::open_in(self.root.as_fd(), at, DIR_FLAGS) {
            Err(Errno::NOENT | Errno::NOTDIR) => self.make_parents(entry, path),
            other => other.map_err(write_error(entry, "open its directory")),
        }
    }

    fn make_parents(&mut self, entry: &Entry, path: &[u8]) -> Result<OwnedFd, LayerError> {
        let mut parent = inroot::open_in(self.root.as_fd(), b".", DIR_FLAGS).map_err(write_error(entry, "open the layer's root"))?;
        let mut end = 0;
        while end < path.len() {
            let start = end;
            end = path[start + 1..].iter().position(|&b| b == b'/').map_or(path.len(), |at| start + 1 + at);
            let name = path[start..end].strip_prefix(b"/").unwrap_or(&path[start..end]);
            let shown = || String::from_utf8_lossy(&path[..end]).into_owned();
            let hidden = inroot::stat(parent.as_fd(), name).map_err(write_error(entry, "look up its directory"))?;
            let hidden = hidden.as_ref().is_some_and(is_whiteout);
            if hidden {
                rustix::fs::unlinkat(&parent, name, AtFlags::empty()).map_err(write_error(entry, "replace a whiteout"))?;
            }
            match rustix::fs::mkdirat(&parent, name, mode(0o755)) {
                Ok(()) => self.count_entry()?,
                Err(Errno::EXIST) => {}
                Err(e) => return Err(write_error(entry, "make its directory")(e)),
            }
            // Only a link has to be looked up from the root: doing so at each step costs the square of the depth.
            let step = rustix::fs::openat(&parent, name, DIR_FLAGS | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
            parent = step.or_else(|_| inroot::open_in(self.root.as_fd(), &path[..end], DIR_FLAGS)).map_err(|e| match e {
                Errno::NOTDIR => refused(entry, format!("`{}` is not a directory in this layer", shown())),
                Errno::NOENT | Errno::LOOP => refused(entry, format!("`{}` is a symbolic link to nowhere", shown())),
                e => write_error(entry, "open its directory")(e),
            })?;
            if hidden {
                set_opaque(entry, parent.as_fd())?;
            }
        }
        Ok(parent)
    }

    /// Makes something new at `name`, removing what an earlier entry put there.
    fn make<T>(
        &mut self,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        name: &[u8],
        make: impl Fn(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> Result<T, LayerError> {
        match make(parent) {
            Err(Errno::EXIST) => {
                inroot::remove_tree(parent, name).map_err(write_error(entry, "replace the earlier entry of this name"))?;
                make(parent).map_err(write_error(entry, "create"))
            }
            other => other.map_err(write_error(entry, "create")),
        }
    }

    fn directory(&mut self, entry: &Entry, parent: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<(), LayerError> {
        let before = inroot::stat(parent, name).map_err(write_error(entry, "look up"))?;
        let exists = before.as_ref().is_some_and(|stat| inroot::file_type(stat) == FileType::Directory);
        if !exists {
            self.make(entry, parent, name, |dir| rustix::fs::mkdirat(dir, name, mode(0o700)))?;
        }
        let flags = DIR_FLAGS | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(write_error(entry, "open"))?;
        if before.as_ref().is_some_and(is_whiteout) {
            set_opaque(entry, dir.as_fd())?;
        }
        set_metadata(entry, dir.as_fd())?;
        self.remember_time(entry, path)
    }

    fn file(&mut self, entry: &Entry, parent: BorrowedFd<'_>, name: &[u8], data: &mut impl Read) -> Result<(), LayerError> {
        self.contents.bytes += entry.size;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = |dir: BorrowedFd<'_>| rustix::fs::openat(dir, name, flags, mode(0o600));
        let mut file = File::from(self.make(entry, parent, name, create)?);
        match &entry.kind {
            Kind::SparseFile(sparse) => {
                for segment in &sparse.segments {
                    file.seek(SeekFrom::Start(segment.offset)).map_err(write_error(entry, "seek"))?;
                    copy(entry, &mut data.by_ref().take(segment.length), &mut file, &mut self.buffer)?;
                }
                file.set_len(sparse.size).map_err(write_error(entry, "set the size"))?;
            }
            _ => copy(entry, data, &mut file, &mut self.buffer)?,
        }
        set_metadata(entry, file.as_fd())?;
        rustix::fs::futimens(&file, &timestamps(entry.mtime)).map_err(write_error(entry, "set the time"))
    }

    fn hard_link(&mut self, entry: &Entry, parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), LayerError> {
        let target = clean(entry, &entry.link)?;
        let shown = String::from_utf8_lossy(&entry.link);
        let (target_parent, target_name) = split(&target);
        let at = if target_parent.is_empty() { b"." } else { target_parent };
        let missing = || refused(entry, format!("a hard link to `{shown}`, which is not in this layer"));
        let directory = inroot::open_in(self.root.as_fd(), at, DIR_FLAGS).map_err(|_| missing())?;
        let stat = inroot::stat(directory.as_fd(), target_name).ok().flatten().filter(|_| !target_name.is_empty());
        let stat = stat.ok_or_else(missing)?;
        if inroot::file_type(&stat) == FileType::Directory {
            return Err(refused(entry, format!("a hard link to the directory `{shown}`")));
        }
        let there = inroot::stat(parent, name).map_err(write_error(entry, "look up"))?;
        if there.is_some_and(|there| (there.st_dev, there.st_ino) == (stat.st_dev, stat.st_ino)) {
            return Ok(());
        }
        self.make(entry, parent, name, |dir| {
            rustix::fs::linkat(&directory, target_name, dir, name, AtFlags::empty())
        })
    }

    fn node(
        &mut self,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        name: &[u8],
        file_type: FileType,
        (major, minor): (u32, u32),
    ) -> Result<(), LayerError> {
        let device = rustix::fs::makedev(major, minor);
        self.make(entry, parent, name, |dir| rustix::fs::mknodat(dir, name, file_type, mode(0o600), device))?;
        set_metadata_at(entry, parent, name)
    }

    fn remember_time(&mut self, entry: &Entry, path: &[u8]) -> Result<(), LayerError> {
        self.time_names += path.len() as u64;
        if self.time_names > self.limits.directory_name_bytes {
            let limit = self.limits.directory_name_bytes;
            return Err(LayerError::Limit { what: "bytes in directory names", limit });
        }
        self.times.push((path.into(), entry.mtime));
        Ok(())
    }

    /// In the archive's order, so that of several entries of one directory the last counts.
    fn set_directory_times(&mut self) -> Result<(), LayerError> {
        for (path, time) in &self.times {
            let (parent, name) = split(path);
            let at = if parent.is_empty() { b"." } else { parent };
            let name = if name.is_empty() { b"." } else { name };
            // A later entry may have put something else here; then there is no directory whose time to set.
            let Ok(parent) = inroot::open_in(self.root.as_fd(), at, DIR_FLAGS) else { continue };
            match inroot::stat(parent.as_fd(), name) {
                Ok(Some(stat)) if inroot::file_type(&stat) == FileType::Directory => {}
                _ => continue,
            }
            rustix::fs::utimensat(parent, name, &timestamps(*time), AtFlags::SYMLINK_NOFOLLOW).map_err(|e| {
                let entry = String::from_utf8_lossy(path).into_owned();
                LayerError::Write { entry, op: "set the time", source: e.into() }
            })?;
        }
        Ok(())
    }
}

/// Copies all of `data`; tells a failed read from a failed write.
fn copy(entry: &Entry, data: &mut impl Read, to: &mut File, buffer: &mut [u8]) -> Result<(), LayerError> {
    loop {
        match data.read(buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(&buffer[..count]).map_err(write_error(entry, "write"))?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(LayerError::Read(e)),
        }
    }
}

fn set_opaque(entry: &Entry, directory: BorrowedFd<'_>) -> Result<(), LayerError> {
    rustix::fs::fsetxattr(directory, OPAQUE, b"y", XattrFlags::empty()).map_err(write_error(entry, "mark the directory opaque"))
}

/// Hides `name` of the layers below. What this layer itself has of that name stays: a directory becomes opaque.
///
/// Spec: image-spec `layer.md`, "Whiteouts": they apply to lower layers only, whatever their place in the archive.
fn whiteout(entry: &Entry, parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), LayerError> {
    if matches!(name, b"" | b"." | b"..") {
        return Err(refused(entry, "a whiteout of nothing"));
    }
    match rustix::fs::mknodat(parent, name, FileType::CharacterDevice, mode(0), rustix::fs::makedev(0, 0)) {
        Err(Errno::EXIST) => {}
        other => return other.map_err(write_error(entry, "create the whiteout")),
    }
    let flags = DIR_FLAGS | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Ok(directory) => set_opaque(entry, directory.as_fd()),
        Err(Errno::NOTDIR | Errno::LOOP) => Ok(()),
        Err(e) => Err(write_error(entry, "open what the whiteout hides")(e)),
    }
}

/// Owner first (it clears set-uid and capabilities), then mode, then attributes.
fn set_metadata(entry: &Entry, fd: BorrowedFd<'_>) -> Result<(), LayerError> {
    rustix::fs::fchown(fd, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid))).map_err(write_error(entry, "set the owner"))?;
    rustix::fs::fchmod(fd, mode(entry.mode)).map_err(write_error(entry, "set the mode"))?;
    for (name, value) in wanted_xattrs(entry) {
        set_xattr(entry, name, |name| rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()))?;
    }
    Ok(())
}

/// For what cannot be opened: links, fifos and devices, with their time.
fn set_metadata_at(entry: &Entry, parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), LayerError> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(write_error(entry, "set the owner"))?;
    if entry.kind != Kind::Symlink {
        rustix::fs::chmodat(parent, name, mode(entry.mode), AtFlags::empty()).map_err(write_error(entry, "set the mode"))?;
    }
    let mut path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    for (xattr, value) in wanted_xattrs(entry) {
        set_xattr(entry, xattr, |xattr| rustix::fs::lsetxattr(&path[..], xattr, value, XattrFlags::empty()))?;
    }
    rustix::fs::utimensat(parent, name, &timestamps(entry.mtime), AtFlags::SYMLINK_NOFOLLOW).map_err(write_error(entry, "set the time"))
}

/// Whether an attribute belongs to images. `user.overlay.*` are overlay's marks in mounts with `userxattr`.
pub(super) fn is_wanted(xattr: &[u8]) -> bool {
    (xattr.starts_with(b"user.") && !xattr.starts_with(b"user.overlay."))
        || matches!(xattr, b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default")
}

fn wanted_xattrs(entry: &Entry) -> impl Iterator<Item = (&[u8], &[u8])> {
    entry.xattrs.iter().map(|(name, value)| (&name[..], &value[..])).filter(|(name, _)| is_wanted(name))
}

/// A file system without attributes loses user.* ones, as in Docker; a lost capability would break programs silently.
fn set_xattr(entry: &Entry, name: &[u8], set: impl FnOnce(&[u8]) -> Result<(), Errno>) -> Result<(), LayerError> {
    match set(name) {
        Err(Errno::NOTSUP | Errno::PERM) if name.starts_with(b"user.") => {
            tracing::warn!(entry = entry.name(), xattr = %String::from_utf8_lossy(name), "attribute not supported here, left out");
            Ok(())
        }
        other => other.map_err(write_error(entry, "set an extended attribute")),
    }
}
