//! What can go wrong between the user and the runtime, and how it is told.

use std::io::{self, Write as _};
use std::path::PathBuf;

use bundles::image::ImageError;
use bundles::manifest::Problems;
use bundles::registry::{CredentialsError, RegistryError, SettingsError};
use runtime::error::chain;

use crate::args::LogFormat;
use crate::exit;
use crate::output;

/// Any failure of a command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The runtime.
    #[error(transparent)]
    Runtime(#[from] runtime::error::Error),
    /// The image store.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Settings of registries.
    #[error(transparent)]
    RegistrySettings(#[from] SettingsError),
    /// Credentials for registries.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// A spec for `bundle`.
    #[error("container {container} of pod {pod}")]
    Spec {
        /// `namespace/name`.
        pod: String,
        /// The container.
        container: String,
        /// Why there is none.
        source: Box<bundles::spec::SpecError>,
    },
    /// An image of a container or a volume.
    #[error("image {image} of {user}")]
    PodImage {
        /// `container NAME of pod NAMESPACE/NAME`, or a volume, and what else is to be known of it.
        user: String,
        /// As the manifest has it.
        image: String,
        /// Why not.
        source: Box<ImageError>,
    },
    /// A volume of a pod.
    #[error("volume {volume} of pod {pod}")]
    Volume {
        /// `namespace/name`.
        pod: String,
        /// The volume.
        volume: String,
        /// Why not.
        source: bundles::volume::VolumeError,
    },
    /// A manifest that cannot be run.
    #[error("{0}")]
    Manifest(ManifestFailure),
    /// A file operation of our own.
    #[error("{operation} {}", path.display())]
    File {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A system call.
    #[error("{0}")]
    System(&'static str, #[source] io::Error),
    /// An argument that parses but cannot be.
    #[error("{0}")]
    Usage(String),
    /// Something else, said whole, with its exit code.
    #[error("{message}")]
    Told {
        /// What and why.
        message: String,
        /// minipod's exit code.
        code: u8,
    },
    /// Only root may.
    #[error("this command needs root (it makes namespaces, mounts and links): run it with sudo")]
    NotRoot,
    /// A time limit.
    #[error("{what}: still not after {after}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long, as the user gave it.
        after: String,
    },
    /// A signal ended the work before it was done; nothing of it is left.
    #[error("interrupted: nothing was changed")]
    Interrupted(u8),
    /// Standard output is closed or full.
    #[error("write to standard output")]
    Output(#[source] io::Error),
    /// Several subjects failed, each for itself.
    #[error("{}", .0.iter().map(|e| chain(e)).collect::<Vec<_>>().join("; "))]
    Several(Vec<Error>),
}

/// The problems of manifests, told one a line.
#[derive(Debug)]
pub(crate) struct ManifestFailure(pub(crate) Problems);

impl std::fmt::Display for ManifestFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.errors.len() {
            1 => f.write_str("1 problem in the manifest, nothing was done"),
            n => write!(f, "{n} problems in the manifest, nothing was done"),
        }
    }
}

impl Error {
    /// For `map_err` on file operations.
    pub(crate) fn file(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { operation, path, source }
    }

    /// All failures of a row of subjects, or none.
    pub(crate) fn all(mut failures: Vec<Self>) -> Result<(), Self> {
        match failures.len() {
            0 => Ok(()),
            1 => Err(failures.remove(0)),
            _ => Err(Self::Several(failures)),
        }
    }

    /// minipod's exit code for it.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Runtime(e) => e.exit_code(),
            Self::Told { code, .. } => *code,
            Self::Timeout { .. } => exit::TIMEOUT,
            Self::Interrupted(signal) => exit::by_signal(*signal),
            Self::Output(e) if e.kind() == io::ErrorKind::BrokenPipe => exit::BROKEN_PIPE,
            Self::Several(all) => all.first().map_or(exit::OWN, Self::exit_code),
            _ => exit::OWN,
        }
    }

    /// Tells it, once, on standard error.
    pub(crate) fn report(&self, format: LogFormat) {
        match self {
            // The reader went away; there is nobody to tell and nothing wrong.
            Self::Output(e) if e.kind() == io::ErrorKind::BrokenPipe => {}
            Self::Several(all) => all.iter().for_each(|e| e.report(format)),
            Self::Manifest(failure) => {
                failure.0.warnings.iter().for_each(|problem| output::message(format, "warning", problem));
                failure.0.errors.iter().for_each(|problem| problem_line(format, problem));
                output::message(format, "error", &format_args!("minipod: {self}"));
            }
            _ => output::message(format, "error", &format_args!("minipod: {}", chain(self))),
        }
    }
}

/// A problem has its place in front, as compilers write it, so that editors find it.
fn problem_line(format: LogFormat, problem: &dyn std::fmt::Display) {
    match format {
        LogFormat::Json => output::message(format, "error", problem),
        LogFormat::Text => output::note(&problem.to_string()),
    }
}

/// Writes text to standard output and flushes it.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Error::Output)
}
