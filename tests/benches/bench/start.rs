//! A pod of two containers by minipod, by the floor and by podman, in turn: the same manifest, image and machine.
//!
//! Start: from exec of the command until both containers have executed their entry point, which is a shell that writes a word
//! into a pipe. Removal: from exec of the command until it has ended.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};
use testkit::{Cmd, LIMIT, Minipod, pod, with};

use crate::image;
use crate::podman::Podman;
use crate::series::{Series, ratio, table};

const SCRIPT: &str = "echo up > /bench/fifo; exec sleep 1000";

pub(crate) fn bench(runs: usize) {
    let (mp, podman) = (crate::minipod(), Podman::new());
    image::load(&mp, Some(&podman));
    // Holds the bridge, and has the image unpacked, as on a host that runs pods.
    mp.up(&pod("holds", &[image::container("c", "exec sleep 100000")]));
    let bench = Bench::new(&mp);
    let contenders = ["minipod", "floor", "podman kube play/down"];
    let (mut starts, mut removals) = (contenders.map(Series::new), contenders.map(Series::new));
    for run in 0..crate::WARM_UP + runs {
        let times = [bench.minipod(&mp), bench.floor(&mp, run), bench.podman(&podman)];
        if run >= crate::WARM_UP {
            for (n, (start, removal)) in times.into_iter().enumerate() {
                starts[n].took(start);
                removals[n].took(removal);
            }
        }
    }
    let [a, b, c] = &starts;
    table("start", "ms", &[a, b, c]);
    ratio(a, b, "at most 3.5 on cgroup v1, 2.5 on v2");
    ratio(c, a, "at least 20");
    let [a, b, c] = &removals;
    table("removal", "ms", &[a, b, c]);
    ratio(a, b, "");
    ratio(c, a, "at least 10");
    mp.ok(&["rm", "-f", "holds"]);
}

/// A pod of two containers that tell when they run, with the directory in which they do.
pub(crate) fn two(name: &str, seen: &Path) -> Value {
    let mounted = |name: &str| {
        let mounts = json!({ "volumeMounts": [{ "name": "seen", "mountPath": "/bench" }] });
        with(image::container(name, SCRIPT), mounts)
    };
    let mut manifest: Value = pod(name, &[mounted("a"), mounted("b")]);
    manifest["spec"]["volumes"] = json!([{ "name": "seen", "hostPath": { "path": seen } }]);
    manifest
}

/// A directory with a pipe, and the pipe's other end.
pub(crate) fn seen(mp: &Minipod) -> (PathBuf, File) {
    let seen = mp.file("seen");
    fs::create_dir(&seen).expect("make a directory");
    let path = seen.join("fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("make a pipe");
    let fifo = File::options().read(true).write(true).open(&path).expect("open the pipe");
    (seen, fifo)
}

/// Waits until `bytes` have come through the pipe.
pub(crate) fn told(mut fifo: &File, bytes: usize, otherwise: impl Fn() -> String) {
    let mut seen = 0;
    while seen < bytes {
        let timeout = Timespec { tv_sec: 60, tv_nsec: 0 };
        let ready = poll(&mut [PollFd::from_borrowed_fd(fifo.as_fd(), PollFlags::IN)], Some(&timeout)).expect("wait");
        assert!(ready > 0, "the containers did not tell: {}", otherwise());
        seen += fifo.read(&mut [0; 64]).expect("read");
    }
}

struct Bench {
    /// The directory with the pipe.
    seen: PathBuf,
    fifo: File,
    manifest: String,
    /// The unpacked image.
    root: PathBuf,
    floor: PathBuf,
}

impl Bench {
    fn new(mp: &Minipod) -> Self {
        let (seen, fifo) = seen(mp);
        let manifest = mp.manifest("two.json", &two("two", &seen).to_string());
        let floor = testkit::binary().with_file_name("minipod-floor");
        Self { seen, fifo, manifest, root: unpacked(mp), floor }
    }

    /// Waits until both containers have written their line.
    fn both_up(&self, since: Instant) -> Duration {
        told(&self.fifo, 6, || self.logs());
        since.elapsed()
    }

    /// What the floor's containers have said.
    fn logs(&self) -> String {
        let dir = self.seen.parent().unwrap_or(&self.seen);
        let logs = (0..1000).flat_map(|run| ["a", "b"].map(|name| dir.join(format!("{}-{run}/{name}/log", std::process::id()))));
        logs.filter_map(|path| fs::read_to_string(path).ok()).collect()
    }

    fn minipod(&self, mp: &Minipod) -> (Duration, Duration) {
        let command = mp.cmd().args(["run", "-d", &self.manifest]);
        let since = Instant::now();
        let running = command.spawn();
        let start = self.both_up(since);
        drop(running.finish(LIMIT).ok());
        let removal = mp.run(&["rm", "-f", "two"]);
        let took = removal.took;
        drop(removal.ok());
        (start, took)
    }

    fn floor(&self, mp: &Minipod, run: usize) -> (Duration, Duration) {
        // Next to the directory that holds the pipe: the floor binds it as /bench.
        let state = self.seen.with_file_name(format!("{}-{run}", std::process::id()));
        fs::create_dir_all(&state).expect("make the floor's state");
        let gateway = mp.gateway();
        let address = format!("{}.250/24", gateway.rsplit_once('.').expect("an address").0);
        let command = Cmd::new(&self.floor).arg("up").arg(&self.root).arg(&state).arg(mp.bridge()).arg(address);
        let since = Instant::now();
        let running = command.spawn();
        let start = self.both_up(since);
        drop(running.finish(LIMIT).ok());
        let removal = Cmd::new(&self.floor).arg("down").arg(&state).run();
        let took = removal.took;
        drop(removal.ok());
        (start, took)
    }

    fn podman(&self, podman: &Podman) -> (Duration, Duration) {
        let command = podman.cmd().args(["kube", "play", &self.manifest]);
        let since = Instant::now();
        let running = command.spawn();
        let start = self.both_up(since);
        drop(running.finish(LIMIT).ok());
        let removal = podman.run(&["kube", "down", &self.manifest]);
        let took = removal.took;
        drop(removal.ok());
        (start, took)
    }
}

/// The unpacked layer of the image: found in the mounts of the pod that holds the bridge.
fn unpacked(mp: &Minipod) -> PathBuf {
    let text = mp.container("holds", "c").file("mountinfo").expect("mounts of a container");
    let text = String::from_utf8(text).expect("UTF-8");
    let root = text.lines().find(|line| line.contains(" - overlay ")).and_then(|line| line.split("lowerdir=").nth(1));
    let lower = root.and_then(|rest| rest.split([',', ':']).next());
    match lower {
        Some(lower) if Path::new(lower).is_dir() => lower.into(),
        other => find_root(&mp.root().join("lib/images")).unwrap_or_else(|| panic!("no unpacked image, neither in {other:?} nor in the store")),
    }
}

fn find_root(dir: &Path) -> Option<PathBuf> {
    if dir.join("bin/busybox").symlink_metadata().is_ok() {
        return Some(dir.to_owned());
    }
    let entries = fs::read_dir(dir).ok()?;
    entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir() && !path.is_symlink()).find_map(|path| find_root(&path))
}
