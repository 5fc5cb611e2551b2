//! A store in a directory of its own, with a neighbour that nothing may touch.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use bundles::image::{Force, Image, ImageError, ImageStore, Limits, Unused, Watch};
use tempfile::TempDir;

/// Small enough that inputs of some kilobytes reach them.
pub fn limits() -> Limits {
    Limits {
        layer_entries: 200,
        layer_bytes: 1 << 20,
        directory_name_bytes: 4096,
        path_bytes: 1024,
        header_bytes: 8192,
        headers: 4,
        sparse_segments: 64,
        document_bytes: 16 << 10,
        documents_bytes: 128 << 10,
        descriptors: 20,
        archive_entries: 50,
        archive_bytes: 1 << 20,
        images: 10,
        names: 10,
        layers: 20,
    }
}

/// The store and its neighbour.
pub struct Lab {
    dir: TempDir,
    store: ImageStore,
    outside: BTreeMap<PathBuf, String>,
}

impl Lab {
    /// A new one, in the directory for temporary files (fast when that is a tmpfs).
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("fuzz").tempdir().expect("make a directory");
        fs::create_dir(dir.path().join("canary")).expect("make the neighbour");
        fs::write(dir.path().join("canary/file"), "untouched").expect("fill the neighbour");
        let store = ImageStore::open(&dir.path().join("lib")).expect("open the store").with_limits(limits());
        let outside = outside(dir.path());
        Self { dir, store, outside }
    }

    /// Loads an archive and checks what came of it, from the file system and not from what the store says.
    pub fn load(&self, archive: &[u8]) -> Result<Vec<Image>, ImageError> {
        let path = self.dir.path().join("archive");
        fs::write(&path, archive).expect("write the archive");
        let loaded = self.store.load(&path, Watch::nobody());
        assert_eq!(outside(self.dir.path()), self.outside, "something outside the store was touched");
        assert_eq!(self.left("tmp"), 0, "work was left behind");
        match &loaded {
            Ok(images) => self.check_images(images),
            Err(_) => self.check_empty(),
        }
        loaded
    }

    /// Removes all images and checks that nothing of them is left.
    pub fn empty(&self) {
        for image in self.store.list().expect("list the images") {
            self.store.remove(&image.digest, &Unused, Force::No).expect("remove an image");
        }
        self.check_empty();
    }

    fn check_images(&self, images: &[Image]) {
        assert!(!images.is_empty(), "a load without images");
        for image in images {
            assert!(!image.layers.is_empty() && image.layers.len() <= limits().layers);
            for layer in &image.layers {
                assert!(layer.starts_with(self.dir.path().join("lib/images/layers")), "{layer:?}");
                check_layer(layer);
            }
            let found = self.store.find(&image.digest).expect("find what was loaded");
            assert_eq!((&found.id, &found.layers), (&image.id, &image.layers));
        }
    }

    fn check_empty(&self) {
        for name in ["layers/sha256", "blobs/sha256", "tmp"] {
            assert_eq!(self.left(name), 0, "{name} is not empty");
        }
    }

    fn left(&self, name: &str) -> usize {
        fs::read_dir(self.dir.path().join("lib/images").join(name)).map_or(0, Iterator::count)
    }
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

/// What a hostile layer could reach: the neighbour, and well-known files of this machine.
fn outside(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let names = |dir: &Path| -> Vec<PathBuf> {
        fs::read_dir(dir).expect("read a directory").map(|entry| entry.expect("an entry").path()).collect()
    };
    for path in names(dir).into_iter().filter(|path| !path.ends_with("archive") && !path.ends_with("lib")) {
        found.insert(path, String::new());
    }
    for path in names(&dir.join("canary")).into_iter().chain([dir.join("canary"), "/".into(), "/etc/passwd".into()]) {
        let stat = fs::symlink_metadata(&path).expect("look at a file outside");
        let times = (stat.mtime(), stat.mtime_nsec());
        let facts = format!("{:o} {}:{} {} links, {} bytes, {times:?}", stat.mode(), stat.uid(), stat.gid(), stat.nlink(), stat.size());
        found.insert(path, facts);
    }
    found.insert("content".into(), fs::read_to_string(dir.join("canary/file")).expect("read the neighbour's file"));
    found
}

/// No more than the limits allow, no device that shows anything of the host, no mark but overlay's own opaque one.
fn check_layer(layer: &Path) {
    let (mut entries, mut bytes) = (0, 0);
    let mut waiting = vec![layer.to_owned()];
    while let Some(dir) = waiting.pop() {
        // A link inside the layer can make it deeper than a path can say.
        let Ok(read) = fs::read_dir(&dir) else { continue };
        for entry in read {
            let path = entry.expect("an entry of a layer").path();
            let Ok(stat) = fs::symlink_metadata(&path) else { continue };
            let kind = stat.file_type();
            entries += 1;
            assert!(!kind.is_block_device() && !kind.is_socket(), "{path:?}");
            if kind.is_char_device() {
                let device = (rustix::fs::major(stat.rdev()), rustix::fs::minor(stat.rdev()));
                assert!(matches!(device, (0, 0) | (1, 3 | 5 | 7 | 8 | 9) | (5, 0 | 2)), "{path:?} is {device:?}");
            }
            if kind.is_file() {
                bytes += stat.size();
            }
            check_marks(&path);
            if kind.is_dir() {
                waiting.push(path);
            }
        }
    }
    assert!(entries <= limits().layer_entries, "{entries} entries");
    // A hard link is counted again here.
    assert!(bytes <= limits().layer_bytes * limits().layer_entries, "{bytes} bytes");
}

fn check_marks(path: &Path) {
    let mut names = [0; 16 << 10];
    let Ok(length) = rustix::fs::llistxattr(path, &mut names[..]) else { return };
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let fine = (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
            || matches!(name, b"trusted.overlay.opaque" | b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default");
        assert!(fine, "{path:?} has {}", String::from_utf8_lossy(name));
    }
}
