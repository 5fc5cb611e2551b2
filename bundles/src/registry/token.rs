//! Tokens: from whom, for what, and for how long.
//!
//! ```text
//! GET /v2/a/b/manifests/1        ->  401, WWW-Authenticate: Bearer realm="R",service="S"
//! GET R?service=S&scope=repository:a/b:pull   (Authorization: Basic, when there is a login)
//!                                ->  200 {"token": T, "expires_in": 300}
//! GET /v2/a/b/manifests/1, Authorization: Bearer T
//! ```
//!
//! Spec: distribution's "Token Authentication" and "OAuth 2.0 token authentication" (an identity token is a refresh token: it is
//! posted).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use super::challenge::Challenge;
use super::error::Problem;
use super::secret::{Login, Secret};
use super::settings::Security;
use super::status::{self, Asked, Speaker};
use super::wire::{Ask, Method, Trust, Wire, check, protocol};
use crate::image::digest::Digest;

/// No token is longer.
const LARGEST_ANSWER: u64 = 1 << 20;
/// Spec: what a token lasts when the server does not say.
const USUAL_LIFE: u64 = 60;

/// Whose permission it is, and for what.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The registry.
    pub(super) origin: String,
    /// The repository; empty: none in particular.
    pub(super) path: String,
    /// Who asks.
    pub(super) login: Option<Digest>,
}

/// What has been permitted so far.
#[derive(Default)]
pub(super) struct Permissions(Mutex<HashMap<Key, Permission>>);

/// A value for `Authorization`, and how long it is good.
#[derive(Clone)]
pub(super) struct Permission {
    pub(super) header: Secret,
    until: Option<Instant>,
}

impl Permissions {
    pub(super) fn get(&self, key: &Key) -> Option<Secret> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let permission = known.get(key)?;
        permission.until.is_none_or(|until| Instant::now() < until).then(|| permission.header.clone())
    }

    pub(super) fn put(&self, key: Key, permission: Permission) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, permission);
    }

    pub(super) fn forget(&self, key: &Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// What a permission is asked with.
pub(super) struct Asking<'a> {
    pub(super) wire: &'a Wire,
    pub(super) trust: &'a Trust,
    /// Of the registry, as the user calls it.
    pub(super) host: &'a str,
    pub(super) path: &'a str,
    pub(super) login: Option<&'a Login>,
    /// Where the login comes from.
    pub(super) tried: &'a [String],
    pub(super) time: Duration,
}

impl Asking<'_> {
    /// Answers a challenge; nothing when there is no way to.
    pub(super) fn permission(&self, challenge: &Challenge) -> Result<Option<Permission>, Problem> {
        match challenge {
            Challenge::Basic => Ok(self.login.and_then(Login::basic).map(|basic| Permission {
                header: Secret::new(format!("Basic {}", basic.reveal())),
                until: None,
            })),
            Challenge::Bearer { realm, service } => self.token(realm, service.as_deref()).map(Some),
        }
    }

    fn token(&self, realm: &str, service: Option<&str>) -> Result<Permission, Problem> {
        let mut url = Url::parse(realm).map_err(|error| self.wrong(&format!("its token server is no URL: {error}")))?;
        check(&url).map_err(|why| self.wrong(&format!("its token server: {why}")))?;
        if url.scheme() != "https" && self.trust.security != Security::Insecure {
            return Err(self.wrong("its token server does not use https"));
        }
        let mut fields: Vec<(&str, &str)> = Vec::new();
        fields.extend(service.map(|service| ("service", service)));
        let scope = format!("repository:{}:pull", self.path);
        if !self.path.is_empty() {
            fields.push(("scope", &scope));
        }
        let form;
        let mut basic = None;
        let method = match self.login {
            Some(Login::IdentityToken { token, .. }) => {
                fields.extend([("grant_type", "refresh_token"), ("client_id", "minipod"), ("refresh_token", token.reveal())]);
                form = Zeroizing::new(form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish());
                Method::Post(&form)
            }
            login => {
                if let Some(username) = login.map(Login::username) {
                    fields.push(("account", username));
                }
                url.query_pairs_mut().extend_pairs(fields);
                basic = login.and_then(Login::basic).map(|basic| Secret::new(format!("Basic {}", basic.reveal())));
                Method::Get
            }
        };
        let ask = Ask { method, url, accept: Some("application/json"), from: 0, authorization: basic.as_ref() };
        self.read(self.wire.ask(&ask, self.trust)?)
    }

    fn read(&self, answer: super::wire::Answer) -> Result<Permission, Problem> {
        #[derive(Deserialize)]
        struct Token {
            token: Option<Zeroizing<String>>,
            access_token: Option<Zeroizing<String>>,
            expires_in: Option<u64>,
        }
        if !answer.status.is_success() {
            let (host, tried) = (self.host, self.tried.to_vec());
            // 400 is how OAuth2 says that a refresh token is not good.
            if matches!(answer.status.as_u16(), 400 | 401 | 403) {
                return Err(Problem::Unauthorized { host: host.to_owned(), tried, said: answer.complaint(self.time) });
            }
            let asked = Asked { host, what: "token", tried, speaker: Speaker::Elsewhere, time: self.time };
            return Err(status::problem(answer, asked));
        }
        let url = answer.url.clone();
        let bytes = Zeroizing::new(answer.read("token", LARGEST_ANSWER, self.time)?);
        let read: Token = serde_json::from_slice(&bytes).map_err(|_| protocol(&url, "its token is not JSON as specified"))?;
        let token = [read.token, read.access_token].into_iter().flatten().find(|token| !token.is_empty());
        let token = token.ok_or_else(|| protocol(&url, "there is no token in its answer"))?;
        let life = Duration::from_secs(read.expires_in.unwrap_or(USUAL_LIFE));
        // Early, so that it does not expire on its way.
        let until = Instant::now().checked_add(life - life / 10);
        Ok(Permission { header: Secret::new(format!("Bearer {}", token.as_str())), until })
    }

    fn wrong(&self, why: &str) -> Problem {
        Problem::Protocol { host: self.host.to_owned(), why: why.to_owned() }
    }
}
