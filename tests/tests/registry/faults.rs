//! What registries and networks do wrong: what is tried again, what is refused and how.

use std::collections::BTreeSet;
use std::fs;

use rustix::process::Signal;
use testkit::{Act, Cmd, Entry, Image, Minipod, Proxy, Rule, SmallDisk, Written, private_mounts};

use crate::{Lab, assert_same_store, blob_image, has, insecure, reaches};

/// Bytes of the layer that is spoilt: many reads and writes.
const SIZE: usize = 4_000_000;

/// A registry with an image of one small and one large layer, a proxy before it, and a store with something in it.
fn spoilt() -> Option<(Lab, Proxy, Written, String)> {
    let lab = Lab::new()?;
    lab.begin();
    let written = lab.registry.fill(&blob_image("spoilt", &[1000, SIZE]), "spoilt:1");
    let proxy = lab.proxy(Vec::new());
    let name = format!("{}/spoilt:1", proxy.address());
    Some((lab, proxy, written, name))
}

#[test]
fn what_passes_is_tried_again() {
    let Some((lab, proxy, written, name)) = spoilt() else { return };
    let layer = &*written.layers[1];
    for rule in [
        Rule::on(layer, Act::Truncate(0)), Rule::on(layer, Act::Truncate(1_500_000)), Rule::on(layer, Act::Reset(0)),
        Rule::on(layer, Act::Reset(1_500_000)), Rule::on(layer, Act::status(500)), Rule::on(layer, Act::status(503)),
        Rule::on(layer, Act::too_many(1)), Rule::on("/manifests/", Act::status(500)), Rule::on("/manifests/", Act::too_many(1)),
        Rule::on("/manifests/", Act::Reset(0)), Rule::on(&written.id, Act::Truncate(10)), Rule::on(&written.id, Act::status(502)),
    ] {
        proxy.forget();
        proxy.rules(vec![rule.clone().times(1)]);
        let output = lab.run(&["image", "pull", "-q", &name]);
        assert_eq!(output.clone().ok().trim(), written.id, "{rule:?}: {output}");
        let asked = [layer, "/manifests/", &*written.id]
            .map(|path| proxy.seen().iter().filter(|seen| seen.path.contains(path)).count());
        assert!(asked.iter().any(|times| *times > 1), "{rule:?} was met: {:#?}", proxy.seen());
        lab.ok(&["image", "rm", &name]);
    }
}

/// Two interruptions of one layer, and then no more bytes than are missing.
#[test]
fn an_interrupted_layer_goes_on_where_it_was() {
    let Some((lab, proxy, written, name)) = spoilt() else { return };
    let layer = &*written.layers[1];
    proxy.rules(vec![Rule::on(layer, Act::Truncate(1_500_000)).times(1), Rule::on(layer, Act::Reset(1_000_000)).times(1)]);
    assert_eq!(lab.ok(&["image", "pull", "-q", &name]).trim(), written.id);
    let asked: Vec<_> = proxy.seen().into_iter().filter(|seen| seen.path.contains(layer)).collect();
    assert_eq!(asked.len(), 3, "{asked:#?}");
    assert!(asked[0].range.as_deref().is_none_or(|range| range.starts_with("bytes=0-")), "{asked:#?}");
    for seen in &asked[1..] {
        let from = seen.range.as_deref().and_then(|range| range.strip_prefix("bytes=")?.split('-').next()?.parse::<u64>().ok());
        assert!(from.is_some_and(|from| from > 0 && from <= 2_500_000), "{asked:#?}");
    }
    // What a reset swallows on its way may have to come twice.
    assert!(proxy.sent(layer) < written.sizes[1] + 1_000_000, "{} bytes for {}", proxy.sent(layer), written.sizes[1]);
}

/// A server that knows no ranges sends everything again.
#[test]
fn a_server_without_ranges_is_no_trouble() {
    let Some((lab, proxy, written, name)) = spoilt() else { return };
    let layer = &*written.layers[1];
    let bytes = lab.registry.blob("spoilt", layer);
    proxy.rules(vec![Rule::on(layer, Act::Truncate(1_500_000)).times(1), Rule::on(layer, Act::Answer(200, Vec::new(), bytes))]);
    assert_eq!(lab.ok(&["image", "pull", "-q", &name]).trim(), written.id);
    // Another range than the one asked for is not put behind what is there.
    lab.ok(&["image", "rm", &name]);
    let wrong = Act::Answer(206, vec![("Content-Range", format!("bytes 5-9/{}", written.sizes[1]))], b"wrong".to_vec());
    proxy.rules(vec![Rule::on(layer, Act::Truncate(1_500_000)).times(1), Rule::on(layer, wrong).times(1)]);
    let output = lab.run(&["image", "pull", "-q", &name]);
    assert!(output.code() == 0 && output.stdout.trim() == written.id || output.code() == 125, "{output}");
}

/// What must be told apart.
const OWN: [&str; 7] = ["401", "403", "404", "429", "500", "wrong digest", "truncated"];

/// Each by its own message, none of which leaves anything.
#[test]
fn what_stays_wrong_is_told_and_leaves_the_store_alone() {
    let Some((lab, proxy, written, name)) = spoilt() else { return };
    let layer = &*written.layers[1];
    let short = |digest: &str| digest[..19].to_owned(); // messages may shorten it
    let all = |path: &str, act: Act| vec![Rule::on(path, act)];
    let other = blob_image("other", &[300]);
    let manifest = lab.registry.fill(&other, "other:1").manifest;
    let other = lab.registry.manifest_bytes("other", &manifest);
    let oci = |bytes: Vec<u8>| Act::Answer(200, vec![("Content-Type", "application/vnd.oci.image.manifest.v1+json".into())],
        bytes);
    let cases: Vec<(&str, Vec<Rule>, Vec<String>)> = vec![
        ("401", all("/v2/", Act::Answer(401, vec![("WWW-Authenticate", "Basic realm=\"x\"".into())], Vec::new())),
            vec!["minipod image login".into()]),
        ("403", all("/manifests/", Act::status(403)), vec!["403|denied|forbidden|may not".into()]),
        ("403 for a layer", all(layer, Act::status(403)), vec!["403|denied|forbidden|may not".into()]),
        ("404", all("/manifests/", Act::status(404)), vec!["not found|no such|has no".into()]),
        ("404 for a layer", all(layer, Act::status(404)), vec![short(layer)]),
        ("429", all("/manifests/", Act::too_many(86_400)), vec!["429|too many".into(), "86400|24 h|1 day".into()]),
        ("500", all("/manifests/", Act::status(500)), vec!["500".into()]),
        ("no registry", all("/v2/", Act::Answer(200, vec![("Content-Type", "text/html".into())],
            b"<html>hello</html>".to_vec())), Vec::new()),
        ("a login page", all("/v2/", Act::Answer(302, vec![("Location", "http://127.0.0.1:1/login".into())], Vec::new())),
            Vec::new()),
        ("a loop", all("/v2/", Act::Answer(307, vec![("Location", "/v2/loop".into())], Vec::new())), Vec::new()),
        ("wrong digest", all(layer, Act::Damage(2_000_000)), vec![short(layer), "digest|damaged|sha256".into()]),
        ("wrong digest of the configuration", all(&written.id, Act::Damage(5)), vec![short(&written.id)]),
        // As when the registry's own file is short: what is missing does not come by asking for it.
        ("truncated", vec![Rule::on(layer, Act::Truncate(1000)).times(1), Rule::on(layer, Act::Truncate(0))],
            vec![short(layer), "of|bytes|ended|short".into()]),
        ("reset", vec![Rule::on(layer, Act::Reset(1000)).times(1), Rule::on(layer, Act::Reset(0))], vec![short(layer), "reset|broke|interrupted".into()]),
        ("not JSON", all("/manifests/", oci(b"{\"schemaVersion\": 2,".to_vec())), Vec::new()),
        ("an endless manifest", all("/manifests/", oci(vec![b' '; 30_000_000])), vec!["bytes|large|MiB|MB".into()]),
        ("schema 1", all("/manifests/", Act::Answer(200,
            vec![("Content-Type", "application/vnd.docker.distribution.manifest.v1+prettyjws".into())],
            b"{\"schemaVersion\":1}".to_vec())), vec!["schema 1|v1".into()]),
    ];
    let mut said = BTreeSet::new();
    for (what, rules, words) in cases {
        proxy.forget();
        proxy.rules(rules);
        let words: Vec<&str> = words.iter().map(String::as_str).chain(["spoilt"]).collect();
        let message = lab.refused(&["image", "pull", &name], &words);
        assert!(!proxy.seen().is_empty(), "{what}");
        assert!(said.insert(message.clone()) || !OWN.contains(&what), "{what} has a message of its own: {message}");
    }
    // The manifest of another image where this one's digest is asked for.
    proxy.rules(all("/manifests/", oci(other)));
    let by_digest = format!("{}/spoilt@{}", proxy.address(), written.manifest);
    lab.refused(&["image", "pull", &by_digest], &[&short(&written.manifest)]);

    proxy.rules(Vec::new());
    assert_eq!(lab.ok(&["image", "pull", "-q", &name]).trim(), written.id, "nothing of it stays in the way");
}

/// Who gives a little at each attempt is not asked four thousand times.
#[test]
fn crumbs_are_not_gathered_for_ever() {
    let Some((lab, proxy, written, name)) = spoilt() else { return };
    let layer = &*written.layers[1];
    for act in [Act::Truncate(1000), Act::Reset(1000)] {
        proxy.forget();
        proxy.rules(vec![Rule::on(layer, act.clone())]);
        lab.refused(&["image", "pull", &name], &[&layer[..19]]);
        assert!(proxy.count("GET", layer) > 1, "{act:?}: it is tried again");
    }
}

/// Words of a server reach the terminal as words.
#[test]
fn a_servers_words_move_no_cursor() {
    let Some((lab, proxy, _written, name)) = spoilt() else { return };
    let message = "pay \x1b[2J\x07\\u001b[31m first\\nminipod: all is well";
    let error = format!("{{\"errors\":[{{\"code\":\"DENIED\",\"message\":\"{message}\"}}]}}").into_bytes();
    for status in [403, 404, 500] {
        proxy.rules(vec![Rule::on("/manifests/", Act::Answer(status, vec![("Content-Type", "application/json".into())],
            error.clone()))]);
        lab.refused(&["image", "pull", &name], &[]);
    }
    proxy.rules(vec![Rule::on("/v2/", Act::Answer(401,
        vec![("WWW-Authenticate", "Bearer realm=\"ht tp://\x1b[2J\",service=\"".into())], Vec::new()))]);
    lab.refused(&["image", "pull", &name], &[]);
}

#[test]
fn nobody_answers() {
    let Some(lab) = Lab::new() else { return };
    lab.begin();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("find a free port");
    let closed = listener.local_addr().expect("an address").to_string();
    drop(listener);
    lab.settings(&insecure(&closed));
    let refused = lab.refused(&["image", "pull", &format!("{closed}/app:1")], &[&closed, "refuse"]);
    // The resolvers of the machine cannot be reached from here: the kernel says so at once.
    let halves = ["0.0.0.0/1", "128.0.0.0/1"];
    let routes = |verb: &str| halves.iter().for_each(
        |half| drop(Cmd::new("ip").args(["route", verb, "unreachable", half]).run().ok()));
    routes("add");
    let output = lab.run(&["image", "pull", "nonexistent.invalid/app:1"]);
    let unreachable = lab.run(&["image", "pull", "192.0.2.1:5000/app:1"]);
    routes("del");
    let (unknown, unreachable) = (output.fails(125), unreachable.fails(125));
    assert!(unknown.contains("nonexistent.invalid") && has(&unknown, "no host|resolve|look up"), "{unknown}");
    assert!(unreachable.contains("192.0.2.1:5000") && has(&unreachable, "unreachable|no route|cannot connect"), "{unreachable}");
    assert_ne!(refused, unknown);
}

#[test]
fn a_layer_that_escapes_its_root_is_refused() {
    let Some(lab) = Lab::new() else { return };
    lab.begin();
    let victim = lab.mp.file("victim");
    fs::create_dir(&victim).expect("make a directory");
    let to_victim = Entry::Link("out".into(), victim.to_str().expect("UTF-8").into());
    let up = format!("{}tmp/minipod-escaped", "../".repeat(12));
    for (n, entries) in [vec![Entry::text(&up, "x")], vec![to_victim, Entry::text("out/escaped", "x")]].into_iter().enumerate() {
        let image = Image { layers: vec![vec![Entry::text("fine", "x")], entries], ..blob_image("hostile", &[]) };
        lab.registry.fill(&image, &format!("hostile:{n}"));
        let name = lab.registry.name(&format!("hostile:{n}"));
        lab.refused(&["image", "pull", &name], &["unpack layer", "entry"]);
        assert!(!std::path::Path::new("/tmp/minipod-escaped").exists());
        assert_eq!(fs::read_dir(&victim).expect("look").count(), 0, "case {n} wrote outside");
    }
}

#[test]
fn a_disk_that_fills_up_in_the_middle() {
    let Some(mp) = Minipod::new() else { return };
    private_mounts();
    let Some(lab) = Lab::on(mp, testkit::Access::Open) else { return };
    lab.settings(&insecure(&lab.registry.address()));
    let disk = SmallDisk::mount(&lab.mp, "lib", "size=2m");
    lab.begin();
    lab.registry.fill(&blob_image("large", &[1000, SIZE, 1000]), "large:1");
    let name = lab.registry.name("large:1");
    lab.refused(&["image", "pull", &name], &["No space left"]);
    disk.grow("size=64m");
    lab.pull(&name);
}

/// A layer that does not come, and a user who has waited enough.
#[test]
fn ctrl_c_leaves_no_half_image() {
    let Some((lab, proxy, written, name)) = spoilt() else { return };
    let layer = &*written.layers[1];
    for signal in [Signal::INT, Signal::TERM] {
        for (path, bytes) in [(layer, 1_500_000), (layer, 0), (&*written.id, 0), ("/manifests/", 0)] {
            proxy.forget();
            proxy.rules(vec![Rule::on(path, Act::Stall(bytes))]);
            let before = lab.store();
            let pull = reaches(lab.cmd(&["image", "pull", &name]).spawn(), &proxy, path, bytes);
            pull.signal(signal);
            let output = pull.finish(testkit::LIMIT);
            assert_eq!(output.code(), 128 + signal.as_raw(), "{output}");
            assert_same_store(&before, &lab.store());
        }
    }
    proxy.rules(Vec::new());
    lab.pull(&name);
}
