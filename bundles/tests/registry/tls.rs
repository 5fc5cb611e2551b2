//! Whom we believe, and who believes us.

use bundles::registry::{Problem, TlsVerify};

use crate::support::{Authority, Bench, Reply, Request, Server, content, insecure, read, says};

fn blob(request: &Request) -> Reply {
    Reply::part(request, &content(10))
}

#[test]
fn nobody_is_believed_unasked() {
    let server = Server::tls(Authority::new().server(&["127.0.0.1"], None), blob);
    let bench = Bench::new("");
    let error = read(&bench.repository(&server), &content(10)).unwrap_err();
    assert!(matches!(error.problem(), Problem::TlsUntrusted { .. }), "{error:?}");
    says(&error, &[&format!("/etc/containers/certs.d/{}/ca.crt", server.address), "/etc/minipod/registries.conf"]);
    assert_eq!(bench.retries(), 0);
    assert!(server.seen().is_empty());
}

#[test]
fn an_authority_of_the_settings() {
    let authority = Authority::new();
    let server = Server::tls(authority.server(&["127.0.0.1"], None), blob);
    let bench = Bench::new("");
    let ca = bench.file("ca.pem", &authority.pem);
    let settings = format!("[[registry]]\nlocation = \"{}\"\nca = \"{}\"", server.address, ca.display());
    read(&Bench::new(&settings).repository(&server), &content(10)).unwrap();
}

#[test]
fn an_authority_of_certs_d() {
    let authority = Authority::new();
    let server = Server::tls(authority.server(&["127.0.0.1"], None), blob);
    let bench = Bench::new("");
    bench.file(&format!("certs.d/{}/mine.crt", server.address), &authority.pem);
    read(&bench.repository(&server), &content(10)).unwrap();
}

#[test]
fn a_certificate_for_somebody_else() {
    let authority = Authority::new();
    let server = Server::tls(authority.server(&["other.example"], None), blob);
    let bench = Bench::new("");
    bench.file(&format!("certs.d/{}/ca.crt", server.address), &authority.pem);
    let error = read(&bench.repository(&server), &content(10)).unwrap_err();
    assert!(matches!(error.problem(), Problem::Tls { .. }), "{error:?}");
}

#[test]
fn a_self_signed_certificate_of_the_server_itself() {
    let (config, pem) = Authority::own_server(&["127.0.0.1"]);
    let server = Server::tls(config, blob);
    let bench = Bench::new("");
    let error = read(&bench.repository(&server), &content(10)).unwrap_err();
    assert!(matches!(error.problem(), Problem::TlsUntrusted { .. }), "{error:?}");
    bench.file(&format!("certs.d/{}/ca.crt", server.address), &pem);
    read(&bench.repository(&server), &content(10)).unwrap();

    let (config, pem) = Authority::own_server(&["other.example"]);
    let server = Server::tls(config, blob);
    bench.file(&format!("certs.d/{}/ca.crt", server.address), &pem);
    let error = read(&bench.repository(&server), &content(10)).unwrap_err();
    assert!(matches!(error.problem(), Problem::Tls { .. }), "the name still counts: {error:?}");
    assert!(server.seen().is_empty());
}

#[test]
fn a_client_that_must_prove_itself() {
    let authority = Authority::new();
    let server = Server::tls(authority.server(&["127.0.0.1"], Some(&authority)), blob);
    let bench = Bench::new("");
    let file = |name: &str, content: &str| bench.file(&format!("certs.d/{}/{name}", server.address), content);
    file("ca.crt", &authority.pem);
    let error = read(&bench.repository(&server), &content(10)).unwrap_err();
    assert!(matches!(error.problem(), Problem::Tls { .. }), "{error:?}");
    let (certificate, key) = authority.client();
    file("client.cert", &certificate);
    file("client.key", &key);
    read(&bench.repository(&server), &content(10)).unwrap();
    // A key of another certificate is found out before it is used.
    file("client.key", &authority.client().1);
    let error = read(&bench.repository(&server), &content(10)).unwrap_err();
    assert!(matches!(error.problem(), Problem::Certificates { .. }), "{error:?}");
    says(&error, &["client.cert", "client.key"]);
}

#[test]
fn files_that_are_no_certificates() {
    let bench = Bench::new("");
    let server = Server::tls(Authority::new().server(&["127.0.0.1"], None), blob);
    bench.file(&format!("certs.d/{}/ca.crt", server.address), "hello");
    let error = read(&bench.repository(&server), &content(10)).unwrap_err();
    assert!(matches!(error.problem(), Problem::Certificates { .. }), "{error:?}");
    says(&error, &["ca.crt"]);
}

#[test]
fn insecure_takes_any_certificate() {
    let server = Server::tls(Authority::new().server(&["other.example"], None), blob);
    read(&Bench::insecure(&server).repository(&server), &content(10)).unwrap();
    let mut bench = Bench::new("");
    bench.options.tls = TlsVerify::Skipped;
    read(&bench.repository(&server), &content(10)).unwrap();
}

#[test]
fn plain_http_where_https_is_expected() {
    let server = Server::plain(blob);
    let bench = Bench::new("");
    let error = read(&bench.repository(&server), &content(10)).unwrap_err();
    assert!(matches!(error.problem(), Problem::NotTls { .. }), "{error:?}");
    says(&error, &["plain HTTP", "insecure = true"]);
    assert!(server.seen().is_empty());
}

/// A registry with TLS, trusted by its own settings, that answers so.
fn trusted(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> (Server, Bench) {
    let authority = Authority::new();
    let server = Server::tls(authority.server(&["127.0.0.1"], None), script);
    let bench = Bench::new("");
    bench.file(&format!("certs.d/{}/ca.crt", server.address), &authority.pem);
    (server, bench)
}

#[test]
fn https_never_becomes_http() {
    let plain = Server::plain(blob);
    let url = plain.url("/x");
    let (server, bench) = trusted(move |_| Reply::new(307).with("Location", &url));
    let error = read(&bench.repository(&server), &content(10)).unwrap_err();
    assert!(matches!(error.problem(), Problem::Protocol { .. }), "{error:?}");
    says(&error, &["from https to plain http"]);

    let realm = plain.url("/token");
    let (server, bench) = trusted(move |_| Reply::bearer(&realm));
    let bench = bench.with_auths(&format!(r#"{{"auths":{{"{}":{{"auth":"bWU6aHVudGVyMg=="}}}}}}"#, server.address));
    let error = read(&bench.repository(&server), &content(10)).unwrap_err();
    says(&error, &["token server does not use https"]);
    assert!(plain.seen().is_empty());
}

#[test]
fn a_mirror_that_is_trusted_leaves_the_registry_alone() {
    let server = Server::tls(Authority::new().server(&["127.0.0.1"], None), blob);
    let text = insecure(&server).replace("[[registry]]", "[[registry]]\nprefix = \"127.0.0.1:1\"");
    let error = read(&Bench::new(&text).repository(&server), &content(10)).unwrap_err();
    assert!(matches!(error.problem(), Problem::TlsUntrusted { .. }), "{error:?}");
}
