//! What the store takes images from: an archive or a registry.

use std::io::{self, Read};

use super::config::Configuration;
use super::digest::Digest;
use super::error::{ImageError, Origin};

/// An image that is to come into the store.
pub(super) struct Found {
    /// In normal form.
    pub(super) names: Vec<String>,
    /// `repository@digest`: by what the registry knows it, index and manifest.
    pub(super) digests: Vec<String>,
    pub(super) config: Vec<u8>,
    pub(super) parsed: Configuration,
    /// As it is at the source; docker-archives have none.
    pub(super) manifest: Option<Vec<u8>>,
    /// Bottom first.
    pub(super) layers: Vec<LayerSource>,
}

/// A layer at the source.
#[derive(Debug, Clone)]
pub(super) struct LayerSource {
    /// What the source calls it.
    pub(super) name: String,
    pub(super) diff_id: Digest,
    /// Digest and size as stored, when a manifest says.
    pub(super) descriptor: Option<(Digest, u64)>,
}

/// Where the layers of images come from. Several are read at a time.
pub(super) trait Source: Sync {
    /// For messages.
    fn origin(&self) -> Origin;

    /// A layer as stored, and how many bytes it has.
    fn open(&self, layer: &LayerSource) -> Result<(Box<dyn Read + Send + '_>, u64), ImageError>;

    /// What stands behind a failed read when it is the source itself; the error again when it is not.
    fn failure(&self, error: io::Error) -> Result<ImageError, io::Error> {
        Err(error)
    }
}
