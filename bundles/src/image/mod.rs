//! Images: content by digest, unpacked layers, references.
//!
//! ```text
//! <lib>/images/index.json               names -> manifest digest -> layers     (replaced whole)
//!              blobs/sha256/<hex>       manifests and configurations
//!              layers/sha256/<diff id>/ fs/ and layer.json: one unpacked layer, in overlay's own form
//!              embedded/<key>/          the same for the image inside this program
//!              tmp/                     work in progress; a crash leaves things only here
//!              *.lock                   see `lock`
//! ```
//!
//! A layer is unpacked once per diff id (the digest of its uncompressed tar), into `tmp/`, and renamed when both its
//! digests have been verified. Compressed layers are not kept.

mod archive;
mod compression;
mod config;
pub(crate) mod digest;
mod docker;
mod embedded;
pub(crate) mod error;
mod index;
mod inroot;
mod layer;
mod limits;
mod load;
mod lock;
mod oci;
mod pax;
mod reference;
mod sparse;
mod store;
mod tarball;
mod unpack;
pub mod user;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use digest::Digest;
pub use embedded::{EMBEDDED_NAME, Program};
pub use error::{ImageError, LayerError};
pub use limits::Limits;
pub use load::LoadProgress;
pub use lock::Hold;
pub use reference::Reference;
pub use store::{ImageStore, Removed};

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
