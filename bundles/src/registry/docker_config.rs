//! The forms in which credentials are kept: docker's `config.json`, containers' `auth.json`, `.dockercfg`, and the
//! Secrets of Kubernetes with either.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::secret::{Login, Secret};
use crate::image::error::printable;

/// Names under which Docker Hub is written in files.
pub(super) const HUB_NAMES: &[&str] = &["docker.io", "index.docker.io", "registry-1.docker.io"];
/// What docker's helpers call Docker Hub.
pub(super) const HUB_SERVER: &str = "https://index.docker.io/v1/";

/// Credentials by registry, as a file or Secret holds them.
#[derive(Debug, Clone, Default)]
pub struct DockerConfig {
    source: String,
    auths: Vec<(String, Login)>,
    helpers: BTreeMap<String, String>,
    store: Option<String>,
}

/// A file or Secret with credentials that does not parse. Says nothing of its content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", printable(.0))]
pub struct ConfigError(String);

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    auths: Option<BTreeMap<String, Entry>>,
    #[serde(default, rename = "credHelpers")]
    helpers: Option<BTreeMap<String, String>>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: Option<Zeroizing<String>>,
    username: Option<String>,
    password: Option<Zeroizing<String>>,
    identitytoken: Option<Zeroizing<String>>,
}

impl DockerConfig {
    /// Reads `config.json`, `auth.json`, or the `.dockerconfigjson` of a Secret.
    ///
    /// # Errors
    /// [`ConfigError`] when it is not that.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        // serde would take a list as well, for the fields in their order.
        if bytes.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
            return Err(ConfigError("it is not a JSON object".into()));
        }
        let document: Document = serde_json::from_slice(bytes).map_err(|error| not_json(&error))?;
        Ok(Self {
            source: String::new(),
            auths: read_entries(document.auths.unwrap_or_default())?,
            helpers: document.helpers.unwrap_or_default(),
            store: document.store.filter(|store| !store.is_empty()),
        })
    }

    /// Reads `.dockercfg`: the entries without anything around.
    ///
    /// # Errors
    /// [`ConfigError`] when it is not that.
    pub fn parse_legacy(bytes: &[u8]) -> Result<Self, ConfigError> {
        let entries: BTreeMap<String, Entry> = serde_json::from_slice(bytes).map_err(|error| not_json(&error))?;
        Ok(Self { auths: read_entries(entries)?, ..Self::default() })
    }

    /// Where it comes from, for messages: `secret `regcred``.
    #[must_use]
    pub fn from_source(mut self, source: impl Into<String>) -> Self {
        self.source = source.into();
        self
    }

    /// Where it comes from.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// All logins for a repository as kubelet picks them: the most specific key first.
    ///
    /// Spec: Kubernetes, "Images", "Interpretation of config.json".
    pub(super) fn matching(&self, registry: &str, path: &str) -> Vec<Login> {
        let mut found: Vec<(usize, &Login)> = Vec::new();
        for (key, login) in &self.auths {
            let (host, prefix) = kubelet_key(key);
            if hosts_match(host, registry) && path_starts_with(path, prefix) {
                found.push((host.len() + prefix.len(), login));
            }
        }
        found.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
        found.into_iter().map(|(_, login)| login.clone()).collect()
    }

    /// The login for a repository as podman picks it: by its path, then ever shorter, then by the host.
    ///
    /// Spec: containers-auth.json(5).
    pub(super) fn longest(&self, registry: &str, path: &str) -> Option<&Login> {
        let mut name = format!("{registry}/{path}");
        while name.len() > registry.len() {
            if let Some((_, login)) = self.auths.iter().find(|(key, _)| *key == name) {
                return Some(login);
            }
            name.truncate(name.rfind('/').unwrap_or(0));
        }
        let exact = self.auths.iter().find(|(key, _)| key == registry);
        let found = exact.or_else(|| self.auths.iter().find(|(key, _)| same_host(key_host(key), registry)));
        found.map(|(_, login)| login)
    }

    /// The helper that keeps the login of a registry, and what it calls the registry.
    pub(super) fn helper(&self, registry: &str) -> Option<(&str, String)> {
        let own = { self.helpers.iter() }.find(|(key, _)| key.as_str() == registry || same_host(key_host(key), registry));
        if let Some((key, helper)) = own.filter(|(_, helper)| !helper.is_empty()) {
            return Some((helper, key.clone()));
        }
        let server = if is_hub(registry) { HUB_SERVER.to_owned() } else { registry.to_owned() };
        self.store.as_deref().map(|store| (store, server))
    }
}

/// Neither shows the text around the mistake.
fn not_json(error: &serde_json::Error) -> ConfigError {
    let what = if error.is_data() { "a value of another type than expected" } else { "not JSON" };
    ConfigError(format!("{what} at line {}, column {}", error.line(), error.column()))
}

fn read_entries(entries: BTreeMap<String, Entry>) -> Result<Vec<(String, Login)>, ConfigError> {
    let mut read = Vec::new();
    for (key, entry) in entries {
        if let Some(login) = read_entry(&key, entry)? {
            read.push((key, login));
        }
    }
    Ok(read)
}

/// Nothing when the entry says that a helper has it.
fn read_entry(key: &str, entry: Entry) -> Result<Option<Login>, ConfigError> {
    let from_auth = entry.auth.filter(|auth| !auth.is_empty()).map(|auth| decode(key, &auth)).transpose()?;
    let (username, password) = match from_auth {
        Some((username, password)) => (username, Some(password)),
        None => (entry.username.unwrap_or_default(), entry.password),
    };
    if let Some(token) = entry.identitytoken.filter(|token| !token.is_empty()) {
        return Ok(Some(Login::IdentityToken { username, token: Secret::new(token.to_string()) }));
    }
    let password = password.filter(|password| !password.is_empty() || !username.is_empty());
    Ok(password.map(|password| Login::password(username, password.as_str())))
}

fn decode(key: &str, auth: &str) -> Result<(String, Zeroizing<String>), ConfigError> {
    let wrong = || ConfigError(format!("`auth` of `{key}` is not base64 of name:password"));
    let text = auth.trim();
    let bytes = BASE64_STANDARD.decode(text).or_else(|_| BASE64_STANDARD_NO_PAD.decode(text)).map_err(|_| wrong())?;
    let bytes = Zeroizing::new(bytes);
    let text = std::str::from_utf8(&bytes).map_err(|_| wrong())?;
    let (username, password) = text.split_once(':').ok_or_else(wrong)?;
    // docker pads with NUL bytes here and there
    Ok((username.to_owned(), Zeroizing::new(password.trim_matches('\0').to_owned())))
}

/// Without scheme and path.
pub(super) fn key_host(key: &str) -> &str {
    let key = without_scheme(key);
    key.split_once('/').map_or(key, |(host, _)| host)
}

fn without_scheme(key: &str) -> &str {
    key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key)
}

/// Whether it is Docker Hub.
pub(super) fn is_hub(host: &str) -> bool {
    HUB_NAMES.contains(&host)
}

fn same_host(one: &str, other: &str) -> bool {
    one == other || (is_hub(one) && is_hub(other))
}

/// Host and path of a key; `/v1/` and `/v2/` at its end are no path.
fn kubelet_key(key: &str) -> (&str, &str) {
    let key = without_scheme(key);
    let (host, path) = key.split_once('/').unwrap_or((key, ""));
    let path = path.trim_end_matches('/');
    (host, if matches!(path, "v1" | "v2") { "" } else { path })
}

/// Whether the host of a key, maybe with `*` in some of its labels, is that registry. Ports must be equal.
fn hosts_match(pattern: &str, registry: &str) -> bool {
    if same_host(pattern, registry) {
        return true;
    }
    let (pattern, pattern_port) = split_port(pattern);
    let (host, port) = split_port(registry);
    let (pattern, host): (Vec<_>, Vec<_>) = (pattern.split('.').collect(), host.split('.').collect());
    pattern_port == port && pattern.len() == host.len() && pattern.iter().zip(&host).all(|(glob, label)| glob_matches(glob, label))
}

fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    }
}

/// `*` stands for any characters of a label.
fn glob_matches(glob: &str, label: &str) -> bool {
    let Some((head, tail)) = glob.split_once('*') else { return glob == label };
    let Some(mut rest) = label.strip_prefix(head) else { return false };
    let mut pieces: Vec<&str> = tail.split('*').collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Kubelet compares texts here: `a/b` is a prefix of `a/bc`. We ask for a whole part of the path: less is given away.
fn path_starts_with(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| prefix.is_empty() || rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A config whose passwords are the keys.
    fn config(keys: &[&str]) -> DockerConfig {
        let auths = keys.iter().map(|key| ((*key).to_owned(), Login::password("u", *key))).collect();
        DockerConfig { auths, ..DockerConfig::default() }
    }

    fn password(login: &Login) -> &str {
        match login {
            Login::Password { password, .. } => password.reveal(),
            Login::IdentityToken { token, .. } => token.reveal(),
        }
    }

    #[test]
    fn all_forms_of_an_entry() {
        let text = br#"{"auths":{"a":{"auth":"bWU6aHVudGVyMg=="},"b":{"username":"x","password":"y"},"c":{},
            "d":{"auth":"bWU6","identitytoken":"tok"},"e":{"auth":"bWU6YTpi"}},"credHelpers":{"g.io":"gcr"},"credsStore":"pass"}"#;
        let config = DockerConfig::parse(text).unwrap();
        let read: Vec<_> = config.auths.iter().map(|(key, login)| (&**key, login.username(), password(login))).collect();
        assert_eq!(read, [("a", "me", "hunter2"), ("b", "x", "y"), ("d", "me", "tok"), ("e", "me", "a:b")]);
        assert_eq!(config.helper("g.io"), Some(("gcr", "g.io".to_owned())));
        assert_eq!(config.helper("h.io"), Some(("pass", "h.io".to_owned())));
        assert_eq!(config.helper("docker.io"), Some(("pass", HUB_SERVER.to_owned())));
        let legacy = DockerConfig::parse_legacy(br#"{"a":{"auth":"bWU6aHVudGVyMg==","email":"x"}}"#).unwrap();
        assert_eq!(legacy.auths.len(), 1);
    }

    #[test]
    fn errors_do_not_quote_secrets() {
        for text in [r#"{"auths":{"a":{"auth":"c2VjcmV0"}}}"#, r#"{"auths":{"a":{"auth":5}}}"#, r#"{"auths":{"a":{"auth":"%hunter2"}}}"#, "hunter2"] {
            let error = DockerConfig::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(!error.contains("hunter2") && !error.contains("c2VjcmV0") && !error.is_empty(), "{error}");
        }
    }

    #[test]
    fn kubelets_matching() {
        for (key, registry, path, wanted) in [
            ("r.io", "r.io", "a/b", true),
            ("https://r.io", "r.io", "a/b", true),
            ("https://r.io/v1/", "r.io", "a/b", true),
            ("r.io/v2", "r.io", "a/b", true),
            ("r.io/a", "r.io", "a/b", true),
            ("r.io/a/b", "r.io", "a/b", true),
            ("r.io/a/", "r.io", "a/b", true),
            ("r.io/a/bc", "r.io", "a/b", false),
            ("r.io/a", "r.io", "ab", false),
            ("*.r.io", "x.r.io", "a", true),
            ("*.r.io", "x.y.r.io", "a", false),
            ("*.r.io", "r.io", "a", false),
            ("prefix*.r.io", "prefix1.r.io", "a", true),
            ("a*c*e.r.io", "abcde.r.io", "a", true),
            ("a*c*e.r.io", "abde.r.io", "a", false),
            ("*.r.io:5000", "x.r.io:5000", "a", true),
            ("*.r.io", "x.r.io:5000", "a", false),
            ("r.io", "r.io:5000", "a", false),
            (HUB_SERVER, "docker.io", "library/nginx", true),
            ("docker.io", "docker.io", "library/nginx", true),
            ("index.docker.io", "docker.io", "library/nginx", true),
            ("r.io", "evil-r.io", "a", false),
        ] {
            assert_eq!(!config(&[key]).matching(registry, path).is_empty(), wanted, "{key} {registry}/{path}");
        }
        let all = config(&["r.io", "r.io/a/b", "r.io/a", "*.io"]).matching("r.io", "a/b");
        assert_eq!(all.iter().map(password).collect::<Vec<_>>(), ["r.io/a/b", "r.io/a", "r.io", "*.io"]);
    }

    #[test]
    fn podmans_matching() {
        let config = config(&["q.io", "q.io/org", "q.io/org/repo", "https://old.io/v1/", HUB_SERVER]);
        for (registry, path, wanted) in [
            ("q.io", "org/repo", Some("q.io/org/repo")),
            ("q.io", "org/other", Some("q.io/org")),
            ("q.io", "org/repo/deep", Some("q.io/org/repo")),
            ("q.io", "organ/x", Some("q.io")),
            ("old.io", "a", Some("https://old.io/v1/")),
            ("docker.io", "library/nginx", Some(HUB_SERVER)),
            ("x.io", "a", None),
        ] {
            assert_eq!(config.longest(registry, path).map(password), wanted, "{registry}/{path}");
        }
    }
}
