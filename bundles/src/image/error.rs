//! What goes wrong with images.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::digest::Digest;
#[cfg(feature = "registry")]
use crate::registry::RegistryError;

/// A failure of the image store.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A system call on a file of the store or an archive.
    #[error("{op} {path}", path = .path.display())]
    Io {
        /// What was tried.
        op: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Not a name an image can have.
    #[error("image name `{}`: {}", printable(.reference), printable(.why))]
    Reference {
        /// As given.
        reference: String,
        /// What is wrong with it.
        why: String,
    },
    /// No such image.
    #[error("image `{reference}` not found in the store{}", near_names(.near))]
    NotFound {
        /// As given.
        reference: String,
        /// Names of the store that look like it.
        near: Vec<String>,
    },
    /// A short name or a prefix of an id that stands for several images.
    #[error("image `{reference}` is ambiguous: it could be {}", .candidates.join(", "))]
    Ambiguous {
        /// As given.
        reference: String,
        /// What it could be.
        candidates: Vec<String>,
    },
    /// An image or archive that is not what it should be.
    #[error("{origin}: {}", printable(.why))]
    Bad {
        /// Where it came from.
        origin: Origin,
        /// What is wrong with it.
        why: String,
    },
    /// A part that cannot be read.
    #[error("{origin}: read {}", printable(.entry))]
    Read {
        /// Where it was to come from.
        origin: Origin,
        /// Name of the part.
        entry: String,
        /// Why.
        source: io::Error,
    },
    /// A document that does not parse.
    #[error("{origin}: {} is not what it should be", printable(.document))]
    Json {
        /// Where it came from.
        origin: Origin,
        /// Which document.
        document: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// Content that is not what its digest says: damaged or tampered with.
    #[error("{origin}: {} is damaged: expected {expected}, found {found}", printable(.subject))]
    Digest {
        /// Where it came from.
        origin: Origin,
        /// What was read.
        subject: String,
        /// What its digest should be.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// No image for this machine.
    #[error("{origin}: no image for {wanted}; it has {} (choose one with --platform)", printable(&.available.join(", ")))]
    Platform {
        /// Where it was looked for.
        origin: Origin,
        /// This machine, or what was asked for.
        wanted: String,
        /// What there is.
        available: Vec<String>,
    },
    /// A layer that cannot be unpacked.
    #[error("unpack layer {} of {origin}", printable(.layer))]
    Layer {
        /// Where it came from.
        origin: Origin,
        /// Digest or name of the layer.
        layer: String,
        /// Why.
        source: Box<LayerError>,
    },
    /// The store lost a layer.
    #[error("layer {layer} of image {image} is missing from the store: load the image again")]
    LayerMissing {
        /// Its diff id.
        layer: Digest,
        /// Name of the image.
        image: String,
    },
    /// This program was built without its embedded image.
    #[error("this build of minipod has no embedded toolbox image")]
    NoToolbox,
    /// The embedded program is not the one this program was built with.
    #[error("the embedded toolbox is damaged: {why}")]
    Toolbox {
        /// What differs.
        why: String,
    },
    /// The last name of an image that pods use was to be removed.
    #[error("image {image} is used by {}: remove them first, or take the name away with --force", .pods.join(", "))]
    InUse {
        /// Name of the image.
        image: String,
        /// The pods, as people name them.
        pods: Vec<String>,
    },
    /// A registry.
    #[cfg(feature = "registry")]
    #[error(transparent)]
    Registry(Box<RegistryError>),
    /// Somebody asked to stop.
    #[error("interrupted")]
    Cancelled,
    /// A user or group an image does not have.
    #[error("user `{user}`: {why}")]
    User {
        /// As given.
        user: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Where content came from or was to come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// An archive or an OCI layout.
    Archive(PathBuf),
    /// A registry, by the name of the image there.
    Registry(String),
    /// The store itself.
    Store(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Archive(path) => write!(f, "image archive {}", path.display()),
            Self::Registry(name) => write!(f, "image {name}"),
            Self::Store(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A failure while a layer is unpacked.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The stream cannot be read or decompressed.
    #[error("read the layer")]
    Read(#[source] io::Error),
    /// The tar stream is malformed.
    #[error("tar stream at byte {offset}: {}", printable(.why))]
    Tar {
        /// Bytes from the start of the uncompressed stream.
        offset: u64,
        /// What is wrong.
        why: String,
    },
    /// An entry that is refused.
    #[error("entry `{}`: {}", printable(.entry), printable(.why))]
    Refused {
        /// Its name, as in the archive.
        entry: String,
        /// Why.
        why: String,
    },
    /// An entry that could not be written.
    #[error("entry `{}`: {op}", printable(.entry))]
    Write {
        /// Its name, as in the archive.
        entry: String,
        /// What was tried.
        op: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// More than [`Limits`](super::Limits) allow.
    #[error("more than {limit} {what} (the limit)")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How much is allowed.
        limit: u64,
    },
}

/// Longest piece of an archive's own words in a message, in characters.
const LONGEST_QUOTE: usize = 500;

/// An archive's own words without what would move a terminal's cursor or begin a line, and not longer than can be read.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars().take(LONGEST_QUOTE) {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    if text.chars().nth(LONGEST_QUOTE).is_some() {
        shown.push_str("...");
    }
    shown
}

/// `: did you mean ...?`, or nothing.
fn near_names(near: &[String]) -> String {
    if near.is_empty() {
        return ": `minipod image load FILE` adds one, `minipod image ls` lists what is there".to_owned();
    }
    format!(" (did you mean {}?)", near.join(", "))
}

/// Shortens `map_err` for system calls: `sys("create", &path)`.
pub(super) fn sys<E: Into<io::Error>>(op: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(E) -> ImageError {
    let path = path.into();
    move |source| ImageError::Io { op, path, source: source.into() }
}
