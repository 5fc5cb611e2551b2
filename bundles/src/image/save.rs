//! From the store into an archive that everybody reads: an OCI layout that has `docker save`'s manifest.json as well.
//!
//! Layers are packed from their directories, twice: once for the digest that names them, once into the archive.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

use super::digest::Digest;
use super::error::{ImageError, Origin, sys};
use super::manifest;
use super::store::ImageStore;
use super::{Image, pack};

/// `oci-layout`. Spec: image-spec `image-layout.md`.
const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// A layer of the archive: the digest and size of its tar, which is not compressed.
#[derive(Debug, Clone, Copy)]
struct Packed {
    digest: Digest,
    size: u64,
}

/// An image of the archive.
struct Saved {
    names: Vec<String>,
    config: Vec<u8>,
    manifest: Vec<u8>,
    /// Bottom first.
    layers: Vec<Digest>,
}

impl ImageStore {
    /// Writes images as one archive. `docker load`, `podman load`, `ctr images import`, skopeo and [`load`](Self::load) read it.
    ///
    /// Layers are kept unpacked, so they are packed anew: what they hold is the same, digests and ids are not.
    ///
    /// # Errors
    /// [`ImageError::NotFound`], or a failed system call on the store or on `to`.
    pub fn save(&self, references: &[String], to: &mut dyn Write) -> Result<(), ImageError> {
        let _hold = self.hold()?;
        let mut images: Vec<(Image, Vec<String>)> = Vec::new();
        for reference in references {
            let image = self.find(reference)?;
            // By id all names are meant, by name that one.
            let named = image.names.contains(&image.reference) && !image.id.ends_with(reference.as_str());
            let names = if named { vec![image.reference.clone()] } else { image.names.clone() };
            match images.iter_mut().find(|(known, _)| known.digest == image.digest) {
                Some((_, known)) => known.extend(names),
                None => images.push((image, names)),
            }
        }
        let mut packed = BTreeMap::new();
        for directory in images.iter().flat_map(|(image, _)| &image.layers) {
            if !packed.contains_key(directory) {
                packed.insert(directory.clone(), measure(directory)?);
            }
        }
        let saved = images.into_iter().map(|(image, names)| self.saved(&image, names, &packed)).collect::<Result<Vec<_>, _>>()?;
        write(&saved, &packed, to)
    }

    /// Its documents, with the digests that the layers have in the archive.
    fn saved(&self, image: &Image, names: Vec<String>, packed: &BTreeMap<PathBuf, Packed>) -> Result<Saved, ImageError> {
        let layers: Vec<Packed> = image.layers.iter().rev().filter_map(|directory| packed.get(directory)).copied().collect();
        let origin = || Origin::Store(PathBuf::from(&image.reference));
        let text = self.configuration(image)?;
        let parsed: Result<Value, _> = serde_json::from_slice(&text);
        let mut config = parsed.map_err(|source| ImageError::Json { origin: origin(), document: "its configuration".into(), source })?;
        let Value::Object(fields) = &mut config else {
            return Err(ImageError::Bad { origin: origin(), why: "its configuration is no object".into() });
        };
        let history = fields.get("history").and_then(Value::as_array);
        let of_layers = history.map(|history| history.iter().filter(|entry| entry["empty_layer"] != json!(true)).count());
        if of_layers.is_some_and(|count| count != layers.len()) {
            // A layer that repeats is kept once: the history would not fit any more, and readers refuse that.
            fields.remove("history");
        }
        fields.insert("rootfs".into(), json!({"type": "layers", "diff_ids": layers.iter().map(|layer| layer.digest).collect::<Vec<_>>()}));
        let config = config.to_string().into_bytes();
        let manifest = manifest::plain(Digest::of(&config), config.len(), layers.iter().map(|layer| (layer.digest, layer.size)));
        Ok(Saved { names, config, manifest, layers: layers.iter().map(|layer| layer.digest).collect() })
    }
}

fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn write(images: &[Saved], packed: &BTreeMap<PathBuf, Packed>, to: &mut dyn Write) -> Result<(), ImageError> {
    let mut archive = Archive { to, written: BTreeSet::new() };
    archive.document("oci-layout", LAYOUT.as_bytes())?;
    for (directory, layer) in packed {
        archive.layer(directory, layer)?;
    }
    let (mut index, mut docker) = (Vec::new(), Vec::new());
    for image in images {
        archive.document(&blob(&Digest::of(&image.config)), &image.config)?;
        archive.document(&blob(&Digest::of(&image.manifest)), &image.manifest)?;
        let descriptor = |annotations: Value| {
            json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": Digest::of(&image.manifest),
                "size": image.manifest.len(), "annotations": annotations,
            })
        };
        let named = |name: &String| {
            let tag = name.rsplit_once('/').map_or(&**name, |(_, last)| last).rsplit_once(':').map_or("", |(_, tag)| tag);
            descriptor(json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag}))
        };
        index.extend(image.names.iter().map(named));
        if image.names.is_empty() {
            index.push(descriptor(json!({})));
        }
        // Docker takes no digests for names.
        let tags: Vec<&String> = image.names.iter().filter(|name| !name.contains('@')).collect();
        docker.push(json!({
            "Config": blob(&Digest::of(&image.config)), "RepoTags": tags, "Layers": image.layers.iter().map(blob).collect::<Vec<_>>(),
        }));
    }
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": index});
    archive.document("index.json", index.to_string().as_bytes())?;
    archive.document("manifest.json", Value::from(docker).to_string().as_bytes())?;
    archive.end()
}

/// The outer tar, being written.
struct Archive<'a> {
    to: &'a mut dyn Write,
    written: BTreeSet<String>,
}

impl Archive<'_> {
    fn document(&mut self, name: &str, content: &[u8]) -> Result<(), ImageError> {
        if self.written.insert(name.to_owned()) {
            self.header(name, content.len() as u64)?;
            self.put(content)?;
            self.put(pack::padding(content.len() as u64))?;
        }
        Ok(())
    }

    fn layer(&mut self, directory: &Path, layer: &Packed) -> Result<(), ImageError> {
        let name = blob(&layer.digest);
        if !self.written.insert(name.clone()) {
            return Ok(());
        }
        self.header(&name, layer.size)?;
        let mut hashing = Hashing { to: Some(&mut *self.to), hasher: Sha256::new(), count: 0 };
        pack::pack(directory, &mut hashing).map_err(sys("pack layer", directory))?;
        if hashing.done().digest != layer.digest {
            return Err(sys("pack layer", directory)(io::Error::other("it changed meanwhile")));
        }
        self.put(pack::padding(layer.size))
    }

    fn header(&mut self, name: &str, size: u64) -> Result<(), ImageError> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        self.put(header.as_bytes())
    }

    fn end(&mut self) -> Result<(), ImageError> {
        self.put(&[0; 1024])?;
        self.to.flush().map_err(sys("write", "the archive"))
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        self.to.write_all(bytes).map_err(sys("write", "the archive"))
    }
}

/// The digest and size that a layer's tar will have.
fn measure(directory: &Path) -> Result<Packed, ImageError> {
    let mut hashing = Hashing { to: None, hasher: Sha256::new(), count: 0 };
    pack::pack(directory, &mut hashing).map_err(sys("pack layer", directory))?;
    Ok(hashing.done())
}

/// Hashes and counts what passes through it.
struct Hashing<'a> {
    to: Option<&'a mut dyn Write>,
    hasher: Sha256,
    count: u64,
}

impl Hashing<'_> {
    fn done(self) -> Packed {
        Packed { digest: Digest::from(self.hasher), size: self.count }
    }
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(to) = &mut self.to {
            to.write_all(bytes)?;
        }
        self.hasher.update(bytes);
        self.count += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.as_mut().map_or(Ok(()), |to| to.flush())
    }
}
