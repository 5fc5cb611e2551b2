//! Pulling an image from a registry on the loopback into an empty store, beside podman and containerd.

use std::fs;
use std::path::Path;
use std::time::Duration;

use testkit::{Access, Image, Minipod, Registry};

use crate::containerd::Containerd;
use crate::image::{Size, large};
use crate::measure::{Cost, cost, measured};
use crate::podman::Podman;
use crate::race::{Contender, race};
use crate::series::{Series, table};

/// For one pull.
const LIMIT: Duration = Duration::from_secs(120);

/// Allows plain http to a registry; minipod and podman read the same.
fn settings(mp: &Minipod, address: &str) -> String {
    mp.manifest("registries.toml", &format!("[[registry]]\nlocation = \"{address}\"\ninsecure = true\n"))
}

fn ours(mp: &Minipod, settings: &str, name: &str) -> Cost {
    let cmd = measured(testkit::binary()).env("MINIPOD_ROOT", mp.root()).env("MINIPOD_REGISTRIES", settings);
    cost(cmd.args(["image", "pull", "-q", name]).run_within(LIMIT))
}

fn remove_ours(mp: &Minipod, name: &str) {
    for args in [&["image", "rm", name][..], &["gc"]] {
        drop(mp.cmd().args(args).run_within(LIMIT).ok());
    }
    let layers = fs::read_dir(mp.root().join("lib/images/layers/sha256")).expect("list layers").count();
    assert_eq!(layers, 0, "the next pull finds nothing");
}

fn fill(registry: &Registry, size: Size, name: &str) -> String {
    let image: Image = large(size);
    let written = registry.fill(&image, name);
    let pressed: u64 = written.sizes.iter().sum();
    let (layers, plain, pressed) = (written.sizes.len(), size.bytes() / 1_000_000, pressed / 1_000_000);
    println!("{name}: {layers} layers, {plain} MB, {pressed} MB as they are stored");
    registry.name(name)
}

pub(crate) fn bench(runs: usize) {
    let (mp, podman) = (crate::minipod(), Podman::new());
    // After the installation, whose thread is in the network of the benchmark, and gone before it.
    let containerd = Containerd::new();
    let registry = Registry::start(mp.file("registry"), Access::Open)
        .expect("scripts/setup --bench installs docker-registry and skopeo");
    let settings = settings(&mp, &registry.address());
    let name = fill(&registry, Size::Large, "large:1");
    let podman_pulls = || {
        let cmd = podman.configured(measured("podman").env("CONTAINERS_REGISTRIES_CONF", Path::new(&settings)));
        cost(cmd.args(["pull", "-q", &name]).run_within(LIMIT))
    };
    let podman_removes = || drop(podman.ok(&["rmi", &name]));
    race(runs, &[
        Contender { who: "minipod image pull", work: &|| ours(&mp, &settings, &name), undo: &|| remove_ours(&mp, &name) },
        Contender { who: "podman pull", work: &podman_pulls, undo: &podman_removes },
        Contender {
            who: "ctr images pull", work: &|| containerd.cost(&["images", "pull", "--plain-http", &name]),
            undo: &|| containerd.remove(&name),
        },
    ], "more than 1");

    let small = fill(&registry, Size::Medium, "medium:1");
    let mut peaks = [Series::new("minipod, 100 MB in 5 layers"), Series::new("minipod, 500 MB in 12 layers")];
    for _ in 0..runs {
        for (series, name) in peaks.iter_mut().zip([&small, &name]) {
            series.note(ours(&mp, &settings, name).peak);
            remove_ours(&mp, name);
        }
    }
    table("peak memory by size", "MiB", &peaks.each_ref());
    println!("  aim: the same for both");
}
