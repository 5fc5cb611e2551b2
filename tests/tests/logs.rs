//! Container logs, on disk and by command.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;

use serde_json::json;
use testkit::{Cmd, FOREVER, LIMIT, Minipod, container, cri_lines, eventually, pod, with};

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

/// Lines of 4000 bytes that differ, 16 MB of them.
fn write_lines(path: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    for n in 0..4_000 {
        writeln!(text, "{n:08} {}", "x".repeat(3990)).expect("write to memory");
    }
    fs::write(path, &text).expect("write lines");
    text
}

/// Takes the messages of a log file in turn; a piece is what `P` and `F` say it is.
fn whole_output(log: &Path, mut each: impl FnMut(&[u8])) {
    let mut log = BufReader::with_capacity(1 << 20, File::open(log).expect("open a log"));
    let mut record = Vec::new();
    while log.read_until(b'\n', &mut record).expect("read a log") > 0 {
        // "2026-11-24T08:00:00.123456789Z stdout F message"
        let (head, message) = record.split_at(40);
        assert!(head.starts_with(b"20") && &head[29..37] == b"Z stdout", "{:?}", String::from_utf8_lossy(head));
        match &head[37..] {
            b" F " => each(message),
            b" P " => each(message.strip_suffix(b"\n").expect("an end of line")),
            other => panic!("tag {other:?}"),
        }
        record.clear();
    }
}

/// A container that writes as fast as it can: nothing of it is lost, and nobody else notices.
#[test]
fn a_flood_is_kept_whole_and_holds_nobody_up() {
    const ROUNDS: usize = 12;
    let Some(mp) = Minipod::new() else { return };
    let shared = mp.file("shared");
    fs::create_dir(&shared).expect("make a directory");
    let text = write_lines(&shared.join("lines"));
    let flood = "until test -e /v/stop || test \"$n\" = 60; do cat /v/lines; n=$((n+1)); echo $n > /v/rounds.new; mv /v/rounds.new /v/rounds; done";
    let calm = "n=0; while true; do n=$((n+1)); echo tick $n.; sleep 0.05; done";
    let mounted = |name, script| with(container(name, script), json!({ "volumeMounts": [{ "name": "v", "mountPath": "/v" }] }));
    let volume = json!({ "spec": { "restartPolicy": "Never", "volumes": [{ "name": "v", "hostPath": { "path": shared } }] } });
    mp.up(&with(pod("flood", &[mounted("loud", flood), mounted("calm", calm)]), volume));
    let rounds = || fs::read_to_string(shared.join("rounds")).ok().and_then(|n| n.trim().parse::<usize>().ok()).unwrap_or(0);

    eventually(LIMIT, "the flood flows", || (rounds() > 0).then_some(()));
    // Its output is not read before it is waited for: the reader that stops reading.
    let stuck = mp.cmd().args(["logs", "-f", "-c", "loud", "flood"]).spawn();
    let mut following = mp.cmd().args(["logs", "-f", "-c", "calm", "flood"]).spawn();
    following.wait_for("tick 3.");
    for n in 0..5 {
        assert_eq!(mp.sh("flood/calm", &format!("echo {n}")), n.to_string());
        assert_eq!(mp.sh("flood/loud", &format!("echo {n}")), n.to_string());
    }
    let ticks = mp.ok(&["logs", "-c", "calm", "flood"]).lines().count();
    following.wait_for(&format!("tick {}.", ticks + 10));
    assert!(rounds() < 60, "the flood is over before the others were seen to go on");
    eventually(LIMIT, "the flood goes on", || (rounds() >= ROUNDS).then_some(()));
    fs::write(shared.join("stop"), "").expect("end the flood");
    assert_eq!(mp.cmd().args(["wait", "flood/loud"]).run().code(), 0);
    drop(stuck);

    let rounds = rounds();
    let mut wanted = std::iter::repeat_n(&text[..], rounds).flat_map(|text| text.chunks(4000));
    let (mut rest, mut count) = (&[][..], 0);
    whole_output(&mp.log_dir("flood", "loud").join("0.log"), |mut piece| {
        count += piece.len();
        while !piece.is_empty() {
            if rest.is_empty() {
                rest = wanted.next().expect("no more than was written");
            }
            let both = rest.len().min(piece.len());
            assert!(rest[..both] == piece[..both], "after {count} bytes something else was logged");
            (rest, piece) = (&rest[both..], &piece[both..]);
        }
    });
    assert_eq!(count, rounds * text.len());

    // And the command gives it back as it was.
    let copy = mp.file("copy");
    let logs = Cmd::new("sh").args(["-c", "exec \"$0\" logs -c loud flood > \"$1\""]).arg(testkit::binary()).arg(&copy);
    drop(logs.env("MINIPOD_ROOT", mp.root()).run_within(2 * LIMIT).ok());
    assert!(same_rounds(&copy, &text, rounds), "`logs` gives back what was written");
}

fn same_rounds(copy: &Path, text: &[u8], rounds: usize) -> bool {
    let mut copy = File::open(copy).expect("open what `logs` printed");
    let mut part = vec![0; text.len()];
    let whole = (0..rounds).all(|_| copy.read_exact(&mut part).is_ok() && part == text);
    whole && copy.read(&mut part).is_ok_and(|more| more == 0)
}
