//! What an image's configuration says about running it: its volumes and its stop signal. The rest is in `images`.

use std::fs;

use serde_json::{Value, json};
use testkit::{Entry, FOREVER, Image, Minipod, docker_archive, installed, pod, with};

/// Loads an image of busybox with these entries besides and this configuration.
fn load(mp: &Minipod, more: &[Entry], config: Value) -> bool {
    let Some(busybox) = installed("busybox") else { return false };
    let mut entries = vec![
        Entry::Dir("bin".into()), Entry::File("bin/busybox".into(), fs::read(busybox).expect("read busybox"), 0o755),
        Entry::Link("bin/sh".into(), "busybox".into()), Entry::Link("bin/cat".into(), "busybox".into()),
        Entry::Link("bin/ls".into(), "busybox".into()), Entry::Link("bin/sleep".into(), "busybox".into()),
    ];
    entries.extend(more.iter().cloned());
    let config = with(json!({ "Env": ["PATH=/bin"], "Cmd": ["sh", "-c", FOREVER] }), config);
    let archive = mp.file("image.tar");
    docker_archive(&Image { reference: "conf:1".into(), layers: vec![entries], config }, &archive);
    drop(mp.ok(&["image", "load", archive.to_str().expect("UTF-8")]));
    true
}

fn container(name: &str) -> Value {
    json!({ "name": name, "image": "conf:1", "imagePullPolicy": "Never" })
}

fn data() -> Vec<Entry> {
    vec![Entry::Dir("data".into()), Entry::text("data/file", "of the image"), Entry::Dir("data/sub".into()), Entry::text("data/sub/deep", "deep")]
}

fn volumes(places: &[&str]) -> Value {
    json!({ "Volumes": places.iter().map(|place| ((*place).to_owned(), json!({}))).collect::<serde_json::Map<_, _>>() })
}

#[test]
fn each_container_has_the_images_volumes_for_itself_as_long_as_the_pod_lives() {
    let Some(mp) = Minipod::new() else { return };
    if !load(&mp, &data(), volumes(&["/data", "nothing/there"])) {
        return;
    }
    let read_only = with(container("a"), json!({ "securityContext": { "readOnlyRootFilesystem": true } }));
    let manifest = pod("p", &[read_only, container("b")]);
    mp.up(&manifest);
    assert_eq!(mp.sh("p/a", "cat /data/file; echo; cat /data/sub/deep; echo; ls -A /nothing/there; busybox stat -c '%a %u:%g' /data /nothing/there"), "of the image\ndeep\n755 0:0\n755 0:0");
    drop(mp.sh("p/a", "echo written > /data/file; echo new > /nothing/there/new; rm -f /x; echo"));
    assert!(mp.run(&["exec", "p/a", "--", "sh", "-c", "echo x > /outside"]).code() != 0, "the root is read-only");
    assert_eq!(mp.sh("p/b", "cat /data/file; ls /nothing/there"), "of the image", "the other container has its own");
    drop(mp.sh("p/b", "echo lost > /lost; echo"));
    drop(mp.ok(&["restart", "p/a"]));
    drop(mp.ok(&["restart", "p/b"]));
    assert_eq!(mp.sh("p/a", "cat /data/file /nothing/there/new"), "written\nnew");
    assert_eq!(mp.sh("p/b", "cat /data/file; ls /lost 2>&1 || echo; echo fresh").lines().last(), Some("fresh"));
    drop(mp.ok(&["rm", "-f", "p"]));
    assert_eq!(fs::read_dir(mp.root().join("lib/pods")).map_or(0, Iterator::count), 0);
    mp.assert_clean();
    // A new pod begins with what the image has.
    mp.up(&manifest);
    assert_eq!(mp.sh("p/a", "cat /data/file"), "of the image");
}

#[test]
fn the_manifests_mounts_come_before_the_images_volumes() {
    let Some(mp) = Minipod::new() else { return };
    let etc = [Entry::Dir("etc".into()), Entry::text("etc/mark", "of the image"), Entry::text("etc/hosts", "of the image")];
    if !load(&mp, &[&data()[..], &etc].concat(), volumes(&["/data", "/etc", "/etc/hosts", "/out/in"])) {
        return;
    }
    let mounts = json!({ "volumeMounts": [{ "name": "v", "mountPath": "/data" }, { "name": "v", "mountPath": "/out", "subPath": "sub" }] });
    mp.up(&with(pod("p", &[with(container("a"), mounts)]), json!({ "spec": { "volumes": [{ "name": "v", "emptyDir": {} }] } })));
    assert_eq!(mp.sh("p/a", "ls -A /data /data/sub /out"), "/data:\nsub\n\n/data/sub:\nin\n\n/out:\nin");
    assert_eq!(mp.sh("p/a", "echo x > /out/in/file; ls -A /out/in /data/sub/in"), "/data/sub/in:\n\n/out/in:\nfile", "that one is the image's");
    assert_eq!(mp.sh("p/a", "cat /etc/mark; echo; grep -c 127.0.0.1 /etc/hosts 2>/dev/null || busybox grep -c 127.0.0.1 /etc/hosts"), "of the image\n1");
}

#[test]
fn volumes_that_cannot_be_are_refused_before_anything_is_made() {
    let Some(mp) = Minipod::new() else { return };
    for place in ["/", "/proc/x", "sys/fs/cgroup", "/a/../dev", "/.."] {
        if !load(&mp, &[], volumes(&[place])) {
            return;
        }
        let said = mp.fails(125, &["run", "-d", &mp.manifest("p.json", &pod("p", &[container("a")]).to_string())]);
        assert!(said.contains(&format!("conf:1: its configuration asks for a volume at \"{place}\"")), "{said}");
        assert_eq!(mp.pods(), Vec::<String>::new());
    }
    let many: Vec<String> = (0..101).map(|n| format!("/v{n}")).collect();
    assert!(load(&mp, &[], volumes(&many.iter().map(String::as_str).collect::<Vec<_>>())));
    let said = mp.fails(125, &["run", "-d", &mp.manifest("p.json", &pod("p", &[container("a")]).to_string())]);
    assert!(said.contains("101 volumes, more than 100"), "{said}");
    // A file is found only when the root is there; then all is undone.
    assert!(load(&mp, &data(), volumes(&["/data/file"])));
    let said = mp.fails(125, &["run", "-d", &mp.manifest("p.json", &pod("p", &[container("a")]).to_string())]);
    assert!(said.contains("\"/data/file\": the image has a file there"), "{said}");
    assert_eq!(mp.pods(), Vec::<String>::new());
    mp.assert_clean();
}

#[test]
fn a_bundle_has_the_volumes_of_the_image() {
    let Some(mp) = Minipod::new() else { return };
    if !load(&mp, &data(), volumes(&["/data"])) {
        return;
    }
    let out = mp.file("out");
    let path = mp.manifest("p.json", &pod("p", &[container("a")]).to_string());
    drop(mp.ok(&["bundle", &path, "-o", out.to_str().expect("UTF-8")]));
    assert_eq!(fs::read_to_string(out.join("a/volumes/0/file")).expect("read it"), "of the image");
    let spec: Value = serde_json::from_slice(&fs::read(out.join("a/config.json")).expect("read it")).expect("JSON");
    let mount = spec["mounts"].as_array().and_then(|all| all.iter().find(|mount| mount["destination"] == "/data")).expect("a mount");
    assert_eq!(mount["source"], json!(out.join("a/volumes/0")));
}

#[test]
fn a_container_is_stopped_by_its_images_signal() {
    let Some(mp) = Minipod::new() else { return };
    let script = "trap 'echo by USR1; exit 3' USR1; trap 'echo by RTMIN+3; exit 4' 37; trap 'echo by TERM; exit 5' TERM; echo ready; while true; do sleep 0.05; done";
    for (named, said) in [(json!("SIGUSR1"), "by USR1"), (json!("USR1"), "by USR1"), (json!("SIGRTMIN+3"), "by RTMIN+3"), (json!("37"), "by RTMIN+3"), (json!(""), "by TERM"), (Value::Null, "by TERM"), (json!("SIGNONSENSE"), "by TERM")] {
        if !load(&mp, &[], json!({ "StopSignal": named, "Cmd": ["sh", "-c", script], "Labels": { "maker": "a test" } })) {
            return;
        }
        mp.up(&with(pod("p", &[container("a")]), json!({ "spec": { "terminationGracePeriodSeconds": 30 } })));
        testkit::eventually(testkit::LIMIT, "the trap is set", || mp.ok(&["logs", "p"]).contains("ready").then_some(()));
        drop(mp.ok(&["stop", "p"]));
        let log = mp.ok(&["logs", "-c", "a", "p"]);
        assert_eq!(log, format!("ready\n{said}\n"), "{named}");
        drop(mp.ok(&["rm", "p"]));
    }
    assert!(mp.ok(&["image", "inspect", "conf:1"]).contains("a test"), "labels are shown");
}
