//! What keeps a container from having a spec.

use std::io;
use std::path::PathBuf;

use super::expand::TooLong;
use crate::image::ImageError;

/// What keeps a container from having a spec.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// Neither the manifest nor the image names a command.
    #[error("container {container:?}: neither the manifest's command and args nor image {image:?} say what to run")]
    NoCommand {
        /// The container.
        container: String,
        /// Its image.
        image: String,
    },
    /// The image was not looked up before.
    #[error("container {container:?}: image {image:?} has not been resolved")]
    Unresolved {
        /// The container.
        container: String,
        /// Its image.
        image: String,
    },
    /// The user is not known in the image.
    #[error("container {container:?}: find user {user:?} in the image")]
    User {
        /// The container.
        container: String,
        /// `user[:group]`.
        user: String,
        /// Why.
        #[source]
        source: Box<ImageError>,
    },
    /// `runAsNonRoot` and the user is root.
    #[error("container {container:?}: runAsNonRoot forbids user {user:?}, which is root; set runAsUser to another")]
    RunAsRoot {
        /// The container.
        container: String,
        /// `user[:group]`, empty when neither manifest nor image name one.
        user: String,
    },
    /// A string is longer than the kernel takes.
    #[error("container {container:?}: {word}")]
    TooLong {
        /// The container.
        container: String,
        /// Which one.
        word: String,
        /// How long.
        source: TooLong,
    },
    /// A mounted volume was not prepared.
    #[error("container {container:?}: volume {volume:?} has not been prepared")]
    Volume {
        /// The container.
        container: String,
        /// The volume.
        volume: String,
    },
    /// A sub path of a volume was not staged.
    #[error("container {container:?}: subPath {sub_path:?} of volume {volume:?} has not been staged")]
    SubPath {
        /// The container.
        container: String,
        /// The volume.
        volume: String,
        /// The sub path.
        sub_path: PathBuf,
    },
    /// A seccomp profile cannot be read.
    #[error("container {container:?}: read seccomp profile {path:?} below {root:?}")]
    SeccompRead {
        /// The container.
        container: String,
        /// The profile, relative.
        path: PathBuf,
        /// The directory of profiles.
        root: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A seccomp profile is not what the runtime spec says.
    #[error("container {container:?}: parse seccomp profile {path:?}")]
    SeccompParse {
        /// The container.
        container: String,
        /// The profile, relative.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The host's devices cannot be listed.
    #[error("list the devices of the host in {path:?}")]
    Devices {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An OCI bundle cannot be read.
    #[error("container {container:?}: read the bundle's {path:?}")]
    BundleRead {
        /// The container.
        container: String,
        /// Its config.json.
        path: PathBuf,
        /// Why.
        source: Box<oci_spec::OciSpecError>,
    },
    /// An OCI bundle lacks something that is needed to join it to a sandbox.
    #[error("container {container:?}: the bundle's {path:?} has no {what}")]
    BundleLacks {
        /// The container.
        container: String,
        /// Its config.json.
        path: PathBuf,
        /// The missing property.
        what: &'static str,
    },
    /// A bundle directory cannot be written.
    #[error("{operation} {path:?}")]
    Write {
        /// What failed.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
