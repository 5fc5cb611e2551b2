//! What is wrong is said clearly, with the exit code that tells whose fault it is, and nothing is left.

use std::fs;

use serde_json::{Value, json};
use testkit::{Cmd, FOREVER, Minipod, container, pod, with};

fn refused(mp: &Minipod, manifest: &str) -> String {
    let path = mp.manifest("bad.yaml", manifest);
    let said = mp.fails(125, &["run", "-d", &path]);
    assert!(mp.pods().is_empty(), "a pod was left");
    mp.assert_clean();
    said
}

#[test]
fn manifests_are_refused_with_their_place() {
    let Some(mp) = Minipod::new() else { return };
    let head = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\nspec:\n  containers:\n";
    let cases = [
        (format!("{head}  - name: a\n   image: toolbox\n"), vec!["bad.yaml:8:"]),
        (format!("{head}  - name: a\n    image: [toolbox]\n"), vec!["bad.yaml:8:", "image"]),
        (format!("{head}  - name: a\n"), vec!["bad.yaml:7:", "image"]),
        (format!("{head}  - image: toolbox\n"), vec!["bad.yaml:7:", "name"]),
        (format!("{head}  - {{name: a, image: toolbox}}\n  - {{name: a, image: toolbox}}\n"), vec!["bad.yaml:8:", "a"]),
        ("apiVersion: v1\nkind: Pod\nmetadata: {}\nspec:\n  containers: [{name: a, image: toolbox}]\n".to_owned(), vec!["bad.yaml:3:", "name"]),
        ("apiVersion: v1\nkind: Teapot\nmetadata: {name: x}\n".to_owned(), vec!["bad.yaml", "Teapot"]),
        (String::new(), vec!["bad.yaml"]),
    ];
    for (manifest, wanted) in cases {
        let said = refused(&mp, &manifest);
        assert!(wanted.iter().all(|word| said.contains(word)), "{wanted:?} for\n{manifest}\nbut it said: {said}");
    }
    let said = mp.fails(125, &["run", "-d", "/no/such/file.yaml"]);
    assert!(said.contains("/no/such/file.yaml"), "{said}");
}

#[test]
fn unknown_fields_are_warned_of_and_strictly_refused() {
    let Some(mp) = Minipod::new() else { return };
    let mut manifest = pod("typo", &[container("c", FOREVER)]);
    manifest["spec"]["restartPolciy"] = json!("Never");
    let path = mp.manifest("typo.json", &manifest.to_string());
    let output = mp.run(&["validate", &path]);
    assert_eq!(output.code(), 0, "{output}");
    let said = format!("{}{}", output.stdout, output.stderr);
    assert!(said.contains("spec.restartPolciy") && said.contains("restartPolicy"), "{said}");
    let said = mp.fails(125, &["validate", "--strict", &path]);
    assert!(said.contains("restartPolciy"), "{said}");
    let said = mp.fails(125, &["run", "-d", "--strict", &path]);
    assert!(said.contains("restartPolciy"), "{said}");
    mp.assert_clean();
    let output = mp.run(&["run", "-d", &path]);
    assert_eq!(output.code(), 0, "{output}");
    assert!(output.stderr.contains("restartPolciy"), "{output}");
}

#[test]
fn absent_images_and_commands() {
    let Some(mp) = Minipod::new() else { return };
    let never = json!({ "spec": { "restartPolicy": "Never" } });
    let with_image = |image: &str| with(pod("p", &[json!({ "name": "c", "image": image, "imagePullPolicy": "Never" })]), never.clone()).to_string();
    let said = refused(&mp, &with_image("no.such.image:1"));
    assert!(said.contains("no.such.image:1"), "{said}");
    for (command, code) in [("no-such-command", 127), ("/no/such/command", 127), ("/etc", 126)] {
        let broken = with(pod("p", &[json!({ "name": "c", "image": "toolbox", "command": [command] })]), never.clone());
        let output = mp.foreground(&broken);
        assert_eq!(output.code(), code, "{command}: {output}");
        assert!(output.stderr.contains(command), "{output}");
        mp.assert_clean();
        let path = mp.manifest("p.json", &broken.to_string());
        let output = mp.run(&["run", "-d", &path]);
        assert_eq!(output.code(), code, "detached {command}: {output}");
        mp.ok(&["down", &path]);
        mp.assert_clean();
    }
}

#[test]
fn other_pods_of_a_refused_manifest_are_not_made() {
    let Some(mp) = Minipod::new() else { return };
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": [
        pod("fine", &[container("c", FOREVER)]),
        pod("bad", &[json!({ "name": "c", "image": "no.such.image:1", "imagePullPolicy": "Never" })]),
    ] });
    let _said = refused(&mp, &list.to_string());
}

#[test]
fn who_is_not_root_is_told() {
    let Some(mp) = Minipod::new() else { return };
    let path = mp.manifest("p.json", &pod("p", &[container("c", FOREVER)]).to_string());
    // Where nobody can read the program and the manifest.
    let dir = tempfile::Builder::new().prefix("mpt").tempdir().expect("a directory");
    let (program, manifest) = (dir.path().join("minipod"), dir.path().join("p.json"));
    fs::copy(testkit::binary(), &program).expect("copy the program");
    fs::copy(path, &manifest).expect("copy the manifest");
    let open = |path: &std::path::Path, mode| fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("open it");
    open(dir.path(), 0o755);
    open(&manifest, 0o644);
    let output = Cmd::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args(["run", "-d"])
        .arg(&manifest)
        .env("MINIPOD_ROOT", dir.path().join("r"))
        .run();
    let said = output.fails(125);
    assert!(said.contains("root"), "{said}");
}

#[test]
fn a_full_disk_is_named_and_leaves_nothing() {
    let Some(mp) = Minipod::new() else { return };
    let root = mp.root().to_str().expect("UTF-8").to_owned();
    drop(Cmd::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "small", &root]).run().ok());
    let path = mp.manifest("p.json", &pod("p", &[container("c", FOREVER)]).to_string());
    let output = mp.run(&["run", "-d", &path]);
    let pods = mp.pods();
    drop(Cmd::new("umount").arg(&root).run().ok());
    let said = output.fails(125);
    assert!(said.to_lowercase().contains("no space left"), "{said}");
    assert!(pods.is_empty(), "{pods:?}");
    mp.assert_clean();
}

#[test]
fn a_full_disk_later_on_leaves_nothing_either() {
    let Some(mp) = Minipod::new() else { return };
    let root = mp.root().to_str().expect("UTF-8").to_owned();
    drop(Cmd::new("mount").args(["-t", "tmpfs", "-o", "size=64m", "small", &root]).run().ok());
    let path = mp.manifest("p.json", &pod("p", &[container("c", FOREVER)]).to_string());
    // The image fits; then the disk is filled to the last byte.
    let first = mp.run(&["run", "-d", &path]);
    let down = mp.run(&["rm", "-f", "p"]);
    let filler = format!("cat /dev/zero > {root}/filler");
    let _full = Cmd::new("sh").args(["-c", &filler]).run();
    let output = mp.run(&["run", "-d", &path]);
    let pods = mp.run(&["ps", "-a", "-o", "name"]);
    drop(Cmd::new("umount").arg(&root).run().ok());
    assert_eq!((first.code(), down.code()), (0, 0), "{first}{down}");
    let said = output.fails(125);
    assert!(said.to_lowercase().contains("no space left"), "{said}");
    assert_eq!(pods.ok(), "");
    mp.assert_clean();
}

#[test]
fn what_is_not_there_is_named() {
    let Some(mp) = Minipod::new() else { return };
    for verb in ["inspect", "logs", "stop", "start", "restart", "rm", "kill", "wait"] {
        let said = mp.fails(125, &[verb, "ghost"]);
        assert!(said.contains("ghost"), "{verb}: {said}");
    }
    let _usage = mp.fails(125, &["frobnicate"]);
}

#[test]
fn a_pod_that_cannot_mount_its_volume_leaves_nothing() {
    let Some(mp) = Minipod::new() else { return };
    let volume: Value = json!({ "spec": { "volumes": [{ "name": "v", "hostPath": { "path": "/no/such/dir", "type": "Directory" } }] } });
    let mount = json!({ "volumeMounts": [{ "name": "v", "mountPath": "/v" }] });
    let manifest = with(pod("p", &[with(container("c", FOREVER), mount)]), volume);
    let path = mp.manifest("p.json", &manifest.to_string());
    let said = mp.fails(125, &["run", "-d", &path]);
    assert!(said.contains("/no/such/dir"), "{said}");
    mp.ok(&["down", &path]);
    mp.assert_clean();
}
