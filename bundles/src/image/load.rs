//! From an archive into the store.

use std::collections::BTreeMap;
use std::path::Path;

use super::archive::Archive;
use super::digest::Digest;
use super::error::ImageError;
use super::ingest::{Ingest, Progress};
use super::limits::Limits;
use super::lock::Lock;
use super::source::Found;
use super::{docker, oci};

/// Loads all images of `path`; tells their manifest digests. While the lock lives, none of them is removed.
pub(super) fn load(ingest: Ingest<'_>, path: &Path) -> Result<(Vec<Digest>, Lock), ImageError> {
    let progress = ingest.watch.progress;
    let archive = Archive::open(path, ingest.lease.path(), ingest.limits, &mut |bytes| progress(Progress::Decompressing { bytes }))?;
    let images = images(&archive, ingest.limits)?;
    ingest.run(&archive, &images)
}

fn images(archive: &Archive, limits: &Limits) -> Result<Vec<Found>, ImageError> {
    let docker = archive.has(docker::MANIFEST);
    let images = if archive.has(oci::INDEX) {
        let mut images = oci::images(archive, limits)?;
        if docker {
            add_docker_names(archive, &mut images, limits)?;
        }
        images
    } else if docker {
        docker::images(archive, limits)?
    } else {
        return Err(archive.bad(
            "neither index.json (OCI layout) nor manifest.json (docker save) is in it; \
             `docker save`, `podman save` and `skopeo copy` make archives that minipod loads",
        ));
    };
    if images.is_empty() {
        return Err(archive.bad("it holds no image"));
    }
    Ok(images)
}

/// New `docker save` archives are both; manifest.json has all names.
fn add_docker_names(archive: &Archive, images: &mut [Found], limits: &Limits) -> Result<(), ImageError> {
    let mut by_config: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
    for (config, names) in docker::names_by_config(archive, limits)? {
        by_config.entry(config).or_default().extend(names);
    }
    for image in images {
        image.names.extend(by_config.get(&Digest::of(&image.config)).into_iter().flatten().cloned());
        image.names.sort();
        image.names.dedup();
    }
    Ok(())
}
