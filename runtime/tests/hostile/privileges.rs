//! What a container's process may do.

use std::fs;

use serde_json::{Value, json};

use crate::engine_support::{Lab, block_on, set, status_line};
use crate::host::{bare, expect_flaw};

const NONE: &str = "0000000000000000";

#[test]
fn no_capabilities_asked_for() {
    let without = |lab: &Lab| {
        let mut spec = lab.spec("cat /proc/self/status");
        spec["process"].as_object_mut().unwrap().remove("capabilities");
        spec
    };
    let lab = Lab::new();
    let said = bare(&lab, &without(&lab));
    let all = fs::read_to_string("/proc/self/status").unwrap();
    expect_flaw(status_line(&said.stdout, "CapEff") == status_line(&all, "CapEff"), "engine::identity (capabilities)", &said);
    let lab = Lab::new();
    let status = block_on(lab.output_of(&without(&lab)));
    for set in ["CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"] {
        assert_eq!(NONE, status_line(&status, set), "{set}");
    }
}

fn deny_mkdir() -> Value {
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" }] })
}

/// An explicit `false` and a filter: libcontainer with its seccomp feature fails, without it (as we build it) forgets the filter
/// and says nothing. Either way the container that was asked for does not come.
#[test]
fn no_new_privileges_false_and_a_filter() {
    let asked = |lab: &Lab| {
        let spec = set(lab.spec("cat /proc/self/status; mkdir /work/x 2>&1; true"), "/linux/seccomp", deny_mkdir());
        set(spec, "/process/noNewPrivileges", json!(false))
    };
    let lab = Lab::new();
    let said = bare(&lab, &asked(&lab));
    expect_flaw(said.code != 0 || status_line(&said.stdout, "Seccomp") == "0", "engine::identity (seccomp)", &said);
    let lab = Lab::new();
    let output = block_on(lab.output_of(&asked(&lab)));
    assert_eq!(("2", "0"), (status_line(&output, "Seccomp"), status_line(&output, "NoNewPrivs")));
    assert!(output.contains("Operation not permitted") && !lab.rootfs().join("work/x").exists(), "{output}");
}

/// Device nodes that an image brings are as good as the devices: the cgroup says no.
#[test]
fn device_nodes_of_the_image() {
    use runtime::cgroup::{DeviceAccess, Limits};
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    // One that no container needs, that opens for anybody with the mode bits, and that this kernel has.
    let misc = fs::read_to_string("/proc/misc").unwrap();
    let number = |wanted: &str| misc.lines().find_map(|line| line.trim().split_once(' ').filter(|(_, name)| *name == wanted)?.0.parse().ok());
    let minor: u32 = ["fuse", "loop-control", "hw_random", "vhost-net"].into_iter().find_map(number).expect("a device to try");
    let node = |lab: &Lab| {
        mknodat(CWD, lab.rootfs().join("work/node"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(10, minor)).unwrap();
        lab.spec("(exec 3<>/work/node && echo opened) 2>&1; echo tried")
    };
    let lab = Lab::new();
    let said = bare(&lab, &node(&lab));
    expect_flaw(said.stdout == "opened\ntried\n", "cgroup::limits (devices)", &said);
    let lab = Lab::with_limits(Limits { devices: DeviceAccess::Container(Vec::new()), ..Limits::default() });
    let output = block_on(lab.output_of(&node(&lab)));
    assert!(output.contains("Operation not permitted") && output.ends_with("tried\n"), "{output}");
}
