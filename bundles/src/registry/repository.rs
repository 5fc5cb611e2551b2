//! What can be asked about one image name.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ureq::http::header;

use super::blob::Blob;
use super::endpoint::{Endpoint, Question};
use super::error::{Failures, Problem, RegistryError};
use super::retry::retry;
use super::wire::{Answer, Method};
use super::{Notice, Shared};
use crate::image::Reference;
use crate::image::digest::Digest;

/// What we understand. Spec: image-spec `media-types.md`; Docker's schema 2.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";
/// Docker's header for the digest of a manifest. Spec: distribution-spec, "Pulling manifests".
const CONTENT_DIGEST: &str = "docker-content-digest";
/// What schema 1 is called, plain and signed.
const SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+";

/// A manifest or an index, as the registry has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The bytes that `digest` is of.
    pub bytes: Vec<u8>,
    /// `Content-Type`, else what the document says of itself; empty when neither does.
    pub media_type: String,
    /// Of the bytes: computed.
    pub digest: Digest,
}

/// A repository of a registry, behind its mirrors; and the tag or digest it was asked for.
///
/// May be used from several threads at once.
#[derive(Clone)]
pub struct Repository(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) shared: Arc<Shared>,
    /// Normal form.
    name: String,
    digest: Option<Digest>,
    pub(super) endpoints: Vec<Endpoint>,
    /// The endpoint that answered last.
    good: AtomicUsize,
}

impl Repository {
    pub(super) fn new(shared: Arc<Shared>, name: &Reference, endpoints: Vec<Endpoint>) -> Self {
        let digest = name.digest().copied();
        Self(Arc::new(Inner { shared, name: name.to_string(), digest, endpoints, good: AtomicUsize::new(0) }))
    }

    /// The digest the registry has for the name now; nothing when it does not say.
    ///
    /// # Errors
    /// [`RegistryError`] when no endpoint answers as it should.
    pub fn digest(&self) -> Result<Option<Digest>, RegistryError> {
        let what = format!("look up {}", self.0.name);
        self.0.each(&what, |endpoint| {
            let answer = self.0.ask(endpoint, &manifest_question(Method::Head, &manifest_tail(endpoint, None)))?;
            Ok(header_digest(&answer))
        })
    }

    /// The manifest or index the name stands for; or `part`, an entry of its index.
    ///
    /// Verified against `part`, else the digest in the name, else the one the registry says it has, if it does.
    ///
    /// # Errors
    /// [`RegistryError`] when no endpoint answers as it should, or it is larger than `limit` bytes.
    pub fn manifest(&self, part: Option<&Digest>, limit: u64) -> Result<Document, RegistryError> {
        let what = match part {
            Some(part) => format!("fetch the manifest {part} of {}", self.0.name),
            None => format!("fetch the manifest of {}", self.0.name),
        };
        self.0.each(&what, |endpoint| self.0.manifest(endpoint, part, limit))
    }

    /// A small blob, whole and verified: a configuration. The caller bounds `size`.
    ///
    /// # Errors
    /// [`RegistryError`] when no endpoint has it, or its content is another.
    pub fn document(&self, digest: &Digest, size: u64) -> Result<Vec<u8>, RegistryError> {
        let what = format!("fetch {digest} of {}", self.0.name);
        self.0.each(&what, |endpoint| {
            let answer = self.0.ask(endpoint, &blob_question(&blob_tail(digest), 0))?;
            let host = endpoint.host.clone();
            if let Some(announced) = answer.content_length().filter(|length| *length != size) {
                return Err(Problem::Size { host, expected: size, announced });
            }
            let bytes = answer.read("blob", size, self.0.shared.patience.document)?;
            if bytes.len() as u64 != size {
                return Err(Problem::Truncated { host, expected: size, got: bytes.len() as u64 });
            }
            verify(&host, digest, &bytes)?;
            Ok(bytes)
        })
    }

    /// A blob's stream: `size` bytes, whatever happens to connections meanwhile. Whoever reads verifies.
    ///
    /// # Errors
    /// [`RegistryError`] when no endpoint has it. Errors of reading hold one too: [`RegistryError::from_io`].
    pub fn blob(&self, digest: &Digest, size: u64) -> Result<Blob, RegistryError> {
        let what = format!("fetch {digest} of {}", self.0.name);
        let first = self.0.each(&what, |endpoint| Blob::connect(&self.0, endpoint, digest, size, 0))?;
        let index = self.0.good.load(Ordering::Relaxed);
        Ok(Blob::new(self.0.clone(), what, *digest, size, index, first))
    }
}

impl Inner {
    /// Asks one endpoint after the other, the one that answered last time first.
    fn each<T>(&self, what: &str, work: impl Fn(&Endpoint) -> Result<T, Problem>) -> Result<T, RegistryError> {
        let good = self.good.load(Ordering::Relaxed);
        let others = (0..self.endpoints.len()).filter(|index| *index != good);
        let mut failures = Vec::new();
        for index in std::iter::once(good).chain(others) {
            let Some(endpoint) = self.endpoints.get(index) else { continue };
            let from = format!("{what} from {}", endpoint.host);
            match retry(&self.shared, &from, || work(endpoint)) {
                Ok(done) => {
                    self.good.store(index, Ordering::Relaxed);
                    return Ok(done);
                }
                Err(Problem::Cancelled) => return Err(RegistryError::new(from, Problem::Cancelled)),
                Err(problem) => failures.push(RegistryError::new(from, problem)),
            }
            if let Some(failure) = failures.last().filter(|_| failures.len() < self.endpoints.len()) {
                let why = super::error::chain(failure.problem());
                self.shared.tell(&Notice::Mirror { what: what.to_owned(), failed: endpoint.host.clone(), why });
            }
        }
        match failures.pop() {
            Some(only) if failures.is_empty() => Err(only),
            last => {
                failures.extend(last);
                Err(RegistryError::new(what, Problem::Mirrors(Failures(failures))))
            }
        }
    }

    pub(super) fn ask(&self, endpoint: &Endpoint, question: &Question<'_>) -> Result<Answer, Problem> {
        endpoint.ask(&self.shared, question)
    }

    fn manifest(&self, endpoint: &Endpoint, part: Option<&Digest>, limit: u64) -> Result<Document, Problem> {
        let answer = self.ask(endpoint, &manifest_question(Method::Get, &manifest_tail(endpoint, part)))?;
        let host = endpoint.host.clone();
        let content_type = answer.header(header::CONTENT_TYPE).unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default().trim().to_owned();
        let expected = part.or(self.digest.as_ref()).copied().or_else(|| header_digest(&answer));
        let bytes = answer.read("manifest", limit, self.shared.patience.document)?;
        let digest = Digest::of(&bytes);
        if let Some(expected) = expected {
            verify(&host, &expected, &bytes)?;
        }
        let media_type = own_type(&bytes, media_type, &host)?;
        Ok(Document { bytes, media_type, digest })
    }
}

/// What a manifest is: its header, else its own word.
fn own_type(bytes: &[u8], header: String, host: &str) -> Result<String, Problem> {
    #[derive(serde::Deserialize, Default)]
    struct Kind {
        #[serde(rename = "schemaVersion")]
        version: Option<u64>,
        #[serde(rename = "mediaType")]
        media_type: Option<String>,
    }
    // What does not parse is found by those who read the whole.
    let own: Kind = serde_json::from_slice(bytes).unwrap_or_default();
    if header.starts_with(SCHEMA_1) || own.version == Some(1) {
        return Err(Problem::Schema1 { host: host.to_owned() });
    }
    let known = header.contains("manifest") || header.contains("image.index");
    Ok(own.media_type.filter(|_| !known).unwrap_or(header))
}

fn verify(host: &str, expected: &Digest, bytes: &[u8]) -> Result<(), Problem> {
    let found = Digest::of(bytes);
    if found == *expected { Ok(()) } else { Err(Problem::Digest { host: host.to_owned(), expected: *expected, found }) }
}

/// Digests of other algorithms are not ours to check.
fn header_digest(answer: &Answer) -> Option<Digest> {
    answer.header(CONTENT_DIGEST)?.trim().parse().ok()
}

fn manifest_tail(endpoint: &Endpoint, part: Option<&Digest>) -> String {
    match part {
        Some(part) => format!("manifests/{part}"),
        None => format!("manifests/{}", endpoint.wanted),
    }
}

fn manifest_question<'a>(method: Method<'a>, tail: &'a str) -> Question<'a> {
    Question { method, tail, accept: Some(MANIFESTS), from: 0, what: "image" }
}

pub(super) fn blob_tail(digest: &Digest) -> String {
    format!("blobs/{digest}")
}

pub(super) fn blob_question(tail: &str, from: u64) -> Question<'_> {
    Question { method: Method::Get, tail, accept: None, from, what: "blob" }
}
