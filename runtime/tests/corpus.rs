//! The fuzzers' kept inputs for logs (fuzz/corpus/cri_log), checked as the fuzzer does, without one.
#![allow(unreachable_pub, reason = "the file that is taken in belongs to the fuzzers' library")]

use std::fs;
use std::path::Path;

use runtime::logs;

#[path = "../../fuzz/src/cri_log.rs"]
mod cri_log;

#[test]
fn logs_are_read_whole_and_come_back_as_written() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/cri_log");
    let inputs: Vec<_> = fs::read_dir(dir).expect("the corpus").map(|entry| entry.expect("an input").path()).collect();
    assert!(!inputs.is_empty());
    for path in inputs {
        println!("{}", path.display()); // the last one is to blame
        cri_log::check(&fs::read(path).expect("an input"));
    }
}
