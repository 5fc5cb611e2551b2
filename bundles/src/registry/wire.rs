//! HTTP: one request, its redirects, and what may go wrong on the way.

use std::collections::HashMap;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustls::RootCertStore;
use ureq::http::{HeaderMap, Request, StatusCode, header};
use ureq::unversioned::transport::{ConnectProxyConnector, Connector as _};
use ureq::{Agent, Body, Proxy};
use url::Url;

use super::error::Problem;
use super::resolver::{Names, is_loopback};
use super::retry::Patience;
use super::secret::Secret;
use super::settings::Security;
use super::tls::TlsConnector;
use super::transport::TcpConnector;
use super::{cause, quote, tls};
use crate::cancel::Cancel;

/// As browsers and docker do it.
const MOST_REDIRECTS: u32 = 10;
/// Of an answer; ureq refuses more.
const LARGEST_HEADERS: usize = 64 << 10;
/// Of an answer that says what went wrong.
const LARGEST_COMPLAINT: u64 = 64 << 10;

/// What a registry and all it sends us to are trusted by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Trust {
    pub(super) security: Security,
    pub(super) ca: Option<PathBuf>,
}

/// A question.
pub(super) struct Ask<'a> {
    pub(super) method: Method<'a>,
    pub(super) url: Url,
    pub(super) accept: Option<&'a str>,
    /// From which byte on.
    pub(super) from: u64,
    /// The whole header.
    pub(super) authorization: Option<&'a Secret>,
}

/// How it is asked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Method<'a> {
    Get,
    Head,
    /// A form, already encoded.
    Post(&'a str),
}

/// An answer, whatever its status.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    body: Body,
    /// Who gave it, after all redirects.
    pub(super) url: Url,
}

/// Makes requests; keeps connections.
pub(super) struct Wire {
    cancel: Cancel,
    patience: Patience,
    certs_dirs: Vec<PathBuf>,
    roots: OnceLock<RootCertStore>,
    agents: Mutex<HashMap<(String, Trust), Agent>>,
}

impl Wire {
    pub(super) fn new(cancel: Cancel, patience: Patience, certs_dirs: Vec<PathBuf>) -> Self {
        Self { cancel, patience, certs_dirs, roots: OnceLock::new(), agents: Mutex::default() }
    }

    /// Asks, and goes where the answer sends us.
    ///
    /// A redirect to another origin gets no credentials; one from https to http is refused.
    pub(super) fn ask(&self, ask: &Ask<'_>, trust: &Trust) -> Result<Answer, Problem> {
        let mut url = ask.url.clone();
        for _ in 0..=MOST_REDIRECTS {
            let answer = self.once(ask, &url, trust)?;
            let Some(next) = answer.redirect()? else { return Ok(answer) };
            if url.scheme() == "https" && next.scheme() != "https" {
                return Err(protocol(&url, "it redirects from https to plain http"));
            }
            if matches!(ask.method, Method::Post(_)) {
                return Err(protocol(&url, "it redirects a request for a token"));
            }
            url = next;
        }
        Err(protocol(&ask.url, "it redirects without end"))
    }

    fn once(&self, ask: &Ask<'_>, url: &Url, trust: &Trust) -> Result<Answer, Problem> {
        let agent = self.agent(url, trust)?;
        let method = match ask.method {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post(_) => "POST",
        };
        let mut request = Request::builder().method(method).uri(url.as_str());
        if let Some(accept) = ask.accept {
            request = request.header(header::ACCEPT, accept);
        }
        if ask.from > 0 {
            request = request.header(header::RANGE, format!("bytes={}-", ask.from));
        }
        if let Some(authorization) = ask.authorization
            && url.origin() == ask.url.origin()
        {
            let value = ureq::http::HeaderValue::from_str(authorization.reveal());
            let mut value = value.map_err(|_| protocol(url, "the credentials have characters that cannot be sent"))?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        let wrong = |error: ureq::http::Error| protocol(url, &error.to_string());
        let answer = match ask.method {
            Method::Post(form) => {
                let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
                agent.run(request.body(form).map_err(wrong)?)
            }
            _ => agent.run(request.body(()).map_err(wrong)?),
        };
        let (parts, body) = answer.map_err(|error| cause::problem(url, error))?.into_parts();
        Ok(Answer { status: parts.status, headers: parts.headers, body, url: url.clone() })
    }

    /// The agent that keeps the connections to one host.
    fn agent(&self, url: &Url, trust: &Trust) -> Result<Agent, Problem> {
        let key = (url.origin().ascii_serialization(), trust.clone());
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(&key) {
            return Ok(agent.clone());
        }
        let roots = self.roots.get_or_init(tls::system_roots);
        let tls = tls::config(&authority(url), trust.ca.as_deref(), trust.security, &self.certs_dirs, roots)?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("minipod/", env!("CARGO_PKG_VERSION")))
            // Layers must arrive as they are.
            .accept_encoding("identity")
            .max_response_header_size(LARGEST_HEADERS)
            .timeout_connect(Some(self.patience.connect))
            .timeout_recv_response(Some(self.patience.document))
            .proxy(proxy(url)?)
            .build();
        let tcp = TcpConnector { cancel: self.cancel.clone(), idle: self.patience.idle };
        let connector = ().chain(ConnectProxyConnector::default()).chain(tcp).chain(TlsConnector { config: tls });
        let names = Names { cancel: self.cancel.clone(), limit: self.patience.connect };
        let agent = Agent::with_parts(config, connector, names);
        agents.insert(key, agent.clone());
        Ok(agent)
    }
}

/// Of the environment; never for this machine itself.
fn proxy(url: &Url) -> Result<Option<Proxy>, Problem> {
    let Some(proxy) = Proxy::try_from_env().filter(|_| !url.host_str().is_some_and(is_loopback)) else { return Ok(None) };
    let Ok(target) = url.as_str().parse() else { return Ok(None) };
    if proxy.is_no_proxy(&target) {
        return Ok(None);
    }
    use ureq::ProxyProtocol::{Http, Https};
    match proxy.protocol() {
        Http | Https => Ok(Some(proxy)),
        other => Err(Problem::Proxy { why: format!("a {other} proxy is not supported, an http one is") }),
    }
}

/// The host, with its port when it is not the scheme's own: as users write it, and as certs.d calls it.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

pub(super) fn protocol(url: &Url, why: &str) -> Problem {
    Problem::Protocol { host: authority(url), why: why.to_owned() }
}

impl Answer {
    pub(super) fn host(&self) -> String {
        authority(&self.url)
    }

    /// A header, when it is text.
    pub(super) fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(super) fn content_length(&self) -> Option<u64> {
        self.header(header::CONTENT_LENGTH)?.trim().parse().ok()
    }

    /// Where it sends us, when it does.
    fn redirect(&self) -> Result<Option<Url>, Problem> {
        if !matches!(self.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Ok(None);
        }
        let Some(location) = self.header(header::LOCATION) else {
            return Err(protocol(&self.url, "it redirects without saying where to"));
        };
        let next = self.url.join(location).map_err(|error| protocol(&self.url, &format!("it redirects to no URL: {error}")))?;
        check(&next).map_err(|why| protocol(&self.url, &format!("it redirects to {}: {why}", quote(next.as_str()))))?;
        Ok(Some(next))
    }

    /// The whole body, of at most `limit` bytes, within `time`.
    pub(super) fn read(self, what: &'static str, limit: u64, time: Duration) -> Result<Vec<u8>, Problem> {
        let host = self.host();
        let announced = self.content_length();
        if announced.is_some_and(|length| length > limit) {
            return Err(Problem::TooLarge { host, what, limit });
        }
        let url = self.url.clone();
        let deadline = Instant::now() + time;
        let mut reader = self.into_reader();
        let mut bytes = Vec::new();
        let mut buffer = vec![0; 16 << 10];
        loop {
            let count = reader.read(&mut buffer).map_err(|error| cause::io_problem(&url, error))?;
            bytes.extend_from_slice(&buffer[..count]);
            if bytes.len() as u64 > limit {
                return Err(Problem::TooLarge { host, what, limit });
            }
            if count == 0 {
                break;
            }
            if Instant::now() > deadline {
                return Err(Problem::TimedOut { host, doing: "send all of it" });
            }
        }
        match announced {
            Some(expected) if expected != bytes.len() as u64 => {
                Err(Problem::Truncated { host, expected, got: bytes.len() as u64 })
            }
            _ => Ok(bytes),
        }
    }

    /// What an answer with a bad status says, as far as it can be read; for the user's eyes only.
    pub(super) fn complaint(self, time: Duration) -> String {
        let deadline = Instant::now() + time;
        let mut reader = self.into_reader().take(LARGEST_COMPLAINT);
        let mut bytes = Vec::new();
        let mut buffer = vec![0; 8 << 10];
        // The status says what is wrong; that its explanation breaks off adds nothing.
        while let Ok(count @ 1..) = reader.read(&mut buffer) {
            bytes.extend_from_slice(&buffer[..count]);
            if Instant::now() > deadline {
                break;
            }
        }
        envelope(&bytes)
    }

    pub(super) fn into_reader(self) -> Box<dyn Read + Send> {
        Box::new(self.body.into_with_config().limit(u64::MAX).reader())
    }
}

/// A URL that we may ask.
pub(super) fn check(url: &Url) -> Result<(), &'static str> {
    if !matches!(url.scheme(), "https" | "http") || url.host_str().is_none_or(str::is_empty) {
        return Err("that is not a URL of the web");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it has credentials in it");
    }
    Ok(())
}

/// The texts of the errors a registry sends. Spec: distribution-spec, "Error Codes".
fn envelope(bytes: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Envelope {
        #[serde(default)]
        errors: Vec<Entry>,
        /// Token servers have this one instead.
        #[serde(default)]
        details: Option<String>,
    }
    #[derive(serde::Deserialize)]
    struct Entry {
        #[serde(default)]
        code: Option<String>,
        #[serde(default)]
        message: Option<String>,
    }
    let Ok(envelope) = serde_json::from_slice::<Envelope>(bytes) else {
        let text = String::from_utf8_lossy(bytes);
        let line = text.trim().lines().next().unwrap_or_default();
        return if line.starts_with(['<', '{']) { String::new() } else { quote(line) };
    };
    let entries = envelope.errors.into_iter().take(10).map(|entry| match (entry.code, entry.message) {
        (Some(code), Some(message)) if !message.is_empty() => format!("{message} ({code})"),
        (code, message) => message.filter(|message| !message.is_empty()).or(code).unwrap_or_default(),
    });
    let all: Vec<String> = entries.chain(envelope.details).filter(|text| !text.is_empty()).collect();
    quote(&all.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_registries_say() {
        for (body, wanted) in [
            (&br#"{"errors":[{"code":"DENIED","message":"no"},{"code":"X"}]}"#[..], "no (DENIED), X"),
            (br#"{"details":"incorrect username or password"}"#, "incorrect username or password"),
            (b"plain words\nand more", "plain words"),
            (b"<html>", ""),
            (b"{\"errors\":5}", ""),
            (b"\xff\xfe", "\u{fffd}\u{fffd}"),
            (b"", ""),
        ] {
            assert_eq!(envelope(body), wanted);
        }
    }

    #[test]
    fn urls_that_may_be_asked() {
        for (url, fine) in [
            ("https://a.io/x", true),
            ("http://a.io", true),
            ("ftp://a.io", false),
            ("file:///etc/passwd", false),
            ("https://me:pw@a.io/", false),
        ] {
            assert_eq!(check(&Url::parse(url).unwrap()).is_ok(), fine, "{url}");
        }
    }
}
