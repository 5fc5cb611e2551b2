//! What becomes of images that are there: in use, pruned, measured, saved.

use serde_json::{Value, json};
use testkit::{Cmd, FOREVER, pod, with};

use crate::{Lab, blob_image, once, printed, program};

/// What there is beside the image inside minipod.
fn names(lab: &Lab) -> Vec<String> {
    let listed = lab.ok(&["image", "ls", "-o", "name"]);
    listed.lines().filter(|name| !name.starts_with("minipod.local/")).map(ToOwned::to_owned).collect()
}

fn layers(lab: &Lab) -> usize {
    std::fs::read_dir(lab.mp.root().join("lib/images/layers/sha256")).expect("list layers").count()
}

/// A pod that stays, of an image with a shell.
fn stays(lab: &Lab, name: &str, image: &str) {
    let script = FOREVER.replace("sleep", "busybox sleep");
    let manifest = pod(name, &[json!({ "name": "c", "image": image, "command": ["/bin/sh", "-c", script] })]);
    let path = lab.mp.manifest("stays.json", &manifest.to_string());
    lab.ok(&["run", "-d", &path]);
}

#[test]
fn an_image_in_use_is_not_removed_and_its_pods_are_named() {
    let Some(lab) = Lab::new() else { return };
    let Some(image) = program("used") else { return };
    let written = lab.registry.fill(&image, "used:1");
    let name = lab.registry.name("used:1");
    lab.pull(&name);
    stays(&lab, "runs", &name);
    stays(&lab, "stopped", &name);
    lab.ok(&["stop", "stopped"]);
    for reference in [&*name, &written.id, &written.manifest] {
        lab.refused(&["image", "rm", reference], &["runs", "stopped"]);
    }
    assert_eq!(lab.mp.sh("runs", "busybox cat /data/kept"), "kept");
    lab.ok(&["rm", "-f", "runs"]);
    let said = lab.refused(&["image", "rm", &name], &["stopped"]);
    assert!(!said.contains("runs"), "{said}");
    lab.ok(&["start", "stopped"]);
    assert_eq!(lab.mp.sh("stopped", "busybox cat /data/kept"), "kept", "it can be started again");
    // One of two names may go.
    lab.ok(&["image", "tag", &name, "localhost/second:1"]);
    lab.ok(&["image", "rm", "localhost/second:1"]);
    assert_eq!(names(&lab), std::slice::from_ref(&name));
    lab.ok(&["rm", "-f", "stopped"]);
    lab.ok(&["image", "rm", &name]);
    assert_eq!((names(&lab).len(), layers(&lab)), (0, 0));
}

#[test]
fn an_image_in_use_goes_by_force_and_its_pods_go_on() {
    let Some(lab) = Lab::new() else { return };
    let Some(image) = program("used") else { return };
    lab.registry.fill(&image, "used:1");
    let name = lab.registry.name("used:1");
    lab.pull(&name);
    stays(&lab, "runs", &name);
    lab.ok(&["image", "rm", "-f", &name]);
    assert!(names(&lab).is_empty());
    assert_eq!(lab.mp.sh("runs", "busybox cat /data/kept"), "kept");
    lab.ok(&["gc"]);
    assert_eq!(lab.mp.sh("runs", "busybox cat /data/kept; busybox ls /bin"), "keptbusybox\nsh");
    lab.ok(&["rm", "-f", "runs"]);
    lab.ok(&["gc"]);
    assert_eq!(layers(&lab), 0);
}

/// An image volume uses its image as a container does.
#[test]
fn prune_takes_what_has_no_name_and_with_a_what_nobody_uses() {
    let Some(lab) = Lab::new() else { return };
    let Some(image) = program("used") else { return };
    lab.registry.fill(&image, "used:1");
    let used = lab.registry.name("used:1");
    lab.pull(&used);
    stays(&lab, "runs", &used);
    let (moved, unused) = (lab.registry.name("moved:1"), lab.registry.name("unused:1"));
    lab.registry.fill(&blob_image("old", &[3000]), "moved:1");
    lab.pull(&moved);
    lab.registry.fill(&blob_image("new", &[3000]), "moved:1");
    lab.registry.fill(&blob_image("unused", &[3000]), "unused:1");
    lab.pull(&moved);
    lab.pull(&unused);
    let before = layers(&lab);
    lab.ok(&["image", "prune"]);
    let mut left = names(&lab);
    left.sort();
    let mut wanted = vec![used.clone(), moved.clone(), unused.clone()];
    wanted.sort();
    assert_eq!(left, wanted);
    assert_eq!(layers(&lab), before - 1, "the layer of what `moved` was before");
    let said = lab.ok(&["image", "prune", "-a"]);
    assert!(said.contains(&moved) && said.contains(&unused) && !said.contains(&used), "{said}");
    assert_eq!(names(&lab), [used]);
    assert_eq!(lab.mp.sh("runs", "busybox cat /data/kept"), "kept");
    lab.ok(&["rm", "-f", "runs"]);
    lab.ok(&["image", "prune", "-a"]);
    assert_eq!((names(&lab).len(), layers(&lab)), (0, 0));
}

/// Numbers of a document, wherever they are.
fn numbers(value: &Value, found: &mut Vec<u64>) {
    match value {
        Value::Number(number) => found.extend(number.as_u64()),
        Value::Array(list) => list.iter().for_each(|value| numbers(value, found)),
        Value::Object(map) => map.values().for_each(|value| numbers(value, found)),
        _ => {}
    }
}

#[test]
fn df_knows_what_images_take() {
    let Some(lab) = Lab::new() else { return };
    let df = || -> Value {
        let text = lab.ok(&["system", "df", "-o", "json"]);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("df prints JSON: {e}\n{text}"))
    };
    let largest = |value: &Value| {
        let mut found = Vec::new();
        numbers(value, &mut found);
        found.into_iter().max().unwrap_or(0)
    };
    let empty = df();
    lab.registry.fill(&blob_image("large", &[8_000_000]), "large:1");
    lab.pull(&lab.registry.name("large:1"));
    let full = df();
    let grown = largest(&full).saturating_sub(largest(&empty));
    assert!((7_900_000..12_000_000).contains(&grown), "{grown} bytes more: {empty:#} {full:#}");
    let text = lab.ok(&["system", "df"]);
    assert!(text.to_lowercase().contains("images"), "{text}");
    lab.ok(&["image", "rm", &lab.registry.name("large:1")]);
    assert!(largest(&df()) <= largest(&empty) + 1_000_000);
}

#[test]
fn a_saved_image_is_an_image_for_others_and_for_us() {
    let Some(lab) = Lab::new() else { return };
    let Some(image) = program("saved") else { return };
    lab.registry.fill(&image, "saved:1");
    lab.registry.fill(&blob_image("second", &[900]), "second:1");
    let (name, second) = (lab.registry.name("saved:1"), lab.registry.name("second:1"));
    lab.ok(&["image", "pull", &name, &second]);
    let archive = lab.mp.file("saved.tar");
    let path = archive.to_str().expect("UTF-8");
    lab.ok(&["image", "save", "-o", path, &name, &second]);
    for name in [&name, &second] {
        let inspected = ["oci-archive", "docker-archive"]
            .map(|kind| Cmd::new("skopeo").args(["inspect", &format!("{kind}:{path}:{name}")]).run());
        let one = inspected.iter().find(|output| output.code() == 0);
        let one = one.unwrap_or_else(|| panic!("{} {}", inspected[0], inspected[1]));
        let one: Value = serde_json::from_str(&one.stdout).expect("skopeo prints JSON");
        assert_eq!((&one["Os"], &one["Architecture"]), (&json!("linux"), &json!(testkit::architecture())), "{one:#}");
        assert!(one["Layers"].as_array().is_some_and(|layers| !layers.is_empty()), "{one:#}");
    }
    lab.ok(&["image", "rm", &name, &second]);
    lab.ok(&["gc"]);
    assert_eq!((names(&lab).len(), layers(&lab)), (0, 0));
    let loaded = lab.ok(&["image", "load", path]);
    assert!(loaded.contains(&name) && loaded.contains(&second), "{loaded}");
    let output = lab.foreground(&once("p", &name, Some("Never")));
    assert_eq!(output.stdout, printed("saved"), "whiteouts, users and configuration as before: {output}");

    // A file that is there, and one that cannot be written.
    lab.ok(&["image", "save", "-o", path, &name]);
    lab.refused(&["image", "save", "-o", "/nonexistent/x.tar", &name], &["/nonexistent/x.tar"]);
    lab.refused(&["image", "save", "-o", lab.mp.file("none.tar").to_str().expect("UTF-8"), "absent:1"],
        &["absent:1", "not found"]);
    assert!(!lab.mp.file("none.tar").exists(), "no half archive");
}

/// Entry point, command, environment, user by name, directory, stop signal, volumes: as the image says, through a registry.
#[test]
fn the_configuration_of_an_image_is_honoured() {
    let Some(lab) = Lab::new() else { return };
    let Some(mut image) = program("configured") else { return };
    image.config["StopSignal"] = json!("SIGUSR1");
    image.config["Volumes"] = json!({ "/scratch": {} });
    image.config["Labels"] = json!({ "a.label": "of the image" });
    let script = "trap 'echo stopped; exit 3' USR1; echo >/scratch/x; echo begun; while true; do busybox sleep 0.1; done";
    image.config["Cmd"] = json!([script]);
    image.layers[0].push(testkit::Entry::Dir("scratch".into()));
    lab.registry.fill(&image, "configured:1");
    let name = lab.registry.name("configured:1");
    assert!({
        lab.pull(&name);
        lab.ok(&["image", "inspect", &name]).contains("of the image")
    });
    let manifest = with(once("p", &name, None), json!({
        "spec": { "terminationGracePeriodSeconds": 20, "securityContext": { "runAsUser": 0 } },
    }));
    let path = lab.mp.manifest("p.json", &manifest.to_string());
    lab.ok(&["run", "-d", &path]);
    let log = || lab.ok(&["logs", "-c", "c", "p"]);
    testkit::eventually(testkit::LIMIT, "it has begun", || log().contains("begun").then_some(()));
    lab.ok(&["stop", "p"]);
    assert!(log().contains("stopped"), "by the signal of the image: {}", log());
    assert_eq!(lab.mp.status("p", "c")["state"]["terminated"]["exitCode"], 3);
}
