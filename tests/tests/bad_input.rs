//! What is wrong is said clearly, with the exit code that tells whose fault it is, and nothing is left.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use testkit::{Cmd, FOREVER, Minipod, Output, container, installed, pod, with};

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

/// What `minipod validate` may take: its own megabytes and a few times the 10 MiB that it reads.
const ADDRESS_SPACE: u64 = 512 << 20;

/// `minipod validate` of a manifest, without more memory than that (setrlimit(2), `RLIMIT_AS`).
fn validate(prlimit: &Path, dir: &Path, manifest: &[u8]) -> Output {
    let path = dir.join("m.yaml");
    fs::write(&path, manifest).expect("write a manifest");
    Cmd::new(prlimit).arg(format!("--as={ADDRESS_SPACE}")).arg(testkit::binary()).arg("validate").arg(path).run()
}

/// A pod in JSON with more in its spec and its container.
fn hostile(spec: &str, container: &str) -> String {
    format!(r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "p"}}, "spec": {{{spec} "containers": [{{"name": "a", "image": "x:1" {container}}}]}}}}"#)
}

#[test]
fn ten_megabytes_of_manifest_are_read_in_bounded_memory() {
    let Some(prlimit) = installed("prlimit") else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let annotated = |value: &str| hostile("", "").replace(r#""name": "p""#, &format!(r#""name": "p", "annotations": {{"x": "{value}"}}"#));
    let pods = |n: usize| (0..n).map(|n| annotated(&"x".repeat(2000)).replace(r#""name": "p""#, &format!(r#""name": "p{n}""#))).collect::<Vec<_>>().join("\n---\n");
    let listed = |n: usize| {
        let items = (0..n).map(|n| annotated(&"x".repeat(3000)).replace(r#""name": "p""#, &format!(r#""name": "p{n}""#))).collect::<Vec<_>>().join(",");
        format!(r#"{{"apiVersion": "v1", "kind": "List", "items": [{items}]}}"#)
    };
    for (what, manifest, lines) in [
        ("one value", annotated(&"x".repeat(10_000_000)), 1),
        ("a comment", format!("# {}\n{}", "x".repeat(10_000_000), hostile("", "")), 1),
        ("empty lines", format!("{}{}", "\n".repeat(10_000_000), hostile("", "")), 1),
        ("blanks", format!("{}{}", hostile("", ""), " ".repeat(10_000_000)), 1),
        ("documents", pods(1000), 1000),
        ("a list", listed(3000), 3000),
    ] {
        assert!(manifest.len() > 1 << 20 && manifest.len() < 10 << 20, "{what}");
        let output = validate(&prlimit, dir.path(), manifest.as_bytes());
        assert_eq!(output.code(), 0, "{what}: {}", &output.stderr[..output.stderr.len().min(2000)]);
        assert_eq!(output.stdout.lines().count(), lines, "{what}");
    }
    let output = validate(&prlimit, dir.path(), annotated(&"x".repeat(11 << 20)).as_bytes());
    assert!(output.fails(125).contains("larger than 10.0 MiB"));
}

#[test]
fn hostile_manifests_are_refused_in_bounded_memory_and_few_words() {
    let Some(prlimit) = installed("prlimit") else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let laughs = (1..30).fold("a0: &a0 [lol]\n".to_owned(), |text, n| format!("{text}a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", ")));
    let quadratic = format!("a: &a {}\nb: [{}]\n", "x".repeat(4 << 20), vec!["*a"; 40_000].join(", "));
    let env = (1..10_000).map(|n| format!(r#"{{"name": "A{n}", "value": "$(A{})$(A{})"}}"#, n - 1, n - 1)).collect::<Vec<_>>().join(",");
    let env = hostile("", &format!(r#", "env": [{{"name": "A0", "value": "x"}},{env}]"#));
    let containers = |n: usize| format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {{containers: [{}]}}", (0..n).map(|n| format!("{{name: c{n}}}")).collect::<Vec<_>>().join(","));
    let template = format!(r#"{{"metadata": {{"annotations": {{"x": "{}"}}}}, "spec": {{"containers": [{{"name": "a", "image": "x"}}]}}}}"#, "x".repeat(9 << 20));
    let copies = format!(r#"{{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {{"name": "d"}}, "spec": {{"replicas": 250, "template": {template}}}}}"#);
    let mounts = (0..30_000).map(|n| format!(r#"{{"name": "w{n}", "mountPath": "/w{n}"}}"#)).collect::<Vec<_>>().join(",");
    let mounts = hostile("", &format!(r#", "volumeMounts": [{mounts}]"#));
    let utf16 = |little: bool| hostile("", "").encode_utf16().flat_map(|unit| if little { unit.to_le_bytes() } else { unit.to_be_bytes() }).collect::<Vec<u8>>();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("billion laughs", laughs.into(), "aliases expand too far"),
        ("quadratic blow-up", quadratic.into(), "aliases expand too far"),
        ("brackets", "[".repeat(10_000_000).into(), "m.yaml:1:"),
        ("braces", "{a: ".repeat(2_500_000).into(), "m.yaml:1:"),
        ("dashes", "- ".repeat(5_000_000).into(), "m.yaml:1:"),
        ("a ring", "&a [*a]".into(), "m.yaml:1:"),
        ("the same key twice", "a: 1\na: 2\n".into(), "duplicate"),
        ("a NUL byte", "kind: \0Pod\n".into(), "m.yaml:1:"),
        ("no UTF-8", b"kind: Pod\n# \xff\n".to_vec(), "m.yaml:2: the manifest is not UTF-8 text"),
        ("UTF-16, little end first", [b"\xff\xfe".to_vec(), utf16(true)].concat(), "m.yaml:1: the manifest is not UTF-8 text"),
        ("UTF-16, big end first", [b"\xfe\xff".to_vec(), utf16(false)].concat(), "m.yaml:1: the manifest is not UTF-8 text"),
        ("documents", "---\na: b\n".repeat(100_000).into(), "too large"),
        ("100,000 containers", containers(100_000).into(), "too large"),
        ("50,000 containers", containers(50_000).into(), "at most 1000 can be in one pod"),
        ("variables of variables", env.into(), "env[17].value: has more than 131071 bytes once expanded"),
        ("copies of a template", copies.into(), "250 copies of this template are too much"),
        ("mounts of nothing", mounts.into(), "there is more to say than these 1000"),
        ("parentheses", hostile("", &format!(r#", "args": ["{}"]"#, "$(".repeat(4_900_000))).into(), "args[0]: has more than"),
    ];
    for (what, manifest, words) in cases {
        assert!(manifest.len() <= 10 << 20, "{what} has {} bytes", manifest.len());
        let said = validate(&prlimit, dir.path(), &manifest).fails(125);
        assert!(said.contains(words), "{what}: {}", said.chars().take(500).collect::<String>());
        assert!(said.len() < 300_000, "{what}: {} bytes are said", said.len());
    }
    // At the start of a text, the mark of its byte order is no content.
    let output = validate(&prlimit, dir.path(), format!("\u{feff}{}", hostile("", "")).as_bytes());
    assert_eq!(output.code(), 0, "{output}");
}
