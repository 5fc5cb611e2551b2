//! How much the store takes.

use std::collections::BTreeMap;

use super::digest::Digest;
use super::embedded;
use super::error::ImageError;
use super::index::Index;
use super::layer;
use super::lease::entries;
use super::store::ImageStore;
use super::usage::Usage;

/// Images on disk.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct DiskUse {
    /// How many there are, the embedded one included when it is unpacked.
    pub images: usize,
    /// How many of them pods use.
    pub active: usize,
    /// Bytes of all layers, each counted once.
    pub bytes: u64,
    /// Bytes of layers that no image in use has: what [`prune`](ImageStore::prune) of all images and `gc` would give back.
    pub reclaimable: u64,
}

impl ImageStore {
    /// How much the store takes, by the records of its layers.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn disk_use(&self, usage: &dyn Usage) -> Result<DiskUse, ImageError> {
        let index = Index::read(self.root())?;
        // Whether an image in use has it, or a pod has it of an image that is gone.
        let mut layers: BTreeMap<Digest, bool> = BTreeMap::new();
        for id in entries(&self.root().join("layers/sha256"))?.iter().filter_map(|name| Digest::from_hex(name)) {
            layers.insert(id, usage.layer(&layer::files(self.root(), &id)));
        }
        let mut total = DiskUse { images: index.images.len(), ..DiskUse::default() };
        for record in index.images.values() {
            let active = !usage.pods(&record.config.to_string()).is_empty();
            total.active += usize::from(active);
            record.layers.iter().for_each(|id| *layers.entry(*id).or_default() |= active);
        }
        for (id, active) in layers {
            let bytes = layer::read_record(self.root(), &id)?.map_or(0, |record| record.bytes);
            total.bytes += bytes;
            total.reclaimable += if active { 0 } else { bytes };
        }
        if let Ok(embedded) = embedded::image(self.root(), self.program())
            && embedded.layers.iter().all(|files| files.is_dir())
        {
            let active = !usage.pods(&embedded.id).is_empty();
            total.images += 1;
            total.active += usize::from(active);
            total.bytes += embedded.size;
            total.reclaimable += if active { 0 } else { embedded.size };
        }
        Ok(total)
    }
}
