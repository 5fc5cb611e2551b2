//! What a container sees of the host's mounts, and the host of its.

use std::fs;

use runtime::cgroup::Hierarchy;
use serde_json::{Value, json};

use crate::engine_support::{Lab, block_on, cgroup_path};
use crate::host::{Around, bare_script, bare_within, bare_without_cgroups, expect_flaw, minipod_within};

fn with_mount(mut spec: Value, mount: Value) -> Value {
    spec["mounts"].as_array_mut().unwrap().push(mount);
    spec
}

/// A mount that asks for "private" and is a slave of the host's sees what the host mounts later.
#[test]
fn propagation() {
    let asked = |lab: &Lab| {
        fs::create_dir(lab.path("outside")).unwrap();
        let mount = json!({ "destination": "/work", "type": "bind", "source": lab.path("outside"), "options": ["rbind", "rprivate"] });
        with_mount(lab.spec("cat /proc/self/mountinfo"), mount)
    };
    let around = Around { before: "mount --make-rshared /; mount -t tmpfs none $LAB/outside", ..Around::default() };
    let of_work = |text: &str| text.lines().find(|line| line.contains(" /work ")).unwrap_or_default().to_owned();
    let lab = Lab::new();
    let said = bare_within(&lab, &asked(&lab), &around);
    expect_flaw(of_work(&said.stdout).contains(" master:"), "engine::sanitise (Propagations)", &said);
    let lab = Lab::new();
    let said = minipod_within(&lab, &asked(&lab), &around);
    let line = of_work(&said.stdout);
    assert!(!line.is_empty() && !line.contains("master:") && !line.contains("shared:"), "{said:#?}");
}

/// A cgroup mount that says "ro". (On pure v2 libcontainer keeps to it, and only our half counts.)
#[test]
fn a_read_only_cgroup_mount() {
    let mount = json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "nosuid"] });
    let script = "for f in /sys/fs/cgroup/*/pids.max /sys/fs/cgroup/pids.max; do echo max > $f && echo wrote $f; done 2>/dev/null; true";
    if !Hierarchy::detect().unwrap().is_v2() {
        let lab = Lab::new();
        let path = cgroup_path();
        let spec = crate::engine_support::set(with_mount(lab.spec(script), mount.clone()), "/linux/cgroupsPath", json!(path));
        let said = bare_script(&lab, &spec, "$BARE run $BUNDLE $STATE");
        expect_flaw(said.stdout.contains("wrote "), "engine::sanitise (mounts)", &said);
    }
    let lab = Lab::new();
    assert_eq!("", block_on(lab.output_of(&with_mount(lab.spec(script), mount))));
}

/// Left out, libcontainer mounts and makes devices in the host's mount namespace.
#[test]
fn no_mount_namespace() {
    let without = |lab: &Lab| {
        let mut spec = lab.spec("true");
        spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "mount");
        // Of these libcontainer says that they need one.
        spec["linux"]["maskedPaths"] = json!([]);
        spec["linux"]["readonlyPaths"] = json!([]);
        spec
    };
    let lab = Lab::new();
    let script = "$BARE run $BUNDLE $STATE; cat /proc/self/mountinfo";
    let said = bare_without_cgroups(&lab, &without(&lab), script);
    let inside = |text: &str, lab: &Lab| text.contains(lab.rootfs().to_str().unwrap());
    expect_flaw(inside(&said.stdout, &lab), "engine::sanitise (namespaces)", &said);
    let lab = Lab::new();
    block_on(async {
        let (mut created, _pipes) = lab.create(&without(&lab)).await.unwrap();
        assert!(!inside(&fs::read_to_string("/proc/self/mountinfo").unwrap(), &lab));
        created.start().await.unwrap();
    });
}
