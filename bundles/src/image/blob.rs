//! Manifests and configurations on disk, named by their digests.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::digest::Digest;
use super::error::{ImageError, Origin, sys};
use super::index;

/// Where the blob of a digest is.
pub(super) fn path(root: &Path, digest: &Digest) -> PathBuf {
    root.join("blobs/sha256").join(digest.hex())
}

/// Puts a document into the store.
pub(super) fn write(root: &Path, content: &[u8]) -> Result<Digest, ImageError> {
    let digest = Digest::of(content);
    let path = path(root, &digest);
    // Named by its digest: what is there is the same, unless it was damaged.
    match fs::read(&path) {
        Ok(same) if same == content => return Ok(digest),
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(sys("read", path)(e)),
        _ => {}
    }
    index::replace(&root.join("blobs/sha256"), &digest.hex(), content)?;
    Ok(digest)
}

/// A document of the store, which must be what its name says.
pub(super) fn read(root: &Path, digest: &Digest, subject: &str) -> Result<Vec<u8>, ImageError> {
    let path = path(root, digest);
    let text = fs::read(&path).map_err(sys("read", &path))?;
    let found = Digest::of(&text);
    if found != *digest {
        return Err(ImageError::Digest { origin: Origin::Store(path), subject: subject.to_owned(), expected: *digest, found });
    }
    Ok(text)
}
