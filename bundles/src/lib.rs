//! Pod manifests and images in, OCI bundles out. Starts no process and enters no namespace.

pub mod cancel;
pub mod image;
pub mod manifest;
pub mod pause;
pub mod plan;
#[cfg(feature = "registry")]
pub mod registry;
pub mod spec;
pub mod toolbox;
pub mod volume;
