//! The fuzzers' kept inputs (fuzz/corpus), checked as the fuzzers do, without one. Needs root as the image store does.
#![allow(unreachable_pub, reason = "the files that are taken in belong to the fuzzers' library")]

use std::fs;
use std::path::Path;
use std::thread;

#[path = "../../fuzz/src/archive.rs"]
mod archive;
#[path = "../../fuzz/src/lab.rs"]
mod lab;
#[path = "../../fuzz/src/layer.rs"]
mod layer;
#[path = "../../fuzz/src/manifest.rs"]
mod manifest;

fn check_all(target: &str, check: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let inputs = fs::read_dir(&dir).expect("the corpus").map(|entry| entry.expect("an input").path());
    let mut count = 0;
    for path in inputs {
        let input = fs::read(&path).expect("an input");
        // The main thread's stack, which programs and fuzzers have: a test's own is a quarter of it.
        let checked = thread::Builder::new().stack_size(8 << 20).spawn(move || check(&input)).expect("a thread").join();
        assert!(checked.is_ok(), "{}", path.display());
        count += 1;
    }
    assert!(count > 0, "{} is empty", dir.display());
}

#[test]
fn manifests() {
    check_all("manifest", manifest::check);
}

#[test]
fn archives() {
    check_all("archive", archive::check);
}

#[test]
fn layers() {
    check_all("layer", layer::check);
}
