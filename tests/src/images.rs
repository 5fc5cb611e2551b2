//! Images made on the spot, of files a test gives, in the formats that people carry around.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// An image to be made: layers from the lowest up, each a list of entries, and how to run it.
#[derive(Debug, Default, Clone)]
pub struct Image {
    /// `name:tag`.
    pub reference: String,
    /// The layers.
    pub layers: Vec<Vec<Entry>>,
    /// The `config` of the OCI image configuration: `Entrypoint`, `Cmd`, `Env`, `WorkingDir`, `User`.
    pub config: Value,
}

/// One entry of a layer.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A directory with mode 0755.
    Dir(String),
    /// A file.
    File(String, Vec<u8>, u32),
    /// A symbolic link: where it is, where it points.
    Link(String, String),
}

impl Entry {
    /// A readable file.
    #[must_use]
    pub fn text(path: &str, text: &str) -> Self {
        Self::File(path.to_owned(), text.as_bytes().to_vec(), 0o644)
    }
}

fn layer(entries: &[Entry]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_ustar();
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        let (path, kind, mode, data): (_, _, _, &[u8]) = match entry {
            Entry::Dir(path) => (path, tar::EntryType::Directory, 0o755, &[]),
            Entry::File(path, data, mode) => (path, tar::EntryType::Regular, *mode, data),
            Entry::Link(path, _) => (path, tar::EntryType::Symlink, 0o777, &[]),
        };
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(data.len() as u64);
        // Written as it is: the crate's own way refuses the `..` that a hostile image would have.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        if let Entry::Link(_, to) = entry {
            header.as_old_mut().linkname[..to.len()].copy_from_slice(to.as_bytes());
        }
        header.set_cksum();
        tar.append(&header, data).expect("write a layer");
    }
    tar.into_inner().expect("end a layer")
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How the layers of an image are pressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pressed {
    /// `application/vnd.oci.image.layer.v1.tar+gzip`.
    #[default]
    Gzip,
    /// `application/vnd.oci.image.layer.v1.tar+zstd`.
    Zstd,
    /// `application/vnd.oci.image.layer.v1.tar`.
    Plain,
}

impl Pressed {
    fn kind(self) -> &'static str {
        match self {
            Self::Gzip => "layer.v1.tar+gzip",
            Self::Zstd => "layer.v1.tar+zstd",
            Self::Plain => "layer.v1.tar",
        }
    }

    fn press(self, layer: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Gzip => gzip(&layer),
            Self::Zstd => zstd::encode_all(&*layer, 1).expect("press a layer"),
            Self::Plain => layer,
        }
    }
}

/// What an image in OCI form says it is for, and how it is pressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// Of every layer.
    pub pressed: Pressed,
    /// As Go names it: `amd64`, `arm64`, ...
    pub architecture: String,
    /// Of the architecture: `v7`, ...
    pub variant: Option<String>,
}

impl Default for Form {
    /// For this machine.
    fn default() -> Self {
        Self { pressed: Pressed::default(), architecture: architecture().to_owned(), variant: None }
    }
}

impl Form {
    /// `platform` of an index.
    pub(crate) fn platform(&self) -> Value {
        let mut platform = json!({ "architecture": self.architecture, "os": "linux" });
        if let Some(variant) = &self.variant {
            platform["variant"] = json!(variant);
        }
        platform
    }
}

/// An image in OCI form: digests as `sha256:...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Of the manifest.
    pub manifest: String,
    /// Of the configuration.
    pub id: String,
    /// Of the layers as they are stored, from the lowest up.
    pub layers: Vec<String>,
    /// Bytes of the layers as they are stored.
    pub sizes: Vec<u64>,
    /// Descriptor of the manifest, for an index.
    pub(crate) descriptor: Value,
}

/// This machine's, as Go names it.
#[must_use]
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn config(image: &Image, layers: &[Vec<u8>], form: &Form) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", digest(layer))).collect();
    let mut config = form.platform();
    config["config"] = image.config.clone();
    config["rootfs"] = json!({ "type": "layers", "diff_ids": diff_ids });
    config.to_string().into_bytes()
}

/// Writes what `docker save` writes.
pub fn docker_archive(image: &Image, path: &Path) {
    let layers: Vec<Vec<u8>> = image.layers.iter().map(|entries| layer(entries)).collect();
    let config = config(image, &layers, &Form::default());
    let config_name = format!("{}.json", digest(&config));
    let names: Vec<String> = layers.iter().map(|layer| format!("{}/layer.tar", digest(layer))).collect();
    let manifest = json!([{ "Config": config_name, "RepoTags": [image.reference], "Layers": names }]).to_string();
    let mut tar = tar::Builder::new(fs::File::create(path).expect("create an archive"));
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, bytes).expect("write an archive");
    };
    add(&config_name, &config);
    for (name, layer) in names.iter().zip(&layers) {
        add(name, layer);
    }
    add("manifest.json", manifest.as_bytes());
    tar.finish().expect("end an archive");
}

/// Writes an OCI image layout into a new directory, for this machine, with layers pressed by gzip.
pub fn oci_layout(image: &Image, dir: &Path) {
    let _digests = oci_layout_as(image, &Form::default(), dir);
}

/// Writes an OCI image layout into a new directory.
#[must_use]
pub fn oci_layout_as(image: &Image, form: &Form, dir: &Path) -> Written {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("make a layout");
    let blob = |kind: &str, bytes: &[u8]| {
        let digest = digest(bytes);
        fs::write(blobs.join(&digest), bytes).expect("write a blob");
        json!({ "mediaType": format!("application/vnd.oci.image.{kind}"), "digest": format!("sha256:{digest}"),
            "size": bytes.len() })
    };
    let layers: Vec<Vec<u8>> = image.layers.iter().map(|entries| layer(entries)).collect();
    let config = blob("config.v1+json", &config(image, &layers, form));
    let layers: Vec<Value> = layers.into_iter().map(|layer| blob(form.pressed.kind(), &form.pressed.press(layer))).collect();
    let manifest = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config,
        "layers": layers });
    let mut descriptor = blob("manifest.v1+json", manifest.to_string().as_bytes());
    descriptor["platform"] = form.platform();
    let mut named = descriptor.clone();
    named["annotations"] = json!({ "org.opencontainers.image.ref.name": image.reference });
    let index = json!({ "schemaVersion": 2, "manifests": [named] });
    fs::write(dir.join("index.json"), index.to_string()).expect("write the index");
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("write the layout's version");
    let text = |value: &Value| value["digest"].as_str().expect("a digest").to_owned();
    Written {
        manifest: text(&descriptor), id: text(&config), layers: layers.iter().map(text).collect(),
        sizes: layers.iter().map(|layer| layer["size"].as_u64().expect("a size")).collect(), descriptor,
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("press a layer");
    encoder.finish().expect("press a layer")
}
