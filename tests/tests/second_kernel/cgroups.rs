//! cgroup v2 and nothing else, with all its controllers, as a current distribution has it.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::guest::Guest;
use testkit::{FOREVER, container, eventually, pod, with};

use super::{minipod, ok, on_minipod_alone};

const PATIENCE: Duration = Duration::from_secs(60);
const ROOT: &str = "/sys/fs/cgroup";

/// Starts the pods of a manifest.
fn up(guest: &mut Guest, manifest: &Value) {
    guest.write("/tmp/pod.json", &manifest.to_string());
    ok(guest, "run -d /tmp/pod.json");
}

fn inspect(guest: &mut Guest, name: &str) -> Value {
    let text = ok(guest, &format!("inspect {name} -o json"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("inspect prints JSON: {e}\n{text}"))
}

fn annotation(pod: &Value, name: &str) -> String {
    pod["metadata"]["annotations"][format!("minipod.dev/{name}")].as_str().unwrap_or_else(|| panic!("no {name} in {pod:#}")).to_owned()
}

/// The directory of a container's cgroup, as the kernel tells it of the container's process.
fn cgroup(guest: &mut Guest, pod: &Value, container: &str) -> String {
    let pid = annotation(pod, &format!("pid.{container}"));
    let text = guest.read(&format!("/proc/{pid}/cgroup"));
    format!("{ROOT}{}", text.strip_prefix("0::").unwrap_or_else(|| panic!("v2 has one line, of hierarchy 0: {text:?}")))
}

/// Delegation from the root down to the pod, and not into a container, which has members.
fn controllers_are_delegated(guest: &mut Guest, of_container: &str) {
    let dirs = [ROOT.to_owned(), parent(&parent(of_container)), parent(of_container)];
    assert_eq!(parent(&dirs[1]), ROOT);
    for dir in dirs {
        let enabled = guest.read(&format!("{dir}/cgroup.subtree_control"));
        for controller in ["cpu", "memory", "pids"] {
            assert!(enabled.split(' ').any(|name| name == controller), "{controller} in {dir}: {enabled:?}");
        }
    }
    assert_eq!(guest.read(&format!("{of_container}/cgroup.subtree_control")), "");
}

fn parent(dir: &str) -> String {
    dir.rsplit_once('/').expect("a path").0.to_owned()
}

/// No cgroup of a pod is left, and the processes are gone.
fn gone(guest: &mut Guest, pids: &[String]) {
    assert_eq!(guest.names(&format!("{ROOT}/minipod")), [""; 0]);
    for pid in pids {
        assert!(guest.try_read(&format!("/proc/{pid}/stat")).is_err(), "{pid} lives");
    }
}

#[test]
fn limits_hold_and_all_of_it_goes() {
    let Some((mut guest, _)) = on_minipod_alone() else { return };
    this_is_v2_with_every_capability(&mut guest);
    limits(&mut guest);
    out_of_memory(&mut guest);
    killed_by_cgroup(&mut guest);
    let console = guest.power_off();
    assert!(console.contains("written by privileged") && !console.contains("written by capable"), "{console}");
}

fn this_is_v2_with_every_capability(guest: &mut Guest) {
    let mounts = guest.read("/proc/self/mountinfo");
    let kinds: Vec<&str> = mounts.lines().filter_map(|line| line.split(" - ").nth(1)?.split(' ').next()).filter(|kind| kind.starts_with("cgroup")).collect();
    assert_eq!(kinds, ["cgroup2"]);
    let last: u32 = guest.read("/proc/sys/kernel/cap_last_cap").parse().expect("a number");
    let status = guest.read("/proc/1/status");
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).expect("a set");
    assert_eq!(u64::from_str_radix(effective, 16).ok(), Some((1 << (last + 1)) - 1), "{effective}");
}

fn limits(guest: &mut Guest) {
    let limits = json!({ "resources": { "limits": { "memory": "64Mi", "cpu": "250m" }, "requests": { "cpu": "100m" } } });
    let privileged = json!({ "securityContext": { "privileged": true } });
    let capable = json!({ "securityContext": { "capabilities": { "add": ["MKNOD"] } } });
    let containers = [("c", limits), ("free", json!({})), ("privileged", privileged), ("capable", capable)];
    up(guest, &pod("limited", &containers.map(|(name, more)| with(container(name, FOREVER), more))));
    let pod = inspect(guest, "limited");
    let (limited, free) = (cgroup(guest, &pod, "c"), cgroup(guest, &pod, "free"));
    controllers_are_delegated(guest, &limited);
    // 100m are 102 shares, and those the weight 4 (KEP-2254).
    for (file, wanted) in [("memory.max", "67108864"), ("memory.swap.max", "0"), ("cpu.max", "25000 100000"), ("cpu.weight", "4")] {
        assert_eq!(guest.read(&format!("{limited}/{file}")), wanted, "{file}");
    }
    for (file, wanted) in [("memory.max", "max"), ("cpu.max", "max 100000")] {
        assert_eq!(guest.read(&format!("{free}/{file}")), wanted, "{file} without limits");
    }
    let pid = annotation(&pod, "pid.c");
    assert_eq!(guest.read(&format!("{limited}/cgroup.procs")).lines().next(), Some(&*pid));

    // With CAP_SYS_RESOURCE the shim and pause are spared by the OOM killer; a container and what is executed in it are not.
    for (process, wanted) in [("shim-pid", "-998"), ("pause-pid", "-998"), ("pid.c", "0")] {
        let pid = annotation(&pod, process);
        assert_eq!(guest.read(&format!("/proc/{pid}/oom_score_adj")), wanted, "{process}");
    }

    // A container sees its own cgroup as the root, and cannot raise its limits.
    let inside = |guest: &mut Guest, container: &str, script: &str| minipod(guest, &format!("exec limited/{container} -- sh -c '{script}'"));
    assert_eq!(inside(guest, "c", "cat /proc/self/cgroup /sys/fs/cgroup/memory.max").ok(), "0::/\n67108864\n");
    assert_eq!(inside(guest, "c", "cat /proc/self/oom_score_adj; echo -500 > /proc/self/oom_score_adj || echo denied").stdout, "0\ndenied\n");
    let denied = inside(guest, "c", "echo max > /sys/fs/cgroup/memory.max").fails(1);
    assert!(denied.to_lowercase().contains("read-only"), "{denied}");
    assert_eq!(inside(guest, "c", "mkdir /sys/fs/cgroup/own").code(), 1);
    drop(inside(guest, "privileged", "mkdir /sys/fs/cgroup/own && test -e /sys/fs/cgroup/own/cgroup.procs").ok());

    // v2 has no files for devices. To write to the kernel's log takes no capability but the one to make a node for it.
    let log = |name: &str| format!("mknod /k c 1 11 && echo \"<0>written by {name}\" > /k");
    drop(inside(guest, "privileged", &log("privileged")).ok());
    assert_ne!(inside(guest, "capable", &log("capable")).code(), 0);

    let pids: Vec<String> = ["c", "free", "privileged"].map(|name| annotation(&pod, &format!("pid.{name}"))).into();
    ok(guest, "rm -f limited");
    gone(guest, &pids);
}

fn out_of_memory(guest: &mut Guest) {
    let limits = json!({ "resources": { "limits": { "memory": "32Mi" } } });
    let hog = with(container("c", "exec dd if=/dev/zero of=/dev/null bs=200M count=1"), limits);
    up(guest, &with(pod("hog", &[hog]), json!({ "spec": { "restartPolicy": "Never" } })));
    let ended = eventually(PATIENCE, "it is killed", || {
        let state = inspect(guest, "hog")["status"]["containerStatuses"][0]["state"]["terminated"].clone();
        state.is_object().then_some(state)
    });
    assert_eq!((&ended["exitCode"], &ended["reason"]), (&json!(137), &json!("OOMKilled")), "{ended:#}");
    ok(guest, "rm -f hog");
    gone(guest, &[]);
}

/// Processes that ignore SIGTERM, one of them a daemon that nobody waits for, in a pod whose shim is dead: only their cgroup knows them.
fn killed_by_cgroup(guest: &mut Guest) {
    let stubborn = "trap \"\" TERM; for i in 1 2 3 4 5; do (sleep 1000 &) ; done; echo ready; while true; do sleep 1; done";
    up(guest, &pod("stubborn", &[container("c", stubborn)]));
    eventually(PATIENCE, "they run", || ok(guest, "logs -c c stubborn").contains("ready").then_some(()));
    let pod = inspect(guest, "stubborn");
    let dir = cgroup(guest, &pod, "c");
    let members: Vec<String> = guest.read(&format!("{dir}/cgroup.procs")).lines().map(ToOwned::to_owned).collect();
    assert!(members.len() >= 6, "{members:?}");
    guest.kill(annotation(&pod, "shim-pid").parse().expect("a pid"));
    ok(guest, "rm -f stubborn");
    gone(guest, &members);
}
