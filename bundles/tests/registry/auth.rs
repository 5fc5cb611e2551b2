//! Who is let in, and what is sent to whom.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bundles::registry::{DockerConfig, Login, Problem};

use crate::support::{Bench, Ending, Reply, Request, Server, content, insecure, message, read, says};

/// `me:hunter2`.
const BASIC: &str = "Basic bWU6aHVudGVyMg==";

fn auths(server: &Server) -> String {
    format!(r#"{{"auths":{{"{}":{{"auth":"bWU6aHVudGVyMg=="}}}}}}"#, server.address)
}

/// A registry that wants tokens, which `give` gives.
fn with_tokens(give: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
    let own: Arc<Mutex<String>> = Arc::default();
    let told = own.clone();
    let server = Server::plain(move |request| {
        if request.path.starts_with("/token") {
            return give(request);
        }
        match request.header("authorization") {
            Some("Bearer good") => Reply::part(request, &content(10)),
            _ => Reply::bearer(&told.lock().unwrap()),
        }
    });
    *own.lock().unwrap() = server.url("/token");
    server
}

fn tokens(server: &Server) -> Vec<Request> {
    server.seen().into_iter().filter(|request| request.path.starts_with("/token")).collect()
}

#[test]
fn a_token_for_nobody() {
    let server = with_tokens(|_| Reply::ok(r#"{"token":"good"}"#));
    let repository = Bench::insecure(&server).repository(&server);
    assert_eq!(read(&repository, &content(10)).unwrap(), content(10));
    assert_eq!(read(&repository, &content(10)).unwrap(), content(10));
    let tokens = tokens(&server);
    assert_eq!(tokens.len(), 1, "it is kept");
    let path = "/token?service=srv&scope=repository%3Aa%2Fb%3Apull";
    assert_eq!((&*tokens[0].path, tokens[0].header("authorization")), (path, None));
}

#[test]
fn a_token_for_a_login() {
    let server = with_tokens(|request| match request.header("authorization") {
        Some(BASIC) => Reply::ok(r#"{"access_token":"good","expires_in":300}"#),
        _ => Reply::new(401),
    });
    let bench = Bench::insecure(&server).with_auths(&auths(&server));
    read(&bench.repository(&server), &content(10)).unwrap();
    let seen = server.seen();
    assert!(seen.iter().filter(|request| !request.path.starts_with("/token")).all(|r| r.header("authorization") != Some(BASIC)));
    assert!(tokens(&server)[0].path.contains("account=me"));
}

#[test]
fn a_token_that_expired_is_renewed_once() {
    let count = AtomicUsize::new(0);
    let server = with_tokens(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::ok(r#"{"token":"good","expires_in":0}"#),
        1 => Reply::ok(r#"{"token":"good","expires_in":3600}"#),
        _ => Reply::new(500),
    });
    let repository = Bench::insecure(&server).repository(&server);
    for _ in 0..3 {
        read(&repository, &content(10)).unwrap();
    }
    assert_eq!(tokens(&server).len(), 2);

    // One that the server no longer takes before its time.
    let server = Server::plain(|request| match request.header("authorization") {
        _ if request.path.starts_with("/token") => Reply::ok(r#"{"token":"good"}"#),
        Some("Bearer good") if request.path.contains("/blobs/") => Reply::ok(content(10)),
        _ => Reply::bearer(&format!("http://{}/token", request.header("host").unwrap())),
    });
    let repository = Bench::insecure(&server).repository(&server);
    read(&repository, &content(10)).unwrap();
    assert!(matches!(repository.digest().unwrap_err().problem(), Problem::Unauthorized { .. }));
    assert_eq!((server.count("/manifests/"), server.count("/token")), (2, 2), "one renewal");

    let server = with_tokens(|_| Reply::ok(r#"{"token":"bad"}"#));
    let bench = Bench::insecure(&server).with_auths(&auths(&server));
    let error = read(&bench.repository(&server), &content(10)).unwrap_err();
    assert!(matches!(error.problem(), Problem::Unauthorized { .. }), "{error:?}");
    assert_eq!((tokens(&server).len(), bench.retries()), (1, 0));
}

#[test]
fn an_identity_token_is_posted() {
    let server = with_tokens(|request| match &*request.method {
        "POST" if request.body.contains("refresh_token=s3cr%26t") => Reply::ok(r#"{"access_token":"good"}"#),
        _ => Reply::new(400),
    });
    let json = |token: &str| format!(r#"{{"auths":{{"{}":{{"auth":"bWU6","identitytoken":"{token}"}}}}}}"#, server.address);
    let bench = Bench::insecure(&server).with_auths(&json("s3cr&t"));
    read(&bench.repository(&server), &content(10)).unwrap();
    let token = tokens(&server).pop().unwrap();
    for field in ["grant_type=refresh_token", "service=srv", "scope=repository%3Aa%2Fb%3Apull", "client_id=minipod"] {
        assert!(token.body.contains(field), "{}", token.body);
    }
    assert!(!token.path.contains("s3cr"));
    let bench = Bench::insecure(&server).with_auths(&json("other"));
    let error = read(&bench.repository(&server), &content(10)).unwrap_err();
    assert!(matches!(error.problem(), Problem::Unauthorized { .. }), "{error:?}");
}

fn basic() -> Server {
    Server::plain(|request| match request.header("authorization") {
        Some(BASIC) => Reply::ok(content(10)),
        _ => Reply { body: br#"{"errors":[{"code":"UNAUTHORIZED","message":"who are you?"}]}"#.to_vec(), ..Reply::new(401) }
            .with("WWW-Authenticate", "Basic realm=\"x\""),
    })
}

#[test]
fn name_and_password() {
    let server = basic();
    let bench = Bench::insecure(&server).with_auths(&auths(&server));
    let repository = bench.repository(&server);
    read(&repository, &content(10)).unwrap();
    read(&repository, &content(10)).unwrap();
    assert_eq!(server.count("/blobs/"), 3, "sent unasked the second time");

    let error = read(&Bench::insecure(&server).repository(&server), &content(10)).unwrap_err();
    assert!(matches!(error.problem(), Problem::Unauthorized { .. }), "{error:?}");
    says(&error, &["there are none", &format!("minipod image login {}", server.address), "who are you? (UNAUTHORIZED)"]);

    let wrong = auths(&server).replace("bWU6aHVudGVyMg==", "bWU6d3Jvbmc=");
    let bench = Bench::insecure(&server).with_auths(&wrong);
    let error = read(&bench.repository(&server), &content(10)).unwrap_err();
    says(&error, &["refuses the credentials from", "auth.json"]);
    assert!(!message(&error).contains("wrong") && !format!("{error:?}").contains("wrong"));
}

#[test]
fn the_pods_secrets_come_first_and_the_users_last() {
    let server = basic();
    let bench = Bench::insecure(&server).with_auths(&auths(&server));
    let secret = |auth: &str, name: &str| {
        let json = format!(r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#, server.address);
        DockerConfig::parse(json.as_bytes()).unwrap().from_source(format!("secret {name}"))
    };
    let name = format!("{}/a/b:1", server.address);
    let repository = bench.named(&name, &[secret("bWU6d3Jvbmc=", "one")]).unwrap();
    read(&repository, &content(10)).unwrap();
    let sent: Vec<_> = server.seen().iter().filter_map(|request| request.header("authorization").map(str::to_owned)).collect();
    assert_eq!(sent, ["Basic bWU6d3Jvbmc=", BASIC]);

    let bench = Bench::insecure(&server);
    let repository = bench.named(&name, &[secret("bWU6d3Jvbmc=", "one"), secret("bWU6YmFk", "two")]).unwrap();
    says(&read(&repository, &content(10)).unwrap_err(), &["secret one, secret two"]);
}

/// A miss with a good login must not make the next request use a bad one.
#[test]
fn what_is_not_there_does_not_change_the_login() {
    let server = Server::plain(|request| match request.header("authorization") {
        Some(BASIC) if request.path.contains("/blobs/") => Reply::ok(content(10)),
        Some(BASIC) => Reply::new(404),
        _ => Reply::new(401).with("WWW-Authenticate", "Basic"),
    });
    let bench = Bench::insecure(&server).with_auths(&auths(&server).replace("bWU6aHVudGVyMg==", "bWU6d3Jvbmc="));
    let secret = DockerConfig::parse(auths(&server).as_bytes()).unwrap().from_source("secret one");
    let repository = bench.named(&format!("{}/a/b:1", server.address), &[secret]).unwrap();
    for _ in 0..2 {
        read(&repository, &content(10)).unwrap();
        let error = repository.manifest(None, 100).unwrap_err();
        assert!(error.is_not_found(), "{error:?}");
        says(&error, &["the credentials from secret one may not see it"]);
    }
}

#[test]
fn check_of_a_login() {
    let server = basic();
    let client = Bench::insecure(&server).client();
    let host = server.address.to_string();
    client.check(&host, &Login::password("me", "hunter2")).unwrap();
    let error = client.check(&host, &Login::password("me", "wrong")).unwrap_err();
    assert!(matches!(error.problem(), Problem::Unauthorized { .. }), "{error:?}");
    says(&error, &["log in to 127.0.0.1", "this login"]);
    assert!(server.seen().iter().all(|request| request.path == "/v2/"));
}

#[test]
fn credentials_do_not_follow_a_redirect() {
    let other = Server::plain(|request| Reply::part(request, &content(10)));
    let target = other.url("/elsewhere?sig=1");
    let server = Server::plain(move |request| match request.header("authorization") {
        Some(BASIC) if request.path.contains("/blobs/") => Reply::new(307).with("Location", &target),
        Some(BASIC) => Reply::new(302).with("Location", "/moved"),
        _ => Reply::new(401).with("WWW-Authenticate", "Basic"),
    });
    let bench = Bench::insecure(&server).with_auths(&auths(&server));
    read(&bench.repository(&server), &content(10)).unwrap();
    assert_eq!(other.seen().len(), 1);
    assert_eq!(other.seen()[0].header("authorization"), None);
    assert_eq!(other.seen()[0].path, "/elsewhere?sig=1");
    // The same origin gets them, and is not followed without end.
    let error = bench.repository(&server).manifest(None, 100).unwrap_err();
    says(&error, &["redirects without end"]);
    assert!(server.seen().iter().filter(|request| request.path == "/moved").all(|r| r.header("authorization") == Some(BASIC)));
}

#[test]
fn a_refusal_from_elsewhere_is_not_the_registrys() {
    for status in [401, 403, 404] {
        let other = Server::plain(move |_| Reply::new(status));
        let target = other.url("/x");
        let server = Server::plain(move |_| Reply::new(307).with("Location", &target));
        let error = read(&Bench::insecure(&server).repository(&server), &content(10)).unwrap_err();
        let Problem::Status { status: it, host, .. } = error.problem() else { panic!("{error:?}") };
        assert_eq!((*it, &**host), (status, &*other.address.to_string()));
    }
}

#[test]
fn redirects_to_what_is_no_place() {
    for location in ["ftp://x/", "file:///etc/passwd", "http://me:pw@127.0.0.1/", "https://[", ""] {
        let server = Server::plain(move |request| match &*request.path {
            "/v2/" => Reply::new(200),
            _ if location.is_empty() => Reply::new(307),
            _ => Reply::new(307).with("Location", location),
        });
        let error = read(&Bench::insecure(&server).repository(&server), &content(10)).unwrap_err();
        assert!(matches!(error.problem(), Problem::Protocol { .. }), "{location}: {error:?}");
    }
}

#[test]
fn token_servers_that_do_not_give() {
    for (reply, words) in [
        (Reply::ok("{}"), "no token in its answer"),
        (Reply::ok("hello"), "not JSON as specified"),
        (Reply::ok(vec![b' '; 2 << 20]), "1048576"),
        (Reply::ok(vec![b' '; 4096]).ending(Ending::Endless), "1048576"),
        (Reply::ok("{\"token\":\"a\\nb\"}"), "cannot be sent"),
        (Reply { body: br#"{"details":"go away"}"#.to_vec(), ..Reply::new(403) }, "go away"),
        (Reply::new(404), "status 404"),
    ] {
        let server = with_tokens(move |_| reply.clone());
        let error = read(&Bench::insecure(&server).repository(&server), &content(10)).unwrap_err();
        says(&error, &[words]);
        assert!(!error.is_not_found(), "{error:?}");
    }
}

#[test]
fn challenges_that_lead_nowhere() {
    for (challenge, words) in [
        ("Bearer realm=\"not a url\"", "its token server is no URL"),
        ("Bearer realm=\"ftp://x/\"", "not a URL of the web"),
        ("Negotiate", "wants credentials"),
        ("", "wants credentials"),
    ] {
        let server = Server::plain(move |_| Reply::new(401).with("WWW-Authenticate", challenge));
        let bench = Bench::new(&insecure(&server));
        says(&read(&bench.repository(&server), &content(10)).unwrap_err(), &[words]);
    }
}
