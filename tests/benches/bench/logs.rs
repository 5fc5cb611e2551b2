//! A container that writes lines as fast as it can: by minipod, by podman (conmon, k8s-file), and into a file without anybody
//! between. All write the same file; the time is from the word to begin until the last line was written.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::process::Process;
use testkit::{Cmd, LIMIT, Minipod, eventually, pod, with};

use crate::image;
use crate::podman::Podman;
use crate::series::{Series, ratio, table};
use crate::start::{seen, told};

/// Of 80 bytes, as lines of logs are.
const LINES: usize = 1 << 20;
/// The file is written so often.
const ROUNDS: usize = 5;

pub(crate) fn bench(runs: usize) {
    let (mp, podman) = (crate::minipod(), Podman::new());
    image::load(&mp, Some(&podman));
    let (seen, fifo) = seen(&mp);
    nix::unistd::mkfifo(&seen.join("go"), nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("make a pipe");
    write_lines(&seen.join("lines"));
    let bytes = (LINES * 80 * ROUNDS) as f64;
    let mut rates = ["minipod", "podman, k8s-file", "cat into a file"].map(Series::new);
    let mut work = ["minipod's shim", "podman's conmon"].map(Series::new);
    for run in 0..=runs {
        let manifest = mp.manifest("loud.json", &loud(&seen).to_string());
        mp.ok(&["run", "-d", &manifest]);
        let ours = flood(&seen, &fifo, &[mp.shim("loud")]);
        whole(&mp.log_dir("loud", "c").join("0.log"));
        mp.ok(&["rm", "-f", "loud"]);
        podman.ok(&["kube", "play", &manifest]);
        let theirs = flood(&seen, &fifo, &podman.conmons());
        whole(&PathBuf::from(podman.ok(&["inspect", "-f", "{{.HostConfig.LogConfig.Path}}", "loud-c"]).trim()));
        podman.ok(&["kube", "down", &manifest]);
        let plain = plain(&mp, &seen);
        // The first is not counted: caches are cold.
        if run > 0 {
            for (series, took) in rates.iter_mut().zip([ours.0, theirs.0, plain]) {
                series.note(bytes / 1e6 / took.as_secs_f64());
            }
            for (series, spent) in work.iter_mut().zip([ours.1, theirs.1]) {
                series.note(spent / (bytes / 1e9));
            }
        }
    }
    let [a, b, c] = &rates;
    table("output", "MB per second", &[a, b, c]);
    ratio(a, b, "");
    println!("  aim: 100 MB/s or more");
    let [a, b] = &work;
    table("processor", "ms per GB of output", &[a, b]);
}

/// Lines that differ.
fn write_lines(path: &Path) {
    let mut text = Vec::with_capacity(LINES * 80);
    for n in 0..LINES {
        writeln!(text, "{n:010} {}", "x".repeat(68)).expect("write to memory");
    }
    fs::write(path, text).expect("write lines");
}

fn loud(seen: &Path) -> Value {
    let files = ["/bench/lines"; ROUNDS].join(" ");
    let script = format!("read x < /bench/go; cat {files}; echo up > /bench/fifo; exec sleep 1000");
    let container = with(image::container("c", &script), json!({ "volumeMounts": [{ "name": "seen", "mountPath": "/bench" }] }));
    with(pod("loud", &[container]), json!({ "spec": { "volumes": [{ "name": "seen", "hostPath": { "path": seen } }] } }))
}

/// Lets the container begin; how long it took, and how many milliseconds of processor time its log cost.
fn flood(seen: &Path, fifo: &fs::File, loggers: &[Process]) -> (Duration, f64) {
    let spent = || loggers.iter().map(|process| processor_time(*process)).sum::<f64>();
    // Opened for both, so as not to wait for the container.
    let mut go = fs::File::options().read(true).write(true).open(seen.join("go")).expect("open the pipe");
    let before = spent();
    let since = Instant::now();
    go.write_all(b"go\n").expect("let it begin");
    told(fifo, 3, String::new);
    (since.elapsed(), spent() - before)
}

/// User and system time in milliseconds (proc_pid_stat(5), fields 14 and 15, in ticks of 10 ms).
fn processor_time(process: Process) -> f64 {
    let stat = process.file("stat").expect("a process that logs");
    let stat = String::from_utf8_lossy(&stat).into_owned();
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields behind the name").split(' ').collect();
    [11, 12].iter().map(|n| fields[*n].parse::<f64>().expect("a number of ticks") * 10.0).sum()
}

/// What the last pipe's worth of it takes to arrive is not part of the time; that it arrives is.
fn whole(log: &Path) {
    let least = (LINES * 80 * ROUNDS) as u64;
    eventually(LIMIT, "the whole output is in the log", || fs::metadata(log).is_ok_and(|log| log.len() > least).then_some(()));
}

fn plain(mp: &Minipod, seen: &Path) -> Duration {
    let files = ["\"$0\""; ROUNDS].join(" ");
    let to = mp.file("plain");
    let output = Cmd::new("sh").args(["-c", &format!("cat {files} > \"$1\"")]).arg(seen.join("lines")).arg(&to).run();
    let took = output.took;
    drop(output.ok());
    fs::remove_file(to).expect("remove the copy");
    took
}
