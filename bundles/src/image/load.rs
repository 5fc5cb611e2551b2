//! From an archive into the store.
//!
//! ```text
//! load.lock ── open archive ── unpack missing layers into tmp/load-*/ ── syncfs ── rename layers ── blobs ── index.json
//! ```
//!
//! Until index.json is replaced nobody sees anything; whatever fails before that removes what it made.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::archive::{Archive, Blob};
use super::config::Configuration;
use super::digest::Digest;
use super::embedded::EMBEDDED_REGISTRY;
use super::error::{ImageError, sys};
use super::index::{self, Index, Record};
use super::layer::{self, LayerRecord};
use super::limits::Limits;
use super::reference::Reference;
use super::{docker, inroot, oci};

/// What a load is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadProgress<'a> {
    /// A compressed archive is being decompressed.
    Decompressing {
        /// Bytes written so far.
        bytes: u64,
    },
    /// A layer is being unpacked.
    Layer {
        /// `sha256:` and the digest of its uncompressed tar.
        diff_id: &'a str,
        /// Which one, from 1, of those that the archive holds.
        number: usize,
        /// How many there are.
        count: usize,
        /// Bytes read of it.
        done: u64,
        /// Bytes it has in the archive.
        total: u64,
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
}

/// An image of an archive.
pub(super) struct Found {
    /// In normal form.
    pub(super) names: Vec<String>,
    pub(super) config: Vec<u8>,
    pub(super) parsed: Configuration,
    /// As it is in the archive; docker-archives have none.
    pub(super) manifest: Option<Vec<u8>>,
    /// Bottom first.
    pub(super) layers: Vec<LayerSource>,
}

/// Where a layer is in the archive.
#[derive(Debug, Clone)]
pub(super) struct LayerSource {
    pub(super) name: String,
    pub(super) diff_id: Digest,
    /// Digest and size as stored.
    pub(super) descriptor: Option<(Digest, u64)>,
}

/// Loads all images of `path`; tells their manifest digests. The caller holds load.lock.
pub(super) fn load(
    root: &Path,
    path: &Path,
    limits: &Limits,
    progress: &mut dyn FnMut(LoadProgress<'_>),
) -> Result<Vec<Digest>, ImageError> {
    let work = WorkDir::new(root, "load-")?;
    let archive =
        Archive::open(path, &work.path, limits, &mut |bytes| progress(LoadProgress::Decompressing { bytes }))?;
    let images = images(&archive, limits)?;
    for image in &images {
        check(&archive, image, limits)?;
    }
    let mut commit = Commit { root, layers: Vec::new() };
    let records = unpack_missing(root, &archive, &images, &work, limits, progress, &mut commit)?;
    let digests = commit.finish(&images, &records)?;
    Ok(digests)
}

fn images(archive: &Archive, limits: &Limits) -> Result<Vec<Found>, ImageError> {
    let docker = archive.has(docker::MANIFEST);
    let images = if archive.has(oci::INDEX) {
        let mut images = oci::images(archive, limits)?;
        if docker {
            add_docker_names(archive, &mut images, limits)?;
        }
        images
    } else if docker {
        docker::images(archive, limits)?
    } else {
        return Err(archive.bad(
            "neither index.json (OCI layout) nor manifest.json (docker save) is in it; \
             `docker save`, `podman save` and `skopeo copy` make archives that minipod loads",
        ));
    };
    if images.is_empty() {
        return Err(archive.bad("it holds no image"));
    }
    Ok(images)
}

/// New `docker save` archives are both; manifest.json has all names.
fn add_docker_names(archive: &Archive, images: &mut [Found], limits: &Limits) -> Result<(), ImageError> {
    let mut by_config: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
    for (config, names) in docker::names_by_config(archive, limits)? {
        by_config.entry(config).or_default().extend(names);
    }
    for image in images {
        image.names.extend(by_config.get(&Digest::of(&image.config)).into_iter().flatten().cloned());
        image.names.sort();
        image.names.dedup();
    }
    Ok(())
}

/// What can be refused before anything is unpacked.
fn check(archive: &Archive, image: &Found, limits: &Limits) -> Result<(), ImageError> {
    let shown = image.names.first().cloned().unwrap_or_else(|| Digest::of(&image.config).to_string());
    if !matches!(&*image.parsed.os, "" | "linux") {
        return Err(archive.bad(format!("image {shown} is for {}, not for Linux", image.parsed.os)));
    }
    if image.layers.is_empty() {
        return Err(archive.bad(format!("image {shown} has no layer, so nothing in it could run")));
    }
    if image.layers.len() > limits.layers {
        return Err(archive.bad(format!("image {shown} has more than {} layers (the limit)", limits.layers)));
    }
    if image.names.len() > limits.names {
        return Err(archive.bad(format!("image {shown} has more than {} names (the limit)", limits.names)));
    }
    for name in &image.names {
        if Reference::parse(name)?.registry() == EMBEDDED_REGISTRY {
            return Err(archive.bad(format!("the name {name} belongs to an image inside minipod: tag it otherwise")));
        }
    }
    Ok(())
}

/// Unpacks each layer the store lacks, once.
fn unpack_missing(
    root: &Path,
    archive: &Archive,
    images: &[Found],
    work: &WorkDir,
    limits: &Limits,
    progress: &mut dyn FnMut(LoadProgress<'_>),
    commit: &mut Commit<'_>,
) -> Result<BTreeMap<Digest, LayerRecord>, ImageError> {
    let mut seen = BTreeSet::new();
    let mut records = BTreeMap::new();
    let all = images.iter().flat_map(|image| &image.layers);
    let wanted: Vec<&LayerSource> = all.filter(|layer| seen.insert(layer.diff_id)).collect();
    let count = wanted.len();
    for (at, layer) in wanted.into_iter().enumerate() {
        let (number, text) = (at + 1, layer.diff_id.to_string());
        let diff_id = &*text;
        if let Some(record) = layer::read_record(root, &layer.diff_id)? {
            progress(LoadProgress::LayerExists { diff_id, number, count });
            records.insert(layer.diff_id, record);
            continue;
        }
        let (_, total) = archive.open_file(&layer.name)?;
        let blob = Blob { archive: &archive.path, source: archive, name: &layer.name, descriptor: layer.descriptor };
        let to = work.path.join(layer.diff_id.hex());
        let mut tell = |done| progress(LoadProgress::Layer { diff_id, number, count, done, total });
        records.insert(layer.diff_id, layer::unpack(blob, &layer.diff_id, &to, limits, &mut tell)?);
        commit.layers.push((layer.diff_id, to));
    }
    Ok(records)
}

/// Layers that are ready to get their names.
struct Commit<'a> {
    root: &'a Path,
    layers: Vec<(Digest, PathBuf)>,
}

impl Commit<'_> {
    fn finish(&self, images: &[Found], records: &BTreeMap<Digest, LayerRecord>) -> Result<Vec<Digest>, ImageError> {
        let result = self.write(images, records);
        if result.is_err() {
            for (diff_id, _) in &self.layers {
                remove_dir(&layer::dir(self.root, diff_id));
            }
        }
        result
    }

    fn write(&self, images: &[Found], records: &BTreeMap<Digest, LayerRecord>) -> Result<Vec<Digest>, ImageError> {
        // A layer that has its name is never looked at again, so its content must survive a power cut.
        if let Some((_, first)) = self.layers.first() {
            let fd = inroot::open_dir(first).map_err(sys("open", first))?;
            rustix::fs::syncfs(fd).map_err(sys("sync the file system of", first))?;
        }
        for (diff_id, from) in &self.layers {
            let to = layer::dir(self.root, diff_id);
            // A directory without a record is no layer: someone damaged the store.
            remove_dir(&to);
            fs::rename(from, &to).map_err(sys("rename a layer to", to))?;
        }
        let images = images.iter().map(|image| self.blobs(image, records)).collect::<Result<Vec<_>, _>>()?;
        Index::change(self.root, |index| {
            for (names, digest, record) in &images {
                index.images.insert(*digest, record.clone());
                for name in *names {
                    index.names.insert(name.clone(), *digest);
                }
            }
            Ok(())
        })?;
        Ok(images.into_iter().map(|(_, digest, _)| digest).collect())
    }

    fn blobs<'i>(
        &self,
        image: &'i Found,
        records: &BTreeMap<Digest, LayerRecord>,
    ) -> Result<(&'i [String], Digest, Record), ImageError> {
        let config = write_blob(self.root, &image.config)?;
        let made;
        let manifest = match &image.manifest {
            Some(manifest) => manifest,
            None => {
                made = plain_manifest(config, image.config.len(), image.layers.iter().map(|layer| {
                    (layer.diff_id, records.get(&layer.diff_id).map_or(0, |record| record.tar_bytes))
                }));
                &made
            }
        };
        let digest = write_blob(self.root, manifest)?;
        let layers: Vec<Digest> = image.layers.iter().map(|layer| layer.diff_id).collect();
        let mut distinct = layers.clone();
        distinct.sort();
        distinct.dedup();
        let size = distinct.iter().filter_map(|id| records.get(id)).map(|record| record.bytes).sum();
        Ok((&image.names, digest, Record { config, layers, size }))
    }
}

/// The manifest of an image whose archive has none: its layers are uncompressed.
///
/// Spec: image-spec `manifest.md`.
pub(super) fn plain_manifest(config: Digest, config_size: usize, layers: impl Iterator<Item = (Digest, u64)>) -> Vec<u8> {
    let layers: Vec<_> = layers
        .map(|(digest, size)| {
            serde_json::json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": size})
        })
        .collect();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": config_size},
        "layers": layers,
    });
    manifest.to_string().into_bytes()
}

/// Where the blob of a digest is.
pub(super) fn blob_path(root: &Path, digest: &Digest) -> PathBuf {
    root.join("blobs/sha256").join(digest.hex())
}

fn write_blob(root: &Path, content: &[u8]) -> Result<Digest, ImageError> {
    let digest = Digest::of(content);
    let path = blob_path(root, &digest);
    // Named by its digest: what is there is the same, unless it was damaged.
    match fs::read(&path) {
        Ok(same) if same == content => return Ok(digest),
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(sys("read", path)(e)),
        _ => {}
    }
    index::replace(&root.join("blobs/sha256"), &digest.hex(), content)?;
    Ok(digest)
}

/// A directory in tmp/, removed when dropped.
pub(super) struct WorkDir {
    pub(super) path: PathBuf,
}

impl WorkDir {
    pub(super) fn new(root: &Path, prefix: &str) -> Result<Self, ImageError> {
        let tmp = root.join("tmp");
        let dir = tempfile::Builder::new().prefix(prefix).tempdir_in(&tmp).map_err(sys("create a directory in", tmp))?;
        Ok(Self { path: dir.keep() })
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        remove_dir(&self.path);
    }
}

/// Removes a tree of the store. What cannot be removed stays for gc, which reports it.
pub(super) fn remove_dir(path: &Path) {
    if let Err(error) = try_remove_dir(path) {
        tracing::warn!(path = %path.display(), %error, "remove from the image store");
    }
}

/// Removes a tree of the store.
pub(super) fn try_remove_dir(path: &Path) -> Result<(), ImageError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let dir = inroot::open_dir(parent).map_err(sys("open", parent))?;
    inroot::remove_tree(dir.as_fd(), name.as_encoded_bytes()).map_err(sys("remove", path))
}
