//! Which minipod is tested.

use std::env;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The program under test: `MINIPOD_BIN`, else the newest `minipod` that cargo built beside this test.
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
    let built = |profile: &Path| {
        let path = profile.join("minipod");
        let time = path.metadata().and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        path.is_file().then_some((time, path))
    };
    let profiles = profile_dirs();
    let newest = profiles.iter().filter_map(|dir| built(dir)).max();
    let (_, path) = newest.unwrap_or_else(|| panic!("no minipod in {profiles:?}: run `cargo build -p cli` first, or set MINIPOD_BIN"));
    path
}

/// `<target>/<triple>/{debug,release}`, found from where this test's own program lies (`.../<profile>/deps/<test>`).
fn profile_dirs() -> Vec<PathBuf> {
    let this = env::current_exe().expect("the path of this program");
    let profile = this.ancestors().skip(1).find(|dir| !dir.ends_with("deps")).expect("a program lies in a directory");
    let target = profile.parent().unwrap_or(profile);
    vec![target.join("debug"), target.join("release")]
}
