//! Archives of `docker save` and `podman save`: `manifest.json` names configurations and layers.
//!
//! Old ones hold `<id>.json` and `<id>/layer.tar`, new ones `blobs/sha256/<hex>`; podman's `<hex>.json` and `<hex>.tar`.
//!
//! Spec: Docker image specification v1.2, "Combined Image JSON + Filesystem Changeset Format".

use serde::Deserialize;

use super::archive::Archive;
use super::config::Configuration;
use super::digest::Digest;
use super::error::ImageError;
use super::limits::Limits;
use super::reference::Reference;
use super::source::{Found, LayerSource};

pub(super) const MANIFEST: &str = "manifest.json";

/// One image of `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

/// All images of the archive.
pub(super) fn images(archive: &Archive, limits: &Limits) -> Result<Vec<Found>, ImageError> {
    items(archive, limits)?.into_iter().map(|item| image(archive, item)).collect()
}

/// The names `manifest.json` gives to the configuration of each digest, for archives that have an OCI index too.
pub(super) fn names_by_config(archive: &Archive, limits: &Limits) -> Result<Vec<(Digest, Vec<String>)>, ImageError> {
    let named = items(archive, limits)?.into_iter().filter_map(|item| {
        let digest = Digest::from_hex(file_stem(&item.config))?;
        Some(names(item.repo_tags).map(|names| (digest, names)))
    });
    named.collect()
}

fn items(archive: &Archive, limits: &Limits) -> Result<Vec<Item>, ImageError> {
    let items: Vec<Item> = archive.parse(MANIFEST, &archive.document(MANIFEST)?)?;
    if items.len() > limits.images {
        return Err(archive.bad(format!("it has more than {} images (the limit)", limits.images)));
    }
    Ok(items)
}

fn names(repo_tags: Option<Vec<String>>) -> Result<Vec<String>, ImageError> {
    repo_tags.unwrap_or_default().iter().map(|tag| Ok(Reference::parse(tag)?.to_string())).collect()
}

/// `abc` of `blobs/sha256/abc` and of `abc.json`.
fn file_stem(name: &str) -> &str {
    let name = name.rsplit_once('/').map_or(name, |(_, name)| name);
    name.split_once('.').map_or(name, |(stem, _)| stem)
}

fn image(archive: &Archive, item: Item) -> Result<Found, ImageError> {
    // Named by its digest in every variant but hand-made ones.
    let config = match Digest::from_hex(file_stem(&item.config)) {
        Some(digest) => archive.verified_document(&item.config, &digest)?,
        None => archive.document(&item.config)?,
    };
    let parsed: Configuration = archive.parse(&item.config, &config)?;
    let diff_ids = parsed.diff_ids();
    if diff_ids.len() != item.layers.len() {
        return Err(archive.bad(format!(
            "manifest.json lists {} layers for {}, which has {}",
            item.layers.len(),
            item.config,
            diff_ids.len()
        )));
    }
    let layers = diff_ids.iter().zip(item.layers);
    let layers = layers.map(|(diff_id, name)| LayerSource { name, diff_id: *diff_id, descriptor: None }).collect();
    Ok(Found { names: names(item.repo_tags)?, digests: Vec::new(), config, parsed, manifest: None, layers })
}
