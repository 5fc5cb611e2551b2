//! The files of an image as a volume.

use std::fs;

use serde_json::{Value, json};
use testkit::{Entry, FOREVER, Image, Minipod, container, docker_archive, pod, with};

/// An image of files in these layers, loaded.
fn load(mp: &Minipod, reference: &str, layers: Vec<Vec<Entry>>) {
    let archive = mp.file("image.tar");
    docker_archive(&Image { reference: reference.to_owned(), layers, config: json!({}) }, &archive);
    drop(mp.ok(&["image", "load", archive.to_str().expect("UTF-8")]));
}

fn two_layers() -> Vec<Vec<Entry>> {
    vec![
        vec![
            Entry::Dir("data".into()), Entry::Dir("gone".into()), Entry::Dir("etc".into()), Entry::text("etc/mark", "of the image"),
            Entry::text("data/kept", "kept"), Entry::text("data/removed", "x"), Entry::text("gone/below", "x"),
            Entry::File("run".into(), b"#!/bin/sh\necho ran\n".to_vec(), 0o755),
            Entry::Link("lead".into(), "/etc".into()),
        ],
        vec![Entry::text("data/.wh.removed", ""), Entry::text("gone/.wh..wh..opq", ""), Entry::text("gone/above", "above")],
    ]
}

fn volume(reference: &str) -> Value {
    json!({ "spec": { "volumes": [{ "name": "v", "image": { "reference": reference, "pullPolicy": "Never" } }] } })
}

/// A container with mounts of the volume `v`, each with more fields than its name.
fn mounting(name: &str, mounts: &[Value]) -> Value {
    let mounts: Vec<Value> = mounts.iter().map(|mount| with(json!({ "name": "v" }), mount.clone())).collect();
    with(container(name, FOREVER), json!({ "volumeMounts": mounts }))
}

#[test]
fn containers_share_the_files_of_an_image_and_cannot_change_or_run_them() {
    let Some(mp) = Minipod::new() else { return };
    load(&mp, "files:1", two_layers());
    let writer = mounting("a", &[json!({ "mountPath": "/v", "readOnly": false })]);
    let manifest = with(pod("p", &[writer, mounting("b", &[json!({ "mountPath": "/other" })])]), volume("files:1"));
    mp.up(&manifest);
    for (container, at) in [("p/a", "/v"), ("p/b", "/other")] {
        assert_eq!(mp.sh(container, &format!("cat {at}/data/kept; echo; ls {at} {at}/data {at}/gone")).replace(at, ""), "kept\n:\ndata\netc\ngone\nlead\nrun\n\n/data:\nkept\n\n/gone:\nabove");
        // The mount and what it is mounted from: neither can be written.
        let mount = mp.sh(container, &format!("grep ' {at} ' /proc/self/mounts"));
        let options: Vec<&str> = mount.split(' ').nth(3).expect("options").split(',').collect();
        assert!(["ro", "nosuid", "nodev", "noexec"].iter().all(|option| options.contains(option)), "{mount}");
        assert!(mp.run(&["exec", container, "--", "touch", &format!("{at}/new")]).fails(1).to_lowercase().contains("read-only"));
        assert!(mp.run(&["exec", container, "--", "rm", &format!("{at}/data/kept")]).fails(1).to_lowercase().contains("read-only"));
        assert_eq!(mp.run(&["exec", container, "--", &format!("{at}/run")]).code(), 126);
    }
    drop(mp.ok(&["restart", "p/a"]));
    assert_eq!(mp.sh("p/a", "cat /v/data/kept"), "kept");
    drop(mp.ok(&["rm", "-f", "p"]));
    mp.assert_clean();
}

#[test]
fn a_part_of_an_image_is_a_volume() {
    let Some(mp) = Minipod::new() else { return };
    load(&mp, "files:1", two_layers());
    let parts = [
        json!({ "mountPath": "/dir", "subPath": "data" }),
        json!({ "mountPath": "/file", "subPath": "data/kept" }),
        // Links of the image lead to places in it.
        json!({ "mountPath": "/led", "subPath": "lead" }),
    ];
    mp.up(&with(pod("p", &[mounting("a", &parts)]), volume("files:1")));
    assert_eq!(mp.sh("p/a", "ls /dir /led; cat /file; echo; cat /led/mark"), "/dir:\nkept\n\n/led:\nmark\nkept\nof the image");
    for target in ["/dir/new", "/file", "/led/new"] {
        let said = mp.run(&["exec", "p/a", "--", "sh", "-c", &format!("echo x > {target}")]);
        assert!(said.code() != 0 && said.stderr.to_lowercase().contains("read-only"), "{target}: {said}");
    }
    for missing in ["nothing", "data/removed", "data/deeper/still", "gone/below"] {
        let manifest = with(pod("bad", &[mounting("a", &[json!({ "mountPath": "/v", "subPath": missing })])]), volume("files:1"));
        let said = mp.fails(125, &["run", "-d", &mp.manifest("bad.json", &manifest.to_string())]);
        assert!(said.contains(&format!("subPath \"{missing}\" does not exist; the volume is an image")), "{said}");
    }
    drop(mp.ok(&["rm", "-f", "p"]));
    mp.assert_clean();
}

/// What a layer hides is written in it as devices and attributes, which are the store's own affair.
#[test]
fn the_marks_of_a_single_layer_are_not_seen() {
    let Some(mp) = Minipod::new() else { return };
    let marks = ["", "d/", "d/e/"].iter().flat_map(|dir| [Entry::text(&format!("{dir}.wh.ghost"), ""), Entry::text(&format!("{dir}seen"), "x")]);
    let layer = [Entry::Dir("d".into()), Entry::Dir("d/e".into())].into_iter().chain(marks).chain([Entry::text("d/.wh..wh..opq", "")]);
    load(&mp, "marks:1", vec![layer.collect()]);
    mp.up(&with(pod("p", &[mounting("a", &[json!({ "mountPath": "/v" }), json!({ "mountPath": "/part", "subPath": "d" })])]), volume("marks:1")));
    assert_eq!(mp.sh("p/a", "for f in /v /v/d /v/d/e /part /part/e; do for g in ghost .wh.ghost .wh..wh..opq; do test -e $f/$g && echo $f/$g; done; test -f $f/seen || echo no $f; done; echo end"), "end");
    // Where one layer alone has a directory, the kernel lists the name of what it hides, as it does in a container's root.
    assert_eq!(mp.sh("p/a", "ls /v"), "d\nseen");
}

#[test]
fn an_image_that_a_volume_needs_stays() {
    let Some(mp) = Minipod::new() else { return };
    load(&mp, "files:1", two_layers());
    mp.up(&with(pod("p", &[mounting("a", &[json!({ "mountPath": "/v" })])]), volume("files:1")));
    let layers = mp.root().join("lib/images/layers/sha256");
    let count = || fs::read_dir(&layers).expect("the layers").count();
    assert_eq!(count(), 2);
    assert!(mp.fails(125, &["image", "rm", "files:1"]).contains("default/p"));
    drop(mp.ok(&["image", "rm", "-f", "files:1"]));
    drop(mp.ok(&["gc"]));
    assert_eq!(count(), 2);
    assert_eq!(mp.sh("p/a", "cat /v/data/kept"), "kept");
    // Stopped, it can be started again.
    drop(mp.ok(&["stop", "p"]));
    drop(mp.ok(&["gc"]));
    drop(mp.ok(&["start", "p"]));
    assert_eq!(mp.sh("p/a", "cat /v/data/kept"), "kept");
    drop(mp.ok(&["rm", "-f", "p"]));
    drop(mp.ok(&["gc"]));
    assert_eq!(count(), 0);
}

#[test]
fn an_absent_image_is_named_before_anything_is_made() {
    let Some(mp) = Minipod::new() else { return };
    let manifest = with(pod("p", &[mounting("a", &[json!({ "mountPath": "/v" })])]), volume("absent.example/x:1"));
    let said = mp.fails(125, &["run", "-d", &mp.manifest("p.json", &manifest.to_string())]);
    assert!(said.contains("absent.example/x:1") && said.contains("volume v of pod default/p"), "{said}");
    assert_eq!(mp.pods(), Vec::<String>::new());
    mp.assert_clean();
}

#[test]
fn a_bundle_has_a_copy() {
    let Some(mp) = Minipod::new() else { return };
    load(&mp, "files:1", two_layers());
    let parts = [json!({ "mountPath": "/all" }), json!({ "mountPath": "/led", "subPath": "lead" })];
    let path = mp.manifest("p.json", &with(pod("p", &[mounting("a", &parts)]), volume("files:1")).to_string());
    let out = mp.file("out");
    drop(mp.ok(&["bundle", &path, "-o", out.to_str().expect("UTF-8")]));
    assert_eq!(fs::read_to_string(out.join("volumes/v/data/kept")).expect("read it"), "kept");
    assert!(!out.join("volumes/v/data/removed").exists());
    let spec: Value = serde_json::from_slice(&fs::read(out.join("a/config.json")).expect("read it")).expect("JSON");
    let mount = |at: &str| spec["mounts"].as_array().and_then(|all| all.iter().find(|mount| mount["destination"] == at)).expect("a mount").clone();
    assert_eq!(mount("/led")["source"], json!(out.join("volumes/v/etc")), "not the host's /etc");
    assert!(mount("/all")["options"].as_array().is_some_and(|options| options.contains(&json!("ro"))), "{spec}");
}
