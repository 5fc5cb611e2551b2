//! What goes when an image goes, and what nobody needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::mem::take;
use std::path::Path;

use super::digest::Digest;
use super::embedded;
use super::error::{ImageError, sys};
use super::index::Index;
use super::layer;
use super::lease::{self, entries};
use super::lock::{Lock, Share};
use super::lookup::{lookup, near};
use super::store::ImageStore;
use super::usage::Usage;
use super::work::{absent_is_fine, retire};

/// What a removal did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Names that are gone.
    pub untagged: Vec<String>,
    /// Ids of images that are gone.
    pub deleted: Vec<String>,
    /// Unpacked layers that are gone.
    pub layers: usize,
    /// Bytes of their files.
    pub bytes: u64,
    /// Layers that no image needs but that are in use; a later [`ImageStore::gc`] removes them.
    pub kept: usize,
}

/// Whether to remove the names of an image that pods use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// Refuse.
    No,
    /// Remove them: the pods keep the layers.
    Yes,
}

/// Which images that no pod uses go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pruned {
    /// Those that have no name.
    Nameless,
    /// All.
    All,
}

impl ImageStore {
    /// Removes a name, and the image with its last name; by id or digest, the image with all its names. Layers go when no
    /// other image has them. An image that pods use stays, or with `force` loses its names only: its layers go with a later
    /// [`gc`](Self::gc).
    ///
    /// # Errors
    /// [`ImageError::NotFound`] with names that are near, [`ImageError::Ambiguous`], [`ImageError::InUse`], or the store cannot
    /// be written.
    pub fn remove(&self, reference: &str, usage: &dyn Usage, force: Force) -> Result<Removed, ImageError> {
        self.prepare()?;
        let _content = Lock::wait(self.root(), "content.lock", Share::Exclusive)?;
        let mut removed = Removed::default();
        if self.is_embedded(reference) {
            let image = embedded::image(self.root(), self.program())?;
            refuse_used(&image.id, reference, usage, force)?;
            self.remove_embedded(usage, &mut removed, &|_| true)?;
            if removed.layers > 0 {
                removed.deleted.push(image.id);
            }
            return Ok(removed);
        }
        Index::change(self.root(), |index| {
            let Some(hit) = lookup(index, reference)? else {
                return Err(ImageError::NotFound { reference: reference.to_owned(), near: near(index, reference) });
            };
            removed.untagged = hit.name.map_or_else(|| index.names_of(&hit.digest), |name| vec![name]);
            for name in &removed.untagged {
                index.names.remove(name);
            }
            if index.names_of(&hit.digest).is_empty()
                && let Some(record) = index.images.remove(&hit.digest)
            {
                refuse_used(&record.config.to_string(), reference, usage, force)?;
                removed.deleted.push(record.config.to_string());
            }
            Ok(())
        })?;
        self.sweep_content(usage, &mut removed)?;
        Ok(removed)
    }

    /// Removes images that no pod uses, those without a name or all, and what [`gc`](Self::gc) removes.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn prune(&self, usage: &dyn Usage, which: Pruned) -> Result<Removed, ImageError> {
        self.clean(usage, |index, removed| {
            let named: BTreeSet<Digest> = index.names.values().copied().collect();
            index.images.retain(|digest, record| {
                let wanted = which == Pruned::Nameless && named.contains(digest);
                let keep = wanted || !usage.pods(&record.config.to_string()).is_empty();
                if !keep {
                    removed.deleted.push(record.config.to_string());
                }
                keep
            });
            let Index { names, images, .. } = index;
            let (kept, gone): (BTreeMap<_, _>, BTreeMap<_, _>) = take(names).into_iter().partition(|(_, digest)| images.contains_key(digest));
            *names = kept;
            removed.untagged = gone.into_keys().collect();
        })
    }

    /// Removes what a crash left and content that no image refers to, except layer directories that pods use. Other
    /// versions of the embedded image go too.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn gc(&self, usage: &dyn Usage) -> Result<Removed, ImageError> {
        self.clean(usage, |_, _| {})
    }

    fn clean(
        &self,
        usage: &dyn Usage,
        change: impl FnOnce(&mut Index, &mut Removed),
    ) -> Result<Removed, ImageError> {
        let mut removed = Removed::default();
        if !self.root().exists() {
            return Ok(removed);
        }
        self.prepare()?;
        let _content = Lock::wait(self.root(), "content.lock", Share::Exclusive)?;
        Index::change(self.root(), |index| {
            change(index, &mut removed);
            Ok(())
        })?;
        self.sweep_content(usage, &mut removed)?;
        let current = embedded::current(self.program());
        self.remove_embedded(usage, &mut removed, &|version| version != current)?;
        Ok(removed)
    }

    /// Removes layers and blobs without an image or a living lease, and what a crash left of work in progress. The caller has
    /// content.lock for himself.
    fn sweep_content(&self, usage: &dyn Usage, removed: &mut Removed) -> Result<(), ImageError> {
        let leased = lease::sweep(self.root())?;
        let index = Index::read(self.root())?;
        let layers: BTreeSet<String> = index.images.values().flat_map(|r| r.layers.iter().map(Digest::hex)).collect();
        for name in entries(&self.root().join("layers/sha256"))? {
            if layers.contains(&name) || leased.contains(&name) {
                continue;
            }
            let dir = self.root().join("layers/sha256").join(&name);
            let bytes = Digest::from_hex(&name).and_then(|id| layer::read_record(self.root(), &id).ok().flatten());
            self.remove_layer(&dir, usage, bytes.map_or(0, |record| record.bytes), removed)?;
        }
        let blobs: BTreeSet<String> =
            index.images.iter().flat_map(|(digest, record)| [digest.hex(), record.config.hex()]).collect();
        for name in entries(&self.root().join("blobs/sha256"))?.into_iter().filter(|name| !blobs.contains(name)) {
            let path = self.root().join("blobs/sha256").join(name);
            fs::remove_file(&path).map_err(sys("remove", path))?;
        }
        self.sweep_files()
    }

    /// Removes files that a crash left: documents that were to replace others, and locks of layers.
    fn sweep_files(&self) -> Result<(), ImageError> {
        let fetching = self.root().join("fetching");
        for name in entries(&fetching)? {
            // Held by whoever is at work; then it goes with him.
            if let Some(_dead) = Lock::try_exclusive(&fetching, &name)? {
                absent_is_fine(&fetching.join(name))?;
            }
        }
        // Who replaces the index has it.
        let _index = Lock::wait(self.root(), "index.lock", Share::Exclusive)?;
        for name in entries(self.root())?.into_iter().filter(|name| name.starts_with(".new-")) {
            absent_is_fine(&self.root().join(name))?;
        }
        Ok(())
    }

    fn remove_embedded(
        &self,
        usage: &dyn Usage,
        removed: &mut Removed,
        which: &dyn Fn(&str) -> bool,
    ) -> Result<(), ImageError> {
        let base = embedded::base(self.root());
        for version in entries(&base)?.into_iter().filter(|version| which(version)) {
            let size = if version == embedded::current(self.program()) { self.program().size } else { 0 };
            self.remove_layer(&base.join(version), usage, size, removed)?;
        }
        Ok(())
    }

    fn remove_layer(
        &self,
        dir: &Path,
        usage: &dyn Usage,
        bytes: u64,
        removed: &mut Removed,
    ) -> Result<(), ImageError> {
        if usage.layer(&dir.join("fs")) {
            removed.kept += 1;
            return Ok(());
        }
        retire(self.root(), dir)?;
        removed.layers += 1;
        removed.bytes += bytes;
        Ok(())
    }
}

/// An image that pods use is not removed, unless somebody insists.
fn refuse_used(id: &str, reference: &str, usage: &dyn Usage, force: Force) -> Result<(), ImageError> {
    let pods = if force == Force::Yes { Vec::new() } else { usage.pods(id) };
    if pods.is_empty() { Ok(()) } else { Err(ImageError::InUse { image: reference.to_owned(), pods }) }
}
