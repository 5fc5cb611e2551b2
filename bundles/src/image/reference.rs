//! Names of images and their normal form.

use std::fmt;

use super::digest::Digest;
use super::error::ImageError;

/// The registry a name without one belongs to.
const DEFAULT_REGISTRY: &str = "docker.io";
/// The path that Docker's own images live under there.
const DEFAULT_PATH: &str = "library/";
/// The registry of images that belong to this machine.
pub(super) const LOCAL_REGISTRY: &str = "localhost";

/// An image name in normal form: `registry/path:tag` or `registry/path@digest`.
///
/// Spec: the grammar of distribution's `reference` package, which Kubernetes, Docker and Podman share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    registry: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
    explicit_registry: bool,
}

impl Reference {
    /// Reads a name as users write it: `nginx`, `nginx:1.25`, `quay.io/a/b@sha256:...`.
    ///
    /// # Errors
    /// [`ImageError::Reference`] when it is not a name.
    pub fn parse(text: &str) -> Result<Self, ImageError> {
        Self::read(text).map_err(|why| ImageError::Reference { reference: text.to_owned(), why })
    }

    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("it is empty".into());
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        let (name, tag) = split_tag(rest);
        let (registry, path) = split_registry(name);
        let explicit_registry = registry.is_some();
        let registry = match registry {
            None | Some("index.docker.io") => DEFAULT_REGISTRY.to_owned(),
            Some(registry) => check_registry(registry)?.to_owned(),
        };
        let path = if registry == DEFAULT_REGISTRY && !path.contains('/') {
            format!("{DEFAULT_PATH}{path}")
        } else {
            path.to_owned()
        };
        path.split('/').try_for_each(check_component)?;
        let tag = match tag {
            Some(tag) => Some(check_tag(tag)?.to_owned()),
            None if digest.is_none() => Some("latest".to_owned()),
            None => None,
        };
        if registry.len() + path.len() > 255 {
            return Err("it is longer than 255 bytes".into());
        }
        Ok(Self { registry, path, tag, digest, explicit_registry })
    }

    /// `registry/path`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.registry, self.path)
    }

    /// The registry's host, with its port when it has one.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path within the registry: `library/nginx`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag it asks for; `latest` when the user gave neither tag nor digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest it asks for.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Whether the user left the registry to us.
    pub(super) fn is_short(&self) -> bool {
        !self.explicit_registry
    }

    /// `path:tag` as the user wrote it, when it is short.
    pub(super) fn short(&self) -> String {
        let path = self.path.strip_prefix(DEFAULT_PATH).unwrap_or(&self.path);
        format!("{path}:{}", self.tag.as_deref().unwrap_or("latest"))
    }
}

impl fmt::Display for Reference {
    /// A digest says all: the tag beside it is dropped, as Docker does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.path)?;
        match (&self.digest, &self.tag) {
            (Some(digest), _) => write!(f, "@{digest}"),
            (None, Some(tag)) => write!(f, ":{tag}"),
            (None, None) => Ok(()),
        }
    }
}

/// A colon after the last slash starts a tag; one before it, a port.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (text, None),
    }
}

/// The first component is a registry when it could not be a path on Docker Hub.
fn split_registry(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first == LOCAL_REGISTRY || first.contains(['.', ':']) || first.contains(|c: char| c.is_ascii_uppercase()) =>
        {
            (Some(first), rest)
        }
        _ => (None, name),
    }
}

fn check_registry(registry: &str) -> Result<&str, String> {
    let (host, port) = match registry.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (registry, None),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    let ipv6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_ok = match ipv6 {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(plain) && !host.starts_with(['.', '-']) && !host.ends_with('-'),
    };
    if !host_ok || port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err(format!("`{registry}` is not a registry's host[:port]"));
    }
    Ok(registry)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn check_component(component: &str) -> Result<(), String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if component.is_empty() {
        return Err("a part between slashes is empty".into());
    }
    if component.contains(|c: char| c.is_ascii_uppercase()) {
        return Err(format!("`{component}` has capital letters; only a tag may"));
    }
    let separators = component.split(inner).filter(|between| !between.is_empty());
    let all_known = { separators }.all(|between| matches!(between, "." | "_" | "__") || between.chars().all(|c| c == '-'));
    if !all_known || !component.starts_with(inner) || !component.ends_with(inner) {
        return Err(format!("`{component}` must be lower-case letters and digits, with . _ __ or - between them"));
    }
    Ok(())
}

/// `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`
fn check_tag(tag: &str) -> Result<&str, String> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if tag.is_empty() || tag.len() > 128 || !tag.chars().all(inner) || tag.starts_with(['.', '-']) {
        return Err(format!("tag `{tag}` must be 1 to 128 letters, digits, _ . or -, not starting with . or -"));
    }
    Ok(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(text: &str) -> String {
        Reference::parse(text).unwrap().to_string()
    }

    #[test]
    fn normal_forms() {
        for (given, wanted) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.25", "docker.io/library/nginx:1.25"),
            ("library/nginx", "docker.io/library/nginx:latest"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/a/b", "docker.io/a/b:latest"),
            ("a/b", "docker.io/a/b:latest"),
            ("localhost/x:1", "localhost/x:1"),
            ("localhost:5000/x", "localhost:5000/x:latest"),
            ("quay.io/a/b/c:V1", "quay.io/a/b/c:V1"),
            ("[::1]:5000/x:2", "[::1]:5000/x:2"),
            ("a-b__c/e--f.g", "docker.io/a-b__c/e--f.g:latest"),
            ("minipod.local/toolbox", "minipod.local/toolbox:latest"),
        ] {
            assert_eq!(normal(given), wanted, "{given}");
            assert_eq!(normal(wanted), wanted);
        }
        let digest = Digest::of(b"");
        assert_eq!(normal(&format!("a:1@{digest}")), format!("docker.io/library/a@{digest}"));
    }

    #[test]
    fn refused() {
        for wrong in [
            "", "/", "a/", "/a", "a//b", "A", "a:", "a:.x", "a b", "a/B", "-a", "a-", "a..b", "a___b", "a@sha256:12", "a@md5:1",
            "a:b:c/d", "x.io:port/a", "../a", "a/../b", "a\0b", "a\n", "a:t t",
        ] {
            assert!(Reference::parse(wrong).is_err(), "{wrong:?}");
        }
        assert!(Reference::parse(&"a".repeat(300)).is_err());
    }
}
