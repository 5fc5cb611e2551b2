//! Image registries: asks them by HTTP for manifests and blobs, with the settings and credentials users know from podman and
//! docker. Knows no store, no command line, and starts no process: credential helpers are passed in.
//!
//! ```text
//! Client ── Repository (a name) ── Endpoint (a mirror, or the registry) ── Wire (requests, redirects) ── ureq
//!   settings, credentials           who lets us in: challenge, token          transport, resolver, tls
//! ```
//!
//! Spec: distribution-spec 1.1. Which library, and why: docs/decisions/0013-registry-client.md.

mod blob;
mod cause;
mod challenge;
mod credentials;
mod docker_config;
mod endpoint;
mod error;
pub mod login;
mod repository;
mod resolver;
mod retry;
mod secret;
mod settings;
mod status;
mod tls;
mod token;
mod transport;
mod wire;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use blob::Blob;
pub use credentials::{CredentialHelper, Credentials, CredentialsError, HelperError, NoHelper, Places};
pub use docker_config::{ConfigError, DockerConfig};
pub use error::{Failures, Problem, RegistryError};
pub use repository::{Document, Repository};
pub use retry::Patience;
pub use secret::{Login, Secret};
pub use settings::{DEFAULT_SETTINGS, Settings, SettingsError};
pub use tls::CERTS_DIRS;

use crate::cancel::Cancel;
use crate::image::Reference;
use crate::image::error::printable;
use endpoint::{Endpoint, Question};
use wire::{Method, Wire};

/// What a client is made of.
#[derive(Clone)]
pub struct Options {
    /// Mirrors, insecure registries, what is blocked.
    pub settings: Settings,
    /// The user's.
    pub credentials: Credentials,
    /// `--tls-verify`.
    pub tls: TlsVerify,
    /// Ends everything the client does, within about a second.
    pub cancel: Cancel,
    /// Told what the user should see.
    pub notify: Arc<dyn Fn(&Notice) + Send + Sync>,
    /// How long for what.
    pub patience: Patience,
    /// Where certificates by host are; [`CERTS_DIRS`] by default.
    pub certs_dirs: Vec<PathBuf>,
}

impl Options {
    /// With defaults for all the rest.
    #[must_use]
    pub fn new(settings: Settings, credentials: Credentials) -> Self {
        Self {
            settings,
            credentials,
            tls: TlsVerify::Required,
            cancel: Cancel::new(),
            notify: Arc::new(|_| {}),
            patience: Patience::default(),
            certs_dirs: CERTS_DIRS.iter().map(PathBuf::from).collect(),
        }
    }
}

/// Whether registries must prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVerify {
    /// But those that are `insecure` in the settings.
    Required,
    /// None must; plain HTTP will do.
    Skipped,
}

/// What the user should know while it happens. Printable, and without secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Something failed and is tried again.
    Retry {
        /// What is done.
        what: String,
        /// Why it failed.
        why: String,
        /// After which pause.
        after: Duration,
    },
    /// A mirror failed; the next place is asked.
    Mirror {
        /// What is done.
        what: String,
        /// Which host failed.
        failed: String,
        /// Why.
        why: String,
    },
}

/// Asks registries. One for a command; may be used from several threads at once.
pub struct Client(Arc<Shared>);

/// What everything of a client shares.
struct Shared {
    settings: Settings,
    credentials: Credentials,
    tls: TlsVerify,
    cancel: Cancel,
    notify: Arc<dyn Fn(&Notice) + Send + Sync>,
    patience: Patience,
    wire: Wire,
    permissions: token::Permissions,
    /// Which scheme an insecure server speaks.
    schemes: Mutex<HashMap<String, &'static str>>,
}

impl Shared {
    fn tell(&self, notice: &Notice) {
        (self.notify)(notice);
    }
}

impl Client {
    /// Makes one; asks nobody yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let Options { settings, credentials, tls, cancel, notify, patience, certs_dirs } = options;
        let wire = Wire::new(cancel.clone(), patience.clone(), certs_dirs);
        let (permissions, schemes) = (token::Permissions::default(), Mutex::default());
        Self(Arc::new(Shared { settings, credentials, tls, cancel, notify, patience, wire, permissions, schemes }))
    }

    /// The repository an image name is in. `secrets` (of the pod) are tried before the user's own credentials.
    ///
    /// # Errors
    /// [`Problem::Blocked`] when the settings forbid it; [`Problem::Location`] when they make no sense for it.
    pub fn repository(&self, name: &Reference, secrets: &[DockerConfig]) -> Result<Repository, RegistryError> {
        let endpoints = endpoint::all(&self.0, name, secrets);
        let endpoints = endpoints.map_err(|problem| RegistryError::new(format!("look for {name}"), problem))?;
        Ok(Repository::new(self.0.clone(), name, endpoints))
    }

    /// Whether a registry (`host[:port]`; a path after it is left out) takes a login. One that lets everybody in takes any.
    ///
    /// # Errors
    /// [`RegistryError`] when it does not, or cannot be asked.
    pub fn check(&self, registry: &str, login: &Login) -> Result<(), RegistryError> {
        let what = format!("log in to {}", quote(registry));
        let host = endpoint::host(registry).map_err(|problem| RegistryError::new(&*what, problem))?;
        let endpoint = Endpoint::registry(&self.0, &host, login);
        let question = Question { method: Method::Get, tail: "", accept: None, from: 0, what: "registry" };
        let asked = retry::retry(&self.0, &what, || endpoint.ask(&self.0, &question).map(drop));
        asked.map_err(|problem| RegistryError::new(what, problem))
    }
}

/// Foreign words, safe to show.
fn quote(text: &str) -> String {
    printable(text)
}

/// A whole file, if it is not larger than `limit` bytes.
fn read_file(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {limit} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_may_share() {
        fn shared<T: Send + Sync + 'static>() {}
        fn sent<T: Send + 'static>() {}
        shared::<Client>();
        shared::<Repository>();
        shared::<RegistryError>();
        sent::<Blob>();
    }
}
