//! Several at once, and some that are killed.

use std::fs;
use std::path::PathBuf;

use testkit::process::Process;
use testkit::{Act, Cmd, LIMIT, Proxy, Rule, Running, eventually};

use crate::{Lab, PATIENT, assert_same_store, blob_image, reaches};

/// Bytes of the layers that matter.
const SIZE: usize = 2_000_000;

/// Returns once a process has a lease in the store: it knows what it wants, and fetches it or waits for whoever does.
fn at_the_store(lab: &Lab, running: &Running) {
    let (store, fds) = (lab.mp.root().join("lib/images"), format!("/proc/{}/fd", running.pid()));
    let lock = |path: PathBuf| path.starts_with(store.join("tmp")) && path.ends_with("lock");
    eventually(LIMIT, "it has a lease", || {
        let mut links = fs::read_dir(&fds).ok()?.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
        links.any(lock).then_some(())
    });
}

fn pull(lab: &Lab, name: &str) -> Running {
    lab.cmd(&["image", "pull", "-q", name]).spawn()
}

/// Each blob was asked for once, and came whole.
fn assert_fetched_once(proxy: &Proxy, digests: &[&str]) {
    for digest in digests {
        assert_eq!(proxy.count("GET", digest), 1, "{digest}: {:#?}", proxy.seen());
    }
}

#[test]
fn two_pulls_of_an_image_fetch_it_once() {
    let Some(lab) = Lab::new() else { return };
    let written = lab.registry.fill(&blob_image("both", &[SIZE, 1000, SIZE]), "both:1");
    let layers: Vec<&str> = written.layers.iter().map(String::as_str).collect();
    let proxy = lab.proxy(vec![Rule::on(layers[0], Act::Stall(1_000_000)), Rule::on(layers[2], Act::Stall(500_000))]);
    let name = format!("{}/both:1", proxy.address());
    let first = reaches(pull(&lab, &name), &proxy, layers[0], 1_000_000);
    let others = [pull(&lab, &name), pull(&lab, &name)];
    others.iter().for_each(|other| at_the_store(&lab, other));
    proxy.release();
    for running in [first].into_iter().chain(others) {
        assert_eq!(running.finish(PATIENT).ok().trim(), written.id);
    }
    assert_fetched_once(&proxy, &layers);
}

/// As many as come, with no order but their own.
#[test]
fn a_crowd_fetches_an_image_once() {
    let Some(lab) = Lab::new() else { return };
    let written = lab.registry.fill(&blob_image("crowd", &[SIZE, SIZE]), "crowd:1");
    let proxy = lab.proxy(Vec::new());
    let name = format!("{}/crowd:1", proxy.address());
    let crowd: Vec<Running> = (0..6).map(|_| pull(&lab, &name)).collect();
    for running in crowd {
        assert_eq!(running.finish(PATIENT).ok().trim(), written.id);
    }
    assert_fetched_once(&proxy, &written.layers.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn two_images_that_share_a_layer_fetch_it_once() {
    let Some(lab) = Lab::new() else { return };
    let (one, mut two) = (blob_image("one", &[SIZE, 1000]), blob_image("two", &[10, 2000]));
    two.layers[0] = one.layers[0].clone();
    let (one, two) = (lab.registry.fill(&one, "one:1"), lab.registry.fill(&two, "two:1"));
    let shared = &*one.layers[0];
    assert_eq!(shared, two.layers[0]);
    let proxy = lab.proxy(vec![Rule::on(shared, Act::Stall(1_000_000))]);
    let name = |image: &str| format!("{}/{image}:1", proxy.address());
    let first = reaches(pull(&lab, &name("one")), &proxy, shared, 1_000_000);
    let second = pull(&lab, &name("two"));
    at_the_store(&lab, &second);
    proxy.release();
    assert_eq!(first.finish(PATIENT).ok().trim(), one.id);
    assert_eq!(second.finish(PATIENT).ok().trim(), two.id);
    assert_fetched_once(&proxy, &[shared, &one.layers[1], &two.layers[1]]);
    // Also by one command.
    for image in ["one", "two"] {
        lab.ok(&["image", "rm", &name(image)]);
    }
    lab.ok(&["gc"]);
    proxy.forget();
    lab.ok(&["image", "pull", &name("one"), &name("two")]);
    assert_fetched_once(&proxy, &[shared]);
}

/// Whoever waits for another's download does it himself when the other is killed or cannot.
#[test]
fn who_waits_for_another_goes_on_alone() {
    let Some(lab) = Lab::new() else { return };
    let written = lab.registry.fill(&blob_image("both", &[SIZE]), "both:1");
    let layer = &*written.layers[0];
    let proxy = lab.proxy(vec![Rule::on(layer, Act::Stall(1_000_000)).times(1)]);
    let name = format!("{}/both:1", proxy.address());
    let first = reaches(pull(&lab, &name), &proxy, layer, 1_000_000);
    let second = pull(&lab, &name);
    at_the_store(&lab, &second);
    Process(first.pid()).kill();
    assert_eq!(first.finish(LIMIT).code(), 137);
    assert_eq!(second.finish(PATIENT).ok().trim(), written.id);
    // The second was there already when the first died.
    lab.ok(&["gc"]);
}

/// At every stage of a pull; `gc` takes away what it left, and nothing is in the way of the next.
#[test]
fn a_killed_pull_leaves_nothing_that_gc_does_not_find() {
    let Some(lab) = Lab::new() else { return };
    lab.begin();
    let written = lab.registry.fill(&blob_image("killed", &[1000, SIZE, SIZE]), "killed:1");
    let proxy = lab.proxy(Vec::new());
    let name = format!("{}/killed:1", proxy.address());
    let (second, third) = (&*written.layers[1], &*written.layers[2]);
    let before = lab.store();
    for (path, bytes) in [
        ("/manifests/", 0), (&*written.id, 0), (second, 0), (second, 1_000_000), (third, 1_000_000), (third, 2_000_000),
    ] {
        proxy.forget();
        proxy.rules(vec![Rule::on(path, Act::Stall(bytes))]);
        let running = reaches(pull(&lab, &name), &proxy, path, bytes);
        Process(running.pid()).kill();
        assert_eq!(running.finish(LIMIT).code(), 137);
        assert_eq!(lab.store().1, before.1, "half an image is none");
        lab.ok(&["gc"]);
        assert_same_store(&before, &lab.store());
    }
    // Wherever it is, also between two steps: by bytes that have gone through.
    for nth in 1..=8 {
        proxy.forget();
        proxy.rules(Vec::new());
        let running = reaches(pull(&lab, &name), &proxy, "/", nth * 500_000);
        Process(running.pid()).kill();
        let _whole_or_killed = running.finish(LIMIT);
        if lab.store().1 != before.1 {
            lab.ok(&["image", "rm", &name]);
        }
        lab.ok(&["gc"]);
        assert_same_store(&before, &lab.store());
    }
    assert_eq!(lab.ok(&["image", "pull", "-q", &name]).trim(), written.id);
}

/// The next pull does not depend on anybody's having cleaned up.
#[test]
fn a_killed_pull_is_not_in_the_way_of_the_next() {
    let Some(lab) = Lab::new() else { return };
    let written = lab.registry.fill(&blob_image("killed", &[1000, SIZE]), "killed:1");
    let layer = &*written.layers[1];
    let proxy = lab.proxy(vec![Rule::on(layer, Act::Stall(1_000_000)).times(1)]);
    let name = format!("{}/killed:1", proxy.address());
    let running = reaches(pull(&lab, &name), &proxy, layer, 1_000_000);
    Process(running.pid()).kill();
    assert_eq!(running.finish(LIMIT).code(), 137);
    assert_eq!(lab.ok(&["image", "pull", "-q", &name]).trim(), written.id);
    let work = fs::read_dir(lab.mp.root().join("lib/images/tmp")).expect("list work in progress");
    assert_eq!(work.count(), 0, "and takes away what is left of the first");
}

/// `gc`, `prune` and `rm` beside a pull that goes on: what it has so far is not theirs.
#[test]
fn cleaning_beside_a_pull_takes_nothing_from_it() {
    let Some(lab) = Lab::new() else { return };
    lab.begin();
    let written = lab.registry.fill(&blob_image("beside", &[1000, SIZE]), "beside:1");
    let layer = &*written.layers[1];
    let proxy = lab.proxy(vec![Rule::on(layer, Act::Stall(1_000_000))]);
    let name = format!("{}/beside:1", proxy.address());
    let running = reaches(pull(&lab, &name), &proxy, layer, 1_000_000);
    // They may wait for the pull, or go around it.
    let begin = lab.registry.name("begin:1");
    let cleaners = [vec!["gc"], vec!["image", "prune"], vec!["image", "rm", &begin]].map(|args| lab.cmd(&args).spawn());
    cleaners.iter().for_each(|cleaner| at_the_store_or_gone(&lab, cleaner));
    // Reading is for everyone, at any time.
    assert!(lab.ok(&["image", "ls", "-o", "name"]).contains("begin") || lab.ok(&["image", "ls"]).contains("NAME"));
    proxy.release();
    assert_eq!(running.finish(PATIENT).ok().trim(), written.id);
    for cleaner in cleaners {
        drop(cleaner.finish(PATIENT).ok());
    }
    assert_eq!(proxy.count("GET", layer), 1);
    let archive = lab.mp.file("whole.tar");
    lab.ok(&["image", "save", "-o", archive.to_str().expect("UTF-8"), &name]);
    let files = Cmd::new("tar").arg("-tf").arg(&archive).run().ok();
    assert!(!files.is_empty());
}

fn at_the_store_or_gone(lab: &Lab, running: &Running) {
    let (store, process) = (lab.mp.root().join("lib/images"), Process(running.pid()));
    eventually(LIMIT, "it is at the store", || {
        let fds = fs::read_dir(format!("/proc/{}/fd", process.0)).into_iter().flatten();
        let there = fds.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok()).any(|path| path.starts_with(&store));
        (there || !process.lives()).then_some(())
    });
}
