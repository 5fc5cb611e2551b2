//! Symbolic links in the image where a runtime writes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use runtime::engine::EngineError;
use serde_json::{Value, json};

use crate::engine_support::{Lab, block_on, chain, set};
use crate::host::{bare, expect_flaw};

/// A directory of the host with something in it that libcontainer deletes when it takes it for the container's /dev.
fn decoy(lab: &Lab) -> PathBuf {
    let outside = lab.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("ptmx"), "precious").unwrap();
    outside
}

fn untouched(decoy: &Path) -> bool {
    let names: Vec<_> = fs::read_dir(decoy).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names == ["ptmx"] && fs::read_to_string(decoy.join("ptmx")).is_ok_and(|text| text == "precious")
}

/// Whether links of devices were made in it and `ptmx` deleted.
fn ransacked(decoy: &Path) -> bool {
    decoy.join("stdin").is_symlink() && decoy.join("ptmx").is_symlink()
}

fn replace(lab: &Lab, name: &str, target: impl AsRef<Path>) {
    let path = lab.rootfs().join(name);
    if path.is_dir() && !path.is_symlink() {
        fs::remove_dir_all(&path).unwrap();
    }
    symlink(target, path).unwrap();
}

/// /dev, by any sort of link, to a directory of the host.
const DEV_LINKS: [&[(&str, &str)]; 3] = [
    &[("dev", "LAB/outside")],
    &[("dev", "../outside")],
    &[("dev", "first"), ("first", "second"), ("second", "../outside/../outside")],
];

fn lay(lab: &Lab, links: &[(&str, &str)]) {
    // Mounts are resolved inside the root: there must be something there too.
    for inside in [lab.rootfs().join("outside"), lab.rootfs().join(lab.path("outside").strip_prefix("/").unwrap())] {
        fs::create_dir_all(inside).unwrap();
    }
    for (name, target) in links {
        replace(lab, name, target.replace("LAB", lab.dir.path().to_str().unwrap()));
    }
}

#[test]
fn dev_as_a_link_to_the_host() {
    for links in DEV_LINKS {
        let lab = Lab::new();
        let outside = decoy(&lab);
        lay(&lab, links);
        let said = bare(&lab, &lab.spec("true"));
        expect_flaw(ransacked(&outside), "engine::sanitise (check_image_links)", &said);

        let lab = Lab::new();
        let outside = decoy(&lab);
        lay(&lab, links);
        let error = block_on(lab.create(&lab.spec("true"))).map(drop).unwrap_err();
        assert!(matches!(error, EngineError::Refused(_)) && chain(&error).contains("/dev is a symbolic link"), "{}", chain(&error));
        assert!(untouched(&outside));
    }
}

/// libcontainer refuses these itself since 0.5.5 (CVE-2025-54867).
#[test]
fn proc_and_sys_as_links() {
    for name in ["proc", "sys"] {
        let lab = Lab::new();
        let outside = decoy(&lab);
        replace(&lab, name, &outside);
        let error = block_on(lab.create(&lab.spec("true"))).map(drop).unwrap_err();
        assert!(matches!(error, EngineError::Refused(_)), "{}", chain(&error));
        assert!(chain(&error).contains(&format!("/{name} is a symbolic link")), "{}", chain(&error));
        assert!(untouched(&outside));
    }
}

fn binding(lab: &Lab, spec: Value, place: &str) -> Value {
    let mut spec = spec;
    let mount = json!({ "destination": place, "type": "bind", "source": lab.path("outside"), "options": ["rbind", "rprivate", "rw"] });
    spec["mounts"].as_array_mut().unwrap().push(mount);
    spec
}

/// The image decides where a volume comes to lie: on /dev, into which a runtime then puts device nodes.
#[test]
fn a_volume_on_a_link_to_dev() {
    let hostile = || {
        let lab = Lab::new();
        decoy(&lab);
        replace(&lab, "data", "/dev");
        lab
    };
    let script = "echo > /dev/null && ls /dev/ptmx /dev/pts/ptmx";
    let lab = hostile();
    let said = bare(&lab, &binding(&lab, lab.spec(script), "/data"));
    expect_flaw(ransacked(&lab.path("outside")), "engine::sanitise (kernel_file_systems_last)", &said);

    let lab = hostile();
    let output = block_on(lab.output_of(&binding(&lab, lab.spec(script), "/data")));
    assert_eq!("/dev/ptmx\n/dev/pts/ptmx\n", output);
    assert!(untouched(&lab.path("outside")));
}

/// The same with /proc: what masks and protects paths there would do it to the volume.
#[test]
fn a_volume_on_a_link_to_proc() {
    let hostile = || {
        let lab = Lab::new();
        decoy(&lab);
        replace(&lab, "data", "/proc");
        lab
    };
    let lab = hostile();
    let said = bare(&lab, &binding(&lab, lab.spec("ls /proc"), "/data"));
    expect_flaw(said.stdout == "ptmx\n", "engine::sanitise (kernel_file_systems_last)", &said);

    let lab = hostile();
    let spec = set(lab.spec("wc -c < /proc/meminfo; ls /proc/1/status"), "/linux/maskedPaths", json!(["/proc/meminfo"]));
    let output = block_on(lab.output_of(&binding(&lab, spec, "/data")));
    assert_eq!("0\n/proc/1/status\n", output, "the kernel's, and masked");
}

/// A volume brings the link, for the next volume: what it shows was written by another container, perhaps.
#[test]
fn a_volume_below_a_volume_with_a_link() {
    for place in ["/data", "/dev/shm"] {
        let nested = |lab: &Lab| {
            let first = lab.path("first");
            fs::create_dir(&first).unwrap();
            symlink("/dev", first.join("link")).unwrap();
            let mut spec = lab.spec("ls /dev/pts/ptmx");
            let mount = json!({ "destination": place, "type": "bind", "source": first, "options": ["rbind", "rprivate", "rw"] });
            spec["mounts"].as_array_mut().unwrap().push(mount);
            binding(lab, spec, &format!("{place}/link"))
        };
        let lab = Lab::new();
        let outside = decoy(&lab);
        let said = bare(&lab, &nested(&lab));
        expect_flaw(ransacked(&outside), "engine::sanitise (kernel_file_systems_last)", &said);

        let lab = Lab::new();
        let outside = decoy(&lab);
        match block_on(lab.run(&nested(&lab))) {
            Ok(output) => assert_eq!("/dev/pts/ptmx\n", output.stdout, "{}", output.stderr),
            Err(error) => assert!(chain(&error).contains("below the bind mount /dev/shm"), "{}", chain(&error)),
        }
        assert!(untouched(&outside));
    }
}

/// What is bound over /dev is not the container's: libcontainer takes it for that.
#[test]
fn a_volume_on_dev() {
    let without_dev = |lab: &Lab| {
        let mut spec = lab.spec("true");
        spec["mounts"].as_array_mut().unwrap().retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
        binding(lab, spec, "/dev")
    };
    let lab = Lab::new();
    let outside = decoy(&lab);
    let said = bare(&lab, &without_dev(&lab));
    expect_flaw(ransacked(&outside), "engine::sanitise (mounts)", &said);

    let lab = Lab::new();
    let outside = decoy(&lab);
    let error = block_on(lab.create(&without_dev(&lab))).map(drop).unwrap_err();
    assert!(chain(&error).contains("a bind mount on /dev"), "{}", chain(&error));
    assert!(untouched(&outside));
}

/// Mount targets that are links are followed inside the root, in libcontainer too: only our half.
#[test]
fn mount_targets_that_lead_out() {
    block_on(async {
        for target in ["LAB/outside", "../../../../../../LABoutside", "/"] {
            let lab = Lab::new();
            let outside = decoy(&lab);
            let target = target.replace("LAB/", &format!("{}/", lab.dir.path().display()));
            let target = target.replace("LAB", lab.dir.path().to_str().unwrap().trim_start_matches('/'));
            replace(&lab, "work", format!("{target}/inner"));
            let place = lab.rootfs().join(lab.dir.path().strip_prefix("/").unwrap()).join("outside/inner");
            fs::create_dir_all(place).unwrap();
            fs::create_dir_all(lab.rootfs().join("inner")).unwrap();
            let result = lab.run(&binding(&lab, lab.spec("cat /work/ptmx"), "/work")).await;
            // Inside the root, or not at all.
            if let Ok(output) = result {
                assert!(output.stdout == "precious" || output.stdout.is_empty(), "{}", output.stdout);
            }
            assert!(untouched(&outside));
        }
    });
}

/// Without a tmpfs on /dev what lies there is the image's, links and all: the mounts stay inside the root.
#[test]
fn pts_and_shm_as_links() {
    block_on(async {
        for name in ["dev/pts", "dev/shm"] {
            for absolute in [true, false] {
                let lab = Lab::new();
                let outside = decoy(&lab);
                let target = if absolute { outside.clone() } else { PathBuf::from("../../outside") };
                symlink(target, lab.rootfs().join(name)).unwrap();
                let mut spec = lab.spec("true");
                let mounts = spec["mounts"].as_array_mut().unwrap();
                mounts.retain(|mount| mount["destination"] != "/dev");
                mounts.push(json!({ "destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid"] }));
                // Refused or inside: both are fine, and which it is says the kernel's way of resolving the link.
                if let Err(error) = lab.run(&spec).await {
                    assert_eq!(125, error.exit_code(), "{}", chain(&error));
                }
                assert!(untouched(&outside), "{name}");
            }
        }
    });
}

/// CVE-2025-31133: `/dev/null` of the image as a link, which a masked path would have been bound to. Fixed in libcontainer 0.5.7.
#[test]
fn dev_null_as_a_link_under_masked_paths() {
    block_on(async {
        let lab = Lab::new();
        symlink("/proc/sys/kernel/core_pattern", lab.rootfs().join("dev/null")).unwrap();
        let mut spec = lab.spec("echo evil > /proc/kcore; cat /proc/sys/kernel/core_pattern");
        spec["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/dev");
        let before = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
        let error = lab.run(&spec).await.map(|output| output.stdout).unwrap_err();
        assert_eq!(125, error.exit_code(), "{}", chain(&error));
        assert_eq!(before, fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap());
    });
}

/// Masked directories and read-only paths go by name: a link in the image moves the protection, inside the container only.
#[test]
fn masked_and_read_only_paths_that_are_links() {
    block_on(async {
        let lab = Lab::new();
        let outside = decoy(&lab);
        symlink(&outside, lab.rootfs().join("out")).unwrap();
        symlink("/work", lab.rootfs().join("in")).unwrap();
        fs::write(lab.rootfs().join("work/file"), "text").unwrap();
        let spec = lab.spec("ls /work; touch /tmp/x 2>&1; echo done");
        symlink("/tmp", lab.rootfs().join("ro")).unwrap();
        let spec = set(spec, "/linux/maskedPaths", json!(["/out", "/in"]));
        let spec = set(spec, "/linux/readonlyPaths", json!(["/out", "/ro"]));
        assert_eq!("touch: /tmp/x: Read-only file system\ndone\n", lab.output_of(&spec).await, "where the link leads");
        assert!(untouched(&outside));
    });
}

/// A root that is a link is the directory it leads to; the host's own root is refused.
#[test]
fn the_root_as_a_link() {
    block_on(async {
        let lab = Lab::new();
        let link = lab.path("link");
        symlink("rootfs", &link).unwrap();
        assert_eq!("inside\n", lab.output_of(&set(lab.spec("echo inside"), "/root", json!({ "path": link }))).await);
        fs::remove_file(&link).unwrap();
        symlink("/", &link).unwrap();
        let error = lab.create(&set(lab.spec("true"), "/root", json!({ "path": link }))).await.map(drop).unwrap_err();
        assert!(chain(&error).contains("host's root"), "{}", chain(&error));
    });
}

