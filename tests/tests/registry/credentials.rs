//! Who may pull: files of credentials, helpers, Secrets; and where credentials must not be seen.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testkit::{Access, Act, Cmd, Minipod, Output, PASSWORD, Proxy, Rule, USER, walk, with};

use crate::{Lab, PATIENT, blob_image, has, insecure, once, printed, program};

/// `USER:PASSWORD` as the header and the files have it.
const BASIC: &str = "bWluaXBvZC10ZXN0ZXI6b25seS10aGUtdGVzdC1rbm93cw==";

/// A registry that wants a password, with an image that runs; the image's name.
fn locked() -> Option<(Lab, String)> {
    let lab = Lab::with(Access::Password)?;
    lab.registry.fill(&program("let in")?, "locked:1");
    let name = lab.registry.name("locked:1");
    Some((lab, name))
}

fn login(lab: &Lab, password: &str, file: &Path) -> Output {
    let cmd = lab.cmd(&["image", "login", "-u", USER, "--password-stdin", "--authfile"]);
    cmd.arg(file).arg(lab.registry.address()).stdin(format!("{password}\n")).run_within(PATIENT)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).permissions().mode() & 0o777
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// `auths` of a file of credentials.
fn auths(registry: &str) -> Value {
    json!({ "auths": { registry: { "auth": BASIC } } })
}

/// No file below the installation's directory that others may read has a credential, and none at all below its root.
fn assert_secret(mp: &Minipod, words: &[&str]) {
    let holds = |path: &Path| {
        let bytes = fs::read(path).unwrap_or_default();
        let found = |word: &&&str| bytes.windows(word.len()).any(|window| window == word.as_bytes());
        path.is_file() && !path.is_symlink() && words.iter().any(|word| found(&word))
    };
    walk(mp.root(), &mut |path| assert!(!holds(path), "{} has a credential", path.display()));
    for dir in ["home", "xdg"].map(|name| mp.file(name)) {
        walk(&dir, &mut |path| assert!(mode(path) & 0o077 == 0 || !holds(path), "others may read {}", path.display()));
    }
}

#[test]
fn login_lets_in_until_logout() {
    let Some((lab, name)) = locked() else { return };
    let file = lab.mp.file("auth.json");
    fs::write(&file, json!({ "auths": { "other.test": { "auth": "eDp5" } }, "credHelpers": { "third.test": "x" } }).to_string())
        .expect("write a file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("let others read it");
    let pull = || lab.run(&["image", "pull", "--authfile", text(&file), &name]);
    let before = fs::read_to_string(&file).expect("read");
    let said = pull().fails(125);
    assert!(said.contains("minipod image login") && said.contains(&lab.registry.address()), "{said}");

    let said = login(&lab, "wrong", &file).fails(125);
    assert!(said.contains(&lab.registry.address()) && has(&said, "401|refuse"), "{said}");
    assert_eq!(fs::read_to_string(&file).expect("read"), before, "what was refused is not kept");

    drop(login(&lab, PASSWORD, &file).ok());
    assert_eq!(mode(&file), 0o600, "nobody else may read it any more");
    let kept: Value = serde_json::from_slice(&fs::read(&file).expect("read")).expect("JSON");
    assert_eq!(kept["auths"][lab.registry.address()]["auth"], BASIC, "{kept:#}");
    assert_eq!((&kept["auths"]["other.test"]["auth"], &kept["credHelpers"]["third.test"]), (&json!("eDp5"), &json!("x")),
        "{kept:#}");
    assert_eq!(pull().ok(), format!("pulled {name}\n"));
    // Others can use it.
    let skopeo = lab.registry.skopeo("inspect").args(["--tls-verify=false", "--authfile", text(&file)]);
    let skopeo = skopeo.arg(format!("docker://{name}")).run().ok();
    assert!(skopeo.contains("locked"), "{skopeo}");

    lab.ok(&["image", "rm", &name]);
    lab.ok(&["image", "logout", "--authfile", text(&file), &lab.registry.address()]);
    let kept: Value = serde_json::from_slice(&fs::read(&file).expect("read")).expect("JSON");
    assert_eq!(kept["auths"], json!({ "other.test": { "auth": "eDp5" } }), "{kept:#}");
    assert_eq!(mode(&file), 0o600);
    let _said = pull().fails(125);
    let again = lab.run(&["image", "logout", "--authfile", text(&file), &lab.registry.address()]);
    assert!(again.code() == 0 || again.stderr.contains("not logged in"), "{again}");
}

#[test]
fn login_without_a_file_is_the_users_own() {
    let Some((lab, name)) = locked() else { return };
    let cmd = lab.cmd(&["image", "login", "-u", USER, "--password-stdin", &lab.registry.address()]);
    drop(cmd.stdin(PASSWORD).run_within(PATIENT).ok());
    assert_secret(&lab.mp, &[PASSWORD, BASIC]);
    let mut kept = Vec::new();
    for dir in ["home", "xdg"].map(|name| lab.mp.file(name)) {
        walk(&dir, &mut |path| {
            if path.is_file() && fs::read_to_string(path).expect("read").contains(BASIC) {
                kept.push(path.to_owned());
            }
        });
    }
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(mode(&kept[0]), 0o600);
    lab.pull(&name);
    lab.ok(&["image", "logout", &lab.registry.address()]);
    lab.ok(&["image", "rm", &name]);
    lab.refused(&["image", "pull", &name], &["minipod image login"]);
}

/// `what` is of no use without the registry; nothing is asked of a terminal that is not there.
#[test]
fn login_says_what_it_misses() {
    let Some((lab, _name)) = locked() else { return };
    let file = lab.mp.file("auth.json");
    let said = lab.cmd(&["image", "login", "-u", USER, "--authfile", text(&file), &lab.registry.address()]).run().fails(125);
    assert!(said.contains("--password-stdin"), "{said}");
    let cmd = lab.cmd(&["image", "login", "-u", USER, "--password-stdin", "--authfile", text(&file), "127.0.0.1:1"]);
    let said = cmd.stdin(PASSWORD).run_within(PATIENT).fails(125);
    assert!(said.contains("127.0.0.1:1") && !said.contains(PASSWORD), "{said}");
    assert!(!file.exists());
}

/// The places where podman, skopeo and docker keep credentials.
#[test]
fn files_of_others_are_read_where_they_are() {
    let Some((lab, name)) = locked() else { return };
    let _refused = lab.run(&["image", "pull", &name]).fails(125);
    let file = lab.mp.file("others.json");
    let skopeo = lab.registry.skopeo("login").args(["--tls-verify=false", "-u", USER, "--password-stdin"]);
    let _said = skopeo.arg("--authfile").arg(&file).arg(lab.registry.address()).stdin(PASSWORD).run().ok();
    let works = |what: &str, cmd: Cmd| {
        assert_eq!(cmd.run_within(PATIENT).ok(), format!("pulled {name}\n"), "{what}");
        lab.ok(&["image", "rm", &name]);
    };
    let pull = || lab.cmd(&["image", "pull", &name]);
    works("--authfile", lab.cmd(&["image", "pull", "--authfile", text(&file), &name]));
    works("REGISTRY_AUTH_FILE", pull().env("REGISTRY_AUTH_FILE", &*file));
    let docker = lab.mp.file("docker");
    fs::create_dir(&docker).expect("make a directory");
    fs::copy(&file, docker.join("config.json")).expect("copy");
    works("DOCKER_CONFIG", pull().env("DOCKER_CONFIG", &*docker));
    let mut places: Vec<PathBuf> = vec![lab.mp.file("xdg").join("containers/auth.json")];
    places.extend([".config/containers/auth.json", ".docker/config.json"].map(|path| lab.mp.file("home").join(path)));
    for place in places {
        fs::create_dir_all(place.parent().expect("it has one")).expect("make a directory");
        fs::copy(&file, &place).expect("copy");
        works(text(&place), pull());
        fs::remove_file(&place).expect("remove");
        lab.refused(&["image", "pull", &name], &["minipod image login"]);
    }
}

/// The more exact name wins; a file that cannot be read is told, with its path and without its content.
#[test]
fn the_closest_entry_of_a_file_is_used() {
    let Some((lab, name)) = locked() else { return };
    let (file, host) = (lab.mp.file("auth.json"), lab.registry.address());
    let wrong = json!({ "auth": "d3Jvbmc6d3Jvbmc=" });
    let right = json!({ "auth": BASIC });
    for (entries, works) in [
        (json!({ format!("{host}/locked"): right, host.clone(): wrong }), true),
        (json!({ format!("{host}/lock"): wrong, host.clone(): right }), true),
        (json!({ format!("{host}/locked"): wrong, host.clone(): right }), false),
        (json!({ format!("https://{host}/v1/"): right }), true), // as docker has it
        (json!({ format!("{host}0"): right }), false),
    ] {
        fs::write(&file, json!({ "auths": entries }).to_string()).expect("write a file");
        let output = lab.run(&["image", "pull", "--authfile", text(&file), &name]);
        assert_eq!(output.code(), if works { 0 } else { 125 }, "{entries:#} {output}");
    }
    for content in ["{\"auths\": {\"x\": {\"auth\": \"bm90LWEtcGFpcg==\"", "{\"auths\": 5}", "[]"] {
        fs::write(&file, content).expect("write a file");
        let said = lab.run(&["image", "pull", "--authfile", text(&file), &name]).fails(125);
        assert!(said.lines().last().is_some_and(|line| line.contains("auth.json")), "{content}: {said}");
        assert!(!said.contains("bm90"), "{said}");
    }
    lab.refused(&["image", "pull", "--authfile", text(&lab.mp.file("absent.json")), &name], &["absent.json"]);
}

/// A helper program, as docker-credential-helpers has them, with what it is to print.
fn helper(lab: &Lab, name: &str, script: &str) -> String {
    let dir = lab.mp.file("helpers");
    fs::create_dir_all(&dir).expect("make a directory");
    let path = dir.join(format!("docker-credential-{name}"));
    fs::write(&path, format!("#!/bin/sh\nread server\necho \"$1 $server\" >>{}/asked\n{script}\n", dir.display()))
        .expect("write a helper");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("make it executable");
    format!("{}:{}", dir.display(), std::env::var("PATH").expect("a PATH"))
}

#[test]
fn helpers_are_asked() {
    let Some((lab, name)) = locked() else { return };
    let (file, host) = (lab.mp.file("auth.json"), lab.registry.address());
    let answer = json!({ "ServerURL": host, "Username": USER, "Secret": PASSWORD }).to_string();
    let path = helper(&lab, "good", &format!("echo '{answer}'"));
    helper(&lab, "bad", "echo 'the keyring is locked' >&2; exit 1");
    helper(&lab, "mute", "echo '{'");
    helper(&lab, "none", "echo 'credentials not found in native keychain'; exit 1");
    let pull = |config: Value| {
        fs::write(&file, config.to_string()).expect("write a file");
        lab.cmd(&["-v", "-v", "image", "pull", "--authfile", text(&file), &name]).env("PATH", &*path).run_within(PATIENT)
    };
    for config in [json!({ "credHelpers": { &host: "good" } }), json!({ "credsStore": "good" }),
        json!({ "credsStore": "bad", "credHelpers": { &host: "good" } })] {
        let output = pull(config.clone());
        assert!(!output.stderr.contains(PASSWORD) && !output.stderr.contains(BASIC), "{output}");
        assert_eq!(output.clone().ok(), format!("pulled {name}\n"), "{config:#}");
        lab.ok(&["image", "rm", &name]);
    }
    let asked = fs::read_to_string(lab.mp.file("helpers").join("asked")).expect("read");
    assert!(asked.lines().all(|line| line == format!("get {host}")), "{asked}");
    for (helper, word) in [("bad", "the keyring is locked"), ("mute", "docker-credential-mute"),
        ("absent", "docker-credential-absent"), ("../x", "../x")] {
        let said = pull(json!({ "credHelpers": { &host: helper } })).fails(125);
        assert!(said.contains(word), "{helper}: {said}");
    }
    let said = pull(json!({ "credsStore": "none" })).fails(125);
    assert!(said.contains("minipod image login"), "{said}");
    assert_secret(&lab.mp, &[PASSWORD, BASIC]);
}

/// A Secret of the type that `kubectl create secret docker-registry` makes.
fn secret(name: &str, registry: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "type": "kubernetes.io/dockerconfigjson",
        "stringData": { ".dockerconfigjson": auths(registry).to_string() },
    })
}

#[test]
fn pull_secrets_of_a_manifest_are_used() {
    let Some((lab, name)) = locked() else { return };
    let pod = with(once("p", &name, None), json!({
        "spec": { "imagePullSecrets": [{ "name": "none-of-it" }, { "name": "pull" }] },
    }));
    let manifest = |documents: &[&Value]| {
        let text: Vec<String> = documents.iter().map(ToString::to_string).collect();
        lab.mp.manifest("p.yaml", &text.join("\n---\n"))
    };
    let other = secret("none-of-it", "other.test");
    let good = secret("pull", &lab.registry.address());
    let output = lab.run(&["run", &manifest(&[&secret("pull", "other.test"), &other, &pod])]);
    let said = output.clone().fails(125);
    assert!(has(&said, "imagePullSecrets|minipod image login"), "it says what would help: {output}");
    let output = lab.run(&["-v", "-v", "run", &manifest(&[&good, &other, &pod])]);
    assert!(!output.stderr.contains(PASSWORD) && !output.stderr.contains(BASIC), "{output}");
    assert_eq!(output.ok(), printed("let in"));
    assert_secret(&lab.mp, &[PASSWORD, BASIC]);

    // A pod that names none of them does not use them.
    lab.ok(&["image", "rm", &name]);
    let without = once("p", &name, None);
    let _refused = lab.run(&["run", &manifest(&[&good, &without])]).fails(125);
    // In base64, as the API server has it.
    let mut base64 = good.clone();
    let encoded = Cmd::new("base64").arg("-w0").stdin(auths(&lab.registry.address()).to_string()).run().ok();
    base64.as_object_mut().expect("an object").remove("stringData");
    base64["data"] = json!({ ".dockerconfigjson": encoded });
    assert_eq!(lab.run(&["run", &manifest(&[&base64, &other, &pod])]).ok(), printed("let in"));
    assert_secret(&lab.mp, &[PASSWORD, BASIC, &encoded]);
}

#[test]
fn credentials_of_run_come_from_a_file_too() {
    let Some((lab, name)) = locked() else { return };
    let file = lab.mp.file("auth.json");
    drop(login(&lab, PASSWORD, &file).ok());
    let manifest = lab.mp.manifest("p.json", &once("p", &name, None).to_string());
    assert_eq!(lab.ok(&["run", "--authfile", text(&file), &manifest]), printed("let in"));
    assert_secret(&lab.mp, &[PASSWORD, BASIC]);
}

/// However much is said, and also when it goes wrong.
#[test]
fn credentials_are_not_told() {
    let Some((lab, name)) = locked() else { return };
    let file = lab.mp.file("auth.json");
    fs::write(&file, auths(&lab.registry.address()).to_string()).expect("write a file");
    let missing = lab.registry.name("missing:1");
    for (args, code) in [(["image", "pull", &*name], 0), (["image", "pull", &missing], 125),
        (["image", "pull", "127.0.0.1:1/x:1"], 125)] {
        for format in ["text", "json"] {
            let cmd = lab.cmd(&["-v", "-v", "--log-format", format]).args(args).arg("--authfile").arg(&file);
            let output = cmd.env("RUST_LOG", "trace").run_within(PATIENT);
            assert_eq!(output.code(), code, "{output}");
            for word in [PASSWORD, BASIC] {
                assert!(!output.stdout.contains(word) && !output.stderr.contains(word), "{args:?} tells {word}");
            }
        }
    }
    assert_secret(&lab.mp, &[PASSWORD, BASIC]);
}

/// The way of Docker Hub and most others: a token from elsewhere, for each repository.
#[test]
fn tokens_are_fetched_and_used() {
    const TOKEN: &str = "header.a-token-of-the-test.signature";
    let Some(lab) = Lab::new() else { return };
    let written = lab.registry.fill(&blob_image("token", &[500, 600]), "team/guarded:1");
    let proxy = Proxy::before(lab.registry.socket(), Vec::new());
    lab.settings(&insecure(&proxy.address()));
    let challenge = format!("Bearer realm=\"http://{}/token\",service=\"registry.test\",scope=\"repository:team/guarded:pull\"",
        proxy.address());
    let json = vec![("Content-Type", "application/json".to_owned())];
    let token = json!({ "token": TOKEN, "expires_in": 300 }).to_string().into_bytes();
    let denied = json!({ "errors": [{ "code": "UNAUTHORIZED", "message": "no" }] }).to_string().into_bytes();
    let guard = Rule::on("/v2/", Act::Answer(401, vec![("WWW-Authenticate", challenge)], denied.clone()))
        .unless_authorized(&format!("Bearer {TOKEN}"));
    proxy.rules(vec![Rule::on("/token", Act::Answer(200, json.clone(), token.clone())), guard.clone()]);
    let name = format!("{}/team/guarded:1", proxy.address());
    let output = lab.run(&["-v", "-v", "image", "pull", "-q", &name]);
    assert!(!output.stderr.contains(TOKEN), "{output}");
    assert_eq!(output.ok().trim(), written.id);
    let asked: Vec<_> = proxy.seen().into_iter().filter(|seen| seen.path.starts_with("/token")).collect();
    assert_eq!(asked.len(), 1, "one token for all: {asked:#?}");
    assert!(asked[0].path.contains("service=registry.test") && asked[0].path.contains("team"), "{asked:#?}");
    assert_eq!(asked[0].authorization, None);

    // Who has credentials gives them to the server of tokens, and to nobody else.
    let file = lab.mp.file("auth.json");
    fs::write(&file, auths(&proxy.address()).to_string()).expect("write a file");
    lab.ok(&["image", "rm", &name]);
    proxy.forget();
    let basic = format!("Basic {BASIC}");
    let closed = Rule::on("/token", Act::Answer(401, json.clone(), denied)).unless_authorized(&basic);
    proxy.rules(vec![closed.clone(), Rule::on("/token", Act::Answer(200, json, token)), guard.clone()]);
    lab.ok(&["image", "pull", "--authfile", text(&file), &name]);
    let to_registry = |authorization: &Option<String>| authorization.as_ref().is_none_or(|value| value.starts_with("Bearer "));
    assert!(proxy.seen().iter().all(|seen| seen.path.starts_with("/token") || to_registry(&seen.authorization)), "{:#?}",
        proxy.seen());
    lab.ok(&["image", "rm", &name]);
    lab.refused(&["image", "pull", &name], &["minipod image login"]);
    assert_secret(&lab.mp, &[TOKEN, BASIC]);
}

/// A registry may send blobs from elsewhere; whoever that is gets no credential.
#[test]
fn credentials_stay_with_the_registry_when_it_sends_elsewhere() {
    let Some((lab, _)) = locked() else { return };
    let written = lab.registry.fill(&blob_image("sent", &[500]), "sent:1");
    let elsewhere = Proxy::before(lab.registry.socket(), Vec::new());
    let layer = &*written.layers[0];
    elsewhere.rules(vec![Rule::on("/stored", Act::Answer(200, Vec::new(), lab.registry.blob("sent", layer)))]);
    let to = Act::Answer(307, vec![("Location", format!("http://{}/stored?signature=x", elsewhere.address()))], Vec::new());
    let proxy = lab.proxy(vec![Rule::on(layer, to)]);
    let file = lab.mp.file("auth.json");
    fs::write(&file, auths(&proxy.address()).to_string()).expect("write a file");
    let name = format!("{}/sent:1", proxy.address());
    assert_eq!(lab.ok(&["image", "pull", "-q", "--authfile", text(&file), &name]).trim(), written.id);
    let seen = elsewhere.seen();
    assert!(seen.len() == 1 && seen[0].authorization.is_none(), "{seen:#?}");
}
