//! The store as its users see it.

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::config::Configuration;
use super::digest::Digest;
use super::embedded::{self, EMBEDDED_NAME, EMBEDDED_REGISTRY, Program};
use super::error::{ImageError, Origin, sys};
use super::index::{Index, Record};
use super::layer;
use super::ingest::{Ingest, Slots, Watch};
use super::lease::{self, Lease};
use super::limits::Limits;
use super::load;
use super::lock::{Hold, Lock};
use super::lookup::{Hit, is_id, lookup, near};
use super::reference::{LOCAL_REGISTRY, Reference};
use super::{Image, blob};

/// Images on disk, shared by all processes that open the same directory.
#[derive(Debug)]
pub struct ImageStore {
    root: PathBuf,
    limits: Limits,
    program: Program,
    slots: Slots,
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

    /// Makes the store's directories. Only root may look inside: images may hold set-uid programs.
    pub(super) fn prepare(&self) -> Result<(), ImageError> {
        for name in ["", "tmp", "fetching", "embedded", "layers/sha256", "blobs/sha256"] {
            let path = self.root.join(name);
            if !path.is_dir() {
                DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(sys("create", path))?;
            }
        }
        Ok(())
    }

    pub(super) fn is_embedded(&self, reference: &str) -> bool {
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

    fn image(&self, index: &Index, digest: &Digest, name: Option<String>) -> Result<Image, ImageError> {
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
}
