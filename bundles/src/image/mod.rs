//! Images: content by digest, unpacked layers, references.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

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
