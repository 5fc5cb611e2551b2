//! Many pods: how fast eight callers start and remove them, and what becomes slower when 300 stand.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testkit::process::Process;
use testkit::{Minipod, pod};

use crate::image;
use crate::memory::pss;
use crate::series::{Series, ratio, table};

const CALLERS: usize = 8;
const AT_ONCE: usize = 100;
const STANDING: usize = 300;

pub(crate) fn bench(samples: usize) {
    // A /22 holds 1021 pods.
    let mp = crate::minipod().with_cidr("10.200.0.0/22");
    image::load(&mp, None);
    let manifests: Vec<String> =
        (0..STANDING).map(|n| mp.manifest(&format!("p{n}.json"), &pod(&format!("p{n}"), &[image::container("c", "exec sleep 100000")]).to_string())).collect();
    let start = |n: usize| drop(mp.ok(&["run", "-d", &manifests[n]]));
    let remove = |n: usize| drop(mp.ok(&["rm", "-f", &format!("p{n}")]));
    // Holds the bridge all the time.
    start(0);
    per_second(&start, &remove, samples);

    let mut at_one = [Series::new("start, one pod standing"), Series::new("removal, one pod standing")];
    sample(&mut at_one, samples, 1, &start, &remove);
    let mut few = Series::new("ps, one pod standing");
    list(&mp, &mut few, samples);
    let before = free_memory();
    by_callers(1..STANDING - 1, &start);
    let mut at_many = [Series::new("start, 299 standing"), Series::new("removal, 299 standing")];
    sample(&mut at_many, samples, STANDING - 1, &start, &remove);
    start(STANDING - 1);
    let memory = (before - free_memory()) / (STANDING - 1) as f64;
    let mut many = Series::new("ps, 300 pods standing");
    list(&mp, &mut many, samples);
    table("one more pod", "ms", &[&at_one[0], &at_many[0], &at_one[1], &at_many[1]]);
    ratio(&at_many[0], &at_one[0], "at most 1.5");
    ratio(&at_many[1], &at_one[1], "");
    table("ps", "ms", &[&few, &many]);
    println!("  aim: under 50 ms with 300 pods");
    shares(&mp);
    println!("  {memory:.0} KiB less free memory a pod, its container and the kernel's part included");
    by_callers(1..STANDING, &remove);
    remove(0);
}

/// Eight threads that take the next number of a range.
fn by_callers(range: std::ops::Range<usize>, work: &(impl Fn(usize) + Sync)) {
    let next = AtomicUsize::new(range.start);
    let caller = || std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)).filter(|n| *n < range.end)).for_each(work);
    thread::scope(|scope| (0..CALLERS).for_each(|_| drop(scope.spawn(caller))));
}

fn per_second(start: &(impl Fn(usize) + Sync), remove: &(impl Fn(usize) + Sync), samples: usize) {
    let (mut up, mut down) = (Series::new("started"), Series::new("removed"));
    let rate = |took: Duration| AT_ONCE as f64 / took.as_secs_f64();
    for _ in 0..samples.div_ceil(5) {
        let since = Instant::now();
        by_callers(1..AT_ONCE + 1, start);
        up.note(rate(since.elapsed()));
        let since = Instant::now();
        by_callers(1..AT_ONCE + 1, remove);
        down.note(rate(since.elapsed()));
    }
    table("100 pods by 8 callers", "pods per second", &[&up, &down]);
}

fn sample(into: &mut [Series; 2], samples: usize, n: usize, start: &impl Fn(usize), remove: &impl Fn(usize)) {
    for run in 0..crate::WARM_UP + samples {
        let since = Instant::now();
        start(n);
        let up = since.elapsed();
        let since = Instant::now();
        remove(n);
        let down = since.elapsed();
        if run >= crate::WARM_UP {
            into[0].took(up);
            into[1].took(down);
        }
    }
}

fn list(mp: &Minipod, into: &mut Series, samples: usize) {
    for run in 0..crate::WARM_UP + samples {
        let output = mp.run(&["ps"]);
        if run >= crate::WARM_UP {
            into.took(output.took);
        }
        drop(output.ok());
    }
}

/// The shares of all pauses and shims at this moment.
fn shares(mp: &Minipod) {
    let (mut pauses, mut shims) = (Series::new("pause"), Series::new("shim"));
    let list: serde_json::Value = serde_json::from_str(&mp.ok(&["ps", "-o", "json"])).expect("ps prints JSON");
    for pod in list["items"].as_array().into_iter().flatten() {
        for (name, series) in [("pause-pid", &mut pauses), ("shim-pid", &mut shims)] {
            let pid = pod["metadata"]["annotations"][format!("minipod.dev/{name}")].as_str().and_then(|pid| pid.parse().ok());
            series.note(pss(Process(pid.expect("a process id"))));
        }
    }
    table("memory with 300 pods", "KiB of PSS", &[&pauses, &shims]);
}

/// KiB.
fn free_memory() -> f64 {
    let text = fs::read_to_string("/proc/meminfo").expect("read /proc/meminfo");
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).expect("MemAvailable");
    line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
}
