//! A throw-away host for what may write on its host: mount and process namespaces of its own, which end with it, and a
//! limit on its time.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::engine_support::{Lab, cgroup_path, launcher_program};

/// libcontainer can hang; nothing here takes a second.
const SECONDS: &str = "20";

/// Leaves bare libcontainer without cgroups, which it would not clear away.
const NO_CGROUPS: &str = "umount -l /sys/fs/cgroup 2>/dev/null; mount -t tmpfs -o ro none /sys/fs/cgroup";

/// What was said in a throw-away host.
#[derive(Debug)]
pub(crate) struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Shell lines around the runtime.
#[derive(Default)]
pub(crate) struct Around<'a> {
    /// Before it.
    pub before: &'a str,
    /// In front of the runtime's command line: `setpriv --groups 4`.
    pub wrapper: &'a str,
    /// After it.
    pub after: &'a str,
}

/// `create`, `start`, wait, by libcontainer as it is.
pub(crate) fn bare(lab: &Lab, spec: &Value) -> Said {
    bare_within(lab, spec, &Around::default())
}

/// As [`bare`], in the middle of these lines.
pub(crate) fn bare_within(lab: &Lab, spec: &Value, around: &Around<'_>) -> Said {
    let Around { before, wrapper, after } = around;
    bare_script(lab, spec, &format!("{NO_CGROUPS}\n{before}\n{wrapper} $BARE run $BUNDLE $STATE\ncode=$?\n{after}\nexit $code"))
}

/// A script that knows `$BARE`, `$BUNDLE` and `$STATE`.
pub(crate) fn bare_script(lab: &Lab, spec: &Value, script: &str) -> Said {
    in_host(lab, spec, script)
}

/// As [`bare_script`], without cgroups.
pub(crate) fn bare_without_cgroups(lab: &Lab, spec: &Value, script: &str) -> Said {
    in_host(lab, spec, &format!("{NO_CGROUPS}\n{script}"))
}

/// The smallest runtime around our engine, started in the middle of the same lines.
pub(crate) fn minipod_within(lab: &Lab, spec: &Value, around: &Around<'_>) -> Said {
    let Around { before, wrapper, after } = around;
    in_host(lab, spec, &format!("{before}\n{wrapper} $LAUNCHER run $BUNDLE $STATE $CGROUP\ncode=$?\n{after}\nexit $code"))
}

fn in_host(lab: &Lab, spec: &Value, script: &str) -> Said {
    let (bundle, state) = (lab.path("host-bundle"), lab.path("host-state"));
    for dir in [&bundle, &state] {
        fs::create_dir_all(dir).unwrap();
    }
    fs::write(bundle.join("config.json"), spec.to_string()).unwrap();
    let output = Command::new("timeout")
        .args(["--signal=KILL", SECONDS, "unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child"])
        .args(["--mount-proc", "sh", "-c", script])
        .env("BARE", example("bare"))
        .env("LAUNCHER", launcher_program())
        .env("WITH_KEY", example("with_key"))
        .env("BUNDLE", bundle)
        .env("STATE", state)
        .env("LAB", lab.dir.path())
        .env("CGROUP", cgroup_path())
        .output()
        .expect("timeout and unshare are installed");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A program of `runtime/examples`.
pub(crate) fn example(name: &str) -> PathBuf {
    let program = launcher_program().with_file_name(name);
    assert!(program.exists(), "{} is missing: run cargo build --examples, as cargo test without --test does", program.display());
    program
}

/// Fails when bare libcontainer no longer has a flaw that our code works around at `place`.
pub(crate) fn expect_flaw(has_it: bool, place: &str, said: &Said) {
    assert!(has_it, "bare libcontainer no longer has this flaw: our work-around at {place} may go\n{said:#?}");
}
