//! How a registry is reached: https and http, mirrors, what is blocked.

use testkit::{Access, Authority, Minipod, Proxy};

use crate::{Lab, assert_same_store, blob_image, has, insecure, once, printed, program};

/// A registry with a certificate, that no settings speak of.
fn https() -> Option<(Lab, Authority)> {
    let mp = Minipod::new()?;
    let authority = Authority::new(mp.file("certificates"))?;
    let lab = Lab::on(mp, Access::Tls(&authority))?;
    Some((lab, authority))
}

fn port(lab: &Lab) -> String {
    lab.registry.address().rsplit_once(':').expect("host:port").1.to_owned()
}

#[test]
fn an_authority_of_the_settings_is_believed() {
    let Some((lab, authority)) = https() else { return };
    let Some(image) = program("tls") else { return };
    lab.registry.fill(&image, "app:1");
    for host in ["127.0.0.1", "localhost"] {
        let name = format!("{host}:{}/app:1", port(&lab));
        lab.settings(&format!("[[registry]]\nlocation = \"{host}:{}\"\nca = \"{}\"\n", port(&lab), authority.pem().display()));
        assert_eq!(lab.pull(&name), format!("pulled {name}\n"));
        assert_eq!(lab.foreground(&once("p", &name, Some("Always"))).stdout, printed("tls"), "by run too");
    }
}

#[test]
fn an_unknown_authority_is_not_believed_unless_told() {
    let Some((lab, authority)) = https() else { return };
    let Some(image) = program("tls") else { return };
    lab.registry.fill(&image, "app:1");
    let name = lab.registry.name("app:1");
    let pull = |option: &str| lab.run(&["image", "pull", option, &name]);
    for option in ["--tls-verify", "--tls-verify=true"] {
        let said = pull(option).fails(125);
        assert!(said.contains("certificate") && has(&said, "`ca`|certs.d|--tls-verify=false"), "it says what to do: {said}");
        assert_eq!(lab.ok(&["image", "ls", "-o", "name"]).matches("app:1").count(), 0);
    }
    assert_eq!(pull("--tls-verify=false").ok(), format!("pulled {name}\n"));
    lab.ok(&["image", "rm", &name]);
    let manifest = lab.mp.manifest("p.json", &once("p", &name, None).to_string());
    let said = lab.run(&["run", &manifest]).fails(125);
    assert!(said.contains("certificate"), "{said}");
    assert_eq!(lab.ok(&["run", "--tls-verify=false", &manifest]), printed("tls"));
    lab.ok(&["image", "rm", &name]);

    // Another authority of the same name, and a file that is none.
    let Some(other) = Authority::new(lab.mp.file("others")) else { return };
    for (ca, word) in [(other.pem(), "certificate"), (lab.mp.file("home"), "home"),
        (authority.pem().with_extension("key"), "ca.key")] {
        lab.settings(&format!("[[registry]]\nlocation = \"{}\"\nca = \"{}\"\n", lab.registry.address(), ca.display()));
        lab.refused(&["image", "pull", &name], &[word]);
    }
}

#[test]
fn plain_http_is_not_tried_unless_told() {
    let Some(lab) = Lab::new() else { return };
    lab.begin();
    let proxy = Proxy::before(lab.registry.socket(), Vec::new());
    let name = format!("{}/begin:1", proxy.address());
    lab.refused(&["image", "pull", &name], &[&proxy.address(), "insecure"]);
    assert!(proxy.seen().iter().all(|seen| !seen.path.starts_with("/v2")), "no plain request was made: {:#?}", proxy.seen());
}

/// As containers-registries.conf(5) has it: https with any certificate, or plain http.
#[test]
fn an_insecure_registry_may_have_any_certificate() {
    let Some((lab, _authority)) = https() else { return };
    lab.registry.fill(&blob_image("tls", &[100]), "app:1");
    lab.settings(&insecure(&lab.registry.address()));
    let name = lab.registry.name("app:1");
    assert_eq!(lab.pull(&name), format!("pulled {name}\n"));
}

#[test]
fn mirrors_are_asked_first_and_the_registry_last() {
    let Some(lab) = Lab::new() else { return };
    let (mirror, origin) = (Proxy::before(lab.registry.socket(), Vec::new()), Proxy::before(lab.registry.socket(), Vec::new()));
    let settings = |mirrors: &[String]| {
        let mut toml = format!("[[registry]]\nprefix = \"registry.test\"\nlocation = \"{}/origin\"\ninsecure = true\n",
            origin.address());
        for location in mirrors {
            toml += &format!("[[registry.mirror]]\nlocation = \"{location}\"\ninsecure = true\n");
        }
        lab.settings(&toml);
    };
    lab.registry.fill(&blob_image("mirrored", &[500]), "copy/mirrored:1");
    lab.registry.fill(&blob_image("mirrored", &[500]), "origin/mirrored:1");
    lab.registry.fill(&blob_image("only", &[500]), "origin/only:1");
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("find a free port");
        listener.local_addr().expect("an address").to_string()
    };
    settings(&[format!("{nobody}/copy"), format!("{}/copy", mirror.address())]);
    assert_eq!(lab.pull("registry.test/mirrored:1"), "pulled registry.test/mirrored:1\n",
        "the name is the user's, not the mirror's");
    assert!(mirror.count("GET", "/v2/copy/mirrored/blobs/") == 2 && origin.seen().is_empty(), "{:#?} {:#?}", mirror.seen(),
        origin.seen());

    lab.pull("registry.test/only:1");
    assert!(origin.count("GET", "/v2/origin/only/blobs/") == 2, "{:#?}", origin.seen());
    assert_eq!(mirror.count("GET", "/v2/copy/only/blobs/"), 0);

    lab.refused(&["image", "pull", "registry.test/nothing:1"], &["registry.test/nothing:1", "not found|no such"]);
    settings(&[format!("{nobody}/copy")]);
    origin.forget();
    lab.ok(&["image", "rm", "registry.test/mirrored:1"]);
    lab.pull("registry.test/mirrored:1");
    assert!(origin.count("GET", "/v2/origin/mirrored/blobs/") == 2, "{:#?}", origin.seen());
}

#[test]
fn what_is_blocked_is_not_asked() {
    let Some(lab) = Lab::new() else { return };
    lab.begin();
    let proxy = Proxy::before(lab.registry.socket(), Vec::new());
    let address = proxy.address();
    let blocked = format!("[[registry]]\nprefix = \"{address}/bad\"\nlocation = \"{address}/bad\"\nblocked = true\n");
    lab.settings(&(insecure(&address) + &blocked));
    lab.registry.fill(&blob_image("bad", &[500]), "bad/app:1");
    lab.registry.fill(&blob_image("bad", &[500]), "badly/app:1");
    let name = format!("{address}/bad/app:1");
    lab.refused(&["image", "pull", &name], &[&name, "blocked", "registries.toml"]);
    let manifest = lab.mp.manifest("p.json", &once("p", &name, None).to_string());
    lab.refused(&["run", &manifest], &["blocked"]);
    assert!(proxy.seen().is_empty(), "{:#?}", proxy.seen());
    lab.pull(&format!("{address}/badly/app:1")); // a prefix ends where a part of the name ends
}

#[test]
fn settings_with_mistakes_are_refused_with_their_place() {
    let Some(lab) = Lab::new() else { return };
    lab.begin();
    let name = lab.registry.name("begin:1");
    for (toml, word) in [
        ("[[registry]\n", "1"), ("[[registry]]\nlocation = 5\n", "location"),
        ("[[registry]]\nlocation = \"a b\"\n", "a b"),
        ("[[registry]]\nlocation = \"x.test\"\nunsecure = true\n", "unsecure"), ("[[registry]]\ninsecure = true\n", "location"),
    ] {
        lab.settings(toml);
        let before = lab.store();
        let said = lab.run(&["image", "pull", &name]).fails(125); // a line for each mistake
        assert!(said.contains("registries.toml:") && said.contains(word), "{toml:?}: {said}");
        assert_same_store(&before, &lab.store());
    }
    let absent = lab.mp.file("absent.toml");
    lab.refused(&["image", "pull", "--registries", absent.to_str().expect("UTF-8"), &name], &["absent.toml"]);
    // The option is before the environment.
    let other = lab.mp.manifest("other.toml", &insecure(&lab.registry.address()));
    lab.ok(&["image", "pull", "--registries", &other, &name]);
}
