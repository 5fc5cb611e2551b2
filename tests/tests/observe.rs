//! What the commands print, for people and for programs.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use testkit::{Cmd, FOREVER, LIMIT, Minipod, container, eventually, installed, pod, with};

#[test]
fn ps_prints_a_list_of_pods() {
    let Some(mp) = Minipod::new() else { return };
    let labels = json!({ "metadata": { "labels": { "tier": "front" } } });
    mp.up(&with(pod("a", &[container("c", FOREVER), container("d", FOREVER)]), labels));
    mp.up(&pod("b", &[container("c", FOREVER)]));
    let list: Value = serde_json::from_str(&mp.ok(&["ps", "-o", "json"])).expect("JSON");
    assert_eq!((&list["apiVersion"], &list["kind"]), (&json!("v1"), &json!("List")));
    let items = list["items"].as_array().expect("items");
    let names: BTreeSet<&str> = items.iter().filter_map(|pod| pod["metadata"]["name"].as_str()).collect();
    assert_eq!(names, BTreeSet::from(["a", "b"]));
    assert!(items.iter().all(|pod| pod["kind"] == "Pod" && pod["status"]["phase"] == "Running" && pod["status"]["podIP"].is_string()), "{list:#}");
    let table = mp.ok(&["ps"]);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP"]);
    let row = rows.iter().find(|row| row[0] == "a").expect("a row");
    assert_eq!((row[1], row[2], row[3], row[5]), ("2/2", "Running", "0", &*mp.ip("a")));
    let chosen = mp.ok(&["ps", "-l", "tier=front", "-o", "name"]);
    assert!(chosen.contains('a') && chosen.lines().count() == 1, "{chosen}");
    assert_eq!(mp.ok(&["ps", "-q"]).lines().count(), 2);
    let containers = mp.ok(&["ps", "--containers"]);
    assert!(containers.matches("/pause").count() + containers.matches(" pause").count() >= 2, "{containers}");
}

#[test]
fn inspect_says_where_things_are() {
    let Some(mp) = Minipod::new() else { return };
    mp.up(&pod("seen", &[container("c", FOREVER)]));
    assert_eq!(mp.annotation("seen", "bridge"), mp.bridge());
    let veth = mp.annotation("seen", "host-veth");
    let uid = mp.inspect("seen")["metadata"]["uid"].as_str().expect("a uid").to_owned();
    assert_eq!(veth, format!("mp-{}", &uid[..8]));
    let link = Cmd::new("ip").args(["-d", "link", "show", &veth]).run().ok();
    assert!(link.contains(&format!("master {}", mp.bridge())) && link.contains("alias default/seen"), "{link}");
    assert_eq!(mp.shim("seen").status("Name").as_deref(), Some("minipod-shim"));
    let yaml = mp.ok(&["inspect", "-o", "yaml", "seen"]);
    assert!(yaml.contains("kind: Pod") && yaml.contains("podIP:"), "{yaml}");
    // By uid, and by the beginning of it.
    for name in [&*uid, &uid[..8], "default/seen"] {
        assert_eq!(mp.inspect(name)["metadata"]["name"], "seen");
    }
}

#[test]
fn status_is_in_kubernetes_words() {
    let Some(mp) = Minipod::new() else { return };
    mp.up(&pod("status", &[container("c", FOREVER)]));
    let status = mp.inspect("status")["status"].clone();
    let conditions: BTreeSet<&str> = status["conditions"].as_array().expect("conditions").iter().filter(|c| c["status"] == "True").filter_map(|c| c["type"].as_str()).collect();
    for wanted in ["Initialized", "Ready", "ContainersReady"] {
        assert!(conditions.contains(wanted), "{wanted} in {status:#}");
    }
    assert_eq!(status["podIPs"][0]["ip"], status["podIP"]);
    assert!(mp.status("status", "c")["state"]["running"]["startedAt"].is_string());
}

#[test]
fn completions_can_be_read_by_their_shells() {
    let Some(mp) = Minipod::new() else { return };
    for (shell, check) in [("bash", vec!["-n"]), ("zsh", vec!["-n"]), ("fish", vec!["--no-execute"])] {
        let script = mp.ok(&["completion", shell]);
        assert!(script.contains("minipod") && script.contains("validate"), "{shell}");
        // Debian has bash; the others are checked where they are.
        if shell == "bash" || std::path::Path::new("/usr/bin").join(shell).exists() {
            let Some(program) = installed(shell) else { return };
            let file = mp.manifest(shell, &script);
            drop(Cmd::new(program).args(check).arg(&file).run().ok());
        }
    }
    assert!(mp.ok(&["version"]).contains("0."));
}

#[test]
fn gc_removes_what_a_killed_shim_left() {
    let Some(mp) = Minipod::new() else { return };
    mp.up(&with(pod("orphan", &[container("c", FOREVER), container("d", FOREVER)]), json!({ "spec": { "volumes": [{ "name": "v", "emptyDir": { "medium": "Memory" } }] } })));
    let (shim, pause) = (mp.shim("orphan"), mp.pause("orphan"));
    shim.kill();
    eventually(LIMIT, "the shim is dead", || (!shim.lives()).then_some(()));
    let found = mp.ok(&["gc", "--dry-run"]);
    assert!(found.contains("orphan"), "{found}");
    assert!(pause.lives(), "a dry run removes nothing");
    mp.ok(&["gc"]);
    mp.assert_clean();
    mp.ok(&["gc"]);
}

#[test]
fn a_pod_whose_shim_was_killed_can_be_removed() {
    let Some(mp) = Minipod::new() else { return };
    for verb in [vec!["rm", "-f", "orphan"], vec!["down", "orphan"]] {
        mp.up(&pod("orphan", &[container("c", FOREVER)]));
        let shim = mp.shim("orphan");
        shim.kill();
        eventually(LIMIT, "the shim is dead", || (!shim.lives()).then_some(()));
        mp.ok(&verb);
        mp.assert_clean();
    }
}

#[test]
fn gc_leaves_running_pods_alone() {
    let Some(mp) = Minipod::new() else { return };
    mp.up(&pod("lives", &[container("c", FOREVER)]));
    let process = mp.container("lives", "c");
    mp.ok(&["gc"]);
    assert_eq!(mp.container("lives", "c"), process);
    assert_eq!(mp.sh("lives", "echo alive"), "alive");
}

#[test]
fn killing_pause_ends_or_renews_the_pod_and_leaves_nothing() {
    let Some(mp) = Minipod::new() else { return };
    mp.up(&pod("headless", &[container("c", FOREVER)]));
    let (pause, process) = (mp.pause("headless"), mp.container("headless", "c"));
    pause.kill();
    eventually(LIMIT, "the pod does not go on with half a sandbox", || (!process.lives()).then_some(()));
    mp.ok(&["rm", "-f", "headless"]);
    mp.assert_clean();
}
