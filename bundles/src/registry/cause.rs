//! What the errors of the layers below mean: ureq's, rustls's, the system's, and our own inside them.

use std::io;

use rustls::{CertificateError, Error as TlsError, InvalidMessage};
use url::Url;

use super::error::Problem;
use super::transport::Fault;
use super::wire::{authority, protocol};

/// What an error of a body's reader means.
pub(super) fn io_problem(url: &Url, error: io::Error) -> Problem {
    problem(url, ureq::Error::from(error))
}

/// What an error of ureq means.
pub(super) fn problem(url: &Url, error: ureq::Error) -> Problem {
    let host = authority(url);
    match error {
        ureq::Error::Io(source) => io_cause(host, url, source),
        ureq::Error::Timeout(ureq::Timeout::Connect) => Problem::TimedOut { host, doing: "take the connection" },
        ureq::Error::Timeout(_) => Problem::TimedOut { host, doing: "answer" },
        ureq::Error::HostNotFound => Problem::UnknownHost { host },
        ureq::Error::ConnectProxyFailed(why) => Problem::Proxy { why },
        ureq::Error::InvalidProxyUrl => Problem::Proxy { why: "it is not a URL".into() },
        other => protocol(url, &other.to_string()),
    }
}

fn io_cause(host: String, url: &Url, source: io::Error) -> Problem {
    if let Some(error) = source.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
        return tls_problem(host, error);
    }
    if !source.get_ref().is_some_and(|inner| inner.is::<Fault>()) {
        return Problem::Interrupted { host, source };
    }
    match source.into_inner().map(|inner| inner.downcast::<Fault>()) {
        Some(Ok(fault)) => fault_problem(host, url, *fault),
        Some(Err(other)) => Problem::Interrupted { host, source: io::Error::other(other) },
        None => Problem::Interrupted { host, source: io::ErrorKind::Other.into() },
    }
}

fn fault_problem(host: String, url: &Url, fault: Fault) -> Problem {
    let name = || url.host_str().unwrap_or_default().to_owned();
    match fault {
        Fault::Cancelled => Problem::Cancelled,
        Fault::Stalled(after) => Problem::Stalled { host, after },
        Fault::Connect(source) if source.kind() == io::ErrorKind::ConnectionRefused => Problem::Refused { host, source },
        Fault::Connect(source) => Problem::Connect { host, source },
        Fault::UnknownHost => Problem::UnknownHost { host: name() },
        Fault::NameServer(why) => Problem::NameServer { host: name(), why },
    }
}

fn tls_problem(host: String, error: &TlsError) -> Problem {
    match error {
        TlsError::InvalidCertificate(CertificateError::UnknownIssuer) => Problem::TlsUntrusted { host },
        TlsError::InvalidMessage(InvalidMessage::InvalidContentType) => Problem::NotTls { host },
        other => Problem::Tls { host, why: other.to_string() },
    }
}
