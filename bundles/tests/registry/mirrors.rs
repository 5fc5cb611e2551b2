//! Several places for one name.

use bundles::registry::{Notice, Problem};

use crate::support::{Bench, Reply, Server, content, digest, read, says};

fn settings(servers: &[&Server]) -> String {
    let (last, mirrors) = servers.split_last().unwrap();
    let mut text = format!("[[registry]]\nprefix = \"docker.io\"\nlocation = \"{}/real\"\ninsecure = true\n", last.address);
    for mirror in mirrors {
        text += &format!("[[registry.mirror]]\nlocation = \"{}/hub\"\ninsecure = true\n", mirror.address);
    }
    text
}

#[test]
fn in_order_until_one_has_it() {
    let missing = Server::plain(|_| Reply::new(404));
    let refused = Server::plain(|_| Reply::new(200));
    let good = Server::plain(|request| Reply::part(request, &content(10)));
    let real = Server::plain(|_| Reply::new(500));
    let text = settings(&[&missing, &refused, &good, &real]);
    drop(refused);
    let bench = Bench::new(&text);
    let repository = bench.named("nginx:1", &[]).unwrap();
    assert_eq!(repository.manifest(None, 100).unwrap().bytes, content(10));
    assert_eq!(missing.seen().last().unwrap().path, "/v2/hub/library/nginx/manifests/1");
    assert_eq!(good.seen().last().unwrap().path, "/v2/hub/library/nginx/manifests/1");
    let notices = bench.notices.lock().unwrap().clone();
    let [Notice::Mirror { why: first, .. }, Notice::Mirror { why: second, .. }] = &notices[..] else { panic!("{notices:?}") };
    assert!(first.contains("404") && second.contains("refuses"), "{notices:?}");

    let before = missing.seen().len();
    read(&repository, &content(10)).unwrap();
    repository.document(&digest(&content(10)), 10).unwrap();
    assert_eq!((missing.seen().len(), good.count("/blobs/")), (before, 2), "the one that had the manifest is asked for the rest");
    assert!(real.seen().is_empty());
}

#[test]
fn the_registry_itself_is_the_last() {
    let wrong = Server::plain(|request| Reply::part(request, &content(11)));
    let real = Server::plain(|request| Reply::part(request, &content(10)));
    let bench = Bench::new(&settings(&[&wrong, &real]));
    let name = format!("docker.io/a/b@{}", digest(&content(10)));
    assert_eq!(bench.named(&name, &[]).unwrap().manifest(None, 100).unwrap().bytes, content(10));
    assert_eq!(real.seen().last().unwrap().path, format!("/v2/real/a/b/manifests/{}", digest(&content(10))));
}

#[test]
fn all_of_them_fail() {
    let (one, two) = (Server::plain(|_| Reply::new(404)), Server::plain(|_| Reply::new(403)));
    let bench = Bench::new(&settings(&[&one, &two]));
    let error = bench.named("nginx", &[]).unwrap().manifest(None, 100).unwrap_err();
    assert!(matches!(error.problem(), Problem::Mirrors(all) if all.0.len() == 2), "{error:?}");
    assert!(!error.is_not_found());
    says(&error, &["docker.io/library/nginx:latest", &one.address.to_string(), "404", &two.address.to_string(), "403"]);
}

#[test]
fn settings_that_make_no_name() {
    let bench = Bench::new("[[registry]]\nprefix = \"docker.io\"\nlocation = \"mirror/hub\"");
    let error = bench.named("nginx", &[]).err().unwrap();
    assert!(matches!(error.problem(), Problem::Location { .. }), "{error:?}");
}

#[test]
fn a_whole_domain_elsewhere() {
    let server = Server::plain(|request| Reply::part(request, &content(10)));
    let settings = format!("[[registry]]\nprefix = \"*.example.com\"\nlocation = \"{}/deep\"\ninsecure = true", server.address);
    let bench = Bench::new(&settings);
    read(&bench.named("one.example.com:5000/a/b:1", &[]).unwrap(), &content(10)).unwrap();
    assert!(server.seen().last().unwrap().path.starts_with("/v2/deep/a/b/blobs/"));

    // Without a location the name itself says where.
    let port = server.address.port();
    let bench = Bench::new("[[registry]]\nprefix = \"*.localhost\"\ninsecure = true");
    read(&bench.named(&format!("one.localhost:{port}/a/b:1"), &[]).unwrap(), &content(10)).unwrap();
}
