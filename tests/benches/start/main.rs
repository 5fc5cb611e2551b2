//! `minipod-bench [RUNS]`: a pod of two containers by minipod and by the floor, in turn, on the same bridge and the same root.
//!
//! Start: from exec of the command until both containers have executed their entry point, which is a shell that writes a word
//! into a pipe. Removal: from exec of the command until it has ended. Medians and minima, in milliseconds.
#![deny(unsafe_code)]

use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};
use testkit::{Cmd, FOREVER, LIMIT, Minipod, container, pod};

/// Runs of each, unless told.
const RUNS: usize = 30;
/// Not counted: caches are cold.
const WARM_UP: usize = 3;
const SCRIPT: &str = "echo up > /bench/fifo; exec sleep 1000";

fn main() {
    let runs = std::env::args().nth(1).map_or(RUNS, |n| n.parse().expect("a number of runs"));
    let mp = Minipod::new().expect("the benchmark needs root, ip and nft");
    // Holds the bridge, and has the image unpacked, as on a host that runs pods.
    mp.up(&pod("holds", &[container("c", FOREVER)]));
    let bench = Bench::new(&mp);
    let (mut ours, mut floor) = (Times::default(), Times::default());
    for run in 0..WARM_UP + runs {
        let (a, b) = (bench.minipod(&mp), bench.floor(&mp, run));
        if run >= WARM_UP {
            ours.note(a);
            floor.note(b);
        }
    }
    println!("{runs} runs, milliseconds        start min  median   removal min  median");
    ours.print("minipod");
    floor.print("floor");
    let ratio = |ours: &[f64], floor: &[f64]| median(ours) / median(floor);
    println!("ratio of medians             {:16.2} {:22.2}", ratio(&ours.start, &floor.start), ratio(&ours.removal, &floor.removal));
    mp.ok(&["rm", "-f", "holds"]);
}

struct Bench {
    /// The directory with the pipe.
    seen: PathBuf,
    fifo: File,
    manifest: String,
    /// Unpacked toolbox.
    root: PathBuf,
    floor: PathBuf,
}

impl Bench {
    fn new(mp: &Minipod) -> Self {
        let seen = mp.file("seen");
        fs::create_dir(&seen).expect("make a directory");
        let path = seen.join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("make a pipe");
        let fifo = File::options().read(true).write(true).open(&path).expect("open the pipe");
        let mounted = |name: &str| {
            let mounts = json!({ "volumeMounts": [{ "name": "seen", "mountPath": "/bench" }] });
            testkit::with(container(name, SCRIPT), mounts)
        };
        let mut manifest: Value = pod("two", &[mounted("a"), mounted("b")]);
        manifest["spec"]["volumes"] = json!([{ "name": "seen", "hostPath": { "path": seen } }]);
        let manifest = mp.manifest("two.json", &manifest.to_string());
        let floor = testkit::binary().with_file_name("minipod-floor");
        Self { seen, fifo, manifest, root: toolbox_root(mp), floor }
    }

    /// Waits until both containers have written their line.
    fn both_up(&self, since: Instant) -> Duration {
        let mut seen = 0;
        let mut fifo = &self.fifo;
        while seen < 6 {
            let timeout = Timespec { tv_sec: 20, tv_nsec: 0 };
            let ready = poll(&mut [PollFd::from_borrowed_fd(fifo.as_fd(), PollFlags::IN)], Some(&timeout)).expect("wait");
            assert!(ready > 0, "the containers did not start: {}", self.logs());
            seen += fifo.read(&mut [0; 64]).expect("read");
        }
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
        // Read to its end first: it ends when the containers are cloned, and says why it failed.
        drop(command.spawn().finish(LIMIT).ok());
        let start = self.both_up(since);
        let removal = Cmd::new(&self.floor).arg("down").arg(&state).run();
        let took = removal.took;
        drop(removal.ok());
        (start, took)
    }
}

/// The unpacked layer of the toolbox: found in the mounts of the pod that holds the bridge.
fn toolbox_root(mp: &Minipod) -> PathBuf {
    let text = mp.container("holds", "c").file("mountinfo").expect("mounts of a container");
    let text = String::from_utf8(text).expect("UTF-8");
    let root = text.lines().find(|line| line.contains(" - overlay ")).and_then(|line| line.split("lowerdir=").nth(1));
    let lower = root.and_then(|rest| rest.split([',', ':']).next());
    match lower {
        Some(lower) if Path::new(lower).is_dir() => lower.into(),
        other => find_root(&mp.root().join("lib/images")).unwrap_or_else(|| panic!("no unpacked toolbox, neither in {other:?} nor in the store")),
    }
}

fn find_root(dir: &Path) -> Option<PathBuf> {
    if dir.join("bin/sh").symlink_metadata().is_ok() {
        return Some(dir.to_owned());
    }
    let entries = fs::read_dir(dir).ok()?;
    entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir() && !path.is_symlink()).find_map(|path| find_root(&path))
}

#[derive(Default)]
struct Times {
    start: Vec<f64>,
    removal: Vec<f64>,
}

impl Times {
    fn note(&mut self, (start, removal): (Duration, Duration)) {
        self.start.push(start.as_secs_f64() * 1000.0);
        self.removal.push(removal.as_secs_f64() * 1000.0);
    }

    fn print(&self, who: &str) {
        let least = |times: &[f64]| times.iter().copied().fold(f64::INFINITY, f64::min);
        println!("{who:24} {:14.2} {:7.2} {:13.2} {:7.2}", least(&self.start), median(&self.start), least(&self.removal), median(&self.removal));
    }
}

fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
