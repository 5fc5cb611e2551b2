//! What `run` pulls, when, and when not.

use std::fs;

use serde_json::{Value, json};
use testkit::{Act, Cmd, Proxy, Rule, container, pod, with};

use crate::{Lab, PATIENT, assert_same_store, blob_image, has, insecure, once, printed, program, reaches};

const NEVER: &str = "Never";
const ABSENT: &str = "IfNotPresent";
const ALWAYS: &str = "Always";

/// A registry with an image that runs and a proxy that counts; the image's name.
fn counted() -> Option<(Lab, Proxy, String)> {
    let lab = Lab::new()?;
    lab.registry.fill(&program("first")?, "app:1");
    let proxy = lab.proxy(Vec::new());
    let name = format!("{}/app:1", proxy.address());
    Some((lab, proxy, name))
}

fn manifest(lab: &Lab, documents: &[Value]) -> String {
    let text: Vec<String> = documents.iter().map(ToString::to_string).collect();
    lab.mp.manifest("several.yaml", &text.join("\n---\n"))
}

/// Neither pod nor bridge.
fn assert_nothing_began(lab: &Lab) {
    for dir in ["run/pods", "run/names", "lib/pods"] {
        let left = fs::read_dir(lab.mp.root().join(dir)).into_iter().flatten().count();
        assert_eq!(left, 0, "{dir} has something");
    }
    assert_ne!(Cmd::new("ip").args(["link", "show", lab.mp.bridge()]).run().code(), 0, "there is a bridge");
}

#[test]
fn a_manifest_just_works() {
    let Some((lab, proxy, name)) = counted() else { return };
    let output = lab.foreground(&once("p", &name, None));
    assert_eq!(output.stdout, printed("first"), "{output}");
    assert!(has(&output.stderr, "pull"), "progress is told: {output}");
    assert!(proxy.count("GET", "/blobs/") > 0);
}

#[test]
fn a_dry_run_only_names_what_it_would_pull() {
    let Some((lab, proxy, name)) = counted() else { return };
    lab.begin();
    let before = lab.store();
    let path = lab.mp.manifest("p.json", &once("p", &name, None).to_string());
    let said = lab.ok(&["run", "--dry-run", &path]);
    assert!(said.contains(&format!("{name} (would be pulled)")), "{said}");
    assert!(proxy.seen().is_empty(), "{:#?}", proxy.seen());
    assert_same_store(&before, &lab.store());
}

#[test]
fn a_bundle_is_of_what_is_pulled_for_it() {
    let Some((lab, _proxy, name)) = counted() else { return };
    let (path, out) = (lab.mp.manifest("p.json", &once("p", &name, None).to_string()), lab.mp.file("out"));
    lab.ok(&["bundle", &path, "-o", out.to_str().expect("UTF-8")]);
    let names = fs::read_dir(&out).expect("bundles").map(|entry| entry.expect("an entry").path());
    assert!(names.filter(|path| path.join("config.json").is_file() && path.join("rootfs/bin/busybox").is_file()).count() == 1);
}

#[test]
fn what_is_present_needs_no_network() {
    let Some((lab, proxy, name)) = counted() else { return };
    lab.pull(&name);
    proxy.forget();
    for policy in [Some(ABSENT), Some(NEVER), None] {
        assert_eq!(lab.foreground(&once("p", &name, policy)).stdout, printed("first"), "{policy:?}");
    }
    lab.ok(&["image", "ls"]);
    lab.ok(&["image", "inspect", &name]);
    lab.ok(&["run", "--dry-run", &lab.mp.manifest("p.json", &once("p", &name, Some(ABSENT)).to_string())]);
    assert!(proxy.seen().is_empty(), "{:#?}", proxy.seen());
    // By digest nothing can have changed, whatever the policy: Kubernetes' default is IfNotPresent here as well.
    let digest = lab.registry.inspect("app:1")["Digest"].as_str().expect("a digest").to_owned();
    let by_digest = format!("{}/app@{digest}", proxy.address());
    lab.pull(&by_digest);
    proxy.forget();
    assert_eq!(lab.foreground(&once("p", &by_digest, None)).stdout, printed("first"));
    assert!(proxy.seen().is_empty(), "{:#?}", proxy.seen());
}

#[test]
fn never_is_never() {
    let Some((lab, proxy, name)) = counted() else { return };
    let path = lab.mp.manifest("p.json", &once("p", &name, Some(NEVER)).to_string());
    let said = lab.refused(&["run", &path], &[&name, "Never", "minipod image pull|imagePullPolicy"]);
    assert!(!said.contains("login"), "{said}");
    assert!(proxy.seen().is_empty(), "{:#?}", proxy.seen());
    assert_nothing_began(&lab);
}

#[test]
fn always_asks_and_takes_what_a_tag_means_now() {
    let Some((lab, proxy, name)) = counted() else { return };
    assert_eq!(lab.foreground(&once("p", &name, Some(ALWAYS))).stdout, printed("first"));
    proxy.forget();
    assert_eq!(lab.foreground(&once("p", &name, Some(ALWAYS))).stdout, printed("first"));
    let asked = proxy.seen().iter().filter(|seen| seen.path.contains("/manifests/")).count();
    assert!(asked > 0 && proxy.count("GET", "/blobs/") == 0, "{:#?}", proxy.seen());

    lab.registry.fill(&program("second").expect("it was there before"), "app:1");
    assert_eq!(lab.foreground(&once("p", &name, Some(ABSENT))).stdout, printed("first"));
    assert_eq!(lab.foreground(&once("p", &name, Some(ALWAYS))).stdout, printed("second"));
    assert_eq!(lab.foreground(&once("p", &name, Some(ABSENT))).stdout, printed("second"));
    // `latest` is asked for unless told otherwise.
    lab.registry.fill(&program("third").expect("it was there before"), "app:latest");
    let latest = format!("{}/app", proxy.address());
    lab.pull(&latest);
    proxy.forget();
    assert_eq!(lab.foreground(&once("p", &latest, None)).stdout, printed("third"));
    assert!(proxy.seen().iter().any(|seen| seen.path.contains("/manifests/latest")), "{:#?}", proxy.seen());
}

/// As in Kubernetes: a registry that does not answer is an error, even with an image at hand.
#[test]
fn always_without_a_registry_is_an_error() {
    let Some((lab, proxy, name)) = counted() else { return };
    lab.pull(&name);
    let listed = lab.ok(&["image", "ls", "-o", "name"]);
    let address = proxy.address();
    drop(proxy);
    let path = lab.mp.manifest("p.json", &once("p", &name, Some(ALWAYS)).to_string());
    lab.refused(&["run", &path], &[&address, "refuse"]);
    assert_nothing_began(&lab);
    assert_eq!(lab.ok(&["image", "ls", "-o", "name"]), listed);
    assert_eq!(lab.foreground(&once("p", &name, Some(ABSENT))).stdout, printed("first"));
}

/// All images of all pods at a time, and no sandbox before the last is there.
#[test]
fn images_of_a_manifest_are_pulled_side_by_side_before_any_pod() {
    let Some(lab) = Lab::new() else { return };
    let words = ["one", "two", "three"];
    for word in words {
        let Some(image) = program(word) else { return };
        lab.registry.fill(&image, &format!("{word}:1"));
    }
    let proxy = lab.proxy(vec![Rule::on("/blobs/", Act::Stall(0))]);
    let name = |word: &str| format!("{}/{word}:1", proxy.address());
    let image = |container: &str, image: &str| json!({ "name": container, "image": name(image) });
    let never = json!({ "spec": { "restartPolicy": "Never" } });
    let pods = [
        with(pod("a", &[image("c", "one"), image("d", "two")]),
            with(never.clone(), json!({ "spec": { "initContainers": [image("i", "three")] } }))),
        with(pod("b", &[image("c", "one")]), never),
    ];
    let path = manifest(&lab, &pods);
    // Blobs of all three are asked for, while none comes.
    let mut running = lab.cmd(&["run", &path]).spawn();
    for word in words {
        running = reaches(running, &proxy, &format!("/{word}/blobs/"), 0);
    }
    assert_nothing_began(&lab);
    proxy.release();
    let output = running.finish(PATIENT);
    let printed = output.clone().ok();
    for line in ["[a/i] three", "[a/c] one", "[a/d] two", "[b/c] one"] {
        assert!(printed.lines().any(|other| other == line), "{line}: {output}");
    }
    let blobs = proxy.seen().into_iter().filter(|seen| seen.path.contains("/blobs/"));
    let mut paths: Vec<String> = blobs.map(|seen| seen.path).collect();
    let asked = paths.len();
    paths.sort();
    paths.dedup();
    assert_eq!(asked, paths.len(), "each blob once: {:#?}", proxy.seen());
}

#[test]
fn an_image_that_fails_leaves_no_pod_of_the_manifest() {
    let Some((lab, proxy, name)) = counted() else { return };
    let good = with(pod("good", &[json!({ "name": "c", "image": name })]), json!({}));
    let missing = format!("{}/missing:1", proxy.address());
    let bad = pod("bad", &[container("toolbox", "sleep 1000"), json!({ "name": "c", "image": missing })]);
    let path = manifest(&lab, &[good, bad]);
    let said = lab.run(&["run", "-d", &path]).fails(125);
    assert!(said.contains(&missing) && has(&said, "not found|no such"), "{said}");
    assert_nothing_began(&lab);
    // A program that ends in the middle: the same.
    proxy.rules(vec![Rule::on("/blobs/", Act::Stall(0))]);
    let other = lab.registry.fill(&blob_image("slow", &[500]), "slow:1");
    let path = manifest(&lab, &[once("slow", &format!("{}/slow:1", proxy.address()), None)]);
    let running = reaches(lab.cmd(&["run", &path]).spawn(), &proxy, &other.id, 0);
    running.signal(rustix::process::Signal::INT);
    assert_eq!(running.finish(testkit::LIMIT).code(), 130);
    assert_nothing_began(&lab);
}

#[test]
fn image_volumes_are_pulled_too() {
    let Some((lab, proxy, name)) = counted() else { return };
    lab.registry.fill(&blob_image("volume", &[2000]), "volume:1");
    let reference = format!("{}/volume:1", proxy.address());
    let mount = json!({ "volumeMounts": [{ "name": "v", "mountPath": "/v" }], "image": name,
        "args": ["busybox wc -c </v/data/0"] });
    let volume = json!({ "spec": { "restartPolicy": "Never",
        "volumes": [{ "name": "v", "image": { "reference": reference, "pullPolicy": "IfNotPresent" } }] } });
    let manifest = with(pod("p", &[with(json!({ "name": "c" }), mount)]), volume);
    let output = lab.foreground(&manifest);
    assert_eq!(output.stdout, "[c] 2000\n", "{output}");
    proxy.forget();
    assert_eq!(lab.foreground(&manifest).stdout, "[c] 2000\n");
    assert!(proxy.seen().is_empty(), "{:#?}", proxy.seen());
    let absent = with(manifest, json!({ "spec": { "volumes": [{ "name": "v",
        "image": { "reference": format!("{}/no:1", proxy.address()), "pullPolicy": "Never" } }] } }));
    let path = lab.mp.manifest("p.json", &absent.to_string());
    lab.refused(&["run", &path], &["no:1", "Never"]);
}

#[test]
fn options_of_pull_are_options_of_run() {
    let Some(lab) = Lab::new() else { return };
    let Some(image) = program("optional") else { return };
    lab.registry.fill(&image, "app:1");
    let name = lab.registry.name("app:1");
    let settings = lab.mp.manifest("mine.toml", &insecure(&lab.registry.address()));
    lab.settings("");
    let path = lab.mp.manifest("p.json", &once("p", &name, None).to_string());
    lab.refused(&["run", &path], &["insecure"]);
    assert_eq!(lab.ok(&["run", "--registries", &settings, &path]), printed("optional"));
}
