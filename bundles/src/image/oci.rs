//! OCI image layouts: `index.json` leads to manifests, those to configurations and layers, all named by digest.
//!
//! Spec: image-spec `image-layout.md`, `image-index.md`, `manifest.md`.

use super::archive::Archive;
use super::config::Configuration;
use super::digest::Digest;
use super::error::ImageError;
use super::limits::Limits;
use super::manifest::{Descriptor, Document};
use super::platform::{self, Platform};
use super::reference::{LOCAL_REGISTRY, Reference};
use super::source::{Found, Source as _};

pub(super) const INDEX: &str = "index.json";

/// The full name, as containerd and Docker write it.
const FULL_NAME: &str = "io.containerd.image.name";
/// A name or only a tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Indexes in indexes; real ones have one or two levels.
const DEEPEST: usize = 4;

/// A manifest that is in the archive.
struct Candidate {
    digest: Digest,
    text: Vec<u8>,
    document: Document,
    platform: Option<Platform>,
}

/// Where a layout has the content of a descriptor.
fn blob(descriptor: &Descriptor) -> String {
    format!("blobs/sha256/{}", descriptor.digest.hex())
}

/// All images of the layout: one for each name, for this machine's platform.
pub(super) fn images(archive: &Archive, limits: &Limits) -> Result<Vec<Found>, ImageError> {
    let top: Document = archive.parse(INDEX, &archive.document(INDEX)?)?;
    let Some(descriptors) = top.manifests else {
        return Err(archive.bad("index.json has no `manifests`: not an OCI image layout"));
    };
    check_count(archive, INDEX, &descriptors, limits)?;
    let mut found: Vec<Found> = Vec::new();
    for (names, group) in groups(archive, descriptors)? {
        let mut candidates = Vec::new();
        for descriptor in &group {
            collect(archive, descriptor, 0, &mut candidates, limits)?;
        }
        let chosen = choose(archive, candidates)?;
        let image = image(archive, chosen, names)?;
        match found.iter_mut().find(|other| other.manifest == image.manifest) {
            Some(same) => same.names.extend(image.names),
            None => found.push(image),
        }
        if found.len() > limits.images {
            return Err(archive.bad(format!("it has more than {} images (the limit)", limits.images)));
        }
    }
    Ok(found)
}

fn check_count(archive: &Archive, name: &str, listed: &[Descriptor], limits: &Limits) -> Result<(), ImageError> {
    if listed.len() > limits.descriptors {
        return Err(archive.bad(format!("{name} lists more than {} manifests (the limit)", limits.descriptors)));
    }
    Ok(())
}

/// Names, and the descriptors that go by them.
type Group = (Vec<String>, Vec<Descriptor>);

/// Descriptors of one name are one image for several platforms; so are nameless ones for different platforms.
fn groups(archive: &Archive, all: Vec<Descriptor>) -> Result<Vec<Group>, ImageError> {
    let all: Vec<_> = all.into_iter().filter(|d| !d.is_attestation()).collect();
    let platforms: Vec<_> = all.iter().filter_map(|d| d.platform.as_ref()).collect();
    let distinct = (1..platforms.len()).all(|at| !platforms[..at].contains(&platforms[at]));
    let one_image = platforms.len() == all.len() && distinct;
    let mut groups: Vec<(Vec<String>, Vec<Descriptor>)> = Vec::new();
    for descriptor in all {
        let name: Vec<String> = name(archive, &descriptor)?.into_iter().collect();
        match groups.iter_mut().find(|(names, _)| *names == name && (!names.is_empty() || one_image)) {
            Some((_, group)) => group.push(descriptor),
            None => groups.push((name, vec![descriptor])),
        }
    }
    Ok(groups)
}

/// The name an annotation gives. A bare tag, as skopeo writes it, needs a repository: the archive's own name, on localhost.
fn name(archive: &Archive, descriptor: &Descriptor) -> Result<Option<String>, ImageError> {
    if let Some(full) = descriptor.annotation(FULL_NAME) {
        return Reference::parse(full).map(|name| Some(name.to_string()));
    }
    let Some(given) = descriptor.annotation(REF_NAME) else { return Ok(None) };
    if given.contains(['/', ':']) {
        // podman and skopeo: a name without registry is this machine's, as podman reads it.
        let name = Reference::parse(given)?;
        let name = if name.is_short() { Reference::parse(&format!("{LOCAL_REGISTRY}/{given}"))? } else { name };
        return Ok(Some(name.to_string()));
    }
    let file = archive.path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_lowercase();
    let stem = file.split('.').next().unwrap_or_default();
    let named = Reference::parse(&format!("{LOCAL_REGISTRY}/{stem}:{given}"));
    // A file name or tag that no image could have leaves the image nameless: it still has its id.
    Ok(named.ok().map(|name| name.to_string()))
}

/// All manifests below a descriptor that the archive holds.
fn collect(
    archive: &Archive,
    descriptor: &Descriptor,
    depth: usize,
    into: &mut Vec<Candidate>,
    limits: &Limits,
) -> Result<(), ImageError> {
    if descriptor.is_attestation() {
        return Ok(());
    }
    let name = blob(descriptor);
    // An index may list platforms that were not saved (docker save, skopeo copy); what index.json itself lists must be there.
    if depth > 0 && !archive.has(&name) {
        return Ok(());
    }
    let text = archive.verified_document(&name, &descriptor.digest)?;
    if text.len() as u64 != descriptor.size {
        return Err(archive.bad(format!("{name} has {} bytes, its descriptor says {}", text.len(), descriptor.size)));
    }
    let document = archive.parse::<Document>(&name, &text)?.one_kind().map_err(|why| archive.bad(format!("{name}: {why}")))?;
    let Some(nested) = document.manifests else {
        let platform = descriptor.platform.clone();
        into.push(Candidate { digest: descriptor.digest, text, document, platform });
        return if into.len() > limits.images {
            Err(archive.bad(format!("it has more than {} images (the limit)", limits.images)))
        } else {
            Ok(())
        };
    };
    check_count(archive, &name, &nested, limits)?;
    if depth == DEEPEST {
        return Err(archive.bad(format!("{name}: indexes are nested more than {DEEPEST} deep")));
    }
    nested.iter().try_for_each(|inner| collect(archive, inner, depth + 1, into, limits))
}

/// The only one, or the first for this machine.
fn choose(archive: &Archive, mut candidates: Vec<Candidate>) -> Result<Candidate, ImageError> {
    if candidates.len() == 1 {
        return Ok(candidates.remove(0));
    }
    if candidates.is_empty() {
        return Err(archive.bad("an index lists no manifest that is in the archive"));
    }
    let mut offered = Vec::new();
    for candidate in &mut candidates {
        offered.push(Some(match candidate.platform.take() {
            Some(platform) => platform,
            None => platform_of(archive, candidate)?,
        }));
    }
    let wanted = Platform::host();
    match platform::choose(&offered, &wanted) {
        Some(at) => Ok(candidates.remove(at)),
        None => Err(ImageError::Platform {
            origin: archive.origin(),
            wanted: wanted.to_string(),
            available: offered.iter().flatten().map(Platform::to_string).collect(),
        }),
    }
}

/// A manifest without a platform has it in its configuration.
fn platform_of(archive: &Archive, candidate: &Candidate) -> Result<Platform, ImageError> {
    let (_, parsed) = configuration(archive, candidate)?;
    Ok(Platform::new(&parsed.os, &parsed.architecture))
}

fn configuration(archive: &Archive, candidate: &Candidate) -> Result<(Vec<u8>, Configuration), ImageError> {
    let descriptor = candidate.document.configuration().map_err(|why| bad_manifest(archive, candidate, &why))?;
    let name = blob(descriptor);
    let text = archive.verified_document(&name, &descriptor.digest)?;
    let parsed = archive.parse(&name, &text)?;
    Ok((text, parsed))
}

fn bad_manifest(archive: &Archive, candidate: &Candidate, why: &str) -> ImageError {
    archive.bad(format!("manifest {}: {why}", candidate.digest))
}

fn image(archive: &Archive, candidate: Candidate, names: Vec<String>) -> Result<Found, ImageError> {
    let (config, parsed) = configuration(archive, &candidate)?;
    let layers = candidate.document.layers(&parsed, blob).map_err(|why| bad_manifest(archive, &candidate, &why))?;
    Ok(Found { names, digests: Vec::new(), config, layers, parsed, manifest: Some(candidate.text) })
}
