//! The store as its users see it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder};
use std::mem::take;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::config::Configuration;
use super::digest::Digest;
use super::embedded::{self, EMBEDDED_NAME, EMBEDDED_REGISTRY, Program};
use super::error::{ImageError, Origin, sys};
use super::index::{Index, Record};
use super::layer;
use super::limits::Limits;
use super::ingest::{Ingest, Slots, Watch};
use super::lease::{self, Lease, entries};
use super::load;
use super::lock::{Hold, Lock, Share};
use super::reference::{LOCAL_REGISTRY, Reference};
use super::usage::Usage;
use super::work::{absent_is_fine, retire};
use super::{Image, Image as Found, blob};

/// Short ids are accepted from this length on: a word that happens to be hex digits must not name an image by chance.
const SHORTEST_ID: usize = 6;

/// Images on disk, shared by all processes that open the same directory.
#[derive(Debug)]
pub struct ImageStore {
    root: PathBuf,
    limits: Limits,
    program: Program,
    slots: Slots,
}

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
    /// The store in `<lib>/images`. Nothing is created before it is needed.
    ///
    /// # Errors
    /// None today; callers must be ready for a store of a newer version.
    pub fn open(lib: &Path) -> Result<Self, ImageError> {
        let lib = std::path::absolute(lib).map_err(sys("make absolute", lib))?;
        Ok(Self { root: lib.join("images"), limits: Limits::default(), program: Program::EMBEDDED, slots: Slots::default() })
    }

    /// Other limits on what archives may hold.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Another program as the embedded image.
    #[must_use]
    pub fn with_program(mut self, program: Program) -> Self {
        self.program = program;
        self
    }

    /// Keeps all content until the hold is dropped. Waits while something is being removed, never for a load or a pull.
    ///
    /// # Errors
    /// [`ImageError::Io`].
    pub fn hold(&self) -> Result<Hold, ImageError> {
        self.prepare()?;
        Hold::new(&self.root)
    }

    /// Finds an image by name, id, prefix of an id (6 digits or more) or digest; `None` when there is none.
    ///
    /// A name without registry means the embedded image (`toolbox`), then docker.io's, then this machine's (localhost/), then
    /// the only one whose name ends with it. The embedded image is unpacked when it is first asked for.
    ///
    /// # Errors
    /// [`ImageError::Reference`], [`ImageError::Ambiguous`], [`ImageError::LayerMissing`], or the store cannot be read.
    pub fn resolve(&self, reference: &str) -> Result<Option<Image>, ImageError> {
        if self.is_embedded(reference) {
            self.prepare()?;
            return embedded::unpacked(&self.root, &self.program).map(Some);
        }
        self.looking(|index| match lookup(index, reference)? {
            None => Ok(None),
            Some(hit) => self.image(index, &hit.digest, hit.name).map(Some),
        })
    }

    /// Looks at the index and what it names; again, when that failed because something was removed meanwhile: the index goes first.
    fn looking<T>(&self, look: impl Fn(&Index) -> Result<T, ImageError>) -> Result<T, ImageError> {
        let mut index = Index::read(&self.root)?;
        loop {
            let result = look(&index);
            let now = if result.is_err() { Index::read(&self.root)? } else { return result };
            if now == index {
                return result;
            }
            index = now;
        }
    }

    /// [`resolve`](Self::resolve) for those who cannot go on without.
    ///
    /// # Errors
    /// [`ImageError::NotFound`] with names that are near, and those of `resolve`.
    pub fn find(&self, reference: &str) -> Result<Image, ImageError> {
        match self.resolve(reference)? {
            Some(image) => Ok(image),
            None => {
                let near = near(&Index::read(&self.root)?, reference);
                Err(ImageError::NotFound { reference: reference.to_owned(), near })
            }
        }
    }

    /// What a registry may be asked for under this name. Nothing for a name of this machine only: the embedded image's, an id, or one of
    /// localhost (without a port).
    ///
    /// # Errors
    /// [`ImageError::Reference`].
    pub fn fetchable(&self, reference: &str) -> Result<Option<Reference>, ImageError> {
        if self.is_embedded(reference) || reference.starts_with("sha256:") || (is_id(reference) && reference.len() == 64) {
            return Ok(None);
        }
        let name = Reference::parse(reference)?;
        Ok((!matches!(name.registry(), LOCAL_REGISTRY | EMBEDDED_REGISTRY)).then_some(name))
    }

    /// [`fetchable`](Self::fetchable), but nothing as well for a name without registry that an image here has on localhost, or that is
    /// the beginning of an id here: a pod that names it means that one.
    ///
    /// # Errors
    /// [`ImageError::Reference`], or the store cannot be read.
    pub fn fetchable_for_pod(&self, reference: &str) -> Result<Option<Reference>, ImageError> {
        let fetchable = self.fetchable(reference)?;
        let Some(name) = fetchable.as_ref().filter(|name| name.is_short()) else { return Ok(fetchable) };
        let here = match lookup(&Index::read(&self.root)?, reference)? {
            Some(Hit { name: Some(found), .. }) => found.starts_with(&format!("{LOCAL_REGISTRY}/")),
            Some(Hit { name: None, .. }) => name.digest().is_none(),
            None => false,
        };
        Ok(fetchable.filter(|_| !here))
    }

    /// Loads all images of a docker-archive, an oci-archive or an OCI layout directory, compressed or not.
    ///
    /// All or nothing: names change when everything is there, and a failure leaves no file. Several may be under way, in this
    /// process and in others; what they have in common is unpacked once.
    ///
    /// # Errors
    /// What is wrong with the archive, a failed system call, or [`ImageError::Cancelled`].
    pub fn load(&self, path: &Path, watch: Watch<'_>) -> Result<Vec<Image>, ImageError> {
        let (digests, _content) = load::load(self.ingest(watch)?, path)?;
        let index = Index::read(&self.root)?;
        let mut distinct = BTreeSet::new();
        let fresh = digests.iter().filter(|digest| distinct.insert(**digest));
        fresh.map(|digest| self.image(&index, digest, None)).collect()
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn program(&self) -> &Program {
        &self.program
    }

    #[cfg(feature = "registry")]
    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn ingest<'a>(&'a self, watch: Watch<'a>) -> Result<Ingest<'a>, ImageError> {
        self.prepare()?;
        // What a crash left would only take room meanwhile; when somebody uses the store, the next one sweeps.
        if let Some(_content) = Lock::try_exclusive(&self.root, "content.lock")? {
            lease::sweep(&self.root)?;
        }
        Ok(Ingest { root: &self.root, limits: &self.limits, slots: &self.slots, watch, lease: Lease::new(&self.root)? })
    }

    /// All images, ordered by name, the embedded one first. It is listed even when it is not unpacked: use `resolve` for that.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn list(&self) -> Result<Vec<Image>, ImageError> {
        let all = |index: &Index| index.images.keys().map(|digest| self.image(index, digest, None)).collect::<Result<Vec<_>, _>>();
        let mut images = self.looking(all)?;
        images.sort_by(|a, b| (a.names.is_empty(), &a.reference).cmp(&(b.names.is_empty(), &b.reference)));
        match embedded::image(&self.root, &self.program) {
            Ok(embedded) => images.insert(0, embedded),
            Err(ImageError::NoToolbox) => {}
            Err(e) => return Err(e),
        }
        Ok(images)
    }

    /// Gives an image one more name, which an other image loses if it had it.
    ///
    /// # Errors
    /// [`ImageError::NotFound`], [`ImageError::Reference`], or the store cannot be written.
    pub fn tag(&self, reference: &str, name: &str) -> Result<(), ImageError> {
        self.prepare()?;
        let refuse = |why: &str| ImageError::Reference { reference: name.to_owned(), why: why.to_owned() };
        let normal = Reference::parse(name)?;
        if normal.digest().is_some() {
            return Err(refuse("a tag cannot be a digest"));
        }
        if normal.registry() == EMBEDDED_REGISTRY {
            return Err(refuse("the name belongs to an image inside minipod"));
        }
        if self.is_embedded(reference) {
            return Err(ImageError::Reference { reference: reference.to_owned(), why: "the embedded image has one name only".into() });
        }
        Index::change(&self.root, |index| {
            let Some(hit) = lookup(index, reference)? else {
                return Err(ImageError::NotFound { reference: reference.to_owned(), near: near(index, reference) });
            };
            index.names.insert(normal.to_string(), hit.digest);
            Ok(())
        })
    }

    /// Removes a name, and the image with its last name; by id or digest, the image with all its names. Layers go when no
    /// other image has them. An image that pods use stays, or with `force` loses its names only: its layers go with a later
    /// [`gc`](Self::gc).
    ///
    /// # Errors
    /// [`ImageError::NotFound`] with names that are near, [`ImageError::Ambiguous`], [`ImageError::InUse`], or the store cannot
    /// be written.
    pub fn remove(&self, reference: &str, usage: &dyn Usage, force: Force) -> Result<Removed, ImageError> {
        self.prepare()?;
        let _content = Lock::wait(&self.root, "content.lock", Share::Exclusive)?;
        let mut removed = Removed::default();
        if self.is_embedded(reference) {
            let image = embedded::image(&self.root, &self.program)?;
            refuse_used(&image.id, reference, usage, force)?;
            self.remove_embedded(usage, &mut removed, &|_| true)?;
            if removed.layers > 0 {
                removed.deleted.push(image.id);
            }
            return Ok(removed);
        }
        Index::change(&self.root, |index| {
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
        if !self.root.exists() {
            return Ok(removed);
        }
        self.prepare()?;
        let _content = Lock::wait(&self.root, "content.lock", Share::Exclusive)?;
        Index::change(&self.root, |index| {
            change(index, &mut removed);
            Ok(())
        })?;
        self.sweep_content(usage, &mut removed)?;
        let current = embedded::current(&self.program);
        self.remove_embedded(usage, &mut removed, &|version| version != current)?;
        Ok(removed)
    }

    /// Makes the store's directories. Only root may look inside: images may hold set-uid programs.
    fn prepare(&self) -> Result<(), ImageError> {
        for name in ["", "tmp", "fetching", "embedded", "layers/sha256", "blobs/sha256"] {
            let path = self.root.join(name);
            if !path.is_dir() {
                DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(sys("create", path))?;
            }
        }
        Ok(())
    }

    fn is_embedded(&self, reference: &str) -> bool {
        let by_id = || {
            let digits = reference.strip_prefix("sha256:").unwrap_or(reference);
            is_id(digits)
                && embedded::image(&self.root, &self.program)
                    .is_ok_and(|image| [image.id, image.digest].iter().any(|id| id[7..].starts_with(digits)))
        };
        matches!(reference, "toolbox" | "toolbox:latest")
            || Reference::parse(reference).is_ok_and(|name| name.to_string() == EMBEDDED_NAME)
            || by_id()
    }

    fn image(&self, index: &Index, digest: &Digest, name: Option<String>) -> Result<Found, ImageError> {
        let lost = |what: &Digest| ImageError::LayerMissing { layer: *what, image: name.clone().unwrap_or_else(|| digest.to_string()) };
        let record = index.images.get(digest).ok_or_else(|| lost(digest))?;
        let text = blob::read(&self.root, &record.config, "an image configuration")?;
        let parsed: Configuration = serde_json::from_slice(&text).map_err(|source| {
            let origin = Origin::Store(blob::path(&self.root, &record.config));
            ImageError::Json { origin, document: "an image configuration".into(), source }
        })?;
        let layers = self.layers(record);
        for (id, path) in &layers {
            if !path.is_dir() {
                return Err(lost(id));
            }
        }
        let names = index.names_of(digest);
        Ok(Image {
            reference: name.or_else(|| names.first().cloned()).unwrap_or_else(|| record.config.to_string()),
            names,
            id: record.config.to_string(),
            digest: digest.to_string(),
            digests: record.digests.iter().cloned().collect(),
            layers: layers.into_iter().map(|(_, path)| path).collect(),
            size: record.size,
            created: parsed.created.clone(),
            architecture: parsed.architecture.clone(),
            config: parsed.into_image_config(),
        })
    }

    /// The text of an image's configuration.
    pub(super) fn configuration(&self, image: &Image) -> Result<Vec<u8>, ImageError> {
        if image.reference == EMBEDDED_NAME {
            return Ok(embedded::configuration_of(image, &self.program));
        }
        let id = image.id.parse().map_err(|why| ImageError::Reference { reference: image.id.clone(), why })?;
        blob::read(&self.root, &id, "an image configuration")
    }

    /// Topmost first. Overlay refuses a directory twice; of a repeated layer the topmost counts, which hides all of the others
    /// and adds back whatever stands between them took away.
    fn layers(&self, record: &Record) -> Vec<(Digest, PathBuf)> {
        let mut seen = BTreeSet::new();
        let distinct = record.layers.iter().rev().filter(|id| seen.insert(**id));
        distinct.map(|id| (*id, layer::files(&self.root, id))).collect()
    }

    /// Removes layers and blobs without an image or a living lease, and what a crash left of work in progress. The caller has
    /// content.lock for himself.
    fn sweep_content(&self, usage: &dyn Usage, removed: &mut Removed) -> Result<(), ImageError> {
        let leased = lease::sweep(&self.root)?;
        let index = Index::read(&self.root)?;
        let layers: BTreeSet<String> = index.images.values().flat_map(|r| r.layers.iter().map(Digest::hex)).collect();
        for name in entries(&self.root.join("layers/sha256"))? {
            if layers.contains(&name) || leased.contains(&name) {
                continue;
            }
            let dir = self.root.join("layers/sha256").join(&name);
            let bytes = Digest::from_hex(&name).and_then(|id| layer::read_record(&self.root, &id).ok().flatten());
            self.remove_layer(&dir, usage, bytes.map_or(0, |record| record.bytes), removed)?;
        }
        let blobs: BTreeSet<String> =
            index.images.iter().flat_map(|(digest, record)| [digest.hex(), record.config.hex()]).collect();
        for name in entries(&self.root.join("blobs/sha256"))?.into_iter().filter(|name| !blobs.contains(name)) {
            let path = self.root.join("blobs/sha256").join(name);
            fs::remove_file(&path).map_err(sys("remove", path))?;
        }
        self.sweep_files()
    }

    /// Removes files that a crash left: documents that were to replace others, and locks of layers.
    fn sweep_files(&self) -> Result<(), ImageError> {
        let fetching = self.root.join("fetching");
        for name in entries(&fetching)? {
            // Held by whoever is at work; then it goes with him.
            if let Some(_dead) = Lock::try_exclusive(&fetching, &name)? {
                absent_is_fine(&fetching.join(name))?;
            }
        }
        // Who replaces the index has it.
        let _index = Lock::wait(&self.root, "index.lock", Share::Exclusive)?;
        for name in entries(&self.root)?.into_iter().filter(|name| name.starts_with(".new-")) {
            absent_is_fine(&self.root.join(name))?;
        }
        Ok(())
    }

    fn remove_embedded(
        &self,
        usage: &dyn Usage,
        removed: &mut Removed,
        which: &dyn Fn(&str) -> bool,
    ) -> Result<(), ImageError> {
        let base = embedded::base(&self.root);
        for version in entries(&base)?.into_iter().filter(|version| which(version)) {
            let size = if version == embedded::current(&self.program) { self.program.size } else { 0 };
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
        retire(&self.root, dir)?;
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

/// What a reference stands for.
struct Hit {
    digest: Digest,
    /// The stored name it matched; none for an id or a digest.
    name: Option<String>,
}

fn is_id(text: &str) -> bool {
    (SHORTEST_ID..=64).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn lookup(index: &Index, reference: &str) -> Result<Option<Hit>, ImageError> {
    if let Some(digits) = reference.strip_prefix("sha256:") {
        if !is_id(digits) {
            let why = format!("an id is {SHORTEST_ID} to 64 lower-case hex digits");
            return Err(ImageError::Reference { reference: reference.to_owned(), why });
        }
        return by_id(index, reference, digits);
    }
    if is_id(reference) && reference.len() == 64 {
        return by_id(index, reference, reference);
    }
    if let Some(hit) = by_name(index, reference, &Reference::parse(reference)?)? {
        return Ok(Some(hit));
    }
    if is_id(reference) { by_id(index, reference, reference) } else { Ok(None) }
}

/// Ids are configurations' digests; manifests' digests are accepted as well.
fn by_id(index: &Index, reference: &str, digits: &str) -> Result<Option<Hit>, ImageError> {
    let starts = |digest: &Digest| digest.hex().starts_with(digits);
    let fits = index.images.iter().filter(|(digest, record)| starts(digest) || starts(&record.config));
    let hits: Vec<Digest> = fits.map(|(digest, _)| *digest).collect();
    // One configuration may have several manifests (the same image saved by different tools): any will do.
    let ids: BTreeSet<Digest> = hits.iter().filter_map(|digest| index.images.get(digest)).map(|r| r.config).collect();
    if ids.len() > 1 {
        let candidates = ids.iter().map(Digest::to_string).collect();
        return Err(ImageError::Ambiguous { reference: reference.to_owned(), candidates });
    }
    Ok(hits.first().map(|digest| Hit { digest: *digest, name: None }))
}

fn by_name(index: &Index, reference: &str, name: &Reference) -> Result<Option<Hit>, ImageError> {
    if let Some(digest) = name.digest() {
        if let Some(named) = index.names.get(&name.to_string()) {
            return Ok(Some(Hit { digest: *named, name: Some(name.to_string()) }));
        }
        // Content is what its digest says, whatever the repository it came from; an index stands for the image it led to.
        let end = format!("@{digest}");
        let leads = |(manifest, record): &(&Digest, &Record)| *manifest == digest || record.digests.iter().any(|known| known.ends_with(&end));
        return Ok(index.images.iter().find(leads).map(|(manifest, _)| Hit { digest: *manifest, name: None }));
    }
    let mut wanted = vec![name.to_string()];
    if name.is_short() {
        wanted.push(format!("{LOCAL_REGISTRY}/{}", name.short()));
    }
    for name in wanted {
        if let Some(digest) = index.names.get(&name) {
            return Ok(Some(Hit { digest: *digest, name: Some(name) }));
        }
    }
    if !name.is_short() {
        return Ok(None);
    }
    let end = format!("/{}", name.short());
    let fits: Vec<_> = index.names.iter().filter(|(name, _)| name.ends_with(&end)).collect();
    let distinct: BTreeSet<_> = fits.iter().map(|(_, digest)| **digest).collect();
    if distinct.len() > 1 {
        let candidates = fits.into_iter().map(|(name, _)| name.clone()).collect();
        return Err(ImageError::Ambiguous { reference: reference.to_owned(), candidates });
    }
    Ok(fits.first().map(|(name, digest)| Hit { digest: **digest, name: Some((*name).clone()) }))
}

/// At most three names that look like `reference`, the nearest first.
fn near(index: &Index, reference: &str) -> Vec<String> {
    let Ok(wanted) = Reference::parse(reference) else { return Vec::new() };
    let last = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
    let (full, short) = (wanted.to_string(), last(&wanted.to_string()));
    let score = |name: &str| {
        let same_repository = last(name).split(':').next() == short.split([':', '@']).next();
        let short = strsim::jaro_winkler(&last(name), &short);
        if same_repository { 2.0 + short } else { short.max(strsim::normalized_levenshtein(name, &full)) }
    };
    let names = index.names.keys().map(String::as_str).chain([EMBEDDED_NAME]);
    let mut scored: Vec<(f64, &str)> = names.map(|name| (score(name), name)).filter(|(score, _)| *score > 0.8).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.into_iter().take(3).map(|(_, name)| name.to_owned()).collect()
}
