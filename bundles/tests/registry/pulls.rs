//! Pulls into a store from a registry that serves what it is told to, and lies. Needs root: layers have owners.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bundles::image::{Change, ImageError, ImageStore, Platform, Pulled, Reference, Watch};
use serde_json::{Value, json};

use crate::support::{Bench, Reply, Server, digest};

const ARCH: &str = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };

/// What the registry has: documents and blobs by digest, and what `a/b:1` is.
#[derive(Default)]
struct Content {
    blobs: BTreeMap<String, Vec<u8>>,
    top: Vec<u8>,
}

impl Content {
    fn put(&mut self, bytes: &[u8]) -> Value {
        let name = digest(bytes).to_string();
        self.blobs.insert(name.clone(), bytes.to_vec());
        json!({"digest": name, "size": bytes.len()})
    }

    /// A manifest of these layers.
    fn image(&mut self, layers: &[&[u8]]) -> Value {
        let ids: Vec<String> = layers.iter().map(|layer| digest(layer).to_string()).collect();
        let config = json!({"architecture": ARCH, "os": "linux", "rootfs": {"type": "layers", "diff_ids": ids}}).to_string();
        let config = self.put(config.as_bytes());
        let layers: Vec<Value> = layers.iter().map(|layer| self.put(layer)).collect();
        json!({"schemaVersion": 2, "config": config, "layers": layers})
    }
}

struct Lab {
    server: Server,
    bench: Bench,
    store: ImageStore,
    content: Arc<Mutex<Content>>,
}

impl Lab {
    fn new(build: impl FnOnce(&mut Content) -> Value) -> Self {
        assert!(rustix::process::geteuid().is_root(), "these tests need root");
        let mut content = Content::default();
        content.top = build(&mut content).to_string().into_bytes();
        let content = Arc::new(Mutex::new(content));
        let served = content.clone();
        let server = Server::plain(move |request| {
            let content = served.lock().unwrap();
            match request.path.strip_prefix("/v2/a/b/").and_then(|path| path.split_once('/')) {
                Some(("manifests", "1")) => Reply::ok(&*content.top).with("Docker-Content-Digest", digest(&content.top)),
                Some((_, name)) => content.blobs.get(name).map_or(Reply::new(404), |bytes| Reply::part(request, bytes)),
                None => Reply::new(200),
            }
        });
        let bench = Bench::insecure(&server);
        let store = ImageStore::open(&bench.dir.path().join("lib")).unwrap();
        Self { server, bench, store, content }
    }

    fn name(&self) -> Reference {
        Reference::parse(&format!("{}/a/b:1", self.server.address)).unwrap()
    }

    fn pull(&self) -> Result<Pulled, ImageError> {
        self.store.pull(&self.bench.repository(&self.server), &self.name(), &Platform::host(), Watch::nobody())
    }

    /// Why it is refused; checks that nothing came in.
    fn refuses(&self) -> String {
        let error = self.pull().expect_err("it must be refused");
        let left: Vec<PathBuf> = files(&self.bench.dir.path().join("lib"));
        assert!(left.iter().all(|path| path.extension().is_some_and(|e| e == "lock")), "{left:?}");
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text += &format!(": {cause}");
            source = cause.source();
        }
        text
    }
}

/// All files below `dir`.
fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(read) = fs::read_dir(dir) else { return Vec::new() };
    let paths = read.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn layer(name: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(4);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, &b"text"[..]).unwrap();
    tar.into_inner().unwrap()
}

#[test]
fn a_lost_layer_is_fetched_again() {
    let (low, high) = (layer("low"), layer("high"));
    let lab = Lab::new(|content| content.image(&[&low, &high]));
    let first = lab.pull().unwrap();
    assert_eq!(first.change, Change::Fetched);
    assert_eq!(lab.pull().unwrap(), Pulled { change: Change::UpToDate, ..first.clone() });
    fs::remove_dir_all(first.image.layers[0].parent().unwrap()).unwrap();
    assert!(matches!(lab.store.resolve(&lab.name().to_string()), Err(ImageError::LayerMissing { .. })));
    assert_eq!(lab.pull().unwrap().image, first.image);
    assert_eq!(fs::read(first.image.layers[0].join("high")).unwrap(), b"text");
    assert_eq!(lab.server.count(&digest(&low).to_string()), 1, "the layer that was there is not fetched again");
}

#[test]
fn a_layer_that_repeats_is_fetched_once() {
    let (low, high) = (layer("low"), layer("high"));
    let lab = Lab::new(|content| content.image(&[&low, &high, &low]));
    assert_eq!(lab.pull().unwrap().image.layers.len(), 2);
    assert_eq!(lab.server.count(&digest(&low).to_string()), 1);
}

/// An index of one document.
fn indexed(content: &mut Content, document: &Value) -> Value {
    let part = content.put(document.to_string().as_bytes());
    json!({"schemaVersion": 2, "manifests": [part]})
}

#[test]
fn lies_are_refused_and_leave_nothing() {
    type Build = fn(&mut Content) -> Value;
    let cases: [(&str, Build, &str); 8] = [
        ("no layer", |content| content.image(&[]), "has no layer"),
        (
            "fewer layers than its configuration says",
            |content| {
                let mut manifest = content.image(&[&layer("a"), &layer("b")]);
                manifest["layers"].as_array_mut().unwrap().pop();
                manifest
            },
            "it lists 1 layers, its configuration 2",
        ),
        (
            "an index of an index",
            |content| {
                let manifest = content.image(&[&layer("a")]);
                let inner = indexed(content, &manifest);
                indexed(content, &inner)
            },
            "lists an index for this platform",
        ),
        (
            "another size than the index says",
            |content| {
                let manifest = content.image(&[&layer("a")]);
                let mut index = indexed(content, &manifest);
                index["manifests"][0]["size"] = 7.into();
                index
            },
            "its index says 7",
        ),
        (
            "an index and an image in one",
            |content| {
                let manifest = content.image(&[&layer("a")]);
                let mut both = indexed(content, &manifest);
                both["config"] = manifest["config"].clone();
                both["layers"] = manifest["layers"].clone();
                both
            },
            "an index and an image at once",
        ),
        (
            "a configuration too large to fetch",
            |content| {
                let mut manifest = content.image(&[&layer("a")]);
                manifest["config"]["size"] = (1_u64 << 40).into();
                manifest
            },
            "its configuration has 1099511627776 bytes",
        ),
        (
            "a layer too large to unpack",
            |content| {
                let mut manifest = content.image(&[&layer("a")]);
                manifest["layers"][0]["size"] = (1_u64 << 40).into();
                manifest
            },
            "has 1099511627776 bytes, more than",
        ),
        (
            "a layer that is another, the second of two",
            |content| {
                let manifest = content.image(&[&layer("a"), &layer("b")]);
                let name = manifest["layers"][1]["digest"].as_str().unwrap().to_owned();
                content.blobs.insert(name, layer("c"));
                manifest
            },
            "expected",
        ),
    ];
    for (what, build, words) in cases {
        let said = Lab::new(build).refuses();
        assert!(said.contains(words), "{what}: {said}");
    }
}

#[test]
fn a_moved_tag_brings_the_new_image_and_keeps_the_old() {
    let lab = Lab::new(|content| content.image(&[&layer("old")]));
    let old = lab.pull().unwrap().image;
    {
        let mut content = lab.content.lock().unwrap();
        let manifest = content.image(&[&layer("new")]);
        content.top = manifest.to_string().into_bytes();
    }
    let new = lab.pull().unwrap();
    assert_eq!((new.change, new.image.layers[0].join("new").exists()), (Change::Fetched, true));
    let old = lab.store.find(&old.id).unwrap();
    assert_eq!((old.names.len(), old.layers[0].join("old").exists()), (0, true));
}
