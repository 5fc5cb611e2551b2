//! The registry and the proxy themselves, seen by skopeo: what the other tests build on.

use std::time::Duration;

use serde_json::json;
use testkit::{Access, Act, Authority, Cmd, Form, LIMIT, PASSWORD, Pressed, Proxy, Rule, Running, USER};

use crate::{Lab, blob_image};

fn skopeo_copies(lab: &Lab, name: &str, to: &str) -> Running {
    let to = lab.mp.file(to);
    let from = format!("docker://{name}");
    lab.registry.skopeo("copy").args(["-q", "--src-tls-verify=false", &from, &format!("dir:{}", to.display())]).spawn()
}

#[test]
fn the_test_registry_serves_what_it_was_given() {
    let Some(lab) = Lab::new() else { return };
    let image = blob_image("given", &[3000, 5000]);
    let written = lab.registry.fill(&image, "some/given:1");
    let inspected = lab.registry.inspect("some/given:1");
    assert_eq!((&inspected["Digest"], &inspected["Layers"]), (&json!(written.manifest), &json!(written.layers)), "{inspected:#}");
    let _said = skopeo_copies(&lab, &lab.registry.name("some/given:1"), "copy").finish(LIMIT).ok();

    for (pressed, kind) in [(Pressed::Zstd, "tar+zstd"), (Pressed::Plain, "layer.v1.tar")] {
        let written = lab.registry.fill_as(&image, &Form { pressed, ..Form::default() }, "some/pressed:1");
        let manifest = lab.registry.manifest("some/pressed", "1");
        assert!(manifest["layers"][0]["mediaType"].as_str().is_some_and(|text| text.ends_with(kind)), "{manifest:#}");
        assert_eq!(manifest["config"]["digest"], json!(written.id));
    }
    lab.registry.fill_as_docker(&image, "some/docker:1");
    let manifest = lab.registry.manifest("some/docker", "1");
    assert_eq!(manifest["mediaType"], "application/vnd.docker.distribution.manifest.v2+json", "{manifest:#}");

    let other = Form { architecture: "s390x".into(), ..Form::default() };
    lab.registry.fill_index(&[(image.clone(), Form::default()), (blob_image("other", &[100]), other)], "some/index:1");
    let manifest = lab.registry.manifest("some/index", "1");
    assert_eq!(manifest["manifests"][1]["platform"]["architecture"], "s390x", "{manifest:#}");
    assert_eq!(lab.registry.inspect("some/index:1")["Layers"], json!(written.layers));
}

#[test]
fn the_test_registry_lets_in_who_may() {
    let Some(lab) = Lab::with(Access::Password) else { return };
    lab.registry.fill(&blob_image("secret", &[100]), "secret:1");
    let refused = skopeo_copies(&lab, &lab.registry.name("secret:1"), "copy").finish(LIMIT).fails(1);
    assert!(refused.contains("authentication required"), "{refused}");
    assert_eq!(lab.registry.inspect("secret:1")["Name"], lab.registry.name("secret"));
    let logs_in = |password: &str| {
        let file = lab.mp.file("auth.json");
        let cmd = Cmd::new("skopeo").args(["login", "--tls-verify=false", "-u", USER, "-p", password, "--authfile"]).arg(file);
        cmd.arg(lab.registry.address()).run()
    };
    assert_ne!(logs_in("another").code(), 0);
    let _said = logs_in(PASSWORD).ok();
}

#[test]
fn the_test_authority_is_believed_by_who_knows_it() {
    let Some(mp) = testkit::Minipod::new() else { return };
    let Some(authority) = Authority::new(mp.file("certificates")) else { return };
    let Some(lab) = Lab::on(mp, Access::Tls(&authority)) else { return };
    lab.registry.fill(&blob_image("tls", &[100]), "tls:1");
    let address = lab.registry.address();
    let handshake = |host: &str, ca: &str| {
        let client = Cmd::new("openssl").args(["s_client", "-verify_return_error", "-verify_ip", host, "-connect", &address, ca]);
        let client = if ca == "-CAfile" { client.arg(authority.pem()) } else { client };
        client.run().code()
    };
    assert_eq!(handshake("127.0.0.1", "-CAfile"), 0);
    assert_ne!(handshake("127.0.0.1", "-no-CAfile"), 0, "an unknown authority");
    assert_ne!(handshake("127.0.0.2", "-CAfile"), 0, "another host");
}

#[test]
fn the_proxy_spoils_what_it_is_told_to() {
    let Some(lab) = Lab::new() else { return };
    let image = blob_image("spoilt", &[200_000]);
    let written = lab.registry.fill(&image, "spoilt:1");
    let layer = &*written.layers[0];
    let proxy = Proxy::before(lab.registry.socket(), Vec::new());
    let name = format!("{}/spoilt:1", proxy.address());
    let copies = |rules: Vec<Rule>| {
        proxy.forget();
        proxy.rules(rules);
        skopeo_copies(&lab, &name, "copy").finish(LIMIT)
    };
    let _said = copies(Vec::new()).ok();
    assert_eq!((proxy.count("GET", layer), proxy.sent(layer)), (1, written.sizes[0]));
    for act in [Act::Truncate(70_000), Act::Reset(70_000)] {
        // skopeo itself goes on by Range after some of these.
        let output = copies(vec![Rule::on(layer, act.clone())]);
        assert!(output.code() != 0 || proxy.count("GET", layer) > 1, "{act:?}: {output}");
        assert_eq!(proxy.seen().iter().find(|seen| seen.path.contains(layer)).map(|seen| seen.sent), Some(70_000), "{act:?}");
    }
    assert_ne!(copies(vec![Rule::on(layer, Act::Damage(100_000))]).code(), 0, "a wrong digest");
    for status in [401, 403, 404, 500] {
        let said = copies(vec![Rule::on("/manifests/", Act::status(status))]).fails(1);
        assert!(proxy.count("GET", "/manifests/") > 0 && proxy.count("GET", layer) == 0, "{status}: {said}");
    }
    let _said = copies(vec![Rule::on(layer, Act::Delay(Duration::from_millis(1)))]).ok();
    let https = lab.registry.skopeo("inspect").arg(format!("docker://{name}")).run().fails(1);
    assert!(https.contains("server gave HTTP response to HTTPS client"), "{https}");
    let _either = copies(vec![Rule::on("/manifests/", Act::too_many(1)).times(1)]); // skopeo may try again or not
    assert!(proxy.count("GET", "/manifests/") >= 1);

    proxy.forget();
    proxy.rules(vec![Rule::on(layer, Act::Stall(70_000))]);
    let stalled = skopeo_copies(&lab, &name, "copy");
    proxy.wait_for(layer, 70_000);
    assert_eq!(proxy.sent(layer), 70_000);
    proxy.release();
    let _said = stalled.finish(LIMIT).ok();
    assert_eq!(proxy.sent(layer), written.sizes[0]);
}
