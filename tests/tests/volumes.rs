//! emptyDir and hostPath.

use std::fs;

use serde_json::{Value, json};
use testkit::{FOREVER, Minipod, container, pod, with};

fn mounted(name: &str, at: &str) -> Value {
    with(container(name, FOREVER), json!({ "volumeMounts": [{ "name": "v", "mountPath": at }] }))
}

fn volume(source: Value) -> Value {
    json!({ "spec": { "volumes": [with(json!({ "name": "v" }), source)] } })
}

#[test]
fn an_empty_dir_is_shared_and_goes_with_the_pod() {
    let Some(mp) = Minipod::new() else { return };
    for (name, source) in [("disk", json!({ "emptyDir": {} })), ("memory", json!({ "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } }))] {
        mp.up(&with(pod(name, &[mounted("a", "/a"), mounted("b", "/b")]), volume(source)));
        assert_eq!(mp.sh(&format!("{name}/a"), "ls -A /a; stat -c %a /a"), "777");
        drop(mp.sh(&format!("{name}/a"), "echo $$ > /a/f; echo there"));
        assert_eq!(mp.sh(&format!("{name}/b"), "test -s /b/f && echo shared"), "shared");
    }
    assert_eq!(mp.sh("memory/a", "grep ' /a ' /proc/self/mounts").split(' ').nth(2), Some("tmpfs"));
    let full = mp.run(&["exec", "memory/a", "--", "dd", "if=/dev/zero", "of=/a/big", "bs=1M", "count=2"]).fails(1);
    assert!(full.to_lowercase().contains("no space"), "{full}");
    mp.ok(&["rm", "-f", "disk", "memory"]);
    mp.assert_clean();
}

#[test]
fn an_empty_dir_survives_a_restart_of_the_container() {
    let Some(mp) = Minipod::new() else { return };
    mp.up(&with(pod("stays", &[mounted("a", "/v")]), volume(json!({ "emptyDir": {} }))));
    drop(mp.sh("stays/a", "echo kept > /v/f; echo lost > /f; echo"));
    mp.ok(&["restart", "stays/a"]);
    assert_eq!(mp.sh("stays/a", "cat /v/f; test -e /f || echo fresh"), "kept\nfresh");
}

#[test]
fn host_paths_by_type() {
    let Some(mp) = Minipod::new() else { return };
    let dir = mp.file("host");
    fs::create_dir(&dir).expect("make a directory");
    fs::write(dir.join("file"), "of the host").expect("write a file");
    let at = |path: &str, kind: &str| volume(json!({ "hostPath": { "path": dir.join(path), "type": kind } }));
    for (name, path, kind) in [("dir", ".", "Directory"), ("file", "file", "File"), ("made", "new/dir", "DirectoryOrCreate"), ("touched", "new-file", "FileOrCreate"), ("any", "nothing", "")] {
        mp.up(&with(pod(name, &[mounted("a", "/v")]), at(path, kind)));
    }
    assert_eq!(mp.sh("file/a", "cat /v"), "of the host");
    drop(mp.sh("dir/a", "echo written > /v/back; echo"));
    assert_eq!(fs::read_to_string(dir.join("back")).expect("read it"), "written\n");
    assert!(dir.join("new/dir").is_dir() && dir.join("new-file").is_file() && dir.join("nothing").is_dir());
    for (path, kind) in [("absent", "Directory"), ("absent", "File"), ("file", "Directory"), (".", "File"), ("file", "Socket")] {
        let manifest = mp.manifest("bad.json", &with(pod("bad", &[mounted("a", "/v")]), at(path, kind)).to_string());
        let said = mp.run(&["run", "-d", &manifest]).fails(125);
        assert!(said.contains(path) && said.to_lowercase().contains(&kind.to_lowercase()), "{path} as {kind}: {said}");
        assert!(!mp.pods().contains(&"default/bad".to_owned()) || mp.run(&["rm", "-f", "bad"]).code() == 0);
    }
}

#[test]
fn mounts_can_be_read_only_and_parts_of_a_volume() {
    let Some(mp) = Minipod::new() else { return };
    let writer = mounted("w", "/v");
    let reader = with(container("r", FOREVER), json!({ "volumeMounts": [
        { "name": "v", "mountPath": "/ro", "readOnly": true }, { "name": "v", "mountPath": "/part", "subPath": "sub" },
    ] }));
    mp.up(&with(pod("parts", &[writer, reader]), volume(json!({ "emptyDir": {} }))));
    drop(mp.sh("parts/w", "mkdir -p /v/sub; echo part > /v/sub/f; echo"));
    assert_eq!(mp.sh("parts/r", "cat /part/f /ro/sub/f"), "part\npart");
    let said = mp.run(&["exec", "parts/r", "--", "touch", "/ro/x"]).fails(1);
    assert!(said.to_lowercase().contains("read-only"), "{said}");
}
