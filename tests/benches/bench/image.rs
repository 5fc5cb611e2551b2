//! The image that all contenders run, and how long images take to load.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Entry, Image, Minipod, docker_archive};

use crate::containerd::Containerd;
use crate::measure::{cost, measured};
use crate::podman::Podman;
use crate::race::{Contender, race};

/// For one load, on whatever disk.
const LIMIT: Duration = Duration::from_secs(120);
/// The name under which every contender knows the image.
pub(crate) const NAME: &str = "localhost/bench:1";
const APPLETS: [&str; 9] = ["sh", "sleep", "true", "cat", "echo", "dd", "yes", "test", "seq"];

/// An archive with the host's static busybox in one layer.
pub(crate) fn archive(path: &Path) {
    let busybox = testkit::installed("busybox").expect("scripts/setup --bench installs busybox-static");
    let program = fs::read(busybox).expect("read busybox");
    let mut layer = vec![Entry::Dir("bin".into()), Entry::File("bin/busybox".into(), program, 0o755)];
    layer.extend(APPLETS.map(|name| Entry::Link(format!("bin/{name}"), "busybox".into())));
    let config = json!({ "Env": ["PATH=/bin"] });
    docker_archive(&Image { reference: NAME.into(), layers: vec![layer], config }, path);
}

/// Loads it into minipod, and into podman when there is one.
pub(crate) fn load(mp: &Minipod, podman: Option<&Podman>) {
    let path = mp.file("bench.tar");
    archive(&path);
    let path = path.to_str().expect("a path of ours is UTF-8");
    mp.ok(&["image", "load", path]);
    if let Some(podman) = podman {
        podman.ok(&["load", "-q", "-i", path]);
    }
}

/// A container of that image that runs a script.
pub(crate) fn container(name: &str, script: &str) -> Value {
    json!({ "name": name, "image": NAME, "command": ["sh", "-c", script] })
}

/// How large an image is: half of each file can be compressed, as usual.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Size {
    /// 5 layers, 4400 files, 100 MB.
    Medium,
    /// 12 layers, 22,000 files, 500 MB.
    Large,
}

impl Size {
    /// Layers, and directories of each.
    fn layers(self) -> (usize, usize) {
        match self {
            Self::Medium => (5, 40),
            Self::Large => (12, 82),
        }
    }

    /// About as many as its files have.
    pub(crate) fn bytes(self) -> usize {
        let (layers, dirs) = self.layers();
        layers * dirs * (FIRST + (FILES - 1) * (LEAST + SPREAD / 2))
    }
}

/// Files of a directory: a large one, and others of a size between two.
const FILES: usize = 22;
const FIRST: usize = 300_000;
const LEAST: usize = 2_000;
const SPREAD: usize = 16_000;

/// Made of pseudo-random files, the same each time.
pub(crate) fn large(size: Size) -> Image {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let (count, dirs) = size.layers();
    let mut layers = Vec::new();
    for layer in 0..count {
        let mut entries = Vec::new();
        for dir in 0..dirs {
            entries.push(Entry::Dir(format!("usr/{layer}/{dir}")));
            for file in 0..FILES {
                let size = if file == 0 { FIRST } else { LEAST + usize::try_from(random()).expect("64 bits") % SPREAD };
                let mut data = vec![b' '; size];
                data[..size / 2].chunks_exact_mut(8).for_each(|chunk| chunk.copy_from_slice(&random().to_ne_bytes()));
                entries.push(Entry::File(format!("usr/{layer}/{dir}/{file}"), data, 0o644));
            }
        }
        layers.push(entries);
    }
    Image { reference: "localhost/large:1".into(), layers, config: json!({ "Cmd": ["/none"] }) }
}

pub(crate) fn bench(runs: usize) {
    let (mp, podman) = (crate::minipod(), Podman::new());
    let containerd = Containerd::new();
    for size in [Size::Medium, Size::Large] {
        let image = large(size);
        let (archive, name) = (mp.file("large.tar"), &*image.reference);
        docker_archive(&image, &archive);
        let path = archive.to_str().expect("a path of ours is UTF-8");
        let bytes = fs::metadata(&archive).expect("stat the archive").len();
        println!("an archive of {} MB in {} layers", bytes / 1_000_000, image.layers.len());
        let minipod = || measured(testkit::binary()).env("MINIPOD_ROOT", mp.root());
        let ours = || cost(minipod().args(["image", "load", path]).run_within(LIMIT));
        let podmans = || cost(podman.configured(measured("podman")).args(["load", "-q", "-i", path]).run_within(LIMIT));
        let remove_ours = || drop(mp.cmd().args(["image", "rm", name]).run_within(LIMIT).ok());
        race(runs, &[
            Contender { who: "minipod image load", work: &ours, undo: &remove_ours },
            Contender { who: "podman load", work: &podmans, undo: &|| drop(podman.ok(&["rmi", name])) },
            Contender {
                who: "ctr images import", work: &|| containerd.cost(&["images", "import", path]),
                undo: &|| containerd.remove(name),
            },
        ], "more than 1");
    }
}
