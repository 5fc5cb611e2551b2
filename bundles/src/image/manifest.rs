//! Image manifests and indexes, OCI's and Docker's.
//!
//! Spec: image-spec `manifest.md`, `image-index.md`; Docker's image manifest v2, schema 2.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::config::Configuration;
use super::digest::Digest;
use super::platform::Platform;
use super::source::LayerSource;

/// Docker's attestations stand beside images without being any.
const ATTESTATION: &str = "vnd.docker.reference.type";

/// Where content is, by digest.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    pub(super) platform: Option<Platform>,
}

impl Descriptor {
    pub(super) fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }

    pub(super) fn is_attestation(&self) -> bool {
        self.annotation(ATTESTATION).is_some()
    }
}

/// A manifest or an index: they differ by what they hold, and `mediaType` is often absent.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    pub(super) manifests: Option<Vec<Descriptor>>,
    pub(super) config: Option<Descriptor>,
    pub(super) layers: Option<Vec<Descriptor>>,
}

impl Document {
    /// Refuses what one reader takes for an index and another for an image: the same digest would run something else elsewhere.
    ///
    /// Spec: GHSA-77vh-xpmg-72qh ("Clarify mediaType handling" of the image-spec).
    pub(super) fn one_kind(self) -> Result<Self, &'static str> {
        let both = self.manifests.is_some() && (self.config.is_some() || self.layers.is_some());
        if both { Err("its manifest is an index and an image at once") } else { Ok(self) }
    }

    /// The configuration of an image, or why this is none.
    pub(super) fn configuration(&self) -> Result<&Descriptor, String> {
        let descriptor = self.config.as_ref().ok_or("it has no configuration: not an image")?;
        let known = ["", "application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
        if known.contains(&&*descriptor.media_type) {
            return Ok(descriptor);
        }
        Err(format!("it is an artifact ({}), not an image", descriptor.media_type))
    }

    /// Its layers, bottom first, each with the diff id that the configuration gives; `name` says how the source calls them.
    pub(super) fn layers(&self, config: &Configuration, name: impl Fn(&Descriptor) -> String) -> Result<Vec<LayerSource>, String> {
        let layers = self.layers.as_deref().unwrap_or_default();
        let diff_ids = config.diff_ids();
        if layers.len() != diff_ids.len() {
            return Err(format!("it lists {} layers, its configuration {}", layers.len(), diff_ids.len()));
        }
        let source = |(diff_id, layer): (&Digest, &Descriptor)| LayerSource {
            name: name(layer),
            diff_id: *diff_id,
            descriptor: Some((layer.digest, layer.size)),
        };
        Ok(diff_ids.iter().zip(layers).map(source).collect())
    }
}

/// The manifest of an image that has none of its own: its layers are uncompressed.
pub(super) fn plain(config: Digest, config_size: usize, layers: impl Iterator<Item = (Digest, u64)>) -> Vec<u8> {
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
