//! From a registry into the store.

use std::io::{self, Read};

use super::Image;
use super::config::Configuration;
use super::digest::Digest;
use super::error::{ImageError, Origin};
use super::index::Index;
use super::ingest::Watch;
use super::manifest::{Descriptor, Document};
use super::platform::{self, Platform};
use super::reference::Reference;
use super::source::{Found, LayerSource, Source};
use super::store::ImageStore;
use crate::registry::{RegistryError, Repository};

/// A pulled image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// As the store has it now.
    pub image: Image,
    /// Whether anything had to be fetched.
    pub change: Change,
}

/// What a pull did to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The registry has what was here.
    UpToDate,
    /// The name stands for something else now, or is new.
    Fetched,
}

impl ImageStore {
    /// Fetches the image that `name` stands for at the registry and gives it that name; all of it, or nothing.
    ///
    /// What the store has already is not fetched again; when the registry's digest is that of the image here, nothing is. Several pulls
    /// may be under way, in this process and in others: a layer that they have in common is fetched once.
    ///
    /// # Errors
    /// [`ImageError::Registry`], what is wrong with the image, [`ImageError::Platform`], or [`ImageError::Cancelled`].
    pub fn pull(&self, repository: &Repository, name: &Reference, wanted: &Platform, watch: Watch<'_>) -> Result<Pulled, ImageError> {
        let remote = Remote { repository, name: name.to_string() };
        if let Some(image) = self.same_as(&remote, name, wanted)? {
            return Ok(Pulled { image, change: Change::UpToDate });
        }
        let (found, digest) = remote.image(name, wanted, self.limits())?;
        // Not `resolve`: what is here may have lost a layer, and this mends it.
        let before = Index::read(self.root())?.names.get(&remote.name).copied();
        let (_, _content) = self.ingest(watch)?.run(&remote, &[found])?;
        let image = self.find(&remote.name)?;
        let change = if before == Some(digest) { Change::UpToDate } else { Change::Fetched };
        Ok(Pulled { image, change })
    }

    /// The image of this name, when the registry still has the same for this platform. Asks for the digest only, which registries with
    /// a limit on pulls do not count.
    fn same_as(&self, remote: &Remote<'_>, name: &Reference, wanted: &Platform) -> Result<Option<Image>, ImageError> {
        let here = match self.resolve(&remote.name) {
            Ok(Some(image)) if Platform::new("linux", &image.architecture).fits(wanted) => image,
            // One of its layers was lost: fetching it again mends that.
            Ok(_) | Err(ImageError::LayerMissing { .. }) => return Ok(None),
            Err(e) => return Err(e),
        };
        let there = match name.digest() {
            // The same for ever; nobody has to be asked.
            Some(digest) => Some(*digest),
            None => remote.repository.digest().map_err(registry)?,
        };
        let known = there.is_some_and(|digest| {
            let end = format!("@{digest}");
            here.digest == digest.to_string() || here.digests.iter().any(|known| known.ends_with(&end))
        });
        Ok(known.then_some(here))
    }
}

fn registry(error: RegistryError) -> ImageError {
    if error.is_cancelled() { ImageError::Cancelled } else { ImageError::Registry(Box::new(error)) }
}

/// An image at a registry.
struct Remote<'a> {
    repository: &'a Repository,
    /// In normal form.
    name: String,
}

impl Source for Remote<'_> {
    fn origin(&self) -> Origin {
        Origin::Registry(self.name.clone())
    }

    fn open(&self, layer: &LayerSource) -> Result<(Box<dyn Read + Send + '_>, u64), ImageError> {
        let Some((digest, size)) = layer.descriptor else { return Err(self.bad("it has a layer without a descriptor")) };
        let blob = self.repository.blob(&digest, size).map_err(registry)?;
        Ok((Box::new(blob), size))
    }

    fn failure(&self, error: io::Error) -> Result<ImageError, io::Error> {
        RegistryError::from_io(error).map(registry)
    }
}

impl Remote<'_> {
    fn bad(&self, why: impl Into<String>) -> ImageError {
        ImageError::Bad { origin: self.origin(), why: why.into() }
    }

    /// What there is to fetch, and the digest of its manifest.
    fn image(&self, name: &Reference, wanted: &Platform, limits: &super::Limits) -> Result<(Found, Digest), ImageError> {
        let fetch = |part: Option<&Digest>| self.repository.manifest(part, limits.document_bytes).map_err(registry);
        let parse = |text: &[u8]| -> Result<Document, ImageError> {
            let document: Document = serde_json::from_slice(text)
                .map_err(|source| ImageError::Json { origin: self.origin(), document: "its manifest".into(), source })?;
            document.one_kind().map_err(|why| self.bad(why))
        };
        let top = fetch(None)?;
        let mut digests = vec![format!("{}@{}", name.repository(), top.digest)];
        let (mut fetched, mut document) = (top.digest, parse(&top.bytes)?);
        let mut text = top.bytes;
        if let Some(offered) = document.manifests.take() {
            let entry = self.choose(offered, wanted, limits)?;
            let part = fetch(Some(&entry.digest))?;
            if part.bytes.len() as u64 != entry.size {
                return Err(self.bad(format!("manifest {} has {} bytes, its index says {}", entry.digest, part.bytes.len(), entry.size)));
            }
            digests.push(format!("{}@{}", name.repository(), part.digest));
            (fetched, document, text) = (part.digest, parse(&part.bytes)?, part.bytes);
            if document.manifests.is_some() {
                return Err(self.bad("its index lists an index for this platform, not an image"));
            }
        }
        let (config, parsed) = self.configuration(&document, wanted, limits)?;
        let layers = document.layers(&parsed, |layer| layer.digest.to_string()).map_err(|why| self.bad(why))?;
        if let Some((digest, size)) = layers.iter().filter_map(|layer| layer.descriptor).find(|(_, size)| *size > limits.layer_bytes) {
            let limit = limits.layer_bytes;
            return Err(self.bad(format!("its layer {digest} has {size} bytes, more than {limit} (the limit)")));
        }
        let names = vec![self.name.clone()];
        Ok((Found { names, digests, config, parsed, manifest: Some(text), layers }, fetched))
    }

    fn choose(&self, offered: Vec<Descriptor>, wanted: &Platform, limits: &super::Limits) -> Result<Descriptor, ImageError> {
        if offered.len() > limits.descriptors {
            return Err(self.bad(format!("its index lists more than {} manifests (the limit)", limits.descriptors)));
        }
        let mut offered: Vec<Descriptor> = offered.into_iter().filter(|entry| !entry.is_attestation()).collect();
        let platforms: Vec<Option<Platform>> = offered.iter().map(|entry| entry.platform.clone()).collect();
        // An index of one, which says of nothing for what it is: its configuration will.
        let only = (offered.len() == 1 && platforms[0].is_none()).then_some(0);
        match platform::choose(&platforms, wanted).or(only) {
            Some(at) => Ok(offered.swap_remove(at)),
            None => Err(self.other_platforms(wanted, platforms.iter().flatten().map(Platform::to_string).collect())),
        }
    }

    fn configuration(&self, document: &Document, wanted: &Platform, limits: &super::Limits) -> Result<(Vec<u8>, Configuration), ImageError> {
        let descriptor = document.configuration().map_err(|why| self.bad(why))?;
        if descriptor.size > limits.document_bytes {
            let limit = limits.document_bytes;
            return Err(self.bad(format!("its configuration has {} bytes, more than {limit} (the limit)", descriptor.size)));
        }
        let text = self.repository.document(&descriptor.digest, descriptor.size).map_err(registry)?;
        let parsed: Configuration = serde_json::from_slice(&text)
            .map_err(|source| ImageError::Json { origin: self.origin(), document: "its configuration".into(), source })?;
        let platform = Platform::new(&parsed.os, &parsed.architecture);
        // Old images do not say.
        if !parsed.architecture.is_empty() && !platform.is_of(wanted) {
            return Err(self.other_platforms(wanted, vec![platform.to_string()]));
        }
        Ok((text, parsed))
    }

    fn other_platforms(&self, wanted: &Platform, available: Vec<String>) -> ImageError {
        ImageError::Platform { origin: self.origin(), wanted: wanted.to_string(), available }
    }
}
