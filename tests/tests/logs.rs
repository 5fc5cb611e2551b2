//! Container logs, on disk and by command.

use serde_json::json;
use testkit::{FOREVER, LIMIT, Minipod, container, cri_lines, eventually, pod, with};

#[test]
fn logs_are_in_the_cri_format() {
    let Some(mp) = Minipod::new() else { return };
    let script = "echo out; echo err >&2; printf 'no end'; sleep 1000";
    mp.up(&pod("cri", &[container("c", script)]));
    let path = mp.log_dir("cri", "c").join("0.log");
    let lines = eventually(LIMIT, "two lines", || {
        let lines = cri_lines(&path);
        (lines.len() >= 2).then_some(lines)
    });
    let of = |stream: &str| lines.iter().find(|line| line.stream == stream).map(|line| (line.tag.clone(), line.message.clone()));
    assert_eq!(of("stdout"), Some(("F".to_owned(), "out".to_owned())));
    assert_eq!(of("stderr"), Some(("F".to_owned(), "err".to_owned())));
}

#[test]
fn long_lines_come_whole_out_of_parts() {
    let Some(mp) = Minipod::new() else { return };
    let never = json!({ "spec": { "restartPolicy": "Never" } });
    mp.up(&with(pod("long", &[container("c", "head -c 40000 /dev/zero | tr '\\0' x; echo; echo end")]), never));
    drop(mp.run(&["wait", "long"]));
    let lines = cri_lines(&mp.log_dir("long", "c").join("0.log"));
    assert!(lines.iter().any(|line| line.tag == "P") && lines.iter().all(|line| line.message.len() <= 16384), "kubelet's limit");
    assert_eq!(mp.ok(&["logs", "-c", "c", "long"]), format!("{}\nend\n", "x".repeat(40000)));
}

#[test]
fn all_containers_are_shown_prefixed_and_one_is_not() {
    let Some(mp) = Minipod::new() else { return };
    let never = json!({ "spec": { "restartPolicy": "Never" } });
    mp.up(&with(pod("two", &[container("a", "echo 1; echo 2; echo 3"), container("b", "echo 4")]), never));
    drop(mp.run(&["wait", "two"]));
    let mut all: Vec<String> = mp.ok(&["logs", "two"]).lines().map(ToOwned::to_owned).collect();
    all.sort();
    assert_eq!(all, ["[a] 1", "[a] 2", "[a] 3", "[b] 4"]);
    assert_eq!(mp.ok(&["logs", "-c", "a", "two"]), "1\n2\n3\n");
    assert_eq!(mp.ok(&["logs", "-c", "a", "--tail", "2", "two"]), "2\n3\n");
    let stamped = mp.ok(&["logs", "-t", "-c", "b", "two"]);
    assert!(stamped.starts_with("20") && stamped.ends_with(" 4\n"), "{stamped}");
    let said = mp.fails(125, &["logs", "-c", "z", "two"]);
    assert!(said.contains('z') && said.contains('a') && said.contains('b'), "it names the containers there are: {said}");
}

#[test]
fn following_ends_with_the_container() {
    let Some(mp) = Minipod::new() else { return };
    let never = json!({ "spec": { "restartPolicy": "Never" } });
    let script = "echo first; until test -e /go; do sleep 0.05; done; echo last";
    mp.up(&with(pod("tail", &[container("c", script)]), never));
    let mut following = mp.cmd().args(["logs", "-f", "-c", "c", "tail"]).spawn();
    following.wait_for("first\n");
    drop(mp.sh("tail", "touch /go; echo"));
    assert_eq!(following.finish(LIMIT).ok(), "first\nlast\n");
}

#[test]
fn the_attempt_before_is_kept() {
    let Some(mp) = Minipod::new() else { return };
    let more = json!({
        "metadata": { "annotations": { "minipod.dev/restart-backoff-seconds": "0.2" } },
        "spec": { "volumes": [{ "name": "v", "emptyDir": {} }] },
    });
    let script = format!("if test -e /v/f; then echo second; {FOREVER}; fi; touch /v/f; echo first; exit 1");
    let mount = json!({ "volumeMounts": [{ "name": "v", "mountPath": "/v" }] });
    mp.up(&with(pod("prev", &[with(container("c", &script), mount)]), more));
    eventually(LIMIT, "the second attempt speaks", || (mp.ok(&["logs", "-c", "c", "prev"]) == "second\n").then_some(()));
    assert_eq!(mp.ok(&["logs", "--previous", "-c", "c", "prev"]), "first\n");
}
