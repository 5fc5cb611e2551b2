//! The three descriptors that a container is given.

use std::os::fd::AsFd;

use runtime::engine::Stdio;
use runtime::process::wait_exit;
use serde_json::json;

use crate::engine_support::{Lab, block_on, set};
use crate::host::{Around, bare, bare_within, expect_flaw};

/// Where output goes to /dev/null: libcontainer reopens the container's for reading only, so that every write fails.
#[test]
fn output_to_dev_null() {
    let script = "echo text 2>/dev/null && touch /work/written; true";
    let lab = Lab::new();
    let said = bare_within(&lab, &lab.spec(script), &Around { wrapper: "exec >/dev/null;", ..Around::default() });
    expect_flaw(said.code == 0 && !lab.rootfs().join("work/written").exists(), "engine::identity (take_stdio)", &said);
    let lab = Lab::new();
    block_on(async {
        let null = || std::fs::File::options().read(true).write(true).open("/dev/null").unwrap().into();
        let stdio = Stdio::Pipes { stdin: null(), stdout: null(), stderr: null() };
        let script = format!("{script}; stat -L -c %d /proc/self/fd/1 > /work/device");
        let mut created = lab.create_with("box", &lab.spec(&script), &lab.cgroup, stdio).await.unwrap();
        created.start().await.unwrap();
        assert_eq!(0, wait_exit(created.pidfd.as_fd()).await.unwrap().code);
    });
    assert!(lab.rootfs().join("work/written").exists());
    // And it is the container's, not a way to the host's /dev.
    let device = std::fs::read_to_string(lab.rootfs().join("work/device")).unwrap();
    let host = std::os::unix::fs::MetadataExt::dev(&std::fs::metadata("/dev/null").unwrap());
    assert_ne!(host.to_string(), device.trim());
}

#[test]
fn output_of_another_user() {
    let script = "echo text > /dev/stdout";
    let user = json!({ "uid": 1000, "gid": 1000 });
    let lab = Lab::new();
    let said = bare(&lab, &set(lab.spec(script), "/process/user", user.clone()));
    expect_flaw(said.stdout.is_empty() && said.stderr.contains("Permission denied"), "engine::identity (take_stdio)", &said);
    let lab = Lab::new();
    assert_eq!("text\n", block_on(lab.output_of(&set(lab.spec(script), "/process/user", user))));
}

/// CVE-2025-52565: what is bound over /dev/console, and from where, is the kernel's terminal or nothing. Fixed in 0.5.7.
#[test]
fn console_and_terminals_as_links() {
    for (name, target) in [("dev/console", "/etc/passwd"), ("dev/pts", "LAB"), ("dev/ptmx", "/etc/passwd")] {
        let lab = Lab::new();
        let before = std::fs::read_to_string(lab.rootfs().join("etc/passwd")).unwrap();
        let target = target.replace("LAB", lab.dir.path().to_str().unwrap());
        std::os::unix::fs::symlink(target, lab.rootfs().join(name)).unwrap();
        let mut spec = set(lab.spec("true"), "/process/terminal", json!(true));
        // The image's /dev, and no mount of devpts to hide the link.
        let hidden = if name == "dev/pts" { &["/dev", "/dev/pts"][..] } else { &["/dev"] };
        spec["mounts"].as_array_mut().unwrap().retain(|mount| !hidden.contains(&mount["destination"].as_str().unwrap()));
        block_on(async {
            // The link on /dev/ptmx is replaced; the others are refused.
            match lab.create_with("box", &spec, &lab.cgroup, Stdio::Terminal).await {
                Ok(mut created) => {
                    created.start().await.unwrap();
                    assert_eq!("dev/ptmx", name);
                }
                Err(error) => assert_eq!(125, error.exit_code()),
            }
        });
        assert_eq!(before, std::fs::read_to_string(lab.rootfs().join("etc/passwd")).unwrap());
        assert!(!lab.path("ptmx").exists() && !lab.path("0").exists());
    }
}
