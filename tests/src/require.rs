//! What a test needs of the machine. Missing needs are fatal where they were promised, else said and counted.

use std::env;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;

/// Whether the test may run: as root only.
///
/// # Panics
/// Without root when `CI` or `REQUIRE_ROOT` is set.
#[must_use]
pub fn root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    is_root || skip("it needs root")
}

/// The path of an external program that a test uses as a witness; `None` skips the test.
///
/// # Panics
/// Without it when `CI` or `REQUIRE_ROOT` is set.
#[must_use]
pub fn installed(program: &str) -> Option<PathBuf> {
    let dirs = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&dirs)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(program))
        .find(|path| path.is_file());
    if found.is_none() {
        skip(&format!("it needs the program {program} (scripts/test installs it)"));
    }
    found
}

/// Says that a test is skipped, and counts it in the file that `MINIPOD_SKIPS` names (scripts/test shows the sum).
pub(crate) fn skip(why: &str) -> bool {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let promised = ["CI", "REQUIRE_ROOT"].into_iter().find(|name| env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0"));
    assert!(promised.is_none(), "{test} cannot run: {why}, and {} is set", promised.unwrap_or_default());
    count(&test, why);
    false
}

/// Says and counts the skip of a test that scripts/setup has declared impossible on this system; never fatal.
pub(crate) fn skip_declared(why: &str) {
    count(std::thread::current().name().unwrap_or("a test"), why);
}

fn count(test: &str, why: &str) {
    eprintln!("SKIPPED {test}: {why}");
    if let Some(file) = env::var_os("MINIPOD_SKIPS") {
        let mut file = OpenOptions::new().append(true).create(true).open(file).expect("open the list of skips");
        writeln!(file, "{test}: {why}").expect("count the skip");
    }
}
