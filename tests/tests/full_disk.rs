//! Full disks: what goes on, what stops, and what is said about it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testkit::{LIMIT, Minipod, SmallDisk, container, cri_lines, eventually, pod, private_mounts, with};

/// An installation in a mount namespace of the test's own.
fn minipod() -> Option<Minipod> {
    let mp = Minipod::new()?;
    private_mounts();
    Some(mp)
}

/// Writes numbered lines until it is told to stop, and puts the number beside.
const COUNTS: &str = "n=0; until test -e /v/stop; do n=$((n+1)); echo line $n \
    to make the log grow; echo $n > /v/n; done; echo total $n; sleep 1000";

fn counting(mp: &Minipod, name: &str) -> (Value, PathBuf) {
    let shared = mp.file("shared");
    fs::create_dir(&shared).expect("make a directory");
    let mount = json!({ "volumeMounts": [{ "name": "v", "mountPath": "/v" }] });
    let volume = json!({ "spec": { "volumes": [{ "name": "v", "hostPath": { "path": shared } }] } });
    (with(pod(name, &[with(container("c", COUNTS), mount)]), volume), shared)
}

/// The last number seen; 0 in the moment in which it is written.
fn count(shared: &Path) -> usize {
    fs::read_to_string(shared.join("n")).ok().and_then(|n| n.trim().parse().ok()).unwrap_or(0)
}

/// What the status says of logs that lack something: reason and message.
fn incomplete(mp: &Minipod, pod: &str) -> Option<(String, String)> {
    let inspected = mp.inspect(pod);
    let conditions = inspected["status"]["conditions"].as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == "minipod.dev/LogsComplete")?;
    assert_eq!(found["status"], "False", "{found:#}");
    assert!(found["lastTransitionTime"].is_string(), "since when: {found:#}");
    Some((found["reason"].as_str()?.to_owned(), found["message"].as_str()?.to_owned()))
}

fn events(mp: &Minipod, pod: &str) -> Vec<Value> {
    let uid = mp.inspect(pod)["metadata"]["uid"].as_str().expect("a uid").to_owned();
    let text = fs::read_to_string(mp.root().join("run/pods").join(uid).join("events.jsonl")).expect("read events");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("event {line:?}: {e}"))).collect()
}

/// The number before `bytes of output lost`.
fn lost(text: &str) -> usize {
    let before = text.split(" bytes of output lost").next().expect("split gives something");
    let number = before.rsplit(' ').next().and_then(|word| word.parse().ok());
    number.unwrap_or_else(|| panic!("no number of lost bytes in {text:?}"))
}

#[test]
fn a_full_disk_stops_the_log_and_not_the_pod() {
    let Some(mp) = minipod() else { return };
    let disk = SmallDisk::mount(&mp, "log", "size=64k");
    let (manifest, shared) = counting(&mp, "full");
    mp.up(&manifest);
    let (reason, message) = eventually(LIMIT, "the status says that the log stopped", || incomplete(&mp, "full"));
    assert_eq!(reason, "LogStopped");
    assert!(message.contains("container c: stopped since 20") && message.contains("No space left"), "{message}");
    let event = events(&mp, "full").into_iter().find(|event| event["reason"] == "LogStopped").expect("an event");
    assert_eq!((&event["type"], &event["container"]), (&json!("Warning"), &json!("c")), "{event:#}");
    assert!(event["message"].as_str().is_some_and(|text| text.contains("No space left")), "{event:#}");

    let so_far = count(&shared);
    eventually(LIMIT, "the container goes on", || (count(&shared) > so_far + 50).then_some(()));
    assert_eq!(mp.sh("full", "echo still here"), "still here");
    let said = mp.run(&["logs", "full"]);
    assert!(said.stderr.contains("log of container c: stopped since 20") && lost(&said.stderr) > 0, "{said}");

    disk.grow("size=64m");
    let log = mp.log_dir("full", "c").join("0.log");
    let notice = |text: &str| text.starts_with("minipod: the log stopped: ");
    eventually(LIMIT, "the log goes on", || cri_lines(&log).iter().any(|line| notice(&line.message)).then_some(()));
    fs::write(shared.join("stop"), "").expect("end the container's output");
    eventually(LIMIT, "the last line is there", || cri_lines(&log).last().is_some_and(|line| line.message.starts_with("total")).then_some(()));

    // What is there and what is said to be missing are all that was written.
    let lines = cri_lines(&log);
    let missing: usize = lines.iter().filter(|line| notice(&line.message)).map(|line| lost(&line.message)).sum();
    let there: Vec<&str> = lines.iter().filter(|line| line.stream == "stdout").map(|line| &*line.message).collect();
    assert!(lines.iter().all(|line| line.tag == "F"), "lines are whole");
    let total = count(&shared);
    let written: Vec<String> = (1..=total).map(|n| format!("line {n} to make the log grow")).chain([format!("total {total}")]).collect();
    let bytes = |lines: &[&str]| lines.iter().map(|line| line.len() + 1).sum::<usize>();
    let wanted: Vec<&str> = written.iter().map(|line| &**line).collect();
    assert_eq!(bytes(&there) + missing, bytes(&wanted));
    let mut rest = wanted.iter();
    assert!(there.iter().all(|line| rest.any(|other| other == line)), "in order, none twice");

    let (reason, message) = incomplete(&mp, "full").expect("it says still that something is missing");
    assert_eq!((&*reason, lost(&message)), ("LogIncomplete", missing), "{message}");
    assert!(events(&mp, "full").iter().any(|event| event["reason"] == "LogResumed"));
    mp.ok(&["rm", "-f", "full"]);
}

/// Not even the file can be made when the container starts.
#[test]
fn a_log_that_cannot_be_made_for_lack_of_room_begins_later() {
    let Some(mp) = minipod() else { return };
    let disk = SmallDisk::mount(&mp, "log", "size=1m,nr_inodes=2");
    let (manifest, shared) = counting(&mp, "late");
    mp.up(&manifest);
    eventually(LIMIT, "the container works", || (count(&shared) > 10).then_some(()));
    let (reason, message) = incomplete(&mp, "late").expect("the status says so");
    assert!(reason == "LogStopped" && message.contains("No space left"), "{message}");
    disk.grow("nr_inodes=100");
    eventually(LIMIT, "the log begins", || mp.ok(&["logs", "-c", "c", "late"]).contains("minipod: the log stopped: ").then_some(()));
    fs::write(shared.join("stop"), "").expect("end the container's output");
    eventually(LIMIT, "the last line is there", || mp.ok(&["logs", "-c", "c", "late"]).contains("total").then_some(()));
    mp.ok(&["rm", "-f", "late"]);
}

fn fails_for_lack_of_room(mp: &Minipod, manifest: &str) {
    let said = mp.fails(125, &["run", "-d", manifest]);
    assert!(said.contains("No space left"), "{said}");
}

#[test]
fn a_pod_that_there_is_no_room_for_is_not_started() {
    let Some(mp) = minipod() else { return };
    let manifest = mp.manifest("small.json", &pod("small", &[container("c", "sleep 1000")]).to_string());
    {
        let _disk = SmallDisk::mount(&mp, "lib", "size=64k");
        fails_for_lack_of_room(&mp, &manifest); // the image does not fit
    }
    mp.assert_clean();
    let disk = SmallDisk::mount(&mp, "lib", "size=64m");
    mp.ok(&["run", "-d", &manifest]);
    mp.ok(&["rm", "-f", "small"]);
    disk.fill();
    fails_for_lack_of_room(&mp, &manifest); // its lease does not
    disk.free();
    mp.ok(&["run", "-d", &manifest]);
    mp.ok(&["rm", "-f", "small"]);
    drop(disk);
    let disk = SmallDisk::mount(&mp, "run", "size=64k");
    disk.fill();
    fails_for_lack_of_room(&mp, &manifest); // nor does its record
    disk.free();
    assert!(mp.pods().is_empty());
    assert!(fs::read_dir(mp.root().join("run/pods")).expect("list pods").next().is_none());
    assert!(fs::read_dir(mp.root().join("run/names")).expect("list names").next().is_none());
}

/// The state of a running pod is on a disk that fills up.
#[test]
fn a_pod_outlives_a_full_state_directory() {
    let Some(mp) = minipod() else { return };
    let disk = SmallDisk::mount(&mp, "run", "size=1m");
    let back_off = json!({ "metadata": { "annotations": { "minipod.dev/restart-backoff-seconds": "0.1" } } });
    mp.up(&with(pod("state", &[container("c", "sleep 1000"), container("other", "sleep 1000")]), back_off));
    let (shim, other) = (mp.shim("state"), mp.container("state", "other"));
    disk.fill();
    let first = mp.container("state", "c");
    first.kill();
    eventually(LIMIT, "its end is seen", || (!first.lives()).then_some(()));
    assert_eq!(mp.sh("state/other", "echo still here"), "still here");
    assert!(shim.lives() && other.lives());
    disk.free();
    eventually(LIMIT, "the status is up to date again", || {
        let status = mp.status("state", "c");
        (status["state"]["running"].is_object() && status["restartCount"].as_u64() > Some(0)).then_some(())
    });
    assert!(mp.container("state", "c").lives() && mp.container("state", "other") == other);
    assert!(events(&mp, "state").iter().any(|event| event["reason"] == "Started"), "every line is whole");
    disk.fill();
    mp.ok(&["rm", "-f", "state"]); // is what makes room
    disk.free();
}
