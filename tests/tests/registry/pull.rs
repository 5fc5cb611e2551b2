//! What is pulled, under which name, in which form, for which machine.

use testkit::{Form, Minipod, Pressed, architecture, docker_archive};

use crate::{Lab, blob_image, has, once, printed, program};

/// Some platform that this machine is not.
const FOREIGN: &str = if cfg!(target_arch = "s390x") { "ppc64le" } else { "s390x" };

fn for_architecture(architecture: &str) -> Form {
    Form { architecture: architecture.into(), ..Form::default() }
}

#[test]
fn by_tag_by_digest_and_by_both() {
    let Some(lab) = Lab::new() else { return };
    let Some(image) = program("here") else { return };
    let written = lab.registry.fill(&image, "team/app:1");
    let name = |rest: &str| lab.registry.name(&format!("team/app{rest}"));
    let digest = format!("@{}", written.manifest);
    for given in [":1", &digest, &format!(":1{digest}")] {
        let normal = if given.contains('@') { name(&digest) } else { name(":1") };
        assert_eq!(lab.pull(&name(given)), format!("pulled {normal}\n"));
        assert_eq!(lab.foreground(&once("p", &name(given), Some("Never"))).stdout, printed("here"), "{given}");
        lab.ok(&["image", "rm", &normal]);
    }
    assert_eq!(lab.ok(&["image", "pull", "-q", &name(":1")]), format!("{}\n", written.id));
    let inspected = lab.ok(&["image", "inspect", &name(":1")]);
    assert!(inspected.contains(&written.id) && inspected.contains(&written.manifest), "{inspected}");
}

#[test]
fn several_at_once_are_told_in_their_order() {
    let Some(lab) = Lab::new() else { return };
    let names = ["b", "a", "c"].map(|name| {
        lab.registry.fill(&blob_image(name, &[500]), &format!("{name}:1"));
        lab.registry.name(&format!("{name}:1"))
    });
    let args: Vec<&str> = ["image", "pull"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let wanted: String = names.iter().map(|name| format!("pulled {name}\n")).collect();
    assert_eq!(lab.ok(&args), wanted);
}

#[test]
fn a_tag_that_is_not_given_is_latest() {
    let Some(lab) = Lab::new() else { return };
    lab.registry.fill(&blob_image("latest", &[500]), "app:latest");
    assert_eq!(lab.pull(&lab.registry.name("app")), format!("pulled {}\n", lab.registry.name("app:latest")));
}

/// Docker Hub is somewhere else here, as behind a company's mirror.
#[test]
fn short_names_belong_to_docker_hub() {
    let Some(lab) = Lab::new() else { return };
    lab.settings(&format!("[[registry]]\nprefix = \"docker.io\"\nlocation = \"{}/hub\"\ninsecure = true\n",
        lab.registry.address()));
    let Some(image) = program("hub") else { return };
    lab.registry.fill(&image, "hub/library/web:1");
    for name in ["web:1", "library/web:1", "docker.io/web:1", "docker.io/library/web:1", "index.docker.io/library/web:1"] {
        assert_eq!(lab.pull(name), "pulled docker.io/library/web:1\n", "{name}");
        assert_eq!(lab.ok(&["image", "ls", "-o", "name"]).matches("docker.io/library/web:1").count(), 1);
        lab.ok(&["image", "rm", "web:1"]);
    }
    assert_eq!(lab.foreground(&once("p", "web:1", None)).stdout, printed("hub"));
}

#[test]
fn every_way_to_press_a_layer() {
    let Some(lab) = Lab::new() else { return };
    for (tag, pressed) in [("gzip", Pressed::Gzip), ("zstd", Pressed::Zstd), ("plain", Pressed::Plain)] {
        let Some(image) = program(tag) else { return };
        let form = Form { pressed, ..Form::default() };
        let written = lab.registry.fill_as(&image, &form, &format!("pressed:{tag}"));
        let name = lab.registry.name(&format!("pressed:{tag}"));
        assert_eq!(lab.ok(&["image", "pull", "-q", &name]).trim(), written.id);
        assert_eq!(lab.foreground(&once("p", &name, Some("Never"))).stdout, printed(tag));
    }
}

#[test]
fn manifests_as_docker_writes_them() {
    let Some(lab) = Lab::new() else { return };
    let Some(image) = program("schema 2") else { return };
    lab.registry.fill_as_docker(&image, "docker:1");
    let digest = lab.registry.inspect("docker:1")["Digest"].as_str().expect("a digest").to_owned();
    for name in [lab.registry.name("docker:1"), lab.registry.name(&format!("docker@{digest}"))] {
        lab.pull(&name);
        assert_eq!(lab.foreground(&once("p", &name, Some("Never"))).stdout, printed("schema 2"));
    }
    // Docker's index, of the same manifest.
    let list = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json",
        "manifests": [{
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json", "digest": digest,
            "size": lab.registry.manifest_bytes("docker", "1").len(),
            "platform": { "os": "linux", "architecture": architecture() },
        }],
    });
    let kind = list["mediaType"].as_str().expect("a type");
    lab.registry.put_manifest("docker", "list", kind, list.to_string().as_bytes());
    let name = lab.registry.name("docker:list");
    lab.pull(&name);
    assert_eq!(lab.foreground(&once("p", &name, Some("Never"))).stdout, printed("schema 2"));
}

#[test]
fn an_index_has_one_for_this_machine_and_for_others_when_asked() {
    let Some(lab) = Lab::new() else { return };
    let Some(image) = program("this machine") else { return };
    let v7 = Form { architecture: "arm".into(), variant: Some("v7".into()), ..Form::default() };
    let v6 = Form { variant: Some("v6".into()), ..v7.clone() };
    let images = [
        (blob_image("foreign", &[300]), for_architecture(FOREIGN)), (blob_image("v6", &[300]), v6),
        (blob_image("v7", &[300]), v7), (image, Form::default()),
    ];
    let index = lab.registry.fill_index(&images, "many:1");
    let name = lab.registry.name("many:1");
    lab.pull(&name);
    assert_eq!(lab.foreground(&once("p", &name, Some("Never"))).stdout, printed("this machine"));
    let by_index = lab.registry.name(&format!("many@{index}"));
    lab.pull(&by_index);
    assert_eq!(lab.foreground(&once("p", &by_index, Some("Never"))).stdout, printed("this machine"));

    for (n, platform) in [(0, format!("linux/{FOREIGN}")), (1, "linux/arm/v6".into()), (2, "linux/arm/v7".into())] {
        let of_index = lab.ok(&["image", "pull", "-q", "--platform", &platform, &name]);
        let alone = lab.ok(&["image", "pull", "-q", "--platform", &platform, &lab.registry.name(&format!("many:1-{n}"))]);
        assert_eq!(of_index, alone, "{platform}");
        assert_eq!(id_of(&lab, &name), of_index.trim(), "{platform}");
    }
    let ours = lab.ok(&["image", "pull", "-q", &name]);
    assert_eq!(id_of(&lab, &name), ours.trim(), "without --platform it means this machine's again");
    assert_eq!(lab.foreground(&once("p", &name, Some("Never"))).stdout, printed("this machine"));
}

fn id_of(lab: &Lab, name: &str) -> String {
    let text = lab.ok(&["image", "inspect", "-o", "json", name]);
    let inspected: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    inspected["id"].as_str().expect("an id").to_owned()
}

#[test]
fn an_image_of_another_platform_is_refused() {
    let Some(lab) = Lab::new() else { return };
    lab.begin();
    lab.registry.fill_index(&[(blob_image("foreign", &[300]), for_architecture(FOREIGN))], "index:1");
    lab.registry.fill_as(&blob_image("alone", &[300]), &for_architecture(FOREIGN), "alone:1");
    for name in ["index:1", "alone:1"] {
        let name = lab.registry.name(name);
        lab.refused(&["image", "pull", &name], &[&name, FOREIGN, architecture(), "--platform"]);
    }
    let name = lab.registry.name("index:1");
    lab.refused(&["image", "pull", "--platform", "linux/riscv64", &name], &["riscv64", FOREIGN]);
    lab.refused(&["image", "pull", "--platform", "linux/a/b/c/d", &name], &["linux/a/b/c/d", "OS/ARCH|os/arch"]);
}

#[test]
fn what_is_there_is_not_fetched_again() {
    let Some(lab) = Lab::new() else { return };
    let proxy = lab.proxy(Vec::new());
    let (mut first, mut second) = (blob_image("shared", &[5000, 300]), blob_image("other", &[5000, 300]));
    second.layers[0] = first.layers[0].clone();
    first.layers.push(first.layers[0].clone()); // and one that repeats
    let shared = &lab.registry.fill(&first, "first:1").layers[0];
    lab.registry.fill(&second, "second:1");
    for name in ["first:1", "second:1", "first:1"] {
        lab.pull(&format!("{}/{name}", proxy.address()));
    }
    assert_eq!(proxy.count("GET", shared), 1);
    assert_eq!(proxy.count("GET", "/blobs/"), 5, "three layers and two configurations: {:#?}", proxy.seen());
    lab.ok(&["image", "rm", &format!("{}/first:1", proxy.address())]);
    lab.ok(&["gc"]);
    lab.pull(&format!("{}/first:1", proxy.address()));
    assert_eq!(proxy.count("GET", shared), 1, "the other image has it still");
}

#[test]
fn a_pulled_image_and_a_loaded_one_are_the_same() {
    let Some(lab) = Lab::new() else { return };
    let image = blob_image("same", &[700, 800]);
    let written = lab.registry.fill(&image, "same:1");
    let archive = lab.mp.file("same.tar");
    docker_archive(&testkit::Image { reference: "example.test/same:1".into(), ..image }, &archive);
    lab.ok(&["image", "load", archive.to_str().expect("UTF-8")]);
    let proxy = lab.proxy(Vec::new());
    lab.pull(&format!("{}/same:1", proxy.address()));
    for layer in &written.layers {
        assert_eq!(proxy.count("GET", layer), 0, "it is there already");
    }
    assert_eq!(id_of(&lab, "example.test/same:1"), written.id);
    let layers = |name: &str| lab.ok(&["image", "inspect", "-o", "json", name]);
    let (pulled, loaded) = (layers(&format!("{}/same:1", proxy.address())), layers("example.test/same:1"));
    let of = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON")["layers"].clone();
    assert_eq!(of(&pulled), of(&loaded), "one directory a layer");
}

#[test]
fn names_that_are_none_are_refused() {
    let Some(lab) = Lab::new() else { return };
    lab.begin();
    for name in ["UPPER", "a//b", "a:b:c", "a@sha256:12", "x.io:port/a", "-a", ""] {
        lab.refused(&["image", "pull", "--", name], &["image name"]);
    }
}

/// It is always there; there is nothing to fetch and nobody to ask.
#[test]
fn the_image_inside_minipod_is_not_asked_for() {
    let Some(lab) = Lab::new() else { return };
    for name in ["toolbox", "minipod.local/toolbox"] {
        let output = lab.run(&["image", "pull", name]);
        assert!(!has(&output.stderr, "look up|connect|docker.io"), "{output}");
        assert!(output.code() == 0 || output.code() == 125 && output.stderr.contains("toolbox"), "{output}");
    }
}

/// Nothing is configured: no settings, no home.
#[test]
fn a_registry_is_https_unless_told() {
    let Some(mp) = Minipod::new() else { return };
    let Some(lab) = Lab::on(mp, testkit::Access::Open) else { return };
    lab.registry.fill(&blob_image("begin", &[100]), "begin:1");
    let before = lab.ok(&["image", "ls"]);
    let said = lab.run(&["image", "pull", &lab.registry.name("begin:1")]).fails(125);
    assert!(said.contains("insecure"), "it says what to do: {said}");
    assert_eq!(lab.ok(&["image", "ls"]), before);
}
