//! One place that may have an image: where it is, and how it lets us in.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ureq::http::header;
use url::Url;

use super::challenge;
use super::docker_config::{DockerConfig, is_hub};
use super::error::Problem;
use super::secret::{Login, Secret};
use super::settings::{Mirror, Rule, Security};
use super::status::{self, Asked, Speaker};
use super::token::{Asking, Key};
use super::wire::{Answer, Ask, Method, Trust};
use super::{Shared, TlsVerify, quote};
use crate::image::Reference;

/// Where `docker.io` really is.
const HUB_SERVER: &str = "registry-1.docker.io";

/// A login, and where it comes from.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) login: Login,
    pub(super) source: String,
}

/// A repository of one registry.
pub(super) struct Endpoint {
    /// The registry as users call it.
    pub(super) host: String,
    /// The repository there; empty: the registry as a whole.
    path: String,
    /// Tag or digest there.
    pub(super) wanted: String,
    trust: Trust,
    /// Of the pod.
    secrets: Vec<Candidate>,
    /// All there are; found when they are asked for, since a helper may be a program that asks the user.
    candidates: Mutex<Option<Arc<Vec<Candidate>>>>,
    /// The one that works.
    chosen: AtomicUsize,
}

/// Whether what is sent was asked for just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fresh {
    No,
    Yes,
}

/// What is asked of an endpoint.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) method: Method<'a>,
    /// Below the repository: `manifests/latest`.
    pub(super) tail: &'a str,
    pub(super) accept: Option<&'a str>,
    /// From which byte on.
    pub(super) from: u64,
    /// `image` or `blob`.
    pub(super) what: &'static str,
}

/// All places to look for an image, in order.
///
/// # Errors
/// [`Problem::Blocked`], or [`Problem::Location`] when the settings make a name of it that is none.
pub(super) fn all(shared: &Shared, name: &Reference, secrets: &[DockerConfig]) -> Result<Vec<Endpoint>, Problem> {
    let Some(rule) = shared.settings.rule(name) else {
        let trust = Trust { security: Security::Tls, ca: None };
        return Ok(vec![Endpoint::of(shared, name, trust, secrets)]);
    };
    if rule.access == super::settings::Access::Blocked {
        return Err(Problem::Blocked { prefix: rule.prefix.clone(), file: shared.settings.file().to_owned() });
    }
    let mut all = Vec::new();
    for Mirror { location, security, ca } in &rule.mirrors {
        let trust = Trust { security: *security, ca: ca.clone() };
        all.push(Endpoint::of(shared, &moved(rule, name, location)?, trust, secrets));
    }
    let location = rule.location.as_deref().unwrap_or(rule.matched(name.registry()));
    let trust = Trust { security: rule.security, ca: rule.ca.clone() };
    all.push(Endpoint::of(shared, &moved(rule, name, location)?, trust, secrets));
    Ok(all)
}

/// The name of the same image below `location`.
fn moved(rule: &Rule, name: &Reference, location: &str) -> Result<Reference, Problem> {
    let full = name.to_string();
    let rest = full.strip_prefix(rule.matched(name.registry())).unwrap_or_default();
    let there = format!("{location}{rest}");
    let wrong = |why: String| Problem::Location { location: there.clone(), why };
    let moved = Reference::parse(&there).map_err(|error| wrong(super::error::chain(&error)))?;
    let host = location.split('/').next().unwrap_or_default();
    if moved.registry() != host && !is_hub(host) {
        return Err(wrong(format!("`{host}` is not taken for a host: write it with its domain or port")));
    }
    Ok(moved)
}

/// Whether another login may see more; and how much this one was allowed to.
fn hidden(problem: &Problem) -> Option<u8> {
    match problem {
        Problem::Unauthorized { .. } => Some(0),
        Problem::Denied { .. } => Some(1),
        Problem::NotFound { .. } => Some(2),
        _ => None,
    }
}

impl Endpoint {
    fn of(shared: &Shared, name: &Reference, trust: Trust, secrets: &[DockerConfig]) -> Self {
        let wanted = name.digest().map(ToString::to_string).or(name.tag().map(str::to_owned)).unwrap_or_default();
        let secrets = secrets.iter().flat_map(|config| {
            let logins = config.matching(name.registry(), name.path());
            logins.into_iter().map(|login| Candidate { login, source: config.source().to_owned() })
        });
        Self {
            wanted,
            secrets: secrets.collect(),
            ..Self::new(shared, name.registry().to_owned(), name.path().to_owned(), trust)
        }
    }

    fn new(shared: &Shared, host: String, path: String, mut trust: Trust) -> Self {
        if shared.tls == TlsVerify::Skipped {
            trust.security = Security::Insecure;
        }
        Self {
            host,
            path,
            wanted: String::new(),
            trust,
            secrets: Vec::new(),
            candidates: Mutex::default(),
            chosen: AtomicUsize::new(0),
        }
    }

    /// A registry as a whole, with one login.
    pub(super) fn registry(shared: &Shared, host: &str, login: &Login) -> Self {
        let rule = shared.settings.host_rule(host);
        let trust = Trust {
            security: rule.map_or(Security::Tls, |rule| rule.security),
            ca: rule.and_then(|rule| rule.ca.clone()),
        };
        let candidate = Candidate { login: login.clone(), source: format!("this login of {}", quote(login.username())) };
        let endpoint = Self::new(shared, host.to_owned(), String::new(), trust);
        *endpoint.candidates.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(vec![candidate]));
        endpoint
    }

    /// Asks, with one login after the other until one is let in. Any status but success is a [`Problem`].
    pub(super) fn ask(&self, shared: &Shared, question: &Question<'_>) -> Result<Answer, Problem> {
        let first = self.chosen.load(Ordering::Relaxed);
        let mut index = first;
        let mut tried = Vec::new();
        let mut refused: Option<Problem> = None;
        loop {
            let before = tried.len();
            let problem = match self.ask_as(shared, question, index, &mut tried) {
                Ok((answer, _)) if answer.status.is_success() => {
                    self.chosen.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
                Ok((answer, speaker)) => {
                    let time = shared.patience.idle;
                    let asked = Asked { host: &self.host, what: question.what, tried: tried.clone(), speaker, time };
                    status::problem(answer, asked)
                }
                Err(problem) => problem,
            };
            let Some(rank) = hidden(&problem) else { return Err(problem) };
            // What one of them at least was allowed to see says more than that another was not let in.
            let worse = refused.take().filter(|earlier| hidden(earlier) > Some(rank)).unwrap_or(problem);
            let all = if tried.len() > before { self.candidates(shared)?.len() } else { 0 };
            index = if all == 0 { first } else { (index + 1) % all };
            if index == first {
                return Err(worse);
            }
            refused = Some(worse);
        }
    }

    /// Asks with one login. Notes where it comes from, once it is used.
    fn ask_as(
        &self,
        shared: &Shared,
        question: &Question<'_>,
        index: usize,
        tried: &mut Vec<String>,
    ) -> Result<(Answer, Speaker), Problem> {
        let base = self.base(shared)?;
        let url = self.url(&base, question.tail)?;
        let mut login: Option<Candidate> = self.known_candidate(index);
        let mut header = shared.permissions.get(&self.key(&base, login.as_ref()));
        if header.is_some() {
            tried.extend(login.as_ref().map(|candidate| candidate.source.clone()));
        }
        let mut fresh = Fresh::No;
        loop {
            let ask = Ask {
                method: question.method,
                url: url.clone(),
                accept: question.accept,
                from: question.from,
                authorization: header.as_ref(),
            };
            let answer = shared.wire.ask(&ask, &self.trust)?;
            if answer.url.origin() != base.origin() {
                return Ok((answer, Speaker::Elsewhere));
            }
            if answer.status.as_u16() != 401 || fresh == Fresh::Yes {
                return Ok((answer, Speaker::Registry));
            }
            // What was sent, if anything, is no longer good: once more, with what the challenge asks for.
            let sent = header.is_some();
            login = self.candidates(shared)?.get(index).cloned();
            if !sent {
                tried.extend(login.as_ref().map(|candidate| candidate.source.clone()));
            }
            let key = self.key(&base, login.as_ref());
            shared.permissions.forget(&key);
            header = self.permit(shared, &answer, login.as_ref(), tried, key)?;
            if header.is_none() {
                return Ok((answer, Speaker::Registry));
            }
            fresh = Fresh::Yes;
        }
    }

    /// Answers the challenge of a 401: what to send, if there is a way to.
    fn permit(
        &self,
        shared: &Shared,
        answer: &Answer,
        login: Option<&Candidate>,
        tried: &[String],
        key: Key,
    ) -> Result<Option<Secret>, Problem> {
        let headers = answer.headers.get_all(header::WWW_AUTHENTICATE);
        let Some(challenge) = challenge::best(headers.iter().filter_map(|value| value.to_str().ok())) else { return Ok(None) };
        let asking = Asking {
            wire: &shared.wire,
            trust: &self.trust,
            host: &self.host,
            path: &self.path,
            login: login.map(|candidate| &candidate.login),
            tried,
            time: shared.patience.document,
        };
        let Some(permission) = asking.permission(&challenge)? else { return Ok(None) };
        let header = permission.header.clone();
        shared.permissions.put(key, permission);
        Ok(Some(header))
    }

    fn key(&self, base: &Url, login: Option<&Candidate>) -> Key {
        let login = login.map(|candidate| candidate.login.fingerprint());
        Key { origin: base.origin().ascii_serialization(), path: self.path.clone(), login }
    }

    /// The login, when they have been looked for already.
    fn known_candidate(&self, index: usize) -> Option<Candidate> {
        self.candidates.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.get(index).cloned()
    }

    /// All logins: the pod's own first.
    fn candidates(&self, shared: &Shared) -> Result<Arc<Vec<Candidate>>, Problem> {
        let mut known = self.candidates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*known {
            return Ok(known.clone());
        }
        let mut all = self.secrets.clone();
        let users = shared.credentials.find(&self.host, &self.path);
        let users = users.map_err(|source| Problem::Credentials { host: self.host.clone(), source })?;
        all.extend(users.map(|(login, source)| Candidate { login, source }));
        let all = Arc::new(all);
        *known = Some(all.clone());
        Ok(all)
    }

    fn url(&self, base: &Url, tail: &str) -> Result<Url, Problem> {
        let path = if self.path.is_empty() { "/v2/".to_owned() } else { format!("/v2/{}/{tail}", self.path) };
        self.join(base, &path)
    }

    fn join(&self, base: &Url, path: &str) -> Result<Url, Problem> {
        base.join(path).map_err(|error| Problem::Protocol { host: self.host.clone(), why: error.to_string() })
    }

    /// `https://host`, or `http://host` where that is allowed and nothing else is spoken.
    fn base(&self, shared: &Shared) -> Result<Url, Problem> {
        let server = if is_hub(&self.host) { HUB_SERVER } else { &self.host };
        let url = |scheme: &str| {
            let wrong = |error: url::ParseError| Problem::Location { location: server.to_owned(), why: error.to_string() };
            Url::parse(&format!("{scheme}://{server}")).map_err(wrong)
        };
        if self.trust.security == Security::Tls {
            return url("https");
        }
        if let Some(scheme) = shared.schemes.lock().unwrap_or_else(PoisonError::into_inner).get(server) {
            return url(scheme);
        }
        let probe = |scheme: &'static str| {
            let url = self.join(&url(scheme)?, "/v2/")?;
            let ask = Ask { method: Method::Get, url, accept: None, from: 0, authorization: None };
            shared.wire.ask(&ask, &self.trust).map(|_| scheme)
        };
        let scheme = match probe("https") {
            Err(problem @ (Problem::Cancelled | Problem::UnknownHost { .. } | Problem::NameServer { .. })) => return Err(problem),
            Err(_) => probe("http")?,
            Ok(scheme) => scheme,
        };
        shared.schemes.lock().unwrap_or_else(PoisonError::into_inner).insert(server.to_owned(), scheme);
        url(scheme)
    }
}
