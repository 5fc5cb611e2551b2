//! Secrets with credentials of registries, which `spec.imagePullSecrets` names. Their content is checked here and never quoted:
//! not in a problem, not in what is kept on disk.
//!
//! Spec: Kubernetes documentation, "Types of Secret"; `pkg/apis/core/validation` (`ValidateSecret`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use k8s_openapi::api::core::v1::Pod;

use super::names::{self, Form};
use super::path;
use super::problem::{Problem, Severity};
use super::report::{MOST, Report};
use super::tree::{Node, Value, shortened};

/// Longest content of a Secret, in bytes (Kubernetes' `MaxSecretSize`).
const MAX_SECRET: usize = 1 << 20;

/// Standard base64 as Go reads it: what does not fill the last byte may be anything.
const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// Credentials for registries: one Secret that a pod names in `spec.imagePullSecrets`.
///
/// Shows its name and kind only: what is in it stays out of logs, records and messages.
#[derive(Clone, PartialEq, Eq)]
pub struct PullSecret {
    /// `metadata.name`.
    pub name: String,
    /// What its JSON looks like.
    pub kind: PullSecretKind,
    json: Arc<[u8]>,
}

impl PullSecret {
    /// The credentials: an object in JSON, as `kind` says.
    #[must_use]
    pub fn json(&self) -> &[u8] {
        &self.json
    }
}

impl fmt::Debug for PullSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PullSecret").field("name", &self.name).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// The two types of Secret that hold credentials of registries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullSecretKind {
    /// `kubernetes.io/dockerconfigjson`: docker's config.json, `{"auths": {"registry": {...}}}`.
    DockerConfigJson,
    /// `kubernetes.io/dockercfg`: the older file, `{"registry": {...}}`.
    DockerCfg,
}

impl PullSecretKind {
    fn of_type(name: &str) -> Option<Self> {
        match name {
            "kubernetes.io/dockerconfigjson" => Some(Self::DockerConfigJson),
            "kubernetes.io/dockercfg" => Some(Self::DockerCfg),
            _ => None,
        }
    }

    fn key(self) -> &'static str {
        match self {
            Self::DockerConfigJson => ".dockerconfigjson",
            Self::DockerCfg => ".dockercfg",
        }
    }

    /// Why the bytes are no such file.
    fn check(self, json: &[u8]) -> Result<(), String> {
        // The error's own words are not passed on: they could quote.
        let value: serde_json::Value = serde_json::from_slice(json)
            .map_err(|error| format!("is not JSON (see line {}, column {} of it)", error.line(), error.column()))?;
        match (self, value) {
            (Self::DockerConfigJson, serde_json::Value::Object(fields)) => match fields.get("auths") {
                Some(serde_json::Value::Object(_)) => Ok(()),
                Some(_) => Err("its `auths` is no object".to_owned()),
                None if fields.values().all(serde_json::Value::is_object) && !fields.is_empty() => {
                    Err("has no `auths` object: it looks like the content of type kubernetes.io/dockercfg".to_owned())
                }
                None => Err("has no `auths` object".to_owned()),
            },
            (Self::DockerCfg, serde_json::Value::Object(_)) => Ok(()),
            _ => Err("is JSON, but no object".to_owned()),
        }
    }
}

/// The type of a Secret document, when it is one for images.
pub(super) fn kind_of(secret: &Node) -> Option<PullSecretKind> {
    secret.text("type").and_then(PullSecretKind::of_type)
}

/// A Secret document.
pub(super) struct Secret {
    namespace: String,
    name: String,
    /// `file:line:column`.
    place: String,
    content: Content,
}

impl Secret {
    fn wrong_type(&self) -> String {
        let kind = match &self.content {
            Content::Other(kind) => shortened(kind),
            Content::Pull(kind, _) => format!("{kind:?}"),
        };
        format!(
            "Secret {:?} ({}) has type {kind:?}: credentials for images have type kubernetes.io/dockerconfigjson or kubernetes.io/dockercfg",
            shortened(&self.name),
            self.place
        )
    }
}

enum Content {
    /// Without bytes when something about them has been reported.
    Pull(PullSecretKind, Option<Arc<[u8]>>),
    /// Of another type.
    Other(String),
}

/// Reads a Secret document of whatever type; what is wrong with one for images is reported.
pub(super) fn read(node: &Node, base: &str, report: &mut Report<'_>) -> Secret {
    let metadata = node.get("metadata");
    let text = |key| metadata.and_then(|metadata| metadata.text(key)).filter(|text| !text.is_empty());
    let name_at = path::field(&path::field(base, "metadata"), "name");
    let name = text("name").unwrap_or_default().to_owned();
    let content = match kind_of(node) {
        None => Content::Other(node.text("type").unwrap_or("Opaque").to_owned()),
        Some(kind) => {
            unknown_fields(node, base, report);
            if name.is_empty() {
                report.error(&name_at, "missing: a Secret needs a name");
            } else {
                names::check(&name, Form::Subdomain, &name_at, report);
            }
            Content::Pull(kind, content(node, kind, base, report))
        }
    };
    Secret { namespace: text("namespace").unwrap_or("default").to_owned(), name, place: report.place(&name_at), content }
}

fn unknown_fields(node: &Node, base: &str, report: &mut Report<'_>) {
    const KNOWN: [&str; 7] = ["apiVersion", "kind", "metadata", "type", "data", "stringData", "immutable"];
    let Value::Map(entries) = &node.value else { return };
    for entry in entries.iter().filter(|entry| !KNOWN.contains(&entry.key.as_str())) {
        let hint = super::typed::nearest(&entry.key, &KNOWN).map_or(String::new(), |name| format!(", did you mean `{name}`?"));
        report.lint(&path::field(base, &shortened(&entry.key)), format!("unknown field{hint}"));
    }
}

/// The bytes under the key of its type, checked.
fn content(node: &Node, kind: PullSecretKind, base: &str, report: &mut Report<'_>) -> Option<Arc<[u8]>> {
    let key = kind.key();
    // Kubernetes writes stringData over data.
    for list in ["stringData", "data"] {
        let Some(map) = node.get(list) else { continue };
        let at = path::field(base, list);
        if !matches!(map.value, Value::Map(_)) {
            report.error(&at, format!("expected a map with the key {key}"));
            return None;
        }
        let Some(found) = map.get(key) else { continue };
        let at = path::field(&at, key);
        let Value::String(text) = &found.value else {
            report.error(&at, if list == "data" { "expected base64 in a string" } else { "expected JSON in a string: write it in quotes or below `|`" });
            return None;
        };
        let bytes = if list == "data" { decode(text) } else { Ok(text.clone().into_bytes()) };
        let checked = bytes.and_then(|bytes| {
            if bytes.len() > MAX_SECRET {
                return Err(format!("has {} bytes: a Secret holds at most {MAX_SECRET}", bytes.len()));
            }
            kind.check(&bytes).map(|()| bytes)
        });
        return checked.inspect_err(|why| report.error(&at, why.clone())).ok().map(Arc::from);
    }
    let at = path::field(base, if node.get("stringData").is_some() { "stringData" } else { "data" });
    report.error(&at, format!("missing: a Secret of this type has the key {key}"));
    None
}

/// White space is what an editor or `|` has put in.
fn decode(text: &str) -> Result<Vec<u8>, String> {
    let packed: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    // Not the decoder's words: they quote.
    BASE64.decode(packed).map_err(|_| "is not base64: `base64 -w0 FILE` writes it; text as it is belongs in stringData".to_owned())
}

/// One entry of a pod's `spec.imagePullSecrets`, to be looked up when all sources are read.
pub(super) struct Named {
    /// Which pod, from 0.
    pod: usize,
    namespace: String,
    name: String,
    /// Its place, without words yet.
    problem: Problem,
}

/// What a defaulted pod names.
pub(super) fn named(pod: &Pod, index: usize, base: &str, report: &mut Report<'_>) -> Vec<Named> {
    let list = path::field(&path::field(base, "spec"), "imagePullSecrets");
    let entries = pod.spec.iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten()).enumerate();
    let mut named = Vec::new();
    for (entry, reference) in entries {
        let at = path::field(&path::element(&list, entry), "name");
        if reference.name.is_empty() {
            report.warn(&at, "missing, ignored: name a Secret");
            continue;
        }
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        named.push(Named { pod: index, namespace, name: reference.name.clone(), problem: report.placed(&at, Severity::Warning) });
    }
    named
}

/// The Secrets of all sources.
#[derive(Default)]
pub(super) struct Secrets(BTreeMap<(String, String), Secret>);

impl Secrets {
    /// Keeps one. The same name twice is an error where images are concerned: nobody could tell which one was meant.
    pub(super) fn add(&mut self, secret: Secret, base: &str, report: &mut Report<'_>) {
        let key = (secret.namespace.clone(), secret.name.clone());
        let Some(first) = self.0.get(&key) else {
            self.0.insert(key, secret);
            return;
        };
        let matters = [first, &secret].iter().any(|secret| matches!(secret.content, Content::Pull(..)));
        if matters && !secret.name.is_empty() {
            let message = format!("Secret {}/{} is already defined at {}", key.0, key.1, first.place);
            report.error(&path::field(&path::field(base, "metadata"), "name"), message);
        }
    }

    /// Gives each pod the secrets that it names, by the pod's number, and says what cannot be had.
    pub(super) fn deal(&self, named: Vec<Named>, mut give: impl FnMut(usize, PullSecret), problems: &mut Vec<Problem>) {
        // The copies of a template name the same at the same place.
        let mut told = BTreeSet::new();
        let mut given = BTreeSet::new();
        for Named { pod, namespace, name, mut problem } in named {
            let key = (namespace, name);
            let found = self.0.get(&key);
            match found.map(|secret| &secret.content) {
                Some(Content::Pull(kind, Some(json))) => {
                    if given.insert((pod, key.1.clone())) {
                        give(pod, PullSecret { name: key.1, kind: *kind, json: json.clone() });
                    }
                    continue;
                }
                // What is wrong with it has been said.
                Some(Content::Pull(_, None)) => continue,
                Some(Content::Other(_)) | None => {}
            }
            if told.len() >= MOST || !told.insert((problem.file.clone(), problem.line, problem.column, problem.path.clone())) {
                continue;
            }
            (problem.severity, problem.message) = match found {
                Some(secret) => (Severity::Error, secret.wrong_type()),
                None => (Severity::Warning, self.missing(&key)),
            };
            problems.push(problem);
        }
    }

    fn missing(&self, (namespace, name): &(String, String)) -> String {
        let elsewhere = self.0.keys().find(|(_, other)| other == name);
        let hint = elsewhere.map_or(String::new(), |(other, _)| format!("; there is one in namespace {:?}", shortened(other)));
        format!("no Secret {:?} of namespace {:?} is among the manifests{hint}: images are pulled without it", shortened(name), shortened(namespace))
    }
}
