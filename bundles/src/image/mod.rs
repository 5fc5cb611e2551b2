//! Images: content by digest, unpacked layers, references.
//!
//! ```text
//! <lib>/images/index.json               names -> manifest digest -> layers     (replaced whole)
//!              blobs/sha256/<hex>       manifests and configurations
//!              layers/sha256/<diff id>/ fs/ and layer.json: one unpacked layer, in overlay's own form
//!              embedded/<key>/          the same for the image inside this program
//!              tmp/                     work in progress
//!              fetching/<diff id>       lock of who unpacks a layer
//!              *.lock                   see `lock`
//! ```
//!
//! A layer is unpacked once per diff id (the digest of its uncompressed tar), into `tmp/`, and renamed when both its
//! digests have been verified. Compressed layers are not kept. A crash leaves work in `tmp/`, and layers and blobs that no image has.

mod archive;
mod blob;
mod compression;
mod config;
pub(crate) mod digest;
mod disk;
mod docker;
mod embedded;
pub(crate) mod error;
mod index;
mod ingest;
mod inroot;
mod layer;
mod lease;
mod limits;
mod load;
mod lock;
mod lookup;
mod manifest;
mod oci;
mod pack;
mod pax;
mod platform;
#[cfg(feature = "registry")]
mod pull;
mod reference;
mod removal;
mod save;
mod source;
mod sparse;
mod store;
mod tarball;
mod unpack;
mod usage;
pub mod user;
mod work;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use digest::Digest;
pub use disk::DiskUse;
pub use embedded::{EMBEDDED_NAME, Program};
pub use error::{ImageError, LayerError, Origin};
pub use ingest::{Progress, Watch};
pub use limits::Limits;
pub use lock::Hold;
pub use platform::Platform;
#[cfg(feature = "registry")]
pub use pull::{Change, Pulled};
pub use reference::Reference;
pub use removal::{Force, Pruned, Removed};
pub use store::ImageStore;
pub use usage::{Unused, Usage};

/// An image of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Normal form of the name it was found by.
    pub reference: String,
    /// All its names.
    pub names: Vec<String>,
    /// `sha256:` and the digest of its configuration.
    pub id: String,
    /// `sha256:` and the digest of its manifest.
    pub digest: String,
    /// By what registries know it: `repository@sha256:...`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub digests: Vec<String>,
    /// Unpacked layers, topmost first, absolute: an overlay's lower directories.
    pub layers: Vec<PathBuf>,
    /// What it says about running it.
    pub config: ImageConfig,
    /// Unpacked size in bytes.
    pub size: u64,
    /// When it was built (RFC 3339).
    pub created: Option<String>,
    /// `amd64`, `arm64`, ... (GOARCH).
    pub architecture: String,
}

/// `config` of the OCI image configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// `Entrypoint`.
    pub entrypoint: Vec<String>,
    /// `Cmd`.
    pub cmd: Vec<String>,
    /// `Env`, as `NAME=value`.
    pub env: Vec<String>,
    /// `WorkingDir`; empty when unset.
    pub working_dir: String,
    /// `User`: `user[:group]` by name or number; empty when unset.
    pub user: String,
    /// `StopSignal`.
    pub stop_signal: Option<String>,
    /// `Labels`.
    pub labels: BTreeMap<String, String>,
    /// `Volumes`.
    pub volumes: Vec<String>,
}
