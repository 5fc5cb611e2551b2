//! The workspace's own end-to-end suites, run there: the same programs, and the same witnesses, as on the host.

use std::fs;
use std::time::Duration;

use testkit::guest::{Archive, Guest, Kernel, Linkage, Suites, packed};
use testkit::{Cmd, Output, installed};

use super::{MODULES, minipod_alone};

/// Longest time for one program of tests.
const SUITE_LIMIT: Duration = Duration::from_secs(300);
/// Where they lie, as in a target directory.
const HOME: &str = "/t/debug";

/// A program of tests, and which of them cannot be run there, with the reason.
struct Suite(&'static str, &'static [(&'static str, &'static str)]);

/// What the suites call, with its libraries; whatever else a system has is busybox.
fn witnesses(root: &mut Archive) -> Option<()> {
    for program in ["ip", "nft"] {
        root.program(&fs::canonicalize(installed(program)?).expect("a path"), Linkage::Dynamic);
        root.link(&format!("/bin/{program}"), fs::canonicalize(installed(program)?).expect("a path").to_str().expect("UTF-8"));
    }
    let busybox = installed("busybox")?;
    root.copy("/bin/busybox", &busybox);
    for applet in Cmd::new(&busybox).arg("--list").run().ok().lines() {
        root.link(&format!("/bin/{applet}"), "busybox");
    }
    root.file("/etc/hostname", b"guest\n");
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
    for Suite(name, _) in suites {
        packed(&mut root, &format!("{HOME}/deps/{name}"), built.test(name));
    }
    let mut guest = Guest::boot(&kernel, &MODULES, root);
    for suite in suites { println!("{}", run(&mut guest, suite)); }
    let _console = guest.power_off();
}

fn run(guest: &mut Guest, Suite(name, left_out): &Suite) -> Output {
    let program = format!("{HOME}/deps/{name}");
    let mut argv = vec![&*program, "--test-threads", "2"];
    argv.extend(left_out.iter().flat_map(|(test, _)| ["--skip", test]));
    guest.run_within(SUITE_LIMIT, &[("MINIPOD_BIN", "/minipod"), ("REQUIRE_ROOT", "1"), ("MINIPOD_TEST_PATIENCE", "6")], &argv)
}

#[test]
fn the_engine() {
    let x = std::env::var("XSUITES").unwrap();
    let v: Vec<Suite> = x.split(' ').map(|n| Suite(Box::leak(n.to_owned().into_boxed_str()), &[])).collect();
    pass_there(&v);
}
