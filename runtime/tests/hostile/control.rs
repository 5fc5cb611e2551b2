//! Fields of the bundle that decide what happens on the host.

use std::fs;
use std::path::Path;

use runtime::engine::EngineError;
use rustix::process::Signal;
use serde_json::json;

use crate::engine_support::{Lab, block_on, cgroup_path, chain, set};
use crate::host::{Around, bare_script, bare_within, bare_without_cgroups, expect_flaw};

/// Where a hierarchy keeps a cgroup, on v1 (pids) or v2.
fn cgroup_dir(path: &str) -> std::path::PathBuf {
    let v1 = Path::new("/sys/fs/cgroup/pids");
    let root = if v1.is_dir() { v1 } else { Path::new("/sys/fs/cgroup") };
    root.join(path.trim_start_matches('/'))
}

#[test]
fn a_cgroup_path_with_parents() {
    let escape = cgroup_path();
    let lab = Lab::new();
    let path = format!("{}/bare/../..{escape}", cgroup_path());
    let spec = set(lab.spec("true"), "/linux/cgroupsPath", json!(path));
    // It is looked for while the container runs; the directories are removed whatever was found.
    let script = format!(
        "$BARE start $BUNDLE $STATE; for dir in /sys/fs/cgroup/*{escape} /sys/fs/cgroup{escape}; do test -d $dir && echo made $dir; done\n\
         while grep -q . /sys/fs/cgroup/*{escape}/cgroup.procs; do :; done\n\
         find /sys/fs/cgroup -depth -type d -path '*{}*' -exec rmdir {{}} +",
        escape.rsplit_once('-').unwrap().0
    );
    let said = bare_script(&lab, &spec, &script);
    expect_flaw(said.stdout.contains("made "), "engine::sanitise (cgroupsPath)", &said);

    let lab = Lab::new();
    let escape = cgroup_path();
    let spec = set(lab.spec("exec cat"), "/linux/cgroupsPath", json!(format!("{}/../..{escape}", lab.cgroup.path())));
    block_on(async {
        let (mut created, pipes) = lab.create(&spec).await.unwrap();
        created.start().await.unwrap();
        assert_eq!(vec![created.process.pid], lab.cgroup.procs().unwrap(), "the engine's cgroup, whatever the bundle says");
        assert!(!cgroup_dir(&escape).exists());
        pipes.finish(created.pidfd).await;
    });
}

#[test]
fn a_signal_to_a_created_container() {
    let lab = Lab::new();
    let said = bare_without_cgroups(&lab, &lab.spec("echo ran"), "$BARE kill-created $BUNDLE $STATE");
    expect_flaw(said.code == 70 && !said.stdout.contains("ran"), "process::signal (by pidfd, status from what is seen)", &said);
    let lab = Lab::new();
    block_on(async {
        let (mut created, pipes) = lab.create(&lab.spec("echo ran")).await.unwrap();
        assert!(created.process.signal(Signal::TERM).unwrap());
        created.start().await.unwrap_or_else(|e| panic!("{}", chain(&e)));
        assert_eq!("ran\n", pipes.finish(created.pidfd).await.stdout);
    });
}

/// A hook that fails after the container has ended keeps its state for ever.
#[test]
fn hooks_after_the_end() {
    let failing = json!({ "poststop": [{ "path": "/bin/false", "args": ["false"] }] });
    let lab = Lab::new();
    let said = bare_within(&lab, &set(lab.spec("true"), "/hooks", failing.clone()), &Around { after: "ls $STATE/box", ..Around::default() });
    expect_flaw(said.code == 70 && said.stdout.contains("state.json"), "engine::sanitise (hooks)", &said);
    let lab = Lab::new();
    let error = block_on(lab.create(&set(lab.spec("true"), "/hooks", failing))).map(drop).unwrap_err();
    assert!(matches!(error, EngineError::Refused(_)) && chain(&error).contains("hooks.poststop"), "{}", chain(&error));
}

/// What the bundle's author says the runtime runs inside the container has no more rights than the container.
#[test]
fn hooks_in_the_container() {
    let script = "#!/bin/sh\ngrep -E '^Cap(Eff|Prm|Bnd)' /proc/self/status > /work/hook; ls /proc/self/fd > /work/fds\n";
    let prepare = |lab: &Lab| {
        let hook = lab.rootfs().join("bin/hook");
        fs::write(&hook, script).unwrap();
        fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        set(lab.spec("true"), "/hooks", json!({ "startContainer": [{ "path": "/bin/hook", "env": ["PATH=/bin"] }] }))
    };
    // libcontainer gives up the container's capabilities before, too: only our half.
    let lab = Lab::new();
    block_on(lab.output_of(&prepare(&lab)));
    let seen = fs::read_to_string(lab.rootfs().join("work/hook")).unwrap();
    assert!(seen.lines().all(|line| line.ends_with("\t0000000000000000")), "{seen}");
    let fds = fs::read_to_string(lab.rootfs().join("work/fds")).unwrap();
    assert_eq!(vec!["0", "1", "2", "3"], fds.split_whitespace().collect::<Vec<_>>(), "3 is ls reading");
}
