//! Secrets with credentials of registries: who gets them, what is said about bad ones, and that nothing shows what is in them.

use bundles::manifest::{Manifest, ParseOptions, Problems, PullSecretKind, Severity, Source, parse};

/// `{"auths":{"reg.example":{"auth":"c2VjcmV0OndvcmQ="}}}`
const CONFIG: &str = "eyJhdXRocyI6eyJyZWcuZXhhbXBsZSI6eyJhdXRoIjoiYzJWamNtVjBPbmR2Y21RPSJ9fX0=";
const CONFIG_JSON: &str = r#"{"auths":{"reg.example":{"auth":"c2VjcmV0OndvcmQ="}}}"#;
/// What must never be seen.
const SECRET: &str = "c2VjcmV0OndvcmQ";

fn read(sources: &[&str]) -> Result<Manifest, Problems> {
    let source = |(index, text): (usize, &&str)| Source { name: format!("{index}.yaml"), text: (*text).to_owned() };
    parse(&sources.iter().enumerate().map(source).collect::<Vec<_>>(), &ParseOptions::default())
}

fn good(sources: &[&str]) -> Manifest {
    read(sources).unwrap_or_else(|problems| panic!("{problems}"))
}

fn secret(name: &str, rest: &str) -> String {
    format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\ntype: kubernetes.io/dockerconfigjson\n{rest}\n")
}

fn data(name: &str) -> String {
    secret(name, &format!("data: {{.dockerconfigjson: {CONFIG}}}"))
}

fn pod(secrets: &str) -> String {
    format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n  imagePullSecrets: {secrets}\n  containers: [{{name: a, image: \"x:1\"}}]\n")
}

/// Name, kind and content of a pod's secrets.
fn had(manifest: &Manifest, pod: usize) -> Vec<(&str, PullSecretKind, &str)> {
    let secrets = manifest.pods[pod].pull_secrets.iter();
    secrets.map(|secret| (secret.name.as_str(), secret.kind, std::str::from_utf8(secret.json()).expect("JSON"))).collect()
}

#[test]
fn a_pod_gets_the_secrets_that_it_names_wherever_they_are() {
    let (named, wanted) = (pod("[{name: reg}]"), [("reg", PullSecretKind::DockerConfigJson, CONFIG_JSON)]);
    let in_a_list = format!("apiVersion: v1\nkind: List\nitems:\n- {{apiVersion: v1, kind: Secret, type: kubernetes.io/dockerconfigjson, metadata: {{name: reg, namespace: default}}, data: {{.dockerconfigjson: {CONFIG}}}}}\n");
    let both = format!("{}---\n{}", data("reg"), named);
    for sources in [&[data("reg").as_str(), &named][..], &[&named, &data("reg")], &[&both], &[&named, &in_a_list]] {
        let manifest = good(sources);
        assert_eq!(had(&manifest, 0), wanted, "{sources:?}");
        assert_eq!(manifest.warnings, []);
    }
    // Named twice, had once; in the pod's order; what it does not name it does not get.
    let manifest = good(&[&data("a"), &data("b"), &data("c"), &pod("[{name: c}, {name: a}, {name: c}]")]);
    assert_eq!(had(&manifest, 0).iter().map(|(name, ..)| *name).collect::<Vec<_>>(), ["c", "a"]);
    // Of its own namespace only.
    let elsewhere = data("reg").replace("{name: reg}", "{name: reg, namespace: lab}");
    let manifest = good(&[&elsewhere, &named]);
    assert_eq!(had(&manifest, 0), []);
    assert!(manifest.warnings[0].message.contains("there is one in namespace \"lab\""), "{}", manifest.warnings[0]);
    let manifest = good(&[&elsewhere, &named.replace("{name: web}", "{name: web, namespace: lab}")]);
    assert_eq!(had(&manifest, 0), wanted);
}

#[test]
fn the_pods_of_a_workload_get_them_too() {
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: 2\n  selector: {}\n  template:\n    spec:\n      imagePullSecrets: [{name: reg}, {name: none}]\n      containers: [{name: a, image: \"x:1\"}]\n";
    let manifest = good(&[deployment, &data("reg")]);
    assert_eq!((had(&manifest, 0).len(), had(&manifest, 1).len()), (1, 1));
    let warnings: Vec<String> = manifest.warnings.iter().filter(|w| w.severity == Severity::Warning).map(ToString::to_string).collect();
    let [warning] = warnings.as_slice() else { panic!("one warning for both copies: {warnings:?}") };
    assert!(warning.starts_with("0.yaml:9:") && warning.contains("spec.template.spec.imagePullSecrets[1].name"), "{warning}");
    assert!(warning.contains("images are pulled without it"), "{warning}");
}

#[test]
fn content_is_read_as_kubernetes_reads_it() {
    let named = pod("[{name: reg}]");
    let (first, second) = CONFIG.split_at(30);
    for content in [
        format!("data:\n  .dockerconfigjson: |\n    {first}\n    {second}"),
        format!("data:\n  .dockerconfigjson: >-\n    {first}\n    {second}"),
        format!("stringData:\n  .dockerconfigjson: '{CONFIG_JSON}'"),
        // stringData is written over data, and data is not looked at.
        format!("stringData:\n  .dockerconfigjson: '{CONFIG_JSON}'\ndata: {{.dockerconfigjson: '***'}}"),
        format!("immutable: true\ndata: {{.dockerconfigjson: {CONFIG}, other: eA==}}\nstringData: {{more: x}}"),
    ] {
        let manifest = good(&[&secret("reg", &content), &named]);
        assert_eq!(had(&manifest, 0), [("reg", PullSecretKind::DockerConfigJson, CONFIG_JSON)], "{content}");
        assert_eq!(manifest.warnings, []);
    }
    let older = secret("reg", "data: {.dockercfg: eyJyZWcuZXhhbXBsZSI6IHt9fQ==}").replace("dockerconfigjson", "dockercfg");
    assert_eq!(had(&good(&[&older, &named]), 0), [("reg", PullSecretKind::DockerCfg, r#"{"reg.example": {}}"#)]);
}

#[test]
fn what_is_wrong_with_a_secret_is_said_at_its_place() {
    for (text, at, words) in [
        (secret("reg", "data: {.dockerconfigjson: 'c2VjcmV0OndvcmQ'}"), "5:27: data[.dockerconfigjson]", "is not base64"),
        (secret("reg", "data: {.dockerconfigjson: c2VjcmV0OndvcmQ=}"), "5:27: data[.dockerconfigjson]", "is not JSON (see line 1, column 1 of it)"),
        (secret("reg", "stringData:\n  .dockerconfigjson: '{\"auths\": {\"c2VjcmV0OndvcmQ\": \"c2VjcmV0OndvcmQ}}'"), "6:22: stringData[.dockerconfigjson]", "is not JSON (see line 1"),
        (secret("reg", "stringData: {.dockerconfigjson: {\"auths\": \"c2VjcmV0OndvcmQ\"}}"), "stringData[.dockerconfigjson]", "expected JSON in a string"),
        (secret("reg", "data: {.dockerconfigjson: 5}"), "data[.dockerconfigjson]", "expected base64 in a string"),
        (secret("reg", "stringData: {.dockerconfigjson: '{\"auths\": \"c2VjcmV0OndvcmQ\"}'}"), "stringData[.dockerconfigjson]", "its `auths` is no object"),
        (secret("reg", "stringData: {.dockerconfigjson: '{\"credHelpers\": \"c2VjcmV0OndvcmQ\"}'}"), "stringData[.dockerconfigjson]", "has no `auths` object"),
        (secret("reg", "stringData: {.dockerconfigjson: '{\"c2VjcmV0OndvcmQ\": {}}'}"), "stringData[.dockerconfigjson]", "type kubernetes.io/dockercfg"),
        (secret("reg", "stringData: {.dockerconfigjson: '\"c2VjcmV0OndvcmQ\"'}"), "stringData[.dockerconfigjson]", "no object"),
        (secret("reg", "data: c2VjcmV0OndvcmQ"), ": data", "expected a map with the key .dockerconfigjson"),
        (secret("reg", "data: {config.json: c2VjcmV0OndvcmQ=}"), "5:1: data", "missing: a Secret of this type has the key .dockerconfigjson"),
        (secret("reg", ""), ": data", "missing"),
        (secret("reg", "stringData: {.dockerconfigjson: }"), ": stringData", "missing"),
        (secret("reg", &format!("stringData: {{.dockerconfigjson: '{}'}}", "c2VjcmV0OndvcmQ".repeat(80_000))), "stringData", "holds at most 1048576"),
        (secret("../reg", &format!("data: {{.dockerconfigjson: {CONFIG}}}")), "metadata.name", "must not hold '/'"),
        (secret("''", &format!("data: {{.dockerconfigjson: {CONFIG}}}")), "metadata.name", "missing"),
        (data("reg").replace("apiVersion: v1", "apiVersion: v2"), "apiVersion", "write v1"),
        (secret("reg", "data: {.dockercfg: eyJyZWcuZXhhbXBsZSI6IFt9").replace("dockerconfigjson", "dockercfg") + "}", "data[.dockercfg]", "is not JSON"),
    ] {
        // Whether or not a pod names it; once.
        for pod in [pod("[]"), pod("[{name: reg}]")] {
            let problems = read(&[&text, &pod]).expect_err(&text);
            let [error] = problems.errors.as_slice() else { panic!("one error:\n{problems}\nof {text}") };
            let said = error.to_string();
            assert!(said.starts_with("0.yaml:") && said.contains(at) && said.contains(words), "{said}\nof {text}");
            assert!(!said.contains(SECRET), "it quotes: {said}");
        }
    }
}

#[test]
fn what_a_pod_names_must_be_for_images() {
    let opaque = data("reg").replace("type: kubernetes.io/dockerconfigjson\n", "");
    let problems = read(&[&pod("[{name: reg}]"), &opaque]).expect_err("of the wrong type");
    let [error] = problems.errors.as_slice() else { panic!("one error:\n{problems}") };
    let said = error.to_string();
    assert!(said.starts_with("0.yaml:5:29: spec.imagePullSecrets[0].name: Secret \"reg\" (1.yaml:3:18) has type \"Opaque\""), "{said}");
    assert!(said.contains("have type kubernetes.io/dockerconfigjson or"), "{said}");
    let manifest = good(&[&pod("[{name: ''}, {}]")]);
    assert!(manifest.warnings.iter().all(|warning| warning.message.contains("missing, ignored")) && manifest.warnings.len() == 2);
}

#[test]
fn the_same_secret_twice_is_an_error() {
    let opaque = data("reg").replace("type: kubernetes.io/dockerconfigjson\n", "");
    for (first, second) in [(data("reg"), data("reg")), (data("reg"), opaque.clone()), (opaque.clone(), data("reg"))] {
        let problems = read(&[&first, &second, &pod("[]")]).expect_err("twice");
        let [error] = problems.errors.as_slice() else { panic!("one error:\n{problems}") };
        assert_eq!(error.to_string(), "1.yaml:3:18: metadata.name: Secret default/reg is already defined at 0.yaml:3:18");
    }
    assert_eq!(good(&[&opaque, &opaque, &pod("[]")]).pods.len(), 1, "those are not for us");
}

#[test]
fn a_secret_alone_says_nothing_and_runs_nothing() {
    assert_eq!(good(&[&data("reg"), &pod("[]")]).warnings, []);
    let problems = read(&[&data("reg")]).expect_err("nothing to run");
    assert!(problems.to_string().contains("nothing to run"), "{problems}");
    let mistyped = data("reg").replace("\ndata:", "\ndota:");
    let problems = read(&[&mistyped, &pod("[]")]).expect_err("no data");
    assert!(problems.warnings[0].message.contains("did you mean `data`?"), "{problems:?}");
    let opaque = data("reg").replace("type: kubernetes.io/dockerconfigjson\n", "");
    let warnings = good(&[&opaque, &pod("[]")]).warnings;
    assert!(warnings[0].message.contains("Secret is not supported yet"), "{warnings:?}");
}

#[test]
fn nothing_shows_what_is_in_a_secret() {
    let manifest = good(&[&data("reg"), &pod("[{name: reg}]")]);
    let shown = format!("{manifest:?}");
    assert!(shown.contains("PullSecret { name: \"reg\", kind: DockerConfigJson, .. }"), "{shown}");
    let bytes = format!("{:?}", SECRET.as_bytes());
    let kept = serde_json::to_string(&manifest.pods[0].plan).expect("JSON") + &serde_json::to_string(&manifest.pods[0].pod).expect("JSON");
    for text in [&shown, &kept] {
        assert!(!text.contains(SECRET) && !text.contains(CONFIG) && !text.contains(bytes.trim_matches(['[', ']'])), "{text}");
    }
    assert!(kept.contains(r#""imagePullSecrets":[{"name":"reg"}]"#), "{kept}");
    // A text that is no YAML, at or behind the content.
    for broken in ["data: {.dockerconfigjson: \"c2VjcmV0OndvcmQ\\q\"}", "stringData: {.dockerconfigjson: c2VjcmV0OndvcmQ", "data: {.dockerconfigjson: !!int c2VjcmV0OndvcmQ}", "data: [c2VjcmV0OndvcmQ}", "data: {.dockerconfigjson: *c2VjcmV0OndvcmQ}", "data: {.dockerconfigjson: !!binary c2VjcmV0OndvcmQ}"] {
        let problems = read(&[&secret("reg", broken), &pod("[]")]).expect_err(broken);
        assert!(!problems.to_string().contains(SECRET), "{problems}");
    }
}

#[test]
fn many_names_end_soon() {
    let names = (0..20_000).map(|n| format!("{{name: s{n}}}")).collect::<Vec<_>>().join(", ");
    let manifest = good(&[&pod(&format!("[{names}]"))]);
    assert_eq!(manifest.warnings.len(), 1000);
}
