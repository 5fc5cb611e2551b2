//! Files of an image archive by name: a tar or a directory.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::OFlags;
use serde::de::DeserializeOwned;

use super::compression::{self, Decoded};
use super::digest::Digest;
use super::error::{ImageError, LayerError, Origin, sys};
use super::inroot;
use super::limits::Limits;
use super::source::{LayerSource, Source};
use super::tarball::{Kind, TarReader};

/// An archive whose files can be read in any order.
pub(super) struct Archive {
    pub(super) path: PathBuf,
    content: Content,
    document_limit: u64,
    documents_limit: u64,
    /// Bytes of documents that may still be read.
    documents_left: AtomicU64,
}

enum Content {
    Directory(OwnedFd),
    /// A tar that can be sought, and where its members are.
    Tar(File, HashMap<String, Member>),
}

#[derive(Debug, Clone)]
enum Member {
    File { offset: u64, size: u64 },
    /// Name of another member.
    Link(String),
}

/// Names longer than this are never those of an image's documents or layers.
const LONGEST_NAME: usize = 255;

/// As many bytes a document costs at least, for it has to be found and hashed.
const LEAST_DOCUMENT: u64 = 4096;

impl Archive {
    /// Opens a directory or a tar, compressed or not; what cannot be sought goes through a file in `spool`.
    ///
    /// # Errors
    /// When it cannot be read, is no tar, or is larger than `limits` allow.
    pub(super) fn open(
        path: &Path,
        spool: &Path,
        limits: &Limits,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, ImageError> {
        let metadata = fs::metadata(path).map_err(sys("open image archive", path))?;
        let content = if metadata.is_dir() {
            Content::Directory(inroot::open_dir(path).map_err(sys("open image directory", path))?)
        } else {
            let file = File::open(path).map_err(sys("open image archive", path))?;
            let file = seekable(file, metadata.is_file(), path, spool, limits, progress)?;
            let members = members(&file, path, limits)?;
            Content::Tar(file, members)
        };
        let (document_limit, documents_limit) = (limits.document_bytes, limits.documents_bytes);
        Ok(Self { path: path.to_owned(), content, document_limit, documents_limit, documents_left: AtomicU64::new(documents_limit) })
    }

    /// Whether it has a file of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.open_file(name).is_ok()
    }

    /// A file to read and its size.
    pub(super) fn open_file(&self, name: &str) -> Result<(Box<dyn Read + Send + '_>, u64), ImageError> {
        let fail = |source: io::Error| ImageError::Read { origin: self.origin(), entry: name.to_owned(), source };
        match &self.content {
            Content::Directory(dir) => {
                // NONBLOCK: a fifo put there must not stop us.
                let fd = inroot::open_in(dir.as_fd(), name.as_bytes(), OFlags::RDONLY | OFlags::NONBLOCK);
                let file = File::from(fd.map_err(|e| fail(e.into()))?);
                let metadata = file.metadata().map_err(fail)?;
                if !metadata.is_file() {
                    return Err(fail(io::Error::other("not a regular file")));
                }
                Ok((Box::new(file), metadata.len()))
            }
            Content::Tar(file, members) => {
                let mut name = name.to_owned();
                for _ in 0..8 {
                    match members.get(&name) {
                        Some(Member::File { offset, size }) => {
                            return Ok((Box::new(Window { file, at: *offset, end: offset + size }), *size));
                        }
                        Some(Member::Link(target)) => name.clone_from(target),
                        None => return Err(fail(io::Error::new(io::ErrorKind::NotFound, "not in the archive"))),
                    }
                }
                Err(fail(io::Error::other("too many links")))
            }
        }
    }

    /// All of a small file.
    pub(super) fn document(&self, name: &str) -> Result<Vec<u8>, ImageError> {
        let (reader, size) = self.open_file(name)?;
        if size > self.document_limit {
            return Err(self.bad(format!("{name} has {size} bytes, more than {} (the limit)", self.document_limit)));
        }
        // Indexes can refer to each other so often that reading them would never end.
        let take = |left: u64| left.checked_sub(size.max(LEAST_DOCUMENT));
        if self.documents_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            let limit = self.documents_limit;
            return Err(self.bad(format!("its documents, as often as they refer to each other, have more than {limit} bytes (the limit)")));
        }
        let mut text = Vec::new();
        let fail = |source| ImageError::Read { origin: self.origin(), entry: name.to_owned(), source };
        reader.take(self.document_limit).read_to_end(&mut text).map_err(fail)?;
        Ok(text)
    }

    /// A document whose digest is known.
    pub(super) fn verified_document(&self, name: &str, expected: &Digest) -> Result<Vec<u8>, ImageError> {
        let text = self.document(name)?;
        let found = Digest::of(&text);
        if found != *expected {
            let subject = name.to_owned();
            return Err(ImageError::Digest { origin: self.origin(), subject, expected: *expected, found });
        }
        Ok(text)
    }

    /// Reads JSON.
    pub(super) fn parse<T: DeserializeOwned>(&self, name: &str, text: &[u8]) -> Result<T, ImageError> {
        serde_json::from_slice(text).map_err(|source| ImageError::Json { origin: self.origin(), document: name.to_owned(), source })
    }

    pub(super) fn bad(&self, why: impl Into<String>) -> ImageError {
        ImageError::Bad { origin: self.origin(), why: why.into() }
    }
}

impl Source for Archive {
    fn origin(&self) -> Origin {
        Origin::Archive(self.path.clone())
    }

    fn open(&self, layer: &LayerSource) -> Result<(Box<dyn Read + Send + '_>, u64), ImageError> {
        self.open_file(&layer.name)
    }
}

/// A part of a file, read without moving the file's position.
struct Window<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for Window<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
        let count = self.file.read_at(&mut buffer[..wanted], self.at)?;
        if count == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += count as u64;
        Ok(count)
    }
}

/// The file itself when it is an uncompressed regular one; otherwise a nameless copy, decompressed.
fn seekable(
    file: File,
    regular: bool,
    path: &Path,
    spool: &Path,
    limits: &Limits,
    progress: &mut dyn FnMut(u64),
) -> Result<File, ImageError> {
    let fail = || sys("read image archive", path);
    let decoded = compression::decode(&file).map_err(fail())?;
    if regular && matches!(decoded, Decoded::Plain(_)) {
        drop(decoded);
        io::Seek::rewind(&mut &file).map_err(fail())?;
        return Ok(file);
    }
    let reader = decoded.into_reader();
    let copy = tempfile::tempfile_in(spool).map_err(sys("create a file in", spool))?;
    let mut reader = reader.take(limits.archive_bytes + 1);
    let mut buffer = vec![0; 128 << 10];
    let mut done = 0;
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(fail()(e)),
        };
        (&copy).write_all(&buffer[..count]).map_err(sys("write a file in", spool))?;
        done += count as u64;
        progress(done);
    }
    if done > limits.archive_bytes {
        let why = format!("it decompresses to more than {} bytes (the limit)", limits.archive_bytes);
        return Err(ImageError::Bad { origin: Origin::Archive(path.to_owned()), why });
    }
    io::Seek::rewind(&mut &copy).map_err(sys("rewind a file in", spool))?;
    Ok(copy)
}

/// Where each file of a tar is. Of several with one name the last counts, as when it is extracted.
fn members(file: &File, path: &Path, limits: &Limits) -> Result<HashMap<String, Member>, ImageError> {
    let bad = |why: String| ImageError::Bad { origin: Origin::Archive(path.to_owned()), why };
    let mut tar = TarReader::new(file, limits);
    let mut members = HashMap::new();
    let mut count = 0;
    while let Some(entry) = tar.next().map_err(|e| match e {
        LayerError::Read(source) => sys("read image archive", path)(source),
        other => bad(other.to_string()),
    })? {
        count += 1;
        if count > limits.archive_entries {
            return Err(bad(format!("it has more than {} entries (the limit)", limits.archive_entries)));
        }
        let Some(name) = member_name("", &entry.path) else { continue };
        let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
        let member = match entry.kind {
            Kind::File => Some(Member::File { offset: entry.offset, size: entry.size }),
            // `docker save` links a layer that several images share.
            Kind::Symlink => member_name(parent, &entry.link).map(Member::Link),
            Kind::HardLink => member_name("", &entry.link).map(Member::Link),
            _ => None,
        };
        if let Some(member) = member {
            members.insert(name, member);
        }
    }
    if members.is_empty() {
        return Err(bad("it is empty".into()));
    }
    Ok(members)
}

/// `name` seen from the directory `base` of the archive; `None` when it leads out or is no text.
fn member_name(base: &str, name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok().filter(|name| name.len() <= LONGEST_NAME)?;
    let mut parts: Vec<&str> = if name.starts_with('/') { Vec::new() } else { base.split('/').filter(|p| !p.is_empty()).collect() };
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            _ => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_members() {
        assert_eq!(member_name("", b"./a//b").as_deref(), Some("a/b"));
        assert_eq!(member_name("x", b"../y/layer.tar").as_deref(), Some("y/layer.tar"));
        assert_eq!(member_name("x", b"../../y"), None);
        assert_eq!(member_name("", b"."), None);
    }
}
