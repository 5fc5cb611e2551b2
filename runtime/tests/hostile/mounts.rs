//! What a container sees of the host's mounts, and the host of its.

use std::fs;

use runtime::cgroup::Hierarchy;
use serde_json::{Value, json};

use crate::engine_support::{Lab, block_on, cgroup_path};
use crate::host::{Around, Said, bare_script, bare_within, bare_without_cgroups, expect_flaw, minipod_within};

fn with_mount(mut spec: Value, mount: Value) -> Value {
    spec["mounts"].as_array_mut().unwrap().push(mount);
    spec
}

/// A mount that asks for "private" and is a slave of the host's sees what the host mounts later; one that asks for "shared" and is
/// not shows nothing to it.
#[test]
fn propagation() {
    let asked = |lab: &Lab, option: &str| {
        fs::create_dir(lab.path("outside")).unwrap();
        let mount = json!({ "destination": "/work", "type": "bind", "source": lab.path("outside"), "options": ["rbind", option] });
        with_mount(lab.spec("cat /proc/self/mountinfo"), mount)
    };
    let around = Around { before: "mount --make-rshared /; mount -t tmpfs none $LAB/outside", ..Around::default() };
    // (shared, slave), as the optional fields of its line say.
    let of_work = |said: &Said| {
        let line = said.stdout.lines().find(|line| line.contains(" /work ")).unwrap_or_else(|| panic!("{said:#?}"));
        (line.contains(" shared:"), line.contains(" master:"))
    };
    for (option, expected) in [("rprivate", (false, false)), ("rslave", (false, true)), ("rshared", (true, false))] {
        let lab = Lab::new();
        let said = bare_within(&lab, &asked(&lab, option), &around);
        expect_flaw(of_work(&said) == (false, true), "engine::sanitise (Propagations)", &said);
        let lab = Lab::new();
        let said = minipod_within(&lab, &asked(&lab, option), &around);
        assert_eq!(expected, of_work(&said), "{option}");
    }
}

/// CVE-2025-52881: what a runtime writes into /proc (sysctls, labels) must not land in what the bundle mounts there. libcontainer
/// writes through a /proc of its own since 0.5.7: only our half.
#[test]
fn writes_to_proc() {
    block_on(async {
        let lab = Lab::new();
        fs::create_dir(lab.path("outside")).unwrap();
        let file = lab.path("outside/ip_unprivileged_port_start");
        fs::write(&file, "before").unwrap();
        let mount = json!({ "destination": "/proc/sys/net/ipv4", "type": "bind", "source": lab.path("outside"), "options": ["bind"] });
        let spec = with_mount(lab.spec("true"), mount);
        let spec = crate::engine_support::set(spec, "/linux/sysctl", json!({ "net.ipv4.ip_unprivileged_port_start": "77" }));
        match lab.run(&spec).await {
            Ok(output) => assert_eq!(0, output.exit.code),
            Err(error) => assert_eq!(125, error.exit_code(), "{}", crate::engine_support::chain(&error)),
        }
        assert_eq!("before", fs::read_to_string(&file).unwrap());
    });
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
