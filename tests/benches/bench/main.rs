//! `minipod-bench SUBJECT [RUNS]`: minipod beside the bare system calls, podman, crun and containerd, on one machine in one run.
//!
//! The contenders take turns, so that whatever else the machine does meets all of them. Minima, medians and the ratios of both;
//! the aim stands beside the ratio. Nothing fails for being slow: this is for people, on a machine that does nothing else.
#![deny(unsafe_code)]

mod containerd;
mod exec;
mod image;
mod load;
mod logs;
mod measure;
mod memory;
mod podman;
mod pull;
mod race;
mod series;
mod start;

use testkit::Minipod;

/// Not counted: caches are cold.
const WARM_UP: usize = 3;

/// What can be asked for.
struct Subject {
    name: &'static str,
    what: &'static str,
    bench: fn(usize),
    /// Runs, unless told (`memory`: pods).
    usual: usize,
}

const SUBJECTS: [Subject; 7] = [
    Subject { name: "start", what: "start and removal of a pod of two containers", bench: start::bench, usual: 30 },
    Subject { name: "exec", what: "a trivial command in a running container", bench: exec::bench, usual: 50 },
    Subject { name: "image", what: "loading an image archive", bench: image::bench, usual: 5 },
    Subject { name: "pull", what: "pulling an image from a registry", bench: pull::bench, usual: 5 },
    Subject { name: "memory", what: "what a pod costs while it does nothing", bench: memory::bench, usual: 10 },
    Subject { name: "load", what: "many pods: pods per second, the 300th pod, ps", bench: load::bench, usual: 15 },
    Subject { name: "logs", what: "a container that writes as fast as it can", bench: logs::bench, usual: 3 },
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["measure", ref command @ ..] => measure::child(command),
        [subject] | [subject, _] => {
            let runs = args.get(1).map(|n| n.parse().expect("a number of runs"));
            let chosen: Vec<_> = SUBJECTS.iter().filter(|one| subject == "all" || one.name == subject).collect();
            if chosen.is_empty() {
                usage();
            }
            println!("load {}", std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim());
            for Subject { name, what, bench, usual } in chosen {
                println!("\n== {name}: {what}");
                bench(runs.unwrap_or(*usual));
            }
        }
        _ => usage(),
    }
}

fn usage() -> ! {
    let names: Vec<&str> = SUBJECTS.iter().map(|one| one.name).collect();
    eprintln!("usage: minipod-bench {}|all [RUNS]", names.join("|"));
    std::process::exit(2);
}

/// A private installation on a private network.
fn minipod() -> Minipod {
    Minipod::new().expect("the benchmark needs root, ip and nft")
}
