//! restartPolicy and its back-off.

use serde_json::{Value, json};
use testkit::{LIMIT, Minipod, container, eventually, pod, with};

fn policy(name: &str, script: &str, policy: &str) -> Value {
    let more = json!({
        "metadata": { "annotations": { "minipod.dev/restart-backoff-seconds": "0.2" } },
        "spec": { "restartPolicy": policy },
    });
    with(pod(name, &[container("c", script)]), more)
}

fn restarts(mp: &Minipod, name: &str) -> i64 {
    mp.status(name, "c")["restartCount"].as_i64().expect("a count")
}

#[test]
fn never_and_success_end_a_pod() {
    let Some(mp) = Minipod::new() else { return };
    for (name, script, wanted, phase) in [
        ("fails", "exit 3", "Never", "Failed"),
        ("works", "exit 0", "Never", "Succeeded"),
        ("works-too", "exit 0", "OnFailure", "Succeeded"),
    ] {
        mp.up(&policy(name, script, wanted));
        let got = eventually(LIMIT, "the pod ends", || {
            let status = mp.inspect(name)["status"].clone();
            (status["phase"] != "Running" && status["phase"] != "Pending").then_some(status)
        });
        assert_eq!(got["phase"], phase, "{name}: {got:#}");
        assert_eq!(restarts(&mp, name), 0, "{name}");
    }
    assert_eq!(mp.status("fails", "c")["state"]["terminated"]["exitCode"], 3);
}

#[test]
fn on_failure_restarts_until_it_works() {
    let Some(mp) = Minipod::new() else { return };
    let volume = json!({ "spec": { "volumes": [{ "name": "v", "emptyDir": {} }] } });
    let mut manifest = with(policy("third", "echo x >> /v/n; test $(wc -l < /v/n) -ge 3", "OnFailure"), volume);
    manifest["spec"]["containers"][0]["volumeMounts"] = json!([{ "name": "v", "mountPath": "/v" }]);
    mp.up(&manifest);
    eventually(LIMIT, "the third run succeeds", || (mp.inspect("third")["status"]["phase"] == "Succeeded").then_some(()));
    assert_eq!(restarts(&mp, "third"), 2);
}

#[test]
fn always_restarts_success_too_and_waits_ever_longer() {
    let Some(mp) = Minipod::new() else { return };
    let log_times = |mp: &Minipod| {
        let text = mp.ok(&["logs", "-c", "c", "loop"]);
        text.lines().filter_map(|line| line.parse::<f64>().ok()).collect::<Vec<_>>()
    };
    // The start times of all attempts are kept by a hostPath of the test's.
    let seen = mp.file("times");
    std::fs::create_dir(&seen).expect("make a directory");
    let mut manifest = policy("loop", "date +%s.%N >> /seen/times; exit 0", "Always");
    manifest["spec"]["volumes"] = json!([{ "name": "seen", "hostPath": { "path": seen } }]);
    manifest["spec"]["containers"][0]["volumeMounts"] = json!([{ "name": "seen", "mountPath": "/seen" }]);
    mp.up(&manifest);
    eventually(LIMIT, "CrashLoopBackOff shows in ps", || mp.ok(&["ps"]).contains("CrashLoopBackOff").then_some(()));
    let waiting = eventually(LIMIT, "it waits for its restart", || {
        let status = mp.status("loop", "c");
        (status["state"]["waiting"]["reason"] == "CrashLoopBackOff").then_some(status)
    });
    assert_eq!(waiting["lastState"]["terminated"]["exitCode"], 0);
    let times: Vec<f64> = eventually(LIMIT, "five runs", || {
        let text = std::fs::read_to_string(seen.join("times")).unwrap_or_default();
        let times: Vec<f64> = text.lines().filter_map(|line| line.parse().ok()).collect();
        (times.len() >= 5).then_some(times)
    });
    let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // At once, then 0.2, 0.4, 0.8 seconds: never sooner; later by what the machine needs.
    for (gap, least) in gaps.iter().zip([0.0, 0.2, 0.4, 0.8]) {
        assert!(*gap >= least && *gap < least + 2.0, "gaps of {gaps:?}");
    }
    assert!(log_times(&mp).len() <= 1, "logs show one attempt");
}
