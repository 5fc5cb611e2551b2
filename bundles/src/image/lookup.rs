//! What a reference stands for among the images of the store.

use std::collections::BTreeSet;

use super::digest::Digest;
use super::embedded::EMBEDDED_NAME;
use super::error::ImageError;
use super::index::{Index, Record};
use super::reference::{LOCAL_REGISTRY, Reference};

/// Short ids are accepted from this length on: a word that happens to be hex digits must not name an image by chance.
const SHORTEST_ID: usize = 6;

/// What a reference stands for.
pub(super) struct Hit {
    pub(super) digest: Digest,
    /// The stored name it matched; none for an id or a digest.
    pub(super) name: Option<String>,
}

/// Whether it has the form of an id, or of the beginning of one.
pub(super) fn is_id(text: &str) -> bool {
    (SHORTEST_ID..=64).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Finds by name, id, prefix of an id or digest.
pub(super) fn lookup(index: &Index, reference: &str) -> Result<Option<Hit>, ImageError> {
    if let Some(digits) = reference.strip_prefix("sha256:") {
        if !is_id(digits) {
            let why = format!("an id is {SHORTEST_ID} to 64 lower-case hex digits");
            return Err(ImageError::Reference { reference: reference.to_owned(), why });
        }
        return by_id(index, reference, digits);
    }
    if is_id(reference) && reference.len() == 64 {
        return by_id(index, reference, reference);
    }
    if let Some(hit) = by_name(index, reference, &Reference::parse(reference)?)? {
        return Ok(Some(hit));
    }
    if is_id(reference) { by_id(index, reference, reference) } else { Ok(None) }
}

/// Ids are configurations' digests; manifests' digests are accepted as well.
fn by_id(index: &Index, reference: &str, digits: &str) -> Result<Option<Hit>, ImageError> {
    let starts = |digest: &Digest| digest.hex().starts_with(digits);
    let fits = index.images.iter().filter(|(digest, record)| starts(digest) || starts(&record.config));
    let hits: Vec<Digest> = fits.map(|(digest, _)| *digest).collect();
    // One configuration may have several manifests (the same image saved by different tools): any will do.
    let ids: BTreeSet<Digest> = hits.iter().filter_map(|digest| index.images.get(digest)).map(|r| r.config).collect();
    if ids.len() > 1 {
        let candidates = ids.iter().map(Digest::to_string).collect();
        return Err(ImageError::Ambiguous { reference: reference.to_owned(), candidates });
    }
    Ok(hits.first().map(|digest| Hit { digest: *digest, name: None }))
}

fn by_name(index: &Index, reference: &str, name: &Reference) -> Result<Option<Hit>, ImageError> {
    if let Some(digest) = name.digest() {
        if let Some(named) = index.names.get(&name.to_string()) {
            return Ok(Some(Hit { digest: *named, name: Some(name.to_string()) }));
        }
        // Content is what its digest says, whatever the repository it came from; an index stands for the image it led to.
        let end = format!("@{digest}");
        let leads = |(manifest, record): &(&Digest, &Record)| *manifest == digest || record.digests.iter().any(|known| known.ends_with(&end));
        return Ok(index.images.iter().find(leads).map(|(manifest, _)| Hit { digest: *manifest, name: None }));
    }
    let mut wanted = vec![name.to_string()];
    if name.is_short() {
        wanted.push(format!("{LOCAL_REGISTRY}/{}", name.short()));
    }
    for name in wanted {
        if let Some(digest) = index.names.get(&name) {
            return Ok(Some(Hit { digest: *digest, name: Some(name) }));
        }
    }
    if !name.is_short() {
        return Ok(None);
    }
    let end = format!("/{}", name.short());
    let fits: Vec<_> = index.names.iter().filter(|(name, _)| name.ends_with(&end)).collect();
    let distinct: BTreeSet<_> = fits.iter().map(|(_, digest)| **digest).collect();
    if distinct.len() > 1 {
        let candidates = fits.into_iter().map(|(name, _)| name.clone()).collect();
        return Err(ImageError::Ambiguous { reference: reference.to_owned(), candidates });
    }
    Ok(fits.first().map(|(name, digest)| Hit { digest: **digest, name: Some((*name).clone()) }))
}

/// At most three names that look like `reference`, the nearest first.
pub(super) fn near(index: &Index, reference: &str) -> Vec<String> {
    let Ok(wanted) = Reference::parse(reference) else { return Vec::new() };
    let last = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
    let (full, short) = (wanted.to_string(), last(&wanted.to_string()));
    let score = |name: &str| {
        let same_repository = last(name).split(':').next() == short.split([':', '@']).next();
        let short = strsim::jaro_winkler(&last(name), &short);
        if same_repository { 2.0 + short } else { short.max(strsim::normalized_levenshtein(name, &full)) }
    };
    let names = index.names.keys().map(String::as_str).chain([EMBEDDED_NAME]);
    let mut scored: Vec<(f64, &str)> = names.map(|name| (score(name), name)).filter(|(score, _)| *score > 0.8).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.into_iter().take(3).map(|(_, name)| name.to_owned()).collect()
}
