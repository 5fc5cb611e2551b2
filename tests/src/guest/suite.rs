//! The test programs that cargo has built, to be run again in the guest.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::archive::Archive;
use super::program::stripped;
use crate::Cmd;

/// Cargo has nothing to compile when the tests run; to make sure of that takes it some seconds.
const BUILD_LIMIT: Duration = Duration::from_secs(600);

/// The programs of the workspace's tests, as cargo says that they are now: a directory may hold stale ones.
#[derive(Debug)]
pub struct Suites(Vec<Artifact>);

#[derive(Debug)]
struct Artifact {
    kind: String,
    name: String,
    program: PathBuf,
}

impl Suites {
    /// Asks the cargo that runs this test, for the profile and the target directory of this test.
    ///
    /// # Panics
    /// When it cannot build them.
    #[must_use]
    pub fn current() -> Self {
        let mut cargo = Cmd::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["test", "--no-run", "--quiet", "--message-format", "json", "--target-dir"])
            .arg(target_dir())
            .dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a package of a workspace"));
        let profile = profile_dir().file_name().expect("a name").to_string_lossy().into_owned();
        if profile != "debug" {
            cargo = cargo.args(["--profile", &profile]);
        }
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_of_the_outer_cargo)) {
            cargo = cargo.without_env(&name);
        }
        let messages = cargo.run_within(BUILD_LIMIT).ok();
        Self(messages.lines().filter_map(|line| Artifact::from_message(&serde_json::from_str(line).ok()?)).collect())
    }

    /// The program of an integration test.
    ///
    /// # Panics
    /// When there is none of this name.
    #[must_use]
    pub fn test(&self, name: &str) -> &Path {
        self.program("test", name)
    }

    /// The program of an example.
    ///
    /// # Panics
    /// When there is none of this name.
    #[must_use]
    pub fn example(&self, name: &str) -> &Path {
        self.program("example", name)
    }

    fn program(&self, kind: &str, name: &str) -> &Path {
        let found = self.0.iter().find(|artifact| artifact.kind == kind && artifact.name == name);
        &found.unwrap_or_else(|| panic!("cargo has built no {kind} {name}: {:?}", self.0)).program
    }
}

impl Artifact {
    fn from_message(message: &Value) -> Option<Self> {
        let text = |value: &Value| Some(value.as_str()?.to_owned());
        let target = &message["target"];
        Some(Self { kind: text(&target["kind"][0])?, name: text(&target["name"])?, program: text(&message["executable"])?.into() })
    }
}

/// Puts a program into an archive without its debug information.
pub fn packed(archive: &mut Archive, path: &str, program: &Path) {
    archive.file(path, &stripped(program));
}

/// What cargo tells a test and another cargo would take for its own settings.
fn is_of_the_outer_cargo(name: &str) -> bool {
    matches!(name, "CARGO_TARGET_DIR" | "CARGO_BUILD_TARGET_DIR" | "CARGO_CRATE_NAME" | "CARGO_PRIMARY_PACKAGE" | "OUT_DIR")
        || ["CARGO_PKG_", "CARGO_BIN_", "CARGO_MANIFEST_", "NEXTEST"].iter().any(|prefix| name.starts_with(prefix))
}

/// `<target>/<triple>/<profile>`, where this test's own program lies in `deps`.
fn profile_dir() -> PathBuf {
    let this = env::current_exe().expect("the path of this program");
    this.ancestors().skip(1).find(|dir| !dir.ends_with("deps")).expect("a program lies in a directory").to_owned()
}

/// `<target>`.
pub(super) fn target_dir() -> PathBuf {
    profile_dir().ancestors().nth(2).expect("cargo builds for a named target").to_owned()
}
