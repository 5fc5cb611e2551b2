//! Stopping, starting, removing, waiting.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{FOREVER, LIMIT, Minipod, container, eventually, pod, with};

const CATCHES: &str = "trap 'echo caught; exit 7' TERM; echo ready; while true; do sleep 0.1; done";
const IGNORES: &str = "trap '' TERM; echo ready; while true; do sleep 0.1; done";

fn patient(name: &str, script: &str, grace: u32) -> Value {
    let more = json!({ "spec": { "terminationGracePeriodSeconds": grace, "restartPolicy": "Never" } });
    with(pod(name, &[container("c", script)]), more)
}

fn ready(mp: &Minipod, name: &str) {
    eventually(LIMIT, "the trap is set", || mp.ok(&["logs", "-c", "c", name]).contains("ready").then_some(()));
}

#[test]
fn term_may_be_caught_within_the_period_of_grace() {
    let Some(mp) = Minipod::new() else { return };
    mp.up(&patient("kind", CATCHES, 20));
    ready(&mp, "kind");
    let stopped = mp.run(&["stop", "kind"]);
    assert!(stopped.took < Duration::from_secs(10), "{stopped}");
    drop(stopped.ok());
    let status = mp.status("kind", "c");
    assert_eq!(status["state"]["terminated"]["exitCode"], 7, "{status:#}");
    assert!(mp.ok(&["logs", "-c", "c", "kind"]).contains("caught"));
}

#[test]
fn kill_follows_the_period_of_grace() {
    let Some(mp) = Minipod::new() else { return };
    mp.up(&patient("deaf", IGNORES, 1));
    ready(&mp, "deaf");
    let stopped = mp.run(&["stop", "deaf"]);
    assert!(stopped.took >= Duration::from_secs(1) && stopped.took < Duration::from_secs(8), "{stopped}");
    assert_eq!(mp.status("deaf", "c")["state"]["terminated"]["exitCode"], 137);
    mp.up(&patient("deaf-too", IGNORES, 60));
    ready(&mp, "deaf-too");
    let stopped = mp.run(&["stop", "-t", "0", "deaf-too"]);
    assert!(stopped.took < Duration::from_secs(5), "{stopped}");
}

#[test]
fn a_stopped_pod_has_nothing_running_and_starts_again() {
    let Some(mp) = Minipod::new() else { return };
    mp.up(&pod("again", &[container("c", FOREVER)]));
    let (pause, process, shim) = (mp.pause("again"), mp.container("again", "c"), mp.shim("again"));
    mp.ok(&["stop", "again"]);
    eventually(LIMIT, "its processes are gone", || [pause, process, shim].iter().all(|p| !p.lives()).then_some(()));
    assert!(!mp.ok(&["ps"]).contains("again") && mp.ok(&["ps", "-a"]).contains("again"));
    assert!(!testkit::Cmd::new("ip").args(["-o", "link"]).run().ok().contains(mp.bridge()));
    mp.ok(&["start", "again"]);
    assert_eq!(mp.sh("again", "echo back"), "back");
    let first = mp.container("again", "c");
    mp.ok(&["restart", "again"]);
    assert_ne!(mp.container("again", "c"), first);
    assert_eq!(mp.sh("again", "echo back"), "back");
}

#[test]
fn a_running_pod_is_not_removed_without_force() {
    let Some(mp) = Minipod::new() else { return };
    mp.up(&pod("safe", &[container("c", FOREVER)]));
    let said = mp.fails(125, &["rm", "safe"]);
    assert!(said.contains("safe") && said.contains("running"), "{said}");
    assert_eq!(mp.sh("safe", "echo untouched"), "untouched");
    mp.ok(&["stop", "safe"]);
    mp.ok(&["rm", "safe"]);
    assert!(mp.pods().is_empty());
    mp.assert_clean();
}

#[test]
fn down_may_be_repeated() {
    let Some(mp) = Minipod::new() else { return };
    let path = mp.manifest("down.json", &pod("down", &[container("c", FOREVER)]).to_string());
    mp.ok(&["run", "-d", &path]);
    mp.ok(&["down", &path]);
    mp.assert_clean();
    mp.ok(&["down", &path]);
    mp.ok(&["down", "down"]);
}

#[test]
fn kill_sends_the_signal() {
    let Some(mp) = Minipod::new() else { return };
    let script = "trap 'echo got usr1' USR1; trap 'exit 9' INT; echo ready; while true; do sleep 0.1; done";
    mp.up(&patient("sig", script, 0));
    ready(&mp, "sig");
    mp.ok(&["kill", "-s", "USR1", "sig/c"]);
    eventually(LIMIT, "the signal arrives", || mp.ok(&["logs", "-c", "c", "sig"]).contains("got usr1").then_some(()));
    mp.ok(&["kill", "-s", "INT", "sig"]);
    drop(mp.run(&["wait", "sig/c"]));
    assert_eq!(mp.status("sig", "c")["state"]["terminated"]["exitCode"], 9);
}

#[test]
fn wait_tells_how_it_ended() {
    let Some(mp) = Minipod::new() else { return };
    mp.up(&patient("ends", "sleep 0.5; exit 5", 0));
    assert_eq!(mp.run(&["wait", "ends"]).code(), 5);
    mp.up(&pod("stays", &[container("c", FOREVER)]));
    mp.ok(&["wait", "--for", "running", "--timeout", "10s", "stays"]);
    let late = mp.run(&["wait", "--for", "exited", "--timeout", "300ms", "stays"]);
    assert_eq!(late.code(), 124, "{late}");
    let removed = mp.cmd().args(["wait", "--for", "removed", "--timeout", "20s", "stays"]).spawn();
    mp.ok(&["rm", "-f", "stays"]);
    drop(removed.finish(LIMIT).ok());
}

#[test]
fn replace_takes_the_place_and_a_taken_name_is_refused() {
    let Some(mp) = Minipod::new() else { return };
    let path = mp.manifest("name.json", &pod("name", &[container("c", FOREVER)]).to_string());
    mp.ok(&["run", "-d", &path]);
    let (uid, process) = (mp.inspect("name")["metadata"]["uid"].clone(), mp.container("name", "c"));
    let said = mp.fails(125, &["run", "-d", &path]);
    assert!(said.contains("name") && said.contains("--replace"), "{said}");
    assert_eq!(mp.inspect("name")["metadata"]["uid"], uid);
    assert_eq!(mp.container("name", "c"), process);
    mp.ok(&["run", "-d", "--replace", &path]);
    assert_ne!(mp.inspect("name")["metadata"]["uid"], uid);
    assert!(!process.lives());
    assert_eq!(mp.pods().len(), 1);
}

#[test]
fn init_containers_run_before_in_order() {
    let Some(mp) = Minipod::new() else { return };
    let mount = json!({ "volumeMounts": [{ "name": "v", "mountPath": "/v" }] });
    let step = |name: &str, script: &str| with(container(name, script), mount.clone());
    let more = json!({ "spec": {
        "volumes": [{ "name": "v", "emptyDir": {} }], "restartPolicy": "Never",
        "initContainers": [step("one", "echo one > /v/log"), step("two", "echo two >> /v/log")],
    } });
    let output = mp.foreground(&with(pod("init", &[step("main", "cat /v/log")]), more.clone()));
    assert!(output.stdout.contains("[main] one\n[main] two\n"), "{output}");
    let mut failing = with(pod("init", &[container("main", "echo never")]), more);
    failing["spec"]["initContainers"] = json!([container("one", "exit 6"), container("two", "echo never")]);
    let output = mp.foreground(&failing);
    assert_eq!(output.code(), 6, "{output}");
    assert!(!output.stdout.contains("never"), "{output}");
}

#[test]
fn several_pods_are_started_all_or_none() {
    let Some(mp) = Minipod::new() else { return };
    for name in ["a", "b"] {
        mp.up(&pod(name, &[container("c", FOREVER)]));
    }
    mp.ok(&["stop", "a"]);
    let said = mp.fails(125, &["start", "a", "b"]);
    assert!(said.contains("default/b is running"), "{said}");
    // The other is as it was: stopped, and not what a dead shim left.
    mp.ok(&["gc"]);
    mp.ok(&["start", "a"]);
    assert_eq!(mp.sh("a", "echo back"), "back");
}

#[test]
fn a_pod_whose_shim_died_is_not_started_beside_what_is_left_of_it() {
    let Some(mp) = Minipod::new() else { return };
    mp.up(&with(pod("orphan", &[container("c", FOREVER)]), json!({ "spec": { "hostNetwork": true } })));
    let (shim, process) = (mp.shim("orphan"), mp.container("orphan", "c"));
    shim.kill();
    eventually(LIMIT, "the shim is dead", || (!shim.lives()).then_some(()));
    let said = mp.fails(125, &["start", "orphan"]);
    assert!(said.contains("minipod stop"), "{said}");
    assert!(process.lives(), "what runs is not touched");
    mp.ok(&["stop", "orphan"]);
    assert!(!process.lives());
    mp.ok(&["start", "orphan"]);
    assert_eq!(mp.sh("orphan", "echo back"), "back");
}

#[test]
fn a_container_may_be_called_pause() {
    let Some(mp) = Minipod::new() else { return };
    let never = json!({ "spec": { "restartPolicy": "Never" } });
    mp.up(&with(pod("odd", &[container("pause", "exit 3"), container("other", FOREVER)]), never));
    eventually(LIMIT, "it ends", || mp.status("odd", "pause")["state"]["terminated"].is_object().then_some(()));
    // Its cgroup is not the pause process's, and went alone.
    assert!(mp.pause("odd").lives());
    assert_eq!(mp.sh("odd/other", "echo alive"), "alive");
}
