//! SIGKILL at moments that nobody chose, in the middle of other pods' lives.

use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::process::Signal;
use testkit::process::Process;
use testkit::{FOREVER, LIMIT, Minipod, Running, container, pod};

/// Pods at once.
const WORKERS: u64 = 8;
/// Of each worker; 104 in all.
const ROUNDS: u64 = 13;

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Command,
    Shim,
    Launcher,
    Pause,
    /// Then the pod must come up and stay, whatever is removed around it.
    Nobody,
}

const VICTIMS: [Victim; 8] = [Victim::Shim, Victim::Command, Victim::Shim, Victim::Launcher, Victim::Nobody, Victim::Shim, Victim::Pause, Victim::Command];

/// 104 rounds; set `MINIPOD_SEED` to have one run's choices again (though not its schedule).
#[test]
fn whatever_is_killed_whenever_gc_removes_it_and_nothing_else() {
    let Some(mp) = Minipod::new() else { return };
    let seed = std::env::var("MINIPOD_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    eprintln!("MINIPOD_SEED={seed}");
    // How long a start takes here and now.
    let began = Instant::now();
    mp.up(&pod("first", &[container("c", FOREVER)]));
    let start = began.elapsed();
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let mp = &mp;
            scope.spawn(move || {
                let mut rng = Rng::with_seed(seed.wrapping_add(worker));
                for round in 0..ROUNDS {
                    live_and_die(mp, &mut rng, &format!("p{worker}-{round}"), start);
                }
            });
        }
    });
    assert_eq!(mp.sh("first", "echo untouched"), "untouched");
    drop(mp.ok(&["rm", "-f", "first"]));
    drop(mp.ok(&["gc"]));
    assert!(mp.pods().is_empty(), "{:?}", mp.pods());
    mp.assert_clean();
}

/// One pod's life, cut short somewhere between its first and twice its last moment.
fn live_and_die(mp: &Minipod, rng: &mut Rng, name: &str, start: Duration) {
    let manifest = mp.manifest(&format!("{name}.json"), &pod(name, &[container("a", FOREVER), container("b", FOREVER)]).to_string());
    let victim = VICTIMS[rng.usize(..VICTIMS.len())];
    let command = mp.cmd().args(["run", "-d", &manifest]).spawn();
    if victim == Victim::Nobody {
        drop(command.finish(LIMIT).ok());
        drop(mp.ok(&["gc"]));
        assert_eq!(mp.sh(&format!("{name}/a"), "echo alive"), "alive");
    } else {
        // The moment is the test's subject, not a wait for something.
        std::thread::sleep(start.mul_f64(2.0 * rng.f64()));
        kill(victim, mp, name, &command);
        let ended = command.finish(LIMIT);
        // A shim may be done, or its pod be restarted, before we come.
        assert!([0, 125, 137].contains(&ended.code()), "{name}, {victim:?}: {ended}");
    }
    if rng.bool() {
        drop(mp.ok(&["gc"]));
    }
    let removed = mp.run(&["rm", "-f", name]);
    assert_eq!(removed.code(), 0, "{name}, {victim:?}: {removed}");
}

/// Kills what is there by now; a pod may have come further or less far than the victim.
fn kill(victim: Victim, mp: &Minipod, name: &str, command: &Running) {
    // The command's child, or once the command is done, whom the pod names.
    let shim = || children(Process(command.pid())).into_iter().next().or_else(|| named_shim(mp, name));
    let below = |name: &str| shim().into_iter().flat_map(children).find(|p| p.cmdline().first().is_some_and(|first| first.contains(name)));
    match victim {
        Victim::Command => command.signal(Signal::KILL),
        Victim::Shim => shim().into_iter().for_each(Process::kill),
        Victim::Launcher => below("launcher").into_iter().for_each(Process::kill),
        Victim::Pause => below("/pause").into_iter().for_each(Process::kill),
        Victim::Nobody => {}
    }
}

fn named_shim(mp: &Minipod, name: &str) -> Option<Process> {
    let inspected = mp.run(&["inspect", "-o", "json", name]);
    let inspected: serde_json::Value = serde_json::from_str(&inspected.stdout).ok()?;
    inspected["metadata"]["annotations"]["minipod.dev/shim-pid"].as_str()?.parse().ok().map(Process)
}

fn children(process: Process) -> Vec<Process> {
    let text = process.file(&format!("task/{}/children", process.0)).unwrap_or_default();
    String::from_utf8_lossy(&text).split_whitespace().filter_map(|pid| pid.parse().ok().map(Process)).collect()
}
