//! Many pods, and many callers at once. Nothing here looks at a clock: how fast it goes is for `scripts/bench load`.

use std::collections::{BTreeSet, HashMap};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::Value;
use testkit::{Cmd, FOREVER, Minipod, Output, container, pod};

const CALLERS: usize = 8;
const PODS: usize = 100;

/// Eight threads that each take the next of `count` numbers, until there is none.
fn by_callers<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let caller = || {
        let numbers = std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)).filter(|n| *n < count));
        numbers.map(&work).collect::<Vec<T>>()
    };
    thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(caller)).collect();
        callers.into_iter().flat_map(|caller| caller.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

/// The addresses that the kernel has in a pod's network, by its own table (proc_pid_net(5), `fib_trie`).
fn local_addresses(process: u32) -> BTreeSet<String> {
    let text = std::fs::read_to_string(format!("/proc/{process}/net/fib_trie")).expect("read the routes of a pod");
    let mut found = BTreeSet::new();
    let mut address = "";
    for line in text.lines().map(str::trim) {
        match line.strip_prefix("|-- ") {
            Some(leaf) => address = leaf,
            None if line == "/32 host LOCAL" && !address.starts_with("127.") => drop(found.insert(address.to_owned())),
            None => {}
        }
    }
    found
}

/// Ports of the bridge, as the kernel has them.
fn ports(mp: &Minipod) -> usize {
    let text = Cmd::new("ip").args(["-j", "link", "show", "master", mp.bridge()]).run().ok();
    let links: Value = serde_json::from_str(&text).expect("ip speaks JSON");
    links.as_array().map_or(0, |links| links.iter().filter(|link| link["ifname"].is_string()).count())
}

fn list(mp: &Minipod) -> Vec<Value> {
    let list: Value = serde_json::from_str(&mp.ok(&["ps", "-a", "-o", "json"])).expect("ps prints JSON");
    list["items"].as_array().expect("items of a list").clone()
}

#[test]
fn a_hundred_pods_come_and_go_by_eight_callers() {
    let Some(mp) = Minipod::new() else { return };
    let name = |n: usize| format!("p{n}");
    let manifests: Vec<String> =
        (0..PODS).map(|n| mp.manifest(&format!("{}.json", name(n)), &pod(&name(n), &[container("c", FOREVER)]).to_string())).collect();
    let started = by_callers(PODS, |n| mp.ok(&["run", "-d", &manifests[n]]));
    assert_eq!(started.len(), PODS);

    let pods = list(&mp);
    let of = |pod: &Value, path: &str| pod.pointer(path).and_then(Value::as_str).unwrap_or_else(|| panic!("no {path} in {pod:#}")).to_owned();
    let names: BTreeSet<String> = pods.iter().map(|pod| of(pod, "/metadata/name")).collect();
    assert_eq!(names, (0..PODS).map(name).collect(), "none is lost");
    assert!(pods.iter().all(|pod| of(pod, "/status/phase") == "Running"), "all run");
    let addresses: HashMap<String, String> = pods.iter().map(|pod| (of(pod, "/status/podIP"), of(pod, "/metadata/name"))).collect();
    assert_eq!(addresses.len(), PODS, "addresses are distinct");
    for pod in &pods {
        let pause = of(pod, "/metadata/annotations/minipod.dev~1pause-pid").parse().expect("a process id");
        assert_eq!(local_addresses(pause), BTreeSet::from([of(pod, "/status/podIP")]), "the kernel agrees");
    }
    assert_eq!(ports(&mp), PODS);

    // Somebody looks on while they go: that must neither fail nor be in anybody's way.
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        let onlooker = scope.spawn(|| {
            while done.load(Ordering::Relaxed) < PODS {
                list(&mp);
            }
        });
        by_callers(PODS, |n| {
            let removed = mp.run(&["rm", "-f", &name(n)]);
            done.fetch_add(1, Ordering::Relaxed); // before a failure: the onlooker is to end in any case
            removed.ok()
        });
        onlooker.join().expect("ps never fails");
    });
    assert!(mp.pods().is_empty());
    mp.assert_clean();
}

/// Every caller starts the same names in the same order, so they meet at each.
#[test]
fn of_callers_with_the_same_names_one_wins_each() {
    const NAMES: usize = 6;
    let Some(mp) = Minipod::new() else { return };
    let manifests = same_names(&mp, NAMES);
    let started = at_once(|_| manifests.iter().map(|path| mp.run(&["run", "-d", path])).collect::<Vec<Output>>());
    for (n, manifest) in manifests.iter().enumerate() {
        let (won, lost): (Vec<_>, Vec<_>) = started.iter().map(|by_one| &by_one[n]).partition(|output| output.code() == 0);
        assert_eq!(won.len(), 1, "{manifest}: {won:?} {lost:?}");
        for output in lost {
            let said = output.clone().fails(125);
            assert!(said.contains(&format!("same{n}")) && said.contains("exists"), "{said}");
        }
    }
    assert_eq!(list(&mp).len(), NAMES);
    let removed = at_once(|_| (0..NAMES).map(|n| mp.run(&["rm", "-f", &format!("same{n}")])).collect::<Vec<Output>>());
    for output in removed.into_iter().flatten() {
        gone_or_removed(output);
    }
    assert!(mp.pods().is_empty());
    mp.assert_clean();
}

/// Starts and removals of the same names run into each other at every stage of a pod's life.
#[test]
fn callers_that_start_and_remove_the_same_names_leave_nothing() {
    const NAMES: usize = 3;
    const ROUNDS: usize = 4;
    let Some(mp) = Minipod::new() else { return };
    let manifests = same_names(&mp, NAMES);
    let outputs = at_once(|caller| {
        let mut outputs = Vec::new();
        for round in 0..ROUNDS {
            let n = (caller + round) % NAMES;
            let started = mp.run(&["run", "-d", &manifests[n]]);
            let removed = mp.run(&["rm", "-f", &format!("same{n}")]);
            outputs.push((n, started, removed));
        }
        outputs
    });
    for (n, started, removed) in outputs.into_iter().flatten() {
        // Somebody else has the name, or removed the pod before it was up; either way the command says of which pod it speaks.
        if started.code() != 0 {
            let said = started.fails(125);
            assert!(said.contains(&format!("same{n}")), "{said}");
        }
        gone_or_removed(removed);
    }
    assert!(mp.pods().is_empty(), "each caller removes last");
    mp.assert_clean();
}

fn same_names(mp: &Minipod, count: usize) -> Vec<String> {
    (0..count).map(|n| mp.manifest(&format!("same{n}.json"), &pod(&format!("same{n}"), &[container("c", FOREVER)]).to_string())).collect()
}

fn at_once<T: Send>(work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let barrier = Barrier::new(CALLERS);
    thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|n| {
                let (barrier, work) = (&barrier, &work);
                scope.spawn(move || {
                    barrier.wait();
                    work(n)
                })
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

fn gone_or_removed(output: Output) {
    if output.code() != 0 {
        let said = output.fails(125);
        assert!(said.contains("no such pod"), "{said}");
    }
}
