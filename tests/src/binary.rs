//! Which minipod is tested.

use std::env;
use std::path::PathBuf;

/// The program under test: `MINIPOD_BIN`, else the `minipod` that cargo built in the profile of this test, else in another.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn binary() -> PathBuf {
    if let Some(path) = env::var_os("MINIPOD_BIN") {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "MINIPOD_BIN names {}, which is no file", path.display());
        return path;
    }
    let profiles = profile_dirs();
    let found = profiles.iter().map(|dir| dir.join("minipod")).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("no minipod in {profiles:?}: run `cargo build -p cli` first, or set MINIPOD_BIN"))
}

/// `<target>/<triple>/{debug,release}`, the one of this test's own program (`.../<profile>/deps/<test>`) first.
fn profile_dirs() -> Vec<PathBuf> {
    let this = env::current_exe().expect("the path of this program");
    let profile = this.ancestors().skip(1).find(|dir| !dir.ends_with("deps")).expect("a program lies in a directory");
    let target = profile.parent().unwrap_or(profile);
    vec![profile.to_owned(), target.join("debug"), target.join("release")]
}
