//! What keeps a volume from being ready.

use std::io;
use std::path::PathBuf;

/// What keeps a volume from being ready.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// A system call failed.
    #[error("{operation} {path:?}")]
    Io {
        /// What failed.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A hostPath is something else than its type says.
    #[error("hostPath {path:?} is {found}, but its type asks for {wanted}")]
    WrongKind {
        /// The path.
        path: PathBuf,
        /// What the type asks for.
        wanted: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// A hostPath does not exist and its type creates nothing.
    #[error("hostPath {path:?} does not exist, but its type asks for {wanted}; create it, or use type {or}")]
    Missing {
        /// The path.
        path: PathBuf,
        /// What the type asks for.
        wanted: &'static str,
        /// The type that creates it, or any.
        or: &'static str,
    },
    /// A sub path cannot be resolved inside its volume.
    #[error("resolve subPath {sub_path:?} in volume {volume:?}")]
    SubPath {
        /// The volume's path on the host.
        volume: PathBuf,
        /// The sub path.
        sub_path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A sub path that is not there and cannot be made.
    #[error("subPath {sub_path:?} does not exist; the volume is an image, and nothing can be made in it")]
    NoSubPath {
        /// The sub path.
        sub_path: PathBuf,
    },
    /// An image volume without its image.
    #[error("image {image} was not looked up")]
    Unresolved {
        /// As the manifest names it.
        image: String,
    },
    /// What an image wants and cannot have.
    #[error("image {image}: {why}")]
    OfImage {
        /// Its name.
        image: String,
        /// What is wrong.
        why: String,
    },
    /// What an image has at one of its volumes cannot be copied.
    #[error("fill the image's volume {place:?}{}", of_entry(.entry))]
    Fill {
        /// Where it is in the container.
        place: PathBuf,
        /// What was being copied, below it; empty for itself.
        entry: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Something could not be removed.
    #[error("remove volume directory {path:?}")]
    Remove {
        /// What is left.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// `: copy ENTRY`, or nothing; a hostile image's names are long.
fn of_entry(entry: &std::path::Path) -> String {
    let shown: String = entry.to_string_lossy().chars().take(200).collect();
    if shown.is_empty() { shown } else { format!(": copy {shown:?}") }
}

impl VolumeError {
    /// For `map_err`: an operation on a path.
    pub(super) fn io(operation: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { operation, path, source }
    }
}
