//! Writes an unpacked layer as a tar stream: what [`unpack`](super::unpack) does, backwards.
//!
//! The same directory always gives the same bytes. They are not those the layer came from (order, padding and headers are lost), so
//! its digest is another one; what it holds is the same.
//!
//! Spec: image-spec `layer.md`; pax, POSIX.1-2008 pax(1).

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{Dir, FileType, OFlags, Stat};
use rustix::io::Errno;
use tar::{EntryType, Header};

use super::inroot;
use super::unpack::{self, OPAQUE, OPAQUE_NAME, WHITEOUT_PREFIX};

const BLOCK: usize = 512;
/// Longest name in a header of ustar; what is longer goes into pax records.
const SHORT: usize = 100;
/// Largest number of a header's fields for owners.
const LARGEST_ID: u32 = 0o7_777_777;
/// Largest size of a header's field, in bytes.
const LARGEST_SIZE: u64 = 0o77_777_777_777;

/// Writes all of the layer at `root`.
///
/// # Errors
/// A failed system call, or a file that changes meanwhile.
pub(super) fn pack(root: &Path, to: &mut dyn Write) -> io::Result<()> {
    let root = inroot::open_dir(root)?;
    let mut packer = Packer { root: root.as_fd(), to, linked: HashMap::new(), buffer: vec![0; 128 << 10] };
    packer.directory_entry(b"")?;
    let mut waiting: Vec<Vec<u8>> = vec![Vec::new()];
    while let Some(path) = waiting.pop() {
        let mut below = packer.entries(&path)?;
        // The last one waiting is the next one.
        below.reverse();
        waiting.append(&mut below);
    }
    to.write_all(&[0; 2 * BLOCK])
}

struct Packer<'a> {
    root: BorrowedFd<'a>,
    to: &'a mut dyn Write,
    /// The first name of every file that has several, by device and inode.
    linked: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

/// What a header says, but for the name.
struct Facts<'a> {
    kind: EntryType,
    stat: &'a Stat,
    link: Vec<u8>,
    size: u64,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

impl Packer<'_> {
    /// Writes what is in the directory `path`; the directories in it.
    fn entries(&mut self, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let at = if path.is_empty() { b"." } else { path };
        let fd = inroot::open_in(self.root, at, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&fd)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if !matches!(&*name, b"." | b"..") {
                names.push(name);
            }
        }
        names.sort();
        let mut below = Vec::new();
        for name in names {
            let stat = inroot::stat(fd.as_fd(), &name)?.ok_or(Errno::NOENT)?;
            let whole = join(path, &name);
            match inroot::file_type(&stat) {
                FileType::Directory => {
                    self.directory_entry(&whole)?;
                    below.push(whole);
                }
                _ => self.other(fd.as_fd(), path, &name, &stat)?,
            }
        }
        Ok(below)
    }

    fn directory_entry(&mut self, path: &[u8]) -> io::Result<()> {
        let at = if path.is_empty() { b"." } else { path };
        let fd = inroot::open_in(self.root, at, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let stat = rustix::fs::fstat(&fd)?;
        let (xattrs, opaque) = xattrs(fd.as_fd(), b".")?;
        let name = if path.is_empty() { b"./".to_vec() } else { [path, b"/"].concat() };
        self.header(&name, &Facts { kind: EntryType::Directory, stat: &stat, link: Vec::new(), size: 0, xattrs })?;
        if opaque { self.mark(&join(path, OPAQUE_NAME), &stat) } else { Ok(()) }
    }

    /// An empty file that says something about lower layers.
    fn mark(&mut self, name: &[u8], stat: &Stat) -> io::Result<()> {
        self.header(name, &Facts { kind: EntryType::Regular, stat, link: Vec::new(), size: 0, xattrs: Vec::new() })
    }

    fn other(&mut self, dir: BorrowedFd<'_>, path: &[u8], name: &[u8], stat: &Stat) -> io::Result<()> {
        let whole = join(path, name);
        if unpack::is_whiteout(stat) {
            return self.mark(&join(path, &[WHITEOUT_PREFIX, name].concat()), stat);
        }
        if stat.st_nlink > 1 {
            if let Some(first) = self.linked.get(&(stat.st_dev, stat.st_ino)) {
                let link = first.clone();
                return self.header(&whole, &Facts { kind: EntryType::Link, stat, link, size: 0, xattrs: Vec::new() });
            }
            self.linked.insert((stat.st_dev, stat.st_ino), whole.clone());
        }
        let (xattrs, _) = xattrs(dir, name)?;
        let facts = |kind| Facts { kind, stat, link: Vec::new(), size: 0, xattrs };
        match inroot::file_type(stat) {
            FileType::RegularFile => {
                let size = u64::try_from(stat.st_size).unwrap_or_default();
                self.header(&whole, &Facts { size, ..facts(EntryType::Regular) })?;
                self.content(dir, name, size)
            }
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(dir, name, Vec::new())?.into_bytes();
                self.header(&whole, &Facts { link, ..facts(EntryType::Symlink) })
            }
            FileType::Fifo => self.header(&whole, &facts(EntryType::Fifo)),
            FileType::CharacterDevice => self.header(&whole, &facts(EntryType::Char)),
            // Unpacking makes no others.
            kind => Err(io::Error::other(format!("{} is a {kind:?}", String::from_utf8_lossy(&whole)))),
        }
    }

    fn content(&mut self, dir: BorrowedFd<'_>, name: &[u8], size: u64) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(dir, name, flags, rustix::fs::Mode::empty())?).take(size);
        let mut written = 0;
        loop {
            match file.read(&mut self.buffer)? {
                0 => break,
                count => self.to.write_all(&self.buffer[..count])?,
            }
            written = size - file.limit();
        }
        if written != size {
            return Err(io::Error::other(format!("{} has become shorter", String::from_utf8_lossy(name))));
        }
        self.to.write_all(padding(size))
    }

    fn header(&mut self, name: &[u8], facts: &Facts<'_>) -> io::Result<()> {
        let mut records = Vec::new();
        let mut record = |key: &[u8], value: &[u8]| records.extend(pax_record(key, value));
        let mut header = Header::new_ustar();
        header.set_entry_type(facts.kind);
        header.set_mode(facts.stat.st_mode & 0o7777);
        let (uid, gid) = (facts.stat.st_uid, facts.stat.st_gid);
        header.set_uid(if uid > LARGEST_ID { 0 } else { uid.into() });
        header.set_gid(if gid > LARGEST_ID { 0 } else { gid.into() });
        header.set_size(if facts.size > LARGEST_SIZE { 0 } else { facts.size });
        let seconds = facts.stat.st_mtime;
        header.set_mtime(u64::try_from(seconds).ok().filter(|s| *s <= LARGEST_SIZE).unwrap_or_default());
        if facts.kind == EntryType::Char {
            header.set_device_major(rustix::fs::major(facts.stat.st_rdev))?;
            header.set_device_minor(rustix::fs::minor(facts.stat.st_rdev))?;
        }
        let old = header.as_old_mut();
        let fits = |field: &mut [u8; SHORT], text: &[u8]| {
            let length = text.len().min(SHORT);
            field[..length].copy_from_slice(&text[..length]);
            text.len() <= SHORT
        };
        if !fits(&mut old.name, name) {
            record(b"path", name);
        }
        if !fits(&mut old.linkname, &facts.link) {
            record(b"linkpath", &facts.link);
        }
        if uid > LARGEST_ID {
            record(b"uid", uid.to_string().as_bytes());
        }
        if gid > LARGEST_ID {
            record(b"gid", gid.to_string().as_bytes());
        }
        if facts.size > LARGEST_SIZE {
            record(b"size", facts.size.to_string().as_bytes());
        }
        if facts.stat.st_mtime_nsec != 0 || seconds < 0 {
            record(b"mtime", mtime(seconds, facts.stat.st_mtime_nsec).as_bytes());
        }
        for (name, value) in &facts.xattrs {
            record(&[b"SCHILY.xattr.", &name[..]].concat(), value);
        }
        header.set_cksum();
        if !records.is_empty() {
            self.extended(&records)?;
        }
        self.to.write_all(header.as_bytes())
    }

    fn extended(&mut self, records: &[u8]) -> io::Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_size(records.len() as u64);
        header.set_mode(0o644);
        header.as_old_mut().name[..b"pax".len()].copy_from_slice(b"pax");
        header.set_cksum();
        self.to.write_all(header.as_bytes())?;
        self.to.write_all(records)?;
        self.to.write_all(padding(records.len() as u64))
    }
}

/// What fills the last block of so many bytes.
pub(super) fn padding(size: u64) -> &'static [u8] {
    let rest = usize::try_from(size % BLOCK as u64).unwrap_or_default();
    if rest == 0 { &[] } else { &[0; BLOCK][rest..] }
}

/// `LENGTH KEY=VALUE\n`, the length counting itself.
fn pax_record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + b" =\n".len();
    let mut length = body + 1;
    while length != body + length.to_string().len() {
        length = body + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

/// Seconds since 1970 with nine decimals. The kernel counts nanoseconds forward from the second before.
fn mtime(seconds: i64, nanos: impl TryInto<u32>) -> String {
    let nanos = nanos.try_into().unwrap_or_default();
    if seconds < 0 && nanos > 0 {
        let whole = -(seconds + 1);
        return format!("-{whole}.{:09}", 1_000_000_000 - nanos);
    }
    format!("{seconds}.{nanos:09}")
}

type Xattr = (Vec<u8>, Vec<u8>);

/// The attributes that belong to the image, and whether the directory is opaque.
fn xattrs(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<(Vec<Xattr>, bool)> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    let names = grown(|buffer| rustix::fs::llistxattr(&path[..], buffer))?;
    let (mut found, mut opaque) = (Vec::new(), false);
    let mut names: Vec<&[u8]> = names.split(|&b| b == 0).filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    for name in names {
        opaque |= name == OPAQUE.as_bytes();
        if unpack::is_wanted(name) {
            found.push((name.to_vec(), grown(|buffer| rustix::fs::lgetxattr(&path[..], name, buffer))?));
        }
    }
    Ok((found, opaque))
}

/// What a system call puts into a buffer, which grows until it is large enough (the kernel's limit is 64 KiB).
fn grown(mut call: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 256];
    loop {
        match call(&mut buffer) {
            Ok(size) => {
                buffer.truncate(size);
                return Ok(buffer);
            }
            Err(Errno::NOTSUP) => return Ok(Vec::new()),
            Err(Errno::RANGE) if buffer.len() < 64 << 10 => buffer.resize(buffer.len() * 4, 0),
            Err(e) => return Err(e.into()),
        }
    }
}
