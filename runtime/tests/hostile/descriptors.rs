//! Paths through `/proc/self/fd`: a runtime that follows one while it holds a descriptor of the host's is led out
//! (CVE-2024-21626).

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::engine_support::{Lab, block_on, chain, set};
use crate::host::{Around, bare_within, bare_without_cgroups, expect_flaw};

/// More than anybody has open.
const NUMBERS: std::ops::Range<u32> = 3..16;

/// Ways from a directory of the host's, or from its /proc, to a program that the image does not have.
fn ways_out(lab: &Lab) -> [String; 3] {
    fs::create_dir_all(lab.path("outside")).unwrap();
    fs::copy("/bin/busybox", lab.path("outside/tool")).unwrap();
    let tool = lab.path("outside/tool");
    ["tool".to_owned(), format!("..{}", tool.display()), format!("{}/root{}", std::process::id(), tool.display())]
}

/// `uname`, which the images of these tests lack, by a link to each way.
fn lay_link(lab: &Lab, target: &str) {
    let link = lab.rootfs().join("bin/uname");
    fs::remove_file(&link).ok();
    symlink(target, link).unwrap();
}

/// execve(2) follows the command's path before it closes what is close-on-exec.
#[test]
fn a_command_that_is_a_link_to_a_descriptor() {
    let command = |lab: &Lab| set(lab.spec(""), "/process/args", json!(["uname"]));
    let lab = Lab::new();
    ways_out(&lab);
    lay_link(&lab, "/proc/self/fd/9/tool");
    let said = bare_within(&lab, &command(&lab), &Around { before: "exec 9<$LAB/outside", ..Around::default() });
    expect_flaw(said.stdout == "Linux\n", "engine::identity (finish)", &said);

    block_on(async {
        let lab = Lab::new();
        let outside = ways_out(&lab);
        // As careless a caller.
        let open = fs::File::open(lab.path("outside")).unwrap();
        rustix::io::fcntl_setfd(&open, rustix::io::FdFlags::empty()).unwrap();
        for (number, way) in NUMBERS.flat_map(|number| outside.iter().map(move |way| (number, way))) {
            lay_link(&lab, &format!("/proc/self/fd/{number}/{way}"));
            let ran = match lab.create(&command(&lab)).await {
                Ok((mut created, pipes)) => match created.start().await {
                    Ok(()) => pipes.finish(created.pidfd).await.stdout,
                    Err(error) => chain(&error),
                },
                Err(error) => chain(&error),
            };
            assert!(ran.contains("uname") && !ran.contains("Linux"), "{number}/{way}: {ran}");
            fs::remove_dir_all(lab.path("state-box")).ok();
        }
    });
}

/// The same in a running container, whose own process lays the links where `minipod exec` finds the command.
#[test]
fn an_executed_command_that_is_a_link_to_a_descriptor() {
    let lab = Lab::new();
    ways_out(&lab);
    lay_link(&lab, "/proc/self/fd/9/tool");
    let script = "$BARE start $BUNDLE $STATE; exec 9<$LAB/outside; $BARE exec $STATE uname";
    let said = bare_without_cgroups(&lab, &lab.spec("exec sleep 1000"), script);
    expect_flaw(said.stdout == "Linux\n", "engine::exec, engine::identity (finish)", &said);

    block_on(async {
        let lab = Lab::new();
        let outside = ways_out(&lab);
        let open = fs::File::open(lab.path("outside")).unwrap();
        rustix::io::fcntl_setfd(&open, rustix::io::FdFlags::empty()).unwrap();
        let spec = lab.spec("exec sleep 1000");
        let (mut created, _pipes) = lab.create(&spec).await.unwrap();
        created.start().await.unwrap();
        let process = set(spec.clone(), "/process/args", json!(["uname"]))["process"].clone();
        for (number, way) in NUMBERS.flat_map(|number| outside.iter().map(move |way| (number, way))) {
            lay_link(&lab, &format!("/proc/self/fd/{number}/{way}"));
            let ran = match lab.exec(&created, &spec, &process).await {
                Ok((process, pipes)) => pipes.finish(process.pidfd).await.stdout,
                Err(error) => chain(&error),
            };
            assert!(ran.contains("uname") && !ran.contains("Linux"), "{number}/{way}: {ran}");
        }
    });
}

/// A working directory there: libcontainer refuses one that lies outside (0.3.2), but what is missing of it we would make.
#[test]
fn a_working_directory_that_is_a_descriptor() {
    block_on(async {
        let lab = Lab::new();
        fs::create_dir_all(lab.path("outside")).unwrap();
        let (pid, here) = (std::process::id(), lab.path("outside").display().to_string());
        let spec = lab.spec("exec sleep 1000");
        let (mut created, _pipes) = lab.create_named("other", &spec, &lab.cgroup).await.unwrap();
        created.start().await.unwrap();
        let inner = lab.cgroup_below("inner", &runtime::cgroup::Limits::default());
        for number in NUMBERS {
            for way in [String::new(), format!("{pid}/root{here}/made"), format!("..{here}/made")] {
                let cwd = json!(format!("/proc/self/fd/{number}/{way}"));
                let asked = set(lab.spec("pwd; ls .."), "/process/cwd", cwd);
                let error = lab.create_named("box", &asked, &inner).await.map(drop).unwrap_err();
                assert_eq!(125, error.exit_code(), "{}", chain(&error));
                let error = lab.exec(&created, &spec, &asked["process"]).await.map(drop).unwrap_err();
                assert_eq!(125, error.exit_code(), "{}", chain(&error));
            }
        }
        assert_eq!(0, fs::read_dir(lab.path("outside")).unwrap().count(), "made on the host");
    });
}

/// What libcontainer itself still holds at that moment: a /proc of the host's processes. Whoever may trace them is let out.
#[test]
fn descriptors_that_libcontainer_holds() {
    let traces = |lab: &Lab| {
        let all = json!(["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"]);
        let spec = set(lab.spec(""), "/process/capabilities", json!({ "bounding": all, "effective": all, "permitted": all }));
        set(spec, "/process/args", json!(["uname"]))
    };
    let lab = Lab::new();
    ways_out(&lab);
    let script = "link=$LAB/rootfs/bin/uname; n=3; while [ $n -lt 32 ]; do rm -f $link; ln -s /proc/self/fd/$n/1/root$LAB/outside/tool $link; \
                  rm -rf $STATE/box; $BARE run $BUNDLE $STATE && break; n=$((n + 1)); done";
    let said = bare_without_cgroups(&lab, &traces(&lab), script);
    expect_flaw(said.stdout == "Linux\n", "engine::identity (finish)", &said);

    let lab = Lab::new();
    ways_out(&lab);
    let out = format!("{}/root{}", std::process::id(), lab.path("outside/tool").display());
    block_on(async {
        for number in 3..32 {
            lay_link(&lab, &format!("/proc/self/fd/{number}/{out}"));
            let error = match lab.create(&traces(&lab)).await {
                Ok((mut created, _pipes)) => created.start().await.unwrap_err(),
                Err(error) => error,
            };
            assert!(matches!(error.exit_code(), 126 | 127), "{number}: {}", chain(&error));
            fs::remove_dir_all(lab.path("state-box")).ok();
        }
    });
}
