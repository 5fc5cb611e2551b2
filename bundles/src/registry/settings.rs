//! The settings of registries: `/etc/minipod/registries.conf`.
//!
//! Spec: containers-registries.conf(5), version 2: `[[registry]]` with `prefix`, `location`, `insecure`, `blocked` and
//! `[[registry.mirror]]` with `location` and `insecure`. Ours: `ca`, a file with certificates in PEM.
//!
//! ```toml
//! [[registry]]
//! prefix = "docker.io"                  # or "registry.example.com/team", or "*.example.com"
//! [[registry.mirror]]                   # asked first, in this order
//! location = "mirror.example.com/hub"   # docker.io/library/nginx is mirror.example.com/hub/library/nginx there
//!
//! [[registry]]
//! location = "localhost:5000"
//! insecure = true                       # any certificate, or plain HTTP
//!
//! [[registry]]
//! location = "registry.example.com"
//! ca = "/etc/minipod/example-ca.pem"
//!
//! [[registry]]
//! prefix = "registry.example.com/old"   # the longest prefix wins
//! blocked = true
//! ```

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::image::Reference;
use crate::image::error::printable;

/// Where they are when nobody says otherwise.
pub const DEFAULT_SETTINGS: &str = "/etc/minipod/registries.conf";
/// More than anybody writes by hand.
const LARGEST_FILE: u64 = 1 << 20;

const REGISTRY_KEYS: &[&str] = &["prefix", "location", "insecure", "blocked", "ca", "mirror"];
const MIRROR_KEYS: &[&str] = &["location", "insecure", "ca"];

/// What is to be known of registries: mirrors, those without TLS, those that are not to be used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    file: PathBuf,
    rules: Vec<Rule>,
}

/// One `[[registry]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) prefix: String,
    /// Nothing: where the name says.
    pub(super) location: Option<String>,
    pub(super) security: Security,
    pub(super) access: Access,
    pub(super) ca: Option<PathBuf>,
    pub(super) mirrors: Vec<Mirror>,
}

/// One `[[registry.mirror]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mirror {
    pub(super) location: String,
    pub(super) security: Security,
    pub(super) ca: Option<PathBuf>,
}

/// Whether a registry must prove who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Security {
    /// TLS with a certificate that is verified.
    Tls,
    /// TLS with any certificate, or plain HTTP.
    Insecure,
}

/// Whether a registry may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Allowed,
    Blocked,
}

/// Settings that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("read registry settings {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file says what it must not; everything that is wrong, a line each.
    #[error("registry settings:\n{}", .problems.join("\n"))]
    Wrong {
        /// `file:line: what is wrong`.
        problems: Vec<String>,
    },
}

impl Settings {
    /// Reads the file; the default one may be absent.
    ///
    /// # Errors
    /// [`SettingsError`] when it cannot be read, or does not say what it must.
    pub fn load(path: Option<&Path>) -> Result<Self, SettingsError> {
        let file = path.unwrap_or(Path::new(DEFAULT_SETTINGS));
        let read = |source| SettingsError::Read { path: file.to_owned(), source };
        match super::read_file(file, LARGEST_FILE) {
            Ok(bytes) => Self::parse(&String::from_utf8_lossy(&bytes), file),
            Err(error) if path.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(read(error)),
        }
    }

    /// Reads the text of `file`.
    ///
    /// # Errors
    /// [`SettingsError::Wrong`] with all that is wrong.
    pub fn parse(text: &str, file: &Path) -> Result<Self, SettingsError> {
        let mut reading = Reading { text, file, problems: Vec::new() };
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let at = error.span().unwrap_or(0..0);
            reading.wrong(at, error.message());
        }
        let rules = if errors.is_empty() { reading.file(table.get_ref()) } else { Vec::new() };
        if reading.problems.is_empty() {
            return Ok(Self { file: file.to_owned(), rules });
        }
        Err(SettingsError::Wrong { problems: reading.problems })
    }

    /// The entry that holds for an image: the one with the longest prefix.
    pub(super) fn rule(&self, name: &Reference) -> Option<&Rule> {
        let full = name.to_string();
        { self.rules.iter() }.filter(|rule| rule.matches(name.registry(), &full)).max_by_key(|rule| rule.prefix.len())
    }

    /// The entry that holds for a registry as a whole.
    pub(super) fn host_rule(&self, host: &str) -> Option<&Rule> {
        { self.rules.iter() }.filter(|rule| rule.matches(host, host)).max_by_key(|rule| rule.prefix.len())
    }

    /// Where they were read.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }
}

impl Rule {
    fn matches(&self, host: &str, full: &str) -> bool {
        if let Some(suffix) = self.prefix.strip_prefix('*') {
            return host_name(host).ends_with(suffix);
        }
        full.strip_prefix(&self.prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':', '@']))
    }

    /// What of `registry/path` the prefix stands for.
    pub(super) fn matched<'a>(&'a self, registry: &'a str) -> &'a str {
        if self.prefix.starts_with('*') { registry } else { &self.prefix }
    }
}

/// Without its port.
fn host_name(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    }
}

struct Reading<'a> {
    text: &'a str,
    file: &'a Path,
    problems: Vec<String>,
}

impl Reading<'_> {
    fn wrong(&mut self, at: Range<usize>, why: &str) {
        let line = 1 + self.text.bytes().take(at.start).filter(|byte| *byte == b'\n').count();
        self.problems.push(format!("{}:{line}: {}", self.file.display(), printable(why)));
    }

    fn known(&mut self, table: &DeTable<'_>, known: &[&str], of: &str) {
        for key in table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let why = format!("unknown key `{}` in {of}: known are {}", key.get_ref(), known.join(", "));
            self.wrong(key.span(), &why);
        }
    }

    fn file(&mut self, table: &DeTable<'_>) -> Vec<Rule> {
        self.known(table, &["registry"], "the file");
        let mut rules: Vec<Rule> = Vec::new();
        for (at, entry) in self.tables(table, "registry") {
            if let Some(rule) = self.rule(at.clone(), entry) {
                if rules.iter().any(|other| other.prefix == rule.prefix) {
                    self.wrong(at, &format!("a second [[registry]] for `{}`", rule.prefix));
                }
                rules.push(rule);
            }
        }
        rules
    }

    /// The tables of an array of tables.
    fn tables<'t>(&mut self, table: &'t DeTable<'_>, key: &str) -> Vec<(Range<usize>, &'t DeTable<'t>)> {
        let Some(value) = table.get(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(value.span(), &format!("write [[{key}]], with two brackets"));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for entry in array.iter() {
            match entry.get_ref().as_table() {
                Some(table) => tables.push((entry.span(), table)),
                None => self.wrong(entry.span(), &format!("`{key}` must be tables: [[{key}]]")),
            }
        }
        tables
    }

    fn rule(&mut self, at: Range<usize>, table: &DeTable<'_>) -> Option<Rule> {
        self.known(table, REGISTRY_KEYS, "[[registry]]");
        let location = self.place(table, "location");
        let prefix = self.string(table, "prefix").map(|(at, prefix)| self.prefix(at, prefix));
        let access = if self.flag(table, "blocked") { Access::Blocked } else { Access::Allowed };
        let mut mirrors = Vec::new();
        for (at, mirror) in self.tables(table, "mirror") {
            self.known(mirror, MIRROR_KEYS, "[[registry.mirror]]");
            let security = self.security(mirror);
            let ca = self.path(mirror, "ca");
            match self.place(mirror, "location") {
                Some(location) => mirrors.push(Mirror { location, security, ca }),
                None if mirror.contains_key("location") => {}
                None => self.wrong(at, "a [[registry.mirror]] needs a `location`"),
            }
        }
        let security = self.security(table);
        let ca = self.path(table, "ca");
        let Some(prefix) = prefix.or_else(|| location.clone()) else {
            if !table.contains_key("location") {
                self.wrong(at, "a [[registry]] needs a `prefix` or a `location`");
            }
            return None;
        };
        Some(Rule { prefix, location, security, access, ca, mirrors })
    }

    fn prefix(&mut self, at: Range<usize>, prefix: String) -> String {
        let good = match prefix.strip_prefix('*') {
            Some(domain) => domain.starts_with('.') && domain.len() > 1 && !domain.contains(['/', '*', '@', ':']),
            None => is_place(prefix.split_once('@').map_or(&*prefix, |(name, _)| name)),
        };
        if !good {
            let why = "`prefix` must be a registry's host, as much of the path as is meant, or `*.` and a domain";
            self.wrong(at, &format!("{why}: not `{prefix}`"));
        }
        prefix
    }

    fn place(&mut self, table: &DeTable<'_>, key: &str) -> Option<String> {
        let (at, place) = self.string(table, key)?;
        let place = place.trim_end_matches('/').to_owned();
        if !is_place(&place) {
            let why = format!("`{key}` must be host[:port][/path], without https:// and without a tag: not `{place}`");
            self.wrong(at, &why);
        }
        Some(place)
    }

    fn path(&mut self, table: &DeTable<'_>, key: &str) -> Option<PathBuf> {
        let (at, path) = self.string(table, key)?;
        if !path.starts_with('/') {
            self.wrong(at, &format!("`{key}` must be an absolute path"));
        }
        Some(path.into())
    }

    fn string(&mut self, table: &DeTable<'_>, key: &str) -> Option<(Range<usize>, String)> {
        let value = table.get(key)?;
        match value.get_ref().as_str() {
            Some(text) => Some((value.span(), text.to_owned())),
            None => {
                self.not(value, key, "a string in quotes");
                None
            }
        }
    }

    fn flag(&mut self, table: &DeTable<'_>, key: &str) -> bool {
        let Some(value) = table.get(key) else { return false };
        value.get_ref().as_bool().unwrap_or_else(|| {
            self.not(value, key, "true or false");
            false
        })
    }

    fn security(&mut self, table: &DeTable<'_>) -> Security {
        if self.flag(table, "insecure") { Security::Insecure } else { Security::Tls }
    }

    fn not(&mut self, value: &Spanned<DeValue<'_>>, key: &str, wanted: &str) {
        self.wrong(value.span(), &format!("`{key}` must be {wanted}, not a value of type {}", value.get_ref().type_str()));
    }
}

/// `host[:port][/path][:tag]`, roughly: the reference that comes of it is checked in full.
fn is_place(place: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '/' | '[' | ']');
    !place.is_empty() && place.chars().all(fine) && !place.starts_with('/') && !place.contains("//")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, String> {
        Settings::parse(text, Path::new("r.conf")).map_err(|error| error.to_string())
    }

    fn prefix_for<'a>(settings: &'a Settings, name: &str) -> Option<&'a str> {
        settings.rule(&Reference::parse(name).unwrap()).map(|rule| &*rule.prefix)
    }

    #[test]
    fn the_longest_prefix_at_a_boundary_wins() {
        let text = ["docker.io", "docker.io/library", "docker.io/library/nginx", "*.example.com", "a.example.com", "h.io:5000"];
        let text: String = text.iter().map(|prefix| format!("[[registry]]\nprefix = \"{prefix}\"\n")).collect();
        let settings = parse(&text).unwrap();
        for (name, wanted) in [
            ("nginx", Some("docker.io/library/nginx")),
            ("nginx:1.2", Some("docker.io/library/nginx")),
            ("nginxx", Some("docker.io/library")),
            ("libraryx/a", Some("docker.io")),
            ("b.example.com/a", Some("*.example.com")),
            ("b.example.com:80/a", Some("*.example.com")),
            ("c.b.example.com/a", Some("*.example.com")),
            ("a.example.com/a", Some("*.example.com").filter(|_| false).or(Some("a.example.com"))),
            ("example.com/a", None),
            ("h.io:5000/a", Some("h.io:5000")),
            ("h.io/a", None),
            ("quay.io/docker.io", None),
        ] {
            assert_eq!(prefix_for(&settings, name), wanted, "{name}");
        }
    }

    #[test]
    fn everything_is_read() {
        let text = r#"
            [[registry]]
            location = "docker.io"
            insecure = true
            ca = "/ca.pem"
            [[registry.mirror]]
            location = "m1:5000/hub/"
            [[registry.mirror]]
            location = "m2"
            insecure = true
            [[registry]]
            prefix = "bad.io/x"
            blocked = true
        "#;
        let settings = parse(text).unwrap();
        let rule = &settings.rules[0];
        assert_eq!((&*rule.prefix, rule.location.as_deref()), ("docker.io", Some("docker.io")));
        assert_eq!((rule.security, rule.ca.as_deref()), (Security::Insecure, Some(Path::new("/ca.pem"))));
        assert_eq!(rule.mirrors[0], Mirror { location: "m1:5000/hub".into(), security: Security::Tls, ca: None });
        assert_eq!(rule.mirrors[1].security, Security::Insecure);
        assert_eq!(settings.rules[1].access, Access::Blocked);
    }

    #[test]
    fn all_mistakes_at_once_with_their_lines() {
        let text = "unqualified = 1\n[[registry]]\nprefix = 5\nlocaton = \"x\"\n[[registry]]\nlocation = \"https://x\"\n\
                    insecure = \"yes\"\nca = \"ca.pem\"\n[[registry.mirror]]\n[[registry]]\nlocation = \"a.io\"\n[[registry]]\n\
                    location = \"a.io\"\n";
        let error = parse(text).unwrap_err();
        for wanted in [
            "r.conf:1: unknown key `unqualified` in the file: known are registry",
            "r.conf:3: `prefix` must be a string",
            "r.conf:4: unknown key `localton`",
            "r.conf:6: `location` must be host",
            "r.conf:7: `insecure` must be true or false",
            "r.conf:8: `ca` must be an absolute path",
            "r.conf:9: a [[registry.mirror]] needs a `location`",
            "r.conf:12: a second [[registry]] for `a.io`",
        ] {
            let wanted = wanted.replace("localton", "locaton");
            assert!(error.contains(&wanted), "{wanted} in\n{error}");
        }
        assert!(parse("[[registry]\n").unwrap_err().contains("r.conf:1: "));
        assert!(parse("[registry]\nlocation = \"a.io\"").unwrap_err().contains("two brackets"));
    }

    #[test]
    fn only_the_default_file_may_be_absent() {
        assert!(matches!(Settings::load(Some(Path::new("/nowhere/r.conf"))), Err(SettingsError::Read { .. })));
    }
}
