//! Unpacked layers on disk.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::archive::Blob;
use super::compression;
use super::digest::{Digest, Hashing};
use super::error::{ImageError, LayerError, sys};
use super::inroot;
use super::limits::Limits;
use super::tarball::{Forward, TarReader};
use super::unpack;

const RECORD: &str = "layer.json";

/// What is remembered of a layer beside its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LayerRecord {
    /// Bytes of its files.
    pub(super) bytes: u64,
    pub(super) entries: u64,
    /// Bytes of its uncompressed tar.
    pub(super) tar_bytes: u64,
}

/// Where layer `diff_id` is, or would be.
pub(super) fn dir(root: &Path, diff_id: &Digest) -> PathBuf {
    root.join("layers/sha256").join(diff_id.hex())
}

/// Its files: a lower directory for overlay.
pub(super) fn files(root: &Path, diff_id: &Digest) -> PathBuf {
    dir(root, diff_id).join("fs")
}

/// The record of a layer that is in the store.
pub(super) fn read_record(root: &Path, diff_id: &Digest) -> Result<Option<LayerRecord>, ImageError> {
    let path = dir(root, diff_id).join(RECORD);
    match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|source| ImageError::Json { path, document: "the record of a layer".into(), source }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(sys("read", path)(e)),
    }
}

/// Unpacks `blob` into the new directory `to` and checks both digests: of the blob as stored, when it is known, and of the
/// uncompressed tar.
pub(super) fn unpack(
    blob: Blob<'_>,
    diff_id: &Digest,
    to: &Path,
    limits: &Limits,
    progress: &mut dyn FnMut(u64),
) -> Result<LayerRecord, ImageError> {
    fs::create_dir(to).map_err(sys("create", to))?;
    let files = to.join("fs");
    fs::create_dir(&files).map_err(sys("create", &files))?;
    let root = inroot::open_dir(&files).map_err(sys("open", &files))?;
    rustix::fs::fchmod(&root, rustix::fs::Mode::from_raw_mode(0o755)).map_err(sys("set the mode of", &files))?;
    let fail = |source| ImageError::Layer {
        archive: blob.archive.to_owned(),
        layer: blob.name.to_owned(),
        source: Box::new(source),
    };
    let mut stored = Hashing::new(Counting { inner: blob.open()?, done: 0, told: 0, progress });
    let decoded = compression::decode(&mut stored).map_err(|e| fail(LayerError::Read(e)))?;
    // Headers, padding and what follows the end of the archive are no file's bytes, and may go on for ever.
    let mut plain = Hashing::new(Bounded::new(decoded.into_reader(), limits.layer_bytes.saturating_mul(2).saturating_add(1 << 20)));
    let unpacked = unpack::unpack(&mut TarReader::new(Forward(&mut plain), limits), root, limits);
    let contents = match unpacked {
        Ok(contents) => contents,
        // What looks like a malformed stream is most often a damaged file: its digest tells.
        Err(error @ (LayerError::Read(_) | LayerError::Tar { .. })) => {
            drop(plain);
            blob.check(stored)?;
            return Err(fail(error));
        }
        Err(error) => return Err(fail(error)),
    };
    let hashed = plain.finish();
    blob.check(stored)?;
    let (found, tar_bytes) = hashed.map_err(|e| fail(LayerError::Read(e)))?;
    if found != *diff_id {
        let (path, subject) = (blob.archive.to_owned(), format!("layer {} (uncompressed)", blob.name));
        return Err(ImageError::Digest { path, subject, expected: *diff_id, found });
    }
    let record = LayerRecord { bytes: contents.bytes, entries: contents.entries, tar_bytes };
    let path = to.join(RECORD);
    let text = serde_json::to_vec(&record).map_err(|e| sys("write", &path)(io::Error::from(e)))?;
    fs::write(&path, text).map_err(sys("write", path))?;
    Ok(record)
}

/// Fails where a stream is longer than it may be.
struct Bounded<R> {
    inner: R,
    limit: u64,
    left: u64,
}

impl<R: Read> Bounded<R> {
    fn new(inner: R, limit: u64) -> Self {
        Self { inner, limit, left: limit }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::other(format!("it has more than {} bytes once decompressed (the limit)", self.limit))
        })?;
        Ok(count)
    }
}

/// Tells how far a reader is, every 256 KiB.
struct Counting<'a, R> {
    inner: R,
    done: u64,
    told: u64,
    progress: &'a mut dyn FnMut(u64),
}

impl<R: Read> Read for Counting<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.done += count as u64;
        if count == 0 || self.done - self.told >= 256 << 10 {
            self.told = self.done;
            (self.progress)(self.done);
        }
        Ok(count)
    }
}
