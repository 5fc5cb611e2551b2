//! `minipod run` as a person has it before them.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use testkit::{FOREVER, LIMIT, Minipod, container, pod, with};

#[test]
fn the_exit_code_is_the_first_that_is_not_zero_and_the_pod_is_removed() {
    let Some(mp) = Minipod::new() else { return };
    let never = json!({ "spec": { "restartPolicy": "Never" } });
    let containers = [container("ok", "exit 0"), container("three", "exit 3"), container("four", "sleep 1; exit 4")];
    let output = mp.foreground(&with(pod("codes", &containers), never.clone()));
    assert_eq!(output.code(), 3, "{output}");
    mp.assert_clean();
    let output = mp.foreground(&with(pod("fine", &[container("a", "echo out; echo err >&2")]), never));
    assert_eq!(output.code(), 0, "{output}");
    // As `compose up` and `kubectl logs` do: the containers' lines, of both their streams, are this command's output.
    assert_eq!(output.stdout, "[a] out\n[a] err\n", "{output}");
    mp.assert_clean();
}

#[test]
fn several_pods_are_told_apart() {
    let Some(mp) = Minipod::new() else { return };
    let never = json!({ "spec": { "restartPolicy": "Never" } });
    let both = json!({ "apiVersion": "v1", "kind": "List", "items": [
        with(pod("p", &[container("a", "echo from p")]), never.clone()), with(pod("q", &[container("a", "echo from q")]), never),
    ] });
    let output = mp.foreground(&both);
    assert!(output.stdout.contains("[p/a] from p\n") && output.stdout.contains("[q/a] from q\n"), "{output}");
}

#[test]
fn interrupted_it_stops_and_removes_the_pod() {
    let Some(mp) = Minipod::new() else { return };
    for signal in [Signal::INT, Signal::TERM] {
        let script = "trap 'echo bye; exit 0' TERM; echo up; while true; do sleep 0.1; done";
        let patient = json!({ "spec": { "terminationGracePeriodSeconds": 20 } });
        let path = mp.manifest("fg.json", &with(pod("fg", &[container("c", script)]), patient).to_string());
        let mut running = mp.cmd().args(["run", &path]).spawn();
        running.wait_for("[c] up");
        running.signal(signal);
        let output = running.finish(LIMIT);
        assert!(output.stdout.contains("[c] bye"), "{output}");
        assert!(output.took < Duration::from_secs(15), "{output}");
        assert!(mp.pods().is_empty());
        mp.assert_clean();
    }
}

#[test]
fn a_timeout_ends_it() {
    let Some(mp) = Minipod::new() else { return };
    let path = mp.manifest("long.json", &pod("long", &[container("c", FOREVER)]).to_string());
    let output = mp.run(&["run", "--timeout", "1s", &path]);
    assert_eq!(output.code(), 124, "{output}");
    mp.assert_clean();
}

#[test]
fn manifests_come_from_standard_input_too() {
    let Some(mp) = Minipod::new() else { return };
    let yaml = "apiVersion: v1\nkind: Pod\nmetadata: {name: stdin}\nspec:\n  restartPolicy: Never\n  containers:\n  - {name: c, image: toolbox, command: [echo, read]}\n";
    let output = mp.cmd().args(["run", "-"]).stdin(yaml).run();
    assert_eq!(output.stdout, "[c] read\n", "{output}");
    assert_eq!(output.code(), 0);
}

#[test]
fn a_dry_run_changes_nothing() {
    let Some(mp) = Minipod::new() else { return };
    let path = mp.manifest("dry.json", &pod("dry", &[container("c", FOREVER)]).to_string());
    mp.ok(&["run", "--dry-run", &path]);
    mp.assert_clean();
}
