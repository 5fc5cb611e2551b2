//! The workspace's own end-to-end suites, run there: the same programs, and the same witnesses, as on the host.

use std::fs;
use std::time::Duration;

use testkit::guest::{Archive, Guest, Kernel, Linkage, Suites, packed};
use testkit::{Cmd, installed};

use super::{MODULES, minipod_alone};

/// Longest time for one program of tests.
const SUITE_LIMIT: Duration = Duration::from_secs(400);
/// Where they lie, as in a target directory.
const HOME: &str = "/t/debug";
/// They measure no time, but wait no longer than they would on the host; emulation is ten times slower.
const ENVIRONMENT: [(&str, &str); 3] = [("MINIPOD_BIN", "/minipod"), ("REQUIRE_ROOT", "1"), ("MINIPOD_TEST_PATIENCE", "6")];

/// A program of tests.
struct Suite {
    name: &'static str,
    /// What cannot be run there, and why.
    without: &'static [(&'static str, &'static str)],
}

const fn all(name: &'static str) -> Suite {
    Suite { name, without: &[] }
}

/// What the suites call, with its libraries and what it reads; whatever else a system has is busybox.
fn witnesses(root: &mut Archive) -> Option<()> {
    for name in ["ip", "nft", "timeout"] {
        let program = fs::canonicalize(installed(name)?).expect("a path");
        root.program(&program, Linkage::Dynamic);
        root.link(&format!("/bin/{name}"), program.to_str().expect("UTF-8"));
    }
    // nft(8) has the names of protocols from here.
    for file in ["/etc/protocols", "/etc/services"].map(std::path::Path::new) {
        root.program(file, Linkage::Static);
    }
    root.file("/etc/hostname", b"guest\n");
    let busybox = installed("busybox")?;
    root.copy("/bin/busybox", &busybox);
    for applet in Cmd::new(&busybox).arg("--list").run().ok().lines() {
        root.link(&format!("/bin/{applet}"), "busybox");
    }
    Some(())
}

fn pass_there(suites: &[Suite]) {
    let Some(kernel) = Kernel::find() else { return };
    let mut root = minipod_alone();
    if witnesses(&mut root).is_none() {
        return;
    }
    let built = Suites::current();
    packed(&mut root, &format!("{HOME}/examples/launcher"), built.example("launcher"));
    for suite in suites {
        packed(&mut root, &format!("{HOME}/deps/{}", suite.name), built.test(suite.name));
    }
    let mut guest = Guest::boot(&kernel, &MODULES, root);
    for suite in suites {
        passes(&mut guest, suite);
    }
    let _console = guest.power_off();
}

fn passes(guest: &mut Guest, suite: &Suite) {
    let program = format!("{HOME}/deps/{}", suite.name);
    let mut argv = vec![&*program, "--test-threads", "2"];
    argv.extend(suite.without.iter().flat_map(|(test, _)| ["--skip", test]));
    let output = guest.run_within(SUITE_LIMIT, &ENVIRONMENT, &argv);
    println!("{output}");
    let passed = output.clone().ok();
    // libtest's summary; a filter that fits nothing would succeed too.
    assert!(passed.contains("test result: ok.") && !passed.contains(" 0 passed"), "{output}");
}

/// What a command, a container and its cgroup are to the kernel.
#[test]
fn the_engine_does() {
    pass_there(&[all("cgroup_limits"), all("engine_create"), all("engine_exec")]);
}

#[test]
fn the_network_does() {
    pass_there(&[all("traffic"), all("teardown")]);
}

/// Whiteouts, opaque directories and many layers: overlay without `lowerdir+`.
#[test]
fn images_do() {
    let without = &[("a_bundle_may_be_a_container", "runc makes its bundle"), ("written_bundles_run_under_runc", "runc is not taken along")];
    pass_there(&[Suite { name: "images", without }]);
}

#[test]
fn pods_do() {
    let without = &[("eight_pods_started_side_by_side", "it is about our locks, and eight are many for an emulated machine")];
    pass_there(&[Suite { name: "sandbox", without }, all("security"), all("resources")]);
}
