//! docs/security.md lists the tests of this suite and of `tests/tests/hostile_container.rs`, all of them and no others.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// `module::test` of every test function in a file.
fn tests_of(file: &Path, module: &str) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let lines: Vec<&str> = text.lines().collect();
    lines
        .windows(2)
        .filter(|pair| pair[0].trim() == "#[test]")
        .filter_map(|pair| Some(format!("{module}::{}", pair[1].trim().strip_prefix("fn ")?.split('(').next()?)))
        .collect()
}

fn existing() -> BTreeSet<String> {
    let hostile = repository().join("runtime/tests/hostile");
    let files = fs::read_dir(&hostile).unwrap().map(|entry| entry.unwrap().path());
    let mut all: BTreeSet<String> = files
        .filter(|file| !file.ends_with("main.rs") && !file.ends_with("catalogue.rs"))
        .flat_map(|file| tests_of(&file, file.file_stem().unwrap().to_str().unwrap()))
        .collect();
    all.extend(tests_of(&repository().join("tests/tests/hostile_container.rs"), "hostile_container"));
    all
}

/// What stands between backquotes in the last column of each table.
fn listed() -> BTreeSet<String> {
    let text = fs::read_to_string(repository().join("docs/security.md")).expect("docs/security.md");
    let rows = text.lines().filter(|line| line.starts_with("| ") && line.ends_with(" |"));
    let last = rows.filter_map(|row| row.trim_end_matches(" |").rsplit("| ").next());
    last.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(ToOwned::to_owned).collect()
}

#[test]
fn the_table_and_the_tests_agree() {
    let (existing, listed) = (existing(), listed());
    assert!(existing.len() > 30, "{existing:?}");
    let unlisted: Vec<_> = existing.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&existing).collect();
    assert!(unlisted.is_empty() && gone.is_empty(), "not in docs/security.md: {unlisted:#?}\nin it and no test: {gone:#?}");
}
