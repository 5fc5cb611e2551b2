//! From a source into the store.
//!
//! ```text
//! lease ── unpack missing layers, several at a time, each into tmp/ and renamed when verified
//!       ── syncfs ── manifests, configurations ── index.json, not named yet ── seal the layers ── its name ── lease given up
//! ```
//!
//! Until index.json is replaced nobody sees an image; whatever fails before that removes what it made and no other uses. The last
//! of those who fail with a layer removes it, whoever made it. A sealed layer goes with gc only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, LazyLock, Mutex, PoisonError};
use std::thread;

use super::blob;
use super::digest::Digest;
use super::embedded::EMBEDDED_REGISTRY;
use super::error::{ImageError, sys};
use super::index::{Index, Record};
use super::inroot;
use super::layer::{self, Bytes, LayerRecord};
use super::lease::{self, Lease};
use super::limits::Limits;
use super::lock::{LayerLock, Lock, Share};
use super::manifest;
use super::reference::Reference;
use super::source::{Found, LayerSource, Source};
use super::work::{absent_is_fine, retire, try_remove_dir};
use crate::cancel::Cancel;

/// What is being done to bring an image in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress<'a> {
    /// A compressed archive is being decompressed.
    Decompressing {
        /// Bytes written so far.
        bytes: u64,
    },
    /// A layer is being read and unpacked.
    Layer {
        /// `sha256:` and the digest of its uncompressed tar.
        diff_id: &'a str,
        /// Which one, from 1, of those that the images have.
        number: usize,
        /// How many there are.
        count: usize,
        /// Bytes read of it.
        done: u64,
        /// Bytes it has at the source.
        total: u64,
    },
    /// Somebody else is unpacking a layer; it is waited for.
    LayerWaits {
        /// `sha256:` and the digest of its uncompressed tar.
        diff_id: &'a str,
        /// Which one, from 1.
        number: usize,
        /// How many there are.
        count: usize,
    },
    /// A layer is in the store already.
    LayerExists {
        /// `sha256:` and the digest of its uncompressed tar.
        diff_id: &'a str,
        /// Which one, from 1.
        number: usize,
        /// How many there are.
        count: usize,
    },
    /// A layer is in the store now.
    LayerDone {
        /// `sha256:` and the digest of its uncompressed tar.
        diff_id: &'a str,
        /// Which one, from 1.
        number: usize,
        /// How many there are.
        count: usize,
    },
}

/// Who watches the work, and may end it.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Hears how far it is, from several threads.
    pub progress: &'a (dyn Fn(Progress<'_>) + Sync),
    /// Ends it.
    pub cancel: &'a Cancel,
}

impl Watch<'static> {
    /// Nobody looks, and nobody ends it.
    #[must_use]
    pub fn nobody() -> Self {
        static NEVER: LazyLock<Cancel> = LazyLock::new(Cancel::new);
        Self { progress: &|_| {}, cancel: &NEVER }
    }
}

/// How many layers this process unpacks at a time, whatever the number of images.
#[derive(Debug)]
pub(super) struct Slots {
    count: usize,
    free: Mutex<usize>,
    given_back: Condvar,
}

struct Slot<'a>(&'a Slots);

impl Default for Slots {
    /// One a processor, and some more: while one waits for the network or the disk, another has work.
    fn default() -> Self {
        let count = (thread::available_parallelism().map_or(2, NonZero::get) + 1).clamp(3, 8);
        Self { count, free: Mutex::new(count), given_back: Condvar::new() }
    }
}

impl Slots {
    fn take(&self) -> Slot<'_> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            free = self.given_back.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        Slot(self)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.given_back.notify_one();
    }
}

/// The work of bringing in the images of one source.
pub(super) struct Ingest<'a> {
    pub(super) root: &'a Path,
    pub(super) limits: &'a Limits,
    pub(super) slots: &'a Slots,
    pub(super) watch: Watch<'a>,
    pub(super) lease: Lease,
}

impl Ingest<'_> {
    /// Brings in all images, or none; their manifests' digests. While the lock lives, none of them is removed.
    pub(super) fn run(self, source: &dyn Source, images: &[Found]) -> Result<(Vec<Digest>, Lock), ImageError> {
        for image in images {
            check(source, image, self.limits)?;
        }
        let mut documents = Vec::new();
        let result = self.unpack(source, images).and_then(|records| self.commit(images, &records, &mut documents));
        if result.is_err() {
            let root = self.root;
            drop(self);
            if let Err(error) = give_up(root, images, &documents) {
                // What has failed first is what people have to know.
                tracing::warn!(%error, "remove what a failed load or pull brought in; gc removes it");
            }
        }
        result
    }

    /// Sees to it that every layer is in the store.
    fn unpack(&self, source: &dyn Source, images: &[Found]) -> Result<BTreeMap<Digest, LayerRecord>, ImageError> {
        let mut seen = BTreeSet::new();
        let all = images.iter().flat_map(|image| &image.layers);
        let wanted: Vec<&LayerSource> = all.filter(|layer| seen.insert(layer.diff_id)).collect();
        {
            let _content = Lock::wait(self.root, "content.lock", Share::Shared)?;
            wanted.iter().try_for_each(|layer| self.lease.keep(&layer.diff_id))?;
        }
        let work = Work { wanted: &wanted, next: AtomicUsize::new(0), failed: AtomicBool::new(false), records: Mutex::default() };
        // More threads than slots would only wait.
        let workers = wanted.len().min(self.slots.count);
        let failures: Vec<ImageError> = thread::scope(|scope| {
            let threads: Vec<_> = (0..workers).map(|_| scope.spawn(|| self.worker(source, &work))).collect();
            threads.into_iter().filter_map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).err()).collect()
        });
        // Those that stopped because another had failed have nothing to say.
        let (stopped, mut causes): (Vec<_>, Vec<_>) = failures.into_iter().partition(|e| matches!(e, ImageError::Cancelled));
        if !causes.is_empty() {
            return Err(causes.remove(0));
        }
        match stopped.into_iter().next() {
            Some(stopped) => Err(stopped),
            None => Ok(work.records.into_inner().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    fn worker(&self, source: &dyn Source, work: &Work<'_>) -> Result<(), ImageError> {
        loop {
            let at = work.next.fetch_add(1, Ordering::Relaxed);
            let Some(layer) = work.wanted.get(at) else { return Ok(()) };
            match self.layer(source, layer, at + 1, work) {
                Ok(record) => drop(lock(&work.records).insert(layer.diff_id, record)),
                Err(e) => {
                    work.failed.store(true, Ordering::Relaxed);
                    return Err(e);
                }
            }
        }
    }

    /// One layer: found, waited for, or unpacked.
    fn layer(&self, source: &dyn Source, layer: &LayerSource, number: usize, work: &Work<'_>) -> Result<LayerRecord, ImageError> {
        let (count, text) = (work.wanted.len(), layer.diff_id.to_string());
        let (diff_id, tell) = (&*text, self.watch.progress);
        if let Some(record) = layer::read_record(self.root, &layer.diff_id)? {
            tell(Progress::LayerExists { diff_id, number, count });
            return Ok(record);
        }
        let waits = || tell(Progress::LayerWaits { diff_id, number, count });
        // Nor is it waited for when this ingest has failed elsewhere.
        let rest = |time| self.watch.cancel.wait(time) || work.failed.load(Ordering::Relaxed);
        let _ours = LayerLock::wait(self.root, &layer.diff_id, &rest, &waits)?;
        if let Some(record) = layer::read_record(self.root, &layer.diff_id)? {
            tell(Progress::LayerExists { diff_id, number, count });
            return Ok(record);
        }
        let _slot = self.slots.take();
        let mut progress = |Bytes { done, total }| {
            if work.failed.load(Ordering::Relaxed) || self.watch.cancel.is_cancelled() {
                return Err(io::Error::other(Stopped));
            }
            tell(Progress::Layer { diff_id, number, count, done, total });
            Ok(())
        };
        progress(Bytes { done: 0, total: layer.descriptor.map_or(0, |(_, size)| size) }).map_err(|_| ImageError::Cancelled)?;
        let from = self.lease.work(&layer.diff_id);
        let record = layer::unpack(source, layer, &from, self.limits, &mut progress).map_err(stopped)?;
        layer::write_fresh(&from, record)?;
        let to = layer::dir(self.root, &layer.diff_id);
        // A directory without a record that counts is no layer: someone damaged the store, or the power went.
        try_remove_dir(&to)?;
        fs::rename(&from, &to).map_err(sys("rename a layer to", to))?;
        tell(Progress::LayerDone { diff_id, number, count });
        Ok(record)
    }

    /// Puts everything on disk and then into the index. Tells in `documents` what it writes.
    fn commit(
        &self,
        images: &[Found],
        records: &BTreeMap<Digest, LayerRecord>,
        documents: &mut Vec<Digest>,
    ) -> Result<(Vec<Digest>, Lock), ImageError> {
        if self.watch.cancel.is_cancelled() {
            return Err(ImageError::Cancelled);
        }
        // Documents that the index does not name yet are nobody's: nothing is removed until it does.
        let content = Lock::wait(self.root, "content.lock", Share::Shared)?;
        // A layer of the index is never looked at again, so its content must survive a power cut.
        let fd = inroot::open_dir(self.root).map_err(sys("open", self.root))?;
        rustix::fs::syncfs(fd).map_err(sys("sync the file system of", self.root))?;
        let images = images.iter().map(|image| self.blobs(image, records, documents)).collect::<Result<Vec<_>, _>>()?;
        // Last: what is sealed is not removed when we fail, for it may be in use already by way of somebody else.
        let seal = || records.keys().try_for_each(|diff_id| layer::seal(self.root, diff_id));
        let change = |index: &mut Index| {
            for (names, digest, record) in &images {
                let mut record = record.clone();
                record.digests.extend(index.images.get(digest).into_iter().flat_map(|before| before.digests.iter().cloned()));
                index.images.insert(*digest, record);
                for name in *names {
                    index.names.insert(name.clone(), *digest);
                }
            }
            Ok(())
        };
        Index::change_after(self.root, change, seal)?;
        Ok((images.iter().map(|(_, digest, _)| *digest).collect(), content))
    }

    fn blobs<'i>(
        &self,
        image: &'i Found,
        records: &BTreeMap<Digest, LayerRecord>,
        documents: &mut Vec<Digest>,
    ) -> Result<(&'i [String], Digest, Record), ImageError> {
        let config = blob::write(self.root, &image.config)?;
        documents.push(config);
        let made;
        let manifest = match &image.manifest {
            Some(manifest) => manifest,
            None => {
                let bytes = |id| records.get(id).map_or(0, |record| record.tar_bytes);
                let layers = image.layers.iter().map(|layer| (layer.diff_id, bytes(&layer.diff_id)));
                made = manifest::plain(config, image.config.len(), layers);
                &made
            }
        };
        let digest = blob::write(self.root, manifest)?;
        documents.push(digest);
        let layers: Vec<Digest> = image.layers.iter().map(|layer| layer.diff_id).collect();
        let distinct: BTreeSet<&Digest> = layers.iter().collect();
        let size = distinct.into_iter().filter_map(|id| records.get(id)).map(|record| record.bytes).sum();
        Ok((&image.names, digest, Record { config, layers, size, digests: image.digests.iter().cloned().collect() }))
    }
}

/// What the workers of one ingest share.
struct Work<'a> {
    wanted: &'a [&'a LayerSource],
    next: AtomicUsize,
    failed: AtomicBool,
    records: Mutex<BTreeMap<Digest, LayerRecord>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends a read because nobody wants it any more.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
struct Stopped;

/// A failure that only says that somebody asked to stop.
fn stopped(error: ImageError) -> ImageError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(error) = cause {
        let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if inside.is_some_and(|inside| inside.is::<Stopped>()) {
            return ImageError::Cancelled;
        }
        cause = error.source();
    }
    error
}

/// Removes what a failed ingest brought in, unless somebody else needs it: layers of its images that no image has had yet, whoever
/// made them (who left one to us removes it no more), and documents. A sealed layer is never removed here: pods may use it, of which
/// only gc knows.
fn give_up(root: &Path, images: &[Found], documents: &[Digest]) -> Result<(), ImageError> {
    let layers: BTreeSet<Digest> = images.iter().flat_map(|image| &image.layers).map(|layer| layer.diff_id).collect();
    let fresh = |diff_id: &&Digest| layer::is_fresh(&layer::dir(root, diff_id));
    if documents.is_empty() && !layers.iter().any(|diff_id| fresh(&diff_id)) {
        return Ok(());
    }
    let _content = Lock::wait(root, "content.lock", Share::Exclusive)?;
    let kept = lease::sweep(root)?;
    let index = Index::read(root)?;
    for diff_id in layers.iter().filter(fresh) {
        let named = index.images.values().any(|record| record.layers.contains(diff_id));
        if !named && !kept.contains(&diff_id.hex()) {
            retire(root, &layer::dir(root, diff_id))?;
        }
    }
    for digest in documents {
        if !index.images.iter().any(|(manifest, record)| manifest == digest || record.config == *digest) {
            absent_is_fine(&blob::path(root, digest))?;
        }
    }
    Ok(())
}

/// What can be refused before anything is unpacked.
fn check(source: &dyn Source, image: &Found, limits: &Limits) -> Result<(), ImageError> {
    let bad = |why: String| Err(ImageError::Bad { origin: source.origin(), why });
    let shown = image.names.first().cloned().unwrap_or_else(|| Digest::of(&image.config).to_string());
    if !matches!(&*image.parsed.os, "" | "linux") {
        return bad(format!("image {shown} is for {}, not for Linux", image.parsed.os));
    }
    if image.layers.is_empty() {
        return bad(format!("image {shown} has no layer, so nothing in it could run"));
    }
    if image.layers.len() > limits.layers {
        return bad(format!("image {shown} has more than {} layers (the limit)", limits.layers));
    }
    if image.names.len() > limits.names {
        return bad(format!("image {shown} has more than {} names (the limit)", limits.names));
    }
    for name in &image.names {
        if Reference::parse(name)?.registry() == EMBEDDED_REGISTRY {
            return bad(format!("the name {name} belongs to an image inside minipod: tag it otherwise"));
        }
    }
    Ok(())
}
