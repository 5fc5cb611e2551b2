//! What goes wrong with a registry, and what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::credentials::CredentialsError;
use crate::image::digest::Digest;
use crate::image::error::printable;

/// A failure of what was asked of a registry: names the image and the host; its source says why.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct RegistryError {
    /// `fetch the manifest of docker.io/library/nginx:1 from docker.io`.
    what: String,
    /// Why, and what to do.
    source: Problem,
}

impl RegistryError {
    pub(super) fn new(what: impl Into<String>, problem: Problem) -> Self {
        Self { what: what.into(), source: problem }
    }

    /// Why.
    #[must_use]
    pub fn problem(&self) -> &Problem {
        &self.source
    }

    /// Whether the registry has no such image or blob (or does not show it).
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        match &self.source {
            Problem::NotFound { .. } => true,
            Problem::Mirrors(all) => all.0.iter().all(Self::is_not_found),
            _ => false,
        }
    }

    /// Whether it ended because its [`Cancel`](crate::cancel::Cancel) was told.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self.source, Problem::Cancelled)
    }

    /// Whether no registry could be reached at all: no network, a wrong name, a server that is down.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        match &self.source {
            Problem::UnknownHost { .. } | Problem::NameServer { .. } | Problem::Refused { .. } => true,
            Problem::Connect { .. } | Problem::TimedOut { .. } => true,
            Problem::Mirrors(all) => all.0.iter().all(Self::is_unreachable),
            _ => false,
        }
    }

    /// Takes it back out of the error of a [`Blob`](super::Blob)'s read, or whatever wraps one.
    ///
    /// # Errors
    /// The same error, when there is none inside.
    pub fn from_io(error: io::Error) -> Result<Self, io::Error> {
        if !error.get_ref().is_some_and(|inner| inner.is::<Self>()) {
            return Err(error);
        }
        match error.into_inner().map(|inner| inner.downcast::<Self>()) {
            Some(Ok(inner)) => Ok(*inner),
            Some(Err(other)) => Err(io::Error::other(other)),
            None => Err(io::ErrorKind::Other.into()),
        }
    }
}

impl From<RegistryError> for io::Error {
    fn from(error: RegistryError) -> Self {
        Self::other(error)
    }
}

/// Why a registry did not do what was asked, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// No such name.
    #[error("no host is called {host}: look for a typing error; or is there no network?")]
    UnknownHost {
        /// Its name.
        host: String,
    },
    /// Nobody answered who it is.
    #[error("cannot look up {host}: {}; look at the network and /etc/resolv.conf", printable(.why))]
    NameServer {
        /// Its name.
        host: String,
        /// What the resolver said.
        why: String,
    },
    /// Nobody listens there.
    #[error("{host} refuses the connection: is the registry running, and is the port right?")]
    Refused {
        /// With its port.
        host: String,
        /// The system's word.
        source: io::Error,
    },
    /// No way there.
    #[error("cannot connect to {host}: is there a network?")]
    Connect {
        /// With its port.
        host: String,
        /// The system's word.
        source: io::Error,
    },
    /// No connection, or no answer, in time.
    #[error("{host} did not {doing} in time: try again later, or look at the network and its firewalls")]
    TimedOut {
        /// Who.
        host: String,
        /// What it did not do.
        doing: &'static str,
    },
    /// A connection that no byte came through.
    #[error("{host} sent nothing for {}: try again later", seconds(.after))]
    Stalled {
        /// Who.
        host: String,
        /// For how long.
        after: Duration,
    },
    /// A connection that broke.
    #[error("the connection to {host} broke: try again later")]
    Interrupted {
        /// Who.
        host: String,
        /// The system's word.
        source: io::Error,
    },
    /// A certificate by nobody we know.
    #[error(
        "the certificate of {host} is not signed by an authority known here: put the authority's certificate into \
         /etc/containers/certs.d/{host}/ca.crt, or name it as `ca` of this registry in /etc/minipod/registries.conf"
    )]
    TlsUntrusted {
        /// With its port when it has one.
        host: String,
    },
    /// TLS that did not come to be.
    #[error("TLS with {host}: {}", printable(.why))]
    Tls {
        /// Who.
        host: String,
        /// Why.
        why: String,
    },
    /// A server without TLS.
    #[error(
        "{host} speaks plain HTTP, not HTTPS: if that is meant, say `insecure = true` for this registry in \
         /etc/minipod/registries.conf (or --tls-verify=false)"
    )]
    NotTls {
        /// With its port.
        host: String,
    },
    /// A file with certificates that is not one.
    #[error("certificates in {}: {}", .path.display(), printable(.why))]
    Certificates {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The proxy of the environment.
    #[error("proxy of the environment (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY): {}", printable(.why))]
    Proxy {
        /// What is wrong.
        why: String,
    },
    /// 401.
    #[error("{}{}", unauthorized(.host, .tried), words(.said))]
    Unauthorized {
        /// Who.
        host: String,
        /// Where the credentials that were refused came from; empty when there were none.
        tried: Vec<String>,
        /// What it said.
        said: String,
    },
    /// 403.
    #[error("{host} denies access (403): {}{}", denied(.host, .tried), words(.said))]
    Denied {
        /// Who.
        host: String,
        /// Where the credentials came from; empty when there were none.
        tried: Vec<String>,
        /// What it said.
        said: String,
    },
    /// 404.
    #[error("{host} has no such {what} (404){}{}", hidden(.host, .tried), words(.said))]
    NotFound {
        /// Who.
        host: String,
        /// `image` or `blob`.
        what: &'static str,
        /// Where the credentials came from; empty when there were none.
        tried: Vec<String>,
        /// What it said.
        said: String,
    },
    /// 429.
    #[error("{host} limits how often it is asked (429): {}{}", when(.after), words(.said))]
    TooManyRequests {
        /// Who.
        host: String,
        /// `Retry-After`.
        after: Option<Duration>,
        /// What it said.
        said: String,
    },
    /// 5xx, 408.
    #[error("{host} failed with status {status}: try again later{}", words(.said))]
    Server {
        /// Who.
        host: String,
        /// Its status.
        status: u16,
        /// `Retry-After`.
        after: Option<Duration>,
        /// What it said.
        said: String,
    },
    /// Any other status.
    #[error("{host} answered with status {status}, which is not expected here{}", words(.said))]
    Status {
        /// Who.
        host: String,
        /// Its status.
        status: u16,
        /// What it said.
        said: String,
    },
    /// Content that is not what was asked for.
    #[error("{host} sent other content than was asked for: expected {expected}, found {found}; tell who runs it")]
    Digest {
        /// Who.
        host: String,
        /// What was asked for.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// Less than was announced.
    #[error("{host} sent {got} of {expected} bytes")]
    Truncated {
        /// Who.
        host: String,
        /// Announced.
        expected: u64,
        /// Received.
        got: u64,
    },
    /// More than we take.
    #[error("{host} sent a {what} of more than {limit} bytes (the limit)")]
    TooLarge {
        /// Who.
        host: String,
        /// Of what.
        what: &'static str,
        /// How much is allowed.
        limit: u64,
    },
    /// The server's length is not the manifest's.
    #[error("{host} wants to send {announced} bytes of a blob that has {expected} by the manifest")]
    Size {
        /// Who.
        host: String,
        /// By the manifest.
        expected: u64,
        /// By the server.
        announced: u64,
    },
    /// Not how a registry speaks.
    #[error("{host} does not speak as a registry does: {}", printable(.why))]
    Protocol {
        /// Who.
        host: String,
        /// What is wrong.
        why: String,
    },
    /// A manifest of the time before content addresses.
    #[error("{host} has this image in Docker's schema 1 only, which is no longer read: push it again with a current tool")]
    Schema1 {
        /// Who.
        host: String,
    },
    /// The settings forbid it.
    #[error("`{prefix}` is blocked by {}", .file.display())]
    Blocked {
        /// By which entry.
        prefix: String,
        /// In which file.
        file: PathBuf,
    },
    /// Not a place of a registry: what the settings make of a name, or what was given.
    #[error("`{}` is not a registry's place: {}", printable(.location), printable(.why))]
    Location {
        /// Where to.
        location: String,
        /// What is wrong with it.
        why: String,
    },
    /// Credentials that could not be had.
    #[error("credentials for {host}")]
    Credentials {
        /// For whom.
        host: String,
        /// Why.
        source: CredentialsError,
    },
    /// All of several places failed.
    #[error("no mirror has it, nor the registry itself: {0}")]
    Mirrors(Failures),
    /// The user wished so.
    #[error("cancelled")]
    Cancelled,
}

/// What failed, one after the other.
#[derive(Debug)]
pub struct Failures(pub Vec<RegistryError>);

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, failure) in self.0.iter().enumerate() {
            let between = if index == 0 { "" } else { "; " };
            write!(f, "{between}{failure}: {}", chain(failure.problem()))?;
        }
        Ok(())
    }
}

impl Problem {
    /// Whether the same question may have a better answer in a while.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::TimedOut { .. } | Self::Stalled { .. } | Self::Interrupted { .. } | Self::Truncated { .. } => true,
            Self::TooManyRequests { .. } => true,
            Self::Server { status, .. } => matches!(status, 408 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }

    /// When the server wishes to be asked again.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyRequests { after, .. } | Self::Server { after, .. } => *after,
            _ => None,
        }
    }
}

/// A problem with its causes, in a line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The server's own words, when it has some.
fn words(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("; it says: {}", printable(text)) }
}

fn unauthorized(host: &str, tried: &[String]) -> String {
    if tried.is_empty() {
        return format!("{host} wants credentials (401) and there are none for it: `minipod image login {host}`");
    }
    let tried = printable(&tried.join(", "));
    format!("{host} refuses the credentials from {tried} (401): `minipod image login {host}` with valid ones")
}

fn denied(host: &str, tried: &[String]) -> String {
    if tried.is_empty() {
        return format!("if it needs credentials, `minipod image login {host}`");
    }
    format!("the credentials from {} do not suffice", printable(&tried.join(", ")))
}

fn hidden(host: &str, tried: &[String]) -> String {
    if tried.is_empty() {
        return format!(": look for a typing error; a private one is hidden until `minipod image login {host}`");
    }
    let tried = printable(&tried.join(", "));
    format!(": look for a typing error; or the credentials from {tried} may not see it")
}

fn when(after: &Option<Duration>) -> String {
    match after {
        Some(after) => format!("try again in {}", seconds(after)),
        None => "try again later".to_owned(),
    }
}

fn seconds(time: &Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        short @ 1..=119 => format!("{short} s"),
        long @ 120..=7199 => format!("{} min", long.div_ceil(60)),
        days => format!("{} h", days.div_ceil(3600)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_goes_through_io_and_back() {
        let error = RegistryError::new("read a blob", Problem::Cancelled);
        assert!(RegistryError::from_io(error.into()).unwrap().is_cancelled());
        let other = RegistryError::from_io(io::ErrorKind::NotFound.into()).unwrap_err();
        assert_eq!(other.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_a_server_says_cannot_move_the_cursor() {
        let problem = Problem::Status { host: "h".into(), status: 418, said: format!("\x1b[2J{}", "x".repeat(10_000)) };
        let text = problem.to_string();
        assert!(!text.contains('\x1b') && text.len() < 700, "{text}");
    }

    #[test]
    fn not_found_only_when_all_say_so() {
        let missing = || {
            let problem = Problem::NotFound { host: "h".into(), what: "image", tried: vec![], said: String::new() };
            RegistryError::new("x", problem)
        };
        let all = RegistryError::new("x", Problem::Mirrors(Failures(vec![missing(), missing()])));
        assert!(all.is_not_found());
        let some = vec![missing(), RegistryError::new("x", Problem::UnknownHost { host: "h".into() })];
        assert!(!RegistryError::new("x", Problem::Mirrors(Failures(some))).is_not_found());
    }
}
