//! Builds layers and archives, good and bad.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bundles::image::{Image, ImageError, ImageStore, Limits, Usage, Watch};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub(crate) fn hex(data: &[u8]) -> String {
    Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn sha(data: &[u8]) -> String {
    format!("sha256:{}", hex(data))
}

pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    to.write_all(data).unwrap();
    to.finish().unwrap()
}

pub(crate) fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::encode_all(data, 1).unwrap()
}

pub(crate) const ARCH: &str = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };

/// A tar, entry by entry, with names as given: the tar crate refuses to write hostile ones.
#[derive(Default, Clone)]
pub(crate) struct Tar {
    bytes: Vec<u8>,
}

pub(crate) struct Item<'a> {
    pub kind: u8,
    pub name: &'a str,
    pub link: &'a str,
    pub mode: u32,
    pub owner: (u64, u64),
    pub mtime: u64,
    pub device: (u32, u32),
    pub data: &'a [u8],
}

impl Default for Item<'_> {
    fn default() -> Self {
        Self { kind: b'0', name: "", link: "", mode: 0o644, owner: (0, 0), mtime: 1_000_000_000, device: (0, 0), data: b"" }
    }
}

impl Tar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn item(mut self, item: &Item<'_>) -> Self {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..item.name.len()].copy_from_slice(item.name.as_bytes());
        header.as_old_mut().linkname[..item.link.len()].copy_from_slice(item.link.as_bytes());
        header.as_old_mut().linkflag[0] = item.kind;
        header.set_mode(item.mode);
        header.set_uid(item.owner.0);
        header.set_gid(item.owner.1);
        header.set_mtime(item.mtime);
        header.set_size(item.data.len() as u64);
        header.set_device_major(item.device.0).unwrap();
        header.set_device_minor(item.device.1).unwrap();
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(item.data);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, name: &str, data: impl AsRef<[u8]>) -> Self {
        self.item(&Item { name, data: data.as_ref(), ..Item::default() })
    }

    pub(crate) fn dir(self, name: &str) -> Self {
        self.item(&Item { kind: b'5', name, mode: 0o755, ..Item::default() })
    }

    pub(crate) fn symlink(self, name: &str, link: &str) -> Self {
        self.item(&Item { kind: b'2', name, link, mode: 0o777, ..Item::default() })
    }

    pub(crate) fn hard_link(self, name: &str, link: &str) -> Self {
        self.item(&Item { kind: b'1', name, link, ..Item::default() })
    }

    /// A pax header for the entry that follows.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let body = key.len() + value.len() + 3;
            let mut length = body + 1;
            while length != body + length.to_string().len() {
                length = body + length.to_string().len();
            }
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.item(&Item { kind: b'x', name: "PaxHeaders/x", data: &data, ..Item::default() })
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    pub(crate) fn done(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }
}

/// An image configuration for these layers.
pub(crate) fn config(layers: &[&[u8]], cmd: &str) -> Vec<u8> {
    config_of(layers, cmd, ARCH)
}

pub(crate) fn config_of(layers: &[&[u8]], cmd: &str, architecture: &str) -> Vec<u8> {
    let ids: Vec<String> = layers.iter().map(|layer| sha(layer)).collect();
    json!({
        "architecture": architecture, "os": "linux", "created": "2024-01-02T03:04:05Z",
        "config": {"Cmd": [cmd], "Entrypoint": null, "Env": ["A=b"], "WorkingDir": "/w", "User": "u:g",
                   "Labels": {"l": "m"}, "Volumes": {"/v": {}}, "StopSignal": "SIGUSR1"},
        "rootfs": {"type": "layers", "diff_ids": ids},
    })
    .to_string()
    .into_bytes()
}

/// What podman writes: `<hex>.json` and `<hex>.tar`.
pub(crate) fn docker_archive(tags: &[&str], layers: &[&[u8]]) -> Vec<u8> {
    let config = config(layers, "run");
    let mut tar = Tar::new();
    let mut names: Vec<String> = Vec::new();
    for layer in layers {
        let name = format!("{}.tar", hex(layer));
        if !names.contains(&name) {
            tar = tar.file(&name, layer);
        }
        names.push(name);
    }
    let config_name = format!("{}.json", hex(&config));
    let manifest = json!([{"Config": config_name, "RepoTags": tags, "Layers": names}]).to_string();
    tar.file(&config_name, &config).file("manifest.json", manifest).done()
}

/// Files of an OCI layout, by name.
#[derive(Default, Clone)]
pub(crate) struct Layout {
    pub files: Vec<(String, Vec<u8>)>,
    pub manifests: Vec<Value>,
}

impl Layout {
    pub(crate) fn blob(&mut self, data: &[u8], media_type: &str) -> Value {
        let name = format!("blobs/sha256/{}", hex(data));
        if !self.files.iter().any(|(other, _)| *other == name) {
            self.files.push((name, data.to_vec()));
        }
        json!({"mediaType": media_type, "digest": sha(data), "size": data.len()})
    }

    /// A manifest of layers as stored, and what they are uncompressed.
    pub(crate) fn manifest(&mut self, stored: &[&[u8]], config: &[u8]) -> Value {
        let config = self.blob(config, "application/vnd.oci.image.config.v1+json");
        let layers: Vec<Value> =
            stored.iter().map(|layer| self.blob(layer, "application/vnd.oci.image.layer.v1.tar+gzip")).collect();
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers}).to_string();
        self.blob(manifest.as_bytes(), "application/vnd.oci.image.manifest.v1+json")
    }

    pub(crate) fn index(&mut self, manifests: &[Value]) -> Value {
        let index = json!({"schemaVersion": 2, "manifests": manifests}).to_string();
        self.blob(index.as_bytes(), "application/vnd.oci.image.index.v1+json")
    }

    pub(crate) fn with(mut self, name: Option<&str>, mut descriptor: Value) -> Self {
        if let Some(name) = name {
            descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        }
        self.manifests.push(descriptor);
        self
    }

    fn all(&self) -> Vec<(String, Vec<u8>)> {
        let index = json!({"schemaVersion": 2, "manifests": self.manifests}).to_string();
        let mut files = self.files.clone();
        files.push(("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
        files.push(("index.json".into(), index.into_bytes()));
        files
    }

    pub(crate) fn tar(&self) -> Vec<u8> {
        self.all().iter().fold(Tar::new(), |tar, (name, data)| tar.file(name, data)).done()
    }

    pub(crate) fn write(&self, dir: &Path) {
        for (name, data) in self.all() {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, data).unwrap();
        }
    }
}

/// Pods that use these directories, and no image that the store still knows.
pub(crate) struct Layers(pub Vec<PathBuf>);

impl Usage for Layers {
    fn pods(&self, _: &str) -> Vec<String> {
        Vec::new()
    }

    fn layer(&self, files: &Path) -> bool {
        self.0.iter().any(|used| used == files)
    }
}

/// A store, room for archives, and a canary that nothing may touch.
pub(crate) struct Lab {
    pub dir: tempfile::TempDir,
    pub store: ImageStore,
}

impl Lab {
    pub(crate) fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "these tests need root");
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("canary")).unwrap();
        fs::write(dir.path().join("canary/file"), "untouched").unwrap();
        let store = ImageStore::open(&dir.path().join("lib")).unwrap();
        Self { dir, store }
    }

    /// A store with other limits.
    pub(crate) fn limited(limits: Limits) -> Self {
        let lab = Self::new();
        Self { store: ImageStore::open(&lab.lib()).unwrap().with_limits(limits), dir: lab.dir }
    }

    pub(crate) fn lib(&self) -> PathBuf {
        self.dir.path().join("lib")
    }

    pub(crate) fn write(&self, name: &str, data: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, data).unwrap();
        path
    }

    pub(crate) fn load(&self, archive: &[u8]) -> Result<Vec<Image>, ImageError> {
        self.store.load(&self.write("archive.tar", archive), Watch::nobody())
    }

    /// Loads one image `x:1` of these layers, bottom first.
    pub(crate) fn load_layers(&self, layers: &[&[u8]]) -> Result<Image, ImageError> {
        let images = self.load(&docker_archive(&["localhost/x:1"], layers))?;
        Ok(images.into_iter().next().unwrap())
    }

    /// Loads one layer and tells its directory.
    pub(crate) fn unpack(&self, layer: Tar) -> PathBuf {
        self.load_layers(&[&layer.done()]).unwrap().layers.remove(0)
    }

    /// The whole chain of why a layer is refused; checks that nothing is left or harmed.
    pub(crate) fn refuses(&self, layer: Tar) -> String {
        self.refuses_archive(&docker_archive(&["x:1"], &[&layer.done()]))
    }

    pub(crate) fn refuses_archive(&self, archive: &[u8]) -> String {
        let error = self.load(archive).expect_err("it must be refused");
        self.assert_clean();
        chain(&error)
    }

    /// All of the store but its locks: kind, mode, owner, links, size, time and content of each file. Directories' times change
    /// with what comes and goes in them.
    pub(crate) fn snapshot(&self) -> BTreeMap<PathBuf, String> {
        let files = tree(&self.lib()).into_iter().filter(|path| path.extension().is_none_or(|e| e != "lock"));
        let facts = |path: &Path| {
            let stat = fs::symlink_metadata(path).unwrap();
            let ours = format!("{:o} {}:{}", stat.mode(), stat.uid(), stat.gid());
            let content = match () {
                () if stat.is_dir() => return ours,
                () if stat.is_file() => hex(&fs::read(path).unwrap()),
                () => format!("{:?}", fs::read_link(path).ok()),
            };
            format!("{ours} {} {} {}.{} {content}", stat.nlink(), stat.size(), stat.mtime(), stat.mtime_nsec())
        };
        files.map(|path| (path.clone(), facts(&path))).collect()
    }

    /// The chain of why an archive is refused by a store that holds an image already: the store stays as it was.
    pub(crate) fn refuses_beside(&self, archive: &[u8]) -> String {
        let good = Tar::new().file("file", "good").symlink("link", "file").file(".wh.gone", "").done();
        self.load(&docker_archive(&["good:1"], &[&good])).unwrap();
        let before = self.snapshot();
        let error = self.load(archive).expect_err("it must be refused");
        assert_eq!(self.snapshot(), before, "the store is not what it was");
        self.assert_unharmed();
        assert_eq!(self.store.find("good:1").unwrap().layers.len(), 1);
        chain(&error)
    }

    /// Nothing in the store but its empty directories and locks; the canary and its neighbours as they were.
    pub(crate) fn assert_clean(&self) {
        let files: Vec<PathBuf> = tree(&self.lib()).into_iter().filter(|p| !p.is_dir()).collect();
        let left: Vec<_> = files.iter().filter(|p| p.extension().is_none_or(|e| e != "lock")).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
        let dirs = ["tmp", "fetching", "layers/sha256", "blobs/sha256"].map(|d| fs::read_dir(self.lib().join("images").join(d)).unwrap().count());
        assert_eq!(dirs, [0; 4]);
        self.assert_unharmed();
    }

    pub(crate) fn assert_unharmed(&self) {
        let names: Vec<_> = tree(&self.dir.path().join("canary")).into_iter().map(|p| p.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["file"]);
        assert_eq!(fs::read_to_string(self.dir.path().join("canary/file")).unwrap(), "untouched");
        let mut beside: Vec<_> =
            fs::read_dir(self.dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        beside.sort();
        assert_eq!(beside, ["archive.tar", "canary", "lib"]);
    }
}

/// All below `dir`, without following links.
pub(crate) fn tree(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(dir) else { return found };
    for entry in entries {
        let path = entry.unwrap().path();
        // Overlay lists a whiteout in a directory that is in one layer only, but has no file of that name.
        let Ok(stat) = fs::symlink_metadata(&path) else { continue };
        let is_dir = stat.is_dir();
        found.push(path.clone());
        if is_dir {
            found.extend(tree(&path));
        }
    }
    found
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}
