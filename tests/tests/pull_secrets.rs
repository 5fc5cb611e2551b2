//! Credentials of registries among the manifests: nobody sees them, and nothing on disk has them.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use testkit::{FOREVER, Minipod, container, pod, with};

/// `{"auths":{"reg.example":{"auth":"c2VjcmV0OndvcmQ="}}}`, what is in it, and that in plain words.
const CONFIG: &str = "eyJhdXRocyI6eyJyZWcuZXhhbXBsZSI6eyJhdXRoIjoiYzJWamNtVjBPbmR2Y21RPSJ9fX0=";
const INSIDE: &str = "c2VjcmV0OndvcmQ";
const PLAIN: &str = "secret:word";

fn secret(data: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "reg" }, "type": "kubernetes.io/dockerconfigjson", "data": { ".dockerconfigjson": data } })
}

fn list(data: &str) -> String {
    let pod = with(pod("p", &[container("a", FOREVER)]), json!({ "spec": { "imagePullSecrets": [{ "name": "reg" }, { "name": "none" }] } }));
    json!({ "apiVersion": "v1", "kind": "List", "items": [pod, secret(data)] }).to_string()
}

fn assert_silent(what: &str, bytes: &[u8]) {
    let numbers = format!("{:?}", INSIDE.as_bytes());
    for secret in [CONFIG, INSIDE, PLAIN, numbers.trim_matches(['[', ']'])] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{what} has {secret}");
    }
}

/// The number of files below a directory, none of which has the secret.
fn look_into(dir: &Path) -> usize {
    let mut files = 0;
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(meta) = path.symlink_metadata() else { continue };
        if meta.is_dir() {
            files += look_into(&path);
        } else if meta.is_file() {
            assert_silent(&path.display().to_string(), &fs::read(&path).unwrap_or_default());
            files += 1;
        }
    }
    files
}

#[test]
fn credentials_are_shown_nowhere_and_kept_nowhere() {
    let Some(mp) = Minipod::new() else { return };
    let path = mp.manifest("p.json", &list(CONFIG));
    let inspect = ["inspect", "p", "-o", "yaml"];
    for args in [&["validate", &path][..], &["run", "--dry-run", &path], &["-v", "run", "-d", &path], &inspect, &["logs", "p"]] {
        let output = mp.run(args);
        assert_eq!(output.code(), 0, "{output}");
        assert_silent(&args.join(" "), format!("{}{}", output.stdout, output.stderr).as_bytes());
        if args[0] == "validate" {
            assert!(output.stderr.contains("spec.imagePullSecrets[1].name: no Secret \"none\""), "{output}");
        }
    }
    assert!(mp.ok(&inspect).contains("name: reg"), "the name may be seen");
    assert!(look_into(&mp.root().join("run/pods")) > 4 && look_into(&mp.root().join("log")) > 0);
    mp.fails(125, &["validate", &mp.manifest("bad.json", &list("c2VjcmV0OndvcmQ"))]);
    let said = mp.fails(125, &["validate", &mp.manifest("bad.json", &list("c2VjcmV0OndvcmQ="))]);
    assert!(said.contains("data[.dockerconfigjson]: is not JSON"), "{said}");
    assert_silent("the refusal", said.as_bytes());
}
