//! The one error of this crate.

use std::future::Future;
use std::io;
use std::path::PathBuf;

use crate::cgroup::CgroupError;
use crate::engine::EngineError;
use crate::step::Step;

/// What went wrong while running pods: operation, subject, source.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory operation of our own state.
    #[error("{operation} {}", path.display())]
    File {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A state file that does not parse.
    #[error("parse {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A system call outside the file system.
    #[error("{0}")]
    System(&'static str, #[source] io::Error),
    /// A pod of this name exists.
    #[error("pod {namespace}/{name} exists (uid {uid}, {phase}): remove it with `minipod rm -f {namespace}/{name}`, or use --replace")]
    NameTaken {
        /// The namespace.
        namespace: String,
        /// The name.
        name: String,
        /// Who has it.
        uid: String,
        /// In which phase it is.
        phase: String,
    },
    /// No pod answers to this.
    #[error("no such pod: {0}")]
    NotFound(String),
    /// Several pods answer to this.
    #[error("{query} names several pods: {}", matches.join(", "))]
    Ambiguous {
        /// What was asked.
        query: String,
        /// Who it could be.
        matches: Vec<String>,
    },
    /// A container of a pod.
    #[error("{action} container {container}")]
    Container {
        /// What was tried.
        action: &'static str,
        /// On which container.
        container: String,
        /// Why it failed.
        source: Box<Error>,
    },
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A cgroup.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The network.
    #[error("network of pod {pod}")]
    Network {
        /// `namespace/name`.
        pod: String,
        /// Why.
        source: netsetup::NetError,
    },
    /// The OCI spec of a container.
    #[error(transparent)]
    Spec(#[from] bundles::spec::SpecError),
    /// A volume.
    #[error("volume {name}")]
    Volume {
        /// Its name in the manifest.
        name: String,
        /// Why.
        source: bundles::volume::VolumeError,
    },
    /// The volumes that an image wants.
    #[error(transparent)]
    ImageVolumes(bundles::volume::VolumeError),
    /// The shim answers, but with an error.
    #[error("ask the shim of pod {pod} to {action}")]
    Shim {
        /// `namespace/name`.
        pod: String,
        /// The request.
        action: &'static str,
        /// Its answer.
        source: ttrpc::Error,
    },
    /// The pod has no live shim.
    #[error("pod {0} is not running")]
    NotRunning(String),
    /// A failure reported by another process, its chain of causes flattened.
    #[error("{message}")]
    Reported {
        /// The chain, joined with `: `.
        message: String,
        /// minipod's exit code for it.
        exit_code: u8,
    },
    /// Several steps of a clean-up failed.
    #[error("{}", .0.join("; "))]
    CleanUp(Vec<String>),
}

impl Error {
    /// minipod's exit code for this failure: 127 command not found, 126 not executable, else 125.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Engine(e) => e.exit_code(),
            Self::Container { source, .. } => source.exit_code(),
            Self::Reported { exit_code, .. } => *exit_code,
            _ => 125,
        }
    }

    /// For `map_err` on file operations.
    pub(crate) fn file(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { operation, path, source }
    }
}

/// An error and all its causes, joined with `: `, for people.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        let part = e.to_string();
        if !text.ends_with(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = e.source();
    }
    text
}

/// Failures of a clean-up that went on all the same.
#[derive(Debug, Default)]
pub struct Failures(Vec<String>);

impl Failures {
    /// Notes a failed step and goes on.
    pub fn note<T, E: std::error::Error>(&mut self, step: &str, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(e) => {
                self.0.push(format!("{step}: {}", chain(&e)));
                None
            }
        }
    }

    /// Takes a step; notes its failure and goes on.
    pub(crate) fn take<T, E>(&mut self, step: Step, subject: &str, work: impl FnOnce() -> Result<T, E>) -> Option<T>
    where
        Error: From<E>,
    {
        self.note(step.name(), step.take(subject, work))
    }

    /// As [`Self::take`], for work that waits.
    pub(crate) async fn follow<T, E>(&mut self, step: Step, subject: &str, work: impl Future<Output = Result<T, E>>) -> Option<T>
    where
        Error: From<E>,
    {
        let result = step.follow(subject, work).await;
        self.note(step.name(), result)
    }

    /// All failures as one error.
    ///
    /// # Errors
    /// [`Error::CleanUp`] when a step failed.
    pub fn into_result(self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::CleanUp(self.0)) }
    }
}
