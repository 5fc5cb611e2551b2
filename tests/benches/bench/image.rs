//! The image that all contenders run, and how long images take to load.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Cmd, Entry, Image, Minipod, docker_archive};

use crate::measure::{Cost, cost, measured};
use crate::podman::Podman;
use crate::series::{Series, ratio, table};

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

/// Five layers, 4400 files, 100 MB; half of each file can be compressed, as usual.
fn large() -> Image {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut layers = Vec::new();
    for layer in 0..5 {
        let mut entries = Vec::new();
        for dir in 0..40 {
            entries.push(Entry::Dir(format!("usr/{layer}/{dir}")));
            for file in 0..22 {
                let size = if file == 0 { 300_000 } else { 2_000 + usize::try_from(random() % 16_000).expect("it is small") };
                let mut data = vec![b' '; size];
                data[..size / 2].chunks_exact_mut(8).for_each(|chunk| chunk.copy_from_slice(&random().to_ne_bytes()));
                entries.push(Entry::File(format!("usr/{layer}/{dir}/{file}"), data, 0o644));
            }
        }
        layers.push(entries);
    }
    Image { reference: "localhost/large:1".into(), layers, config: json!({ "Cmd": ["/none"] }) }
}

#[derive(Debug)]
struct Costs {
    wall: Series,
    cpu: Series,
    peak: Series,
}

impl Costs {
    fn new(who: &str) -> Self {
        Self { wall: Series::new(who), cpu: Series::new(who), peak: Series::new(who) }
    }

    fn note(&mut self, cost: &Cost) {
        self.wall.note(cost.wall);
        self.cpu.note(cost.cpu);
        self.peak.note(cost.peak);
    }
}

pub(crate) fn bench(runs: usize) {
    let (mp, podman) = (crate::minipod(), Podman::new());
    let archive = mp.file("large.tar");
    docker_archive(&large(), &archive);
    println!("an archive of {} MB", fs::metadata(&archive).expect("stat the archive").len() / 1_000_000);
    let (mut ours, mut theirs) = (Costs::new("minipod image load"), Costs::new("podman load"));
    for run in 0..=runs {
        // What the one has written must not keep the other waiting.
        let settle = || drop(Cmd::new("sync").run().ok());
        settle();
        let a = cost(measured(testkit::binary()).env("MINIPOD_ROOT", mp.root()).args(["image", "load"]).arg(&archive).run_within(LIMIT));
        mp.ok(&["image", "rm", "localhost/large:1"]);
        settle();
        let b = cost(podman.configured(measured("podman")).args(["load", "-q", "-i"]).arg(&archive).run_within(LIMIT));
        podman.ok(&["rmi", "localhost/large:1"]);
        // The first is not counted: caches are cold.
        if run > 0 {
            ours.note(&a);
            theirs.note(&b);
        }
    }
    for (what, unit, a, b) in [("wall clock", "ms", &ours.wall, &theirs.wall), ("processor", "ms", &ours.cpu, &theirs.cpu), ("peak memory", "MiB", &ours.peak, &theirs.peak)] {
        table(what, unit, &[a, b]);
        ratio(b, a, "");
    }
}
