//! Unpacked layers on disk.

use std::fs::{self, DirBuilder};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::compression;
use super::digest::{Digest, Hashing};
use super::error::{ImageError, LayerError, Origin, sys};
use super::inroot;
use super::limits::Limits;
use super::source::{LayerSource, Source};
use super::tarball::{Forward, TarReader};
use super::unpack;

/// The record of a layer whose files are known to be on disk.
const SEALED: &str = "layer.json";
/// The record of a layer no image of the index has had yet.
const FRESH: &str = "fresh.json";

/// What is remembered of a layer beside its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LayerRecord {
    /// Bytes of its files.
    pub(super) bytes: u64,
    pub(super) entries: u64,
    /// Bytes of its uncompressed tar.
    pub(super) tar_bytes: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Fresh {
    #[serde(flatten)]
    record: LayerRecord,
    boot: String,
}

/// Where layer `diff_id` is, or would be.
pub(super) fn dir(root: &Path, diff_id: &Digest) -> PathBuf {
    root.join("layers/sha256").join(diff_id.hex())
}

/// Its files: a lower directory for overlay.
pub(super) fn files(root: &Path, diff_id: &Digest) -> PathBuf {
    dir(root, diff_id).join("fs")
}

/// The record of a layer that is in the store; none of one that a power cut may have damaged.
pub(super) fn read_record(root: &Path, diff_id: &Digest) -> Result<Option<LayerRecord>, ImageError> {
    let dir = dir(root, diff_id);
    if let Some(sealed) = read_json(&dir.join(SEALED))? {
        return Ok(Some(sealed));
    }
    let fresh: Option<Fresh> = match read_json(&dir.join(FRESH)) {
        // Its name was on disk when the power went, its text was not.
        Err(ImageError::Json { .. }) => return Ok(None),
        other => other?,
    };
    match fresh {
        Some(fresh) if fresh.boot == boot()? => Ok(Some(fresh.record)),
        Some(_) => Ok(None),
        // Sealed since the first look.
        None => read_json(&dir.join(SEALED)),
    }
}

/// Whether no image of the index has had this layer yet: then only those who bring it in can use it.
pub(super) fn is_fresh(dir: &Path) -> bool {
    // In this order: it may be sealed meanwhile.
    dir.join(FRESH).exists() && !dir.join(SEALED).exists()
}

/// Gives an unpacked layer its record; it counts until this machine is started anew, for its files may not be on disk yet.
pub(super) fn write_fresh(unpacked: &Path, record: LayerRecord) -> Result<(), ImageError> {
    let path = unpacked.join(FRESH);
    let text = serde_json::to_vec(&Fresh { record, boot: boot()? }).map_err(|e| sys("write", &path)(io::Error::from(e)))?;
    fs::write(&path, text).map_err(sys("write", path))
}

/// Makes a layer of the store count for ever: its files are on disk.
pub(super) fn seal(root: &Path, diff_id: &Digest) -> Result<(), ImageError> {
    let dir = dir(root, diff_id);
    match fs::rename(dir.join(FRESH), dir.join(SEALED)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && dir.join(SEALED).exists() => Ok(()),
        other => other.map_err(sys("seal layer", dir)),
    }
}

/// Changes with every start of the machine.
///
/// man: proc(5), /proc/sys/kernel/random/boot_id
fn boot() -> Result<String, ImageError> {
    let path = "/proc/sys/kernel/random/boot_id";
    fs::read_to_string(path).map_err(sys("read", path))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ImageError> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|source| ImageError::Json { origin: Origin::Store(path.to_owned()), document: "the record of a layer".into(), source }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(sys("read", path)(e)),
    }
}

/// Unpacks a layer of `source` into the new directory `to` and checks both digests: of the layer as stored, when it is known,
/// and of the uncompressed tar. `progress` hears how many bytes have been read; when it says no, the work ends.
pub(super) fn unpack(
    source: &dyn Source,
    layer: &LayerSource,
    to: &Path,
    limits: &Limits,
    progress: &mut dyn FnMut(Bytes) -> io::Result<()>,
) -> Result<LayerRecord, ImageError> {
    let files = to.join("fs");
    DirBuilder::new().recursive(true).create(&files).map_err(sys("create", &files))?;
    let root = inroot::open_dir(&files).map_err(sys("open", &files))?;
    rustix::fs::fchmod(&root, rustix::fs::Mode::from_raw_mode(0o755)).map_err(sys("set the mode of", &files))?;
    let fail = |cause| ImageError::Layer { origin: source.origin(), layer: layer.name.clone(), source: Box::new(cause) };
    let unreadable = |e: io::Error| source.failure(e).unwrap_or_else(|e| fail(LayerError::Read(e)));
    let (reader, total) = source.open(layer)?;
    let mut stored = Hashing::new(Counting { inner: reader, done: 0, told: 0, total, progress });
    let decoded = compression::decode(&mut stored).map_err(unreadable)?;
    // Headers, padding and what follows the end of the archive are no file's bytes, and may go on for ever.
    let mut plain = Hashing::new(Bounded::new(decoded.into_reader(), limits.layer_bytes.saturating_mul(2).saturating_add(1 << 20)));
    let unpacked = unpack::unpack(&mut TarReader::new(Forward(&mut plain), limits), root, limits);
    let contents = match unpacked {
        Ok(contents) => contents,
        Err(LayerError::Read(e)) => {
            let cause = match source.failure(e) {
                Ok(failure) => return Err(failure),
                Err(e) => LayerError::Read(e),
            };
            drop(plain);
            check(source, layer, stored)?;
            return Err(fail(cause));
        }
        // What looks like a malformed stream is most often a damaged file: its digest tells.
        Err(error @ LayerError::Tar { .. }) => {
            drop(plain);
            check(source, layer, stored)?;
            return Err(fail(error));
        }
        Err(error) => return Err(fail(error)),
    };
    let hashed = plain.finish();
    check(source, layer, stored)?;
    let (found, tar_bytes) = hashed.map_err(unreadable)?;
    if found != layer.diff_id {
        let subject = format!("layer {} (uncompressed)", layer.name);
        return Err(ImageError::Digest { origin: source.origin(), subject, expected: layer.diff_id, found });
    }
    Ok(LayerRecord { bytes: contents.bytes, entries: contents.entries, tar_bytes })
}

/// Reads the rest of a layer as stored and compares with its descriptor.
fn check(source: &dyn Source, layer: &LayerSource, stored: Hashing<impl Read>) -> Result<(), ImageError> {
    let Some((expected, size)) = layer.descriptor else { return Ok(()) };
    let fail = |source: &dyn Source, cause| ImageError::Read { origin: source.origin(), entry: layer.name.clone(), source: cause };
    let (found, length) = stored.finish().map_err(|e| source.failure(e).unwrap_or_else(|e| fail(source, e)))?;
    if found != expected {
        let subject = format!("layer {}", layer.name);
        return Err(ImageError::Digest { origin: source.origin(), subject, expected, found });
    }
    if length != size {
        let why = format!("layer {} has {length} bytes, its manifest says {size}", layer.name);
        return Err(ImageError::Bad { origin: source.origin(), why });
    }
    Ok(())
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

/// How much of a layer has been read, in bytes as stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes {
    pub(super) done: u64,
    pub(super) total: u64,
}

/// Tells how far a reader is, every 256 KiB.
struct Counting<'a, R> {
    inner: R,
    done: u64,
    told: u64,
    total: u64,
    progress: &'a mut dyn FnMut(Bytes) -> io::Result<()>,
}

impl<R: Read> Read for Counting<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.done += count as u64;
        if count == 0 || self.done - self.told >= 256 << 10 {
            self.told = self.done;
            (self.progress)(Bytes { done: self.done, total: self.total })?;
        }
        Ok(count)
    }
}
