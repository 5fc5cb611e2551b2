//! Manifests and digests.

use bundles::registry::Problem;

use crate::support::{Bench, Ending, Reply, Server, digest, says};

const MANIFEST: &[u8] = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#;
const LIMIT: u64 = 4096;

#[test]
fn by_tag_by_digest_and_as_a_part() {
    let kind = "application/vnd.oci.image.index.v1+json; charset=utf-8";
    let server = Server::plain(move |_| Reply::ok(MANIFEST).with("Content-Type", kind));
    let bench = Bench::insecure(&server);
    let repository = bench.repository(&server);
    let document = repository.manifest(None, LIMIT).unwrap();
    assert_eq!((&*document.bytes, document.digest), (MANIFEST, digest(MANIFEST)));
    assert_eq!(document.media_type, "application/vnd.oci.image.index.v1+json");
    repository.manifest(Some(&digest(MANIFEST)), LIMIT).unwrap();
    bench.named(&format!("{}/a/b@{}", server.address, digest(MANIFEST)), &[]).unwrap().manifest(None, LIMIT).unwrap();
    let paths: Vec<_> = server.seen().into_iter().map(|request| request.path).filter(|path| path != "/v2/").collect();
    let by_digest = format!("/v2/a/b/manifests/{}", digest(MANIFEST));
    assert_eq!(paths, ["/v2/a/b/manifests/1", &by_digest, &by_digest]);
    let accept = server.seen().pop().unwrap().header("accept").unwrap().to_owned();
    for kind in ["oci.image.index", "oci.image.manifest", "distribution.manifest.list.v2", "distribution.manifest.v2"] {
        assert!(accept.contains(kind), "{accept}");
    }
}

#[test]
fn its_own_word_when_there_is_no_header() {
    let server = Server::plain(|_| Reply::ok(MANIFEST).with("Content-Type", "text/plain"));
    let document = Bench::insecure(&server).repository(&server).manifest(None, LIMIT).unwrap();
    assert_eq!(document.media_type, "application/vnd.oci.image.manifest.v1+json");
}

#[test]
fn the_digest_of_a_tag() {
    let server = Server::plain(|request| match &*request.method {
        "HEAD" => Reply::ok(MANIFEST).with("Docker-Content-Digest", digest(MANIFEST)),
        _ => Reply::new(500),
    });
    let repository = Bench::insecure(&server);
    // The probe for the scheme gets the 500; it says all it has to.
    assert_eq!(repository.repository(&server).digest().unwrap(), Some(digest(MANIFEST)));
    for silent in ["", "sha512:00"] {
        let server = Server::plain(move |_| Reply::ok(MANIFEST).with("Docker-Content-Digest", silent));
        assert_eq!(Bench::insecure(&server).repository(&server).digest().unwrap(), None);
    }
}

#[test]
fn other_content_is_refused() {
    let server = Server::plain(|_| Reply::ok(MANIFEST).with("Docker-Content-Digest", digest(b"header")));
    let bench = Bench::insecure(&server);
    let repository = bench.repository(&server);
    let by_digest = bench.named(&format!("{}/a/b@{}", server.address, digest(b"name")), &[]).unwrap();
    for (result, expected) in [
        (repository.manifest(None, LIMIT), digest(b"header")),
        (repository.manifest(Some(&digest(b"part")), LIMIT), digest(b"part")),
        (by_digest.manifest(None, LIMIT), digest(b"name")),
    ] {
        let error = result.unwrap_err();
        assert!(matches!(error.problem(), Problem::Digest { expected: it, .. } if *it == expected), "{error:?}");
    }
}

#[test]
fn too_large() {
    for (reply, what) in [
        (Reply::ok(vec![b' '; 5000]), "announced"),
        (Reply::ok(vec![b' '; 5000]).ending(Ending::Endless), "endless"),
        (Reply::ok(b"").with("Content-Length", u64::MAX).ending(Ending::Cut(0)), "announced only"),
    ] {
        let server = Server::plain(move |_| reply.clone());
        let mut bench = Bench::insecure(&server);
        bench.options.patience.idle = std::time::Duration::from_secs(5);
        let error = bench.repository(&server).manifest(None, LIMIT).unwrap_err();
        assert!(matches!(error.problem(), Problem::TooLarge { .. }), "{what}: {error:?}");
        says(&error, &["fetch the manifest of 127.0.0.1:", "/a/b:1 from", "4096"]);
    }
}

#[test]
fn a_truncated_one_is_asked_for_again() {
    let first = std::sync::atomic::AtomicBool::new(true);
    let server = Server::plain(move |request| {
        let cut = request.path.contains("manifests") && first.swap(false, std::sync::atomic::Ordering::SeqCst);
        Reply::ok(MANIFEST).ending(if cut { Ending::Cut(10) } else { Ending::Whole })
    });
    let bench = Bench::insecure(&server);
    assert_eq!(bench.repository(&server).manifest(None, LIMIT).unwrap().bytes, MANIFEST);
    assert_eq!(bench.retries(), 1);
}

#[test]
fn schema_1() {
    for (body, kind) in [
        (MANIFEST, "application/vnd.docker.distribution.manifest.v1+prettyjws"),
        (br#"{"schemaVersion":1}"#, "application/json"),
    ] {
        let server = Server::plain(move |_| Reply::ok(body).with("Content-Type", kind));
        let error = Bench::insecure(&server).repository(&server).manifest(None, LIMIT).unwrap_err();
        assert!(matches!(error.problem(), Problem::Schema1 { .. }), "{error:?}");
    }
}
