//! `index.json`: what the store knows by which name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::error::{ImageError, Origin, sys};
use super::lock::{Lock, Share};

const FILE: &str = "index.json";

/// All images; replaced whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Index {
    version: u32,
    /// Normal name to manifest digest.
    pub(super) names: BTreeMap<String, Digest>,
    /// By manifest digest.
    pub(super) images: BTreeMap<Digest, Record>,
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Digest of the configuration, which is a blob.
    pub(super) config: Digest,
    /// Diff ids, bottom first, as the configuration lists them.
    pub(super) layers: Vec<Digest>,
    /// Unpacked bytes.
    pub(super) size: u64,
    /// `repository@digest`, by what registries know it: its own digest and those of indexes that led to it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) digests: BTreeSet<String>,
}

impl Default for Index {
    fn default() -> Self {
        Self { version: 1, names: BTreeMap::new(), images: BTreeMap::new() }
    }
}

impl Index {
    /// Empty when the store has none yet.
    pub(super) fn read(root: &Path) -> Result<Self, ImageError> {
        let path = root.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(sys("read", path)(e)),
        };
        serde_json::from_slice(&text).map_err(|source| ImageError::Json { origin: Origin::Store(path), document: "the index of images".into(), source })
    }

    /// Reads, changes and replaces it under its lock. Nothing is written when `change` fails.
    pub(super) fn change<T>(root: &Path, change: impl FnOnce(&mut Self) -> Result<T, ImageError>) -> Result<T, ImageError> {
        Self::change_after(root, change, || Ok(()))
    }

    /// [`change`](Self::change), with something to be done when the new one is on disk and has not its name yet: after everything that
    /// fails when there is no room.
    pub(super) fn change_after<T>(
        root: &Path,
        change: impl FnOnce(&mut Self) -> Result<T, ImageError>,
        last: impl FnOnce() -> Result<(), ImageError>,
    ) -> Result<T, ImageError> {
        let _lock = Lock::wait(root, "index.lock", Share::Exclusive)?;
        let mut index = Self::read(root)?;
        let before = index.clone();
        let result = change(&mut index)?;
        if index == before {
            last()?;
        } else {
            let text = serde_json::to_vec_pretty(&index).map_err(|e| sys("write", root.join(FILE))(io::Error::from(e)))?;
            replace_after(root, FILE, &text, last)?;
        }
        Ok(result)
    }

    /// All names of an image, in order.
    pub(super) fn names_of(&self, digest: &Digest) -> Vec<String> {
        self.names.iter().filter(|(_, named)| *named == digest).map(|(name, _)| name.clone()).collect()
    }
}

/// Replaces a file whole, on disk before it has its name.
pub(super) fn replace(dir: &Path, name: &str, content: &[u8]) -> Result<(), ImageError> {
    replace_after(dir, name, content, || Ok(()))
}

fn replace_after(dir: &Path, name: &str, content: &[u8], last: impl FnOnce() -> Result<(), ImageError>) -> Result<(), ImageError> {
    let path = dir.join(name);
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(dir).map_err(sys("create a file in", dir))?;
    file.write_all(content).map_err(sys("write", &path))?;
    file.as_file().sync_all().map_err(sys("sync", &path))?;
    last()?;
    file.persist(&path).map_err(|e| sys("replace", path)(e.error))?;
    Ok(())
}
