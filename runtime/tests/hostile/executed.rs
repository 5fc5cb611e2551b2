//! Processes executed in a running container: libcontainer's tenant builder forgets most of what confines the container.

use std::fs;

use serde_json::{Value, json};

use crate::engine_support::{Lab, block_on, chain, set, status_line};
use crate::host::{Said, bare_without_cgroups, expect_flaw};

const OURS: &str = "engine::exec";
const SLEEP: &str = "exec sleep 1000";

/// What `script` says when bare libcontainer executes it in a container of `spec`.
fn bare_exec(lab: &Lab, spec: &Value, script: &str) -> Said {
    fs::write(lab.rootfs().join("script"), script).unwrap();
    bare_without_cgroups(lab, spec, "$BARE start $BUNDLE $STATE && $BARE exec $STATE sh /script")
}

/// The same from our engine, with what `process` changes of the container's own.
fn our_exec(lab: &Lab, spec: &Value, script: &str) -> String {
    block_on(async {
        let (mut created, _pipes) = lab.create(spec).await.unwrap_or_else(|e| panic!("{}", chain(&e)));
        created.start().await.unwrap();
        let mut process = spec["process"].clone();
        process["args"] = json!(["sh", "-c", script]);
        let (exec, pipes) = lab.exec(&created, spec, &process).await.unwrap_or_else(|e| panic!("{}", chain(&e)));
        let output = pipes.finish(exec.pidfd).await;
        assert_eq!(0, output.exit.code, "{}", output.stderr);
        output.stdout
    })
}

/// (libcontainer is built without its seccomp feature here; with it, the executed process is unfiltered all the same.)
#[test]
fn without_the_filter() {
    let filter = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" }] });
    let script = "cat /proc/self/status; mkdir /work/x 2>/dev/null; true";
    let lab = Lab::new();
    let said = bare_exec(&lab, &set(lab.spec(SLEEP), "/linux/seccomp", filter.clone()), script);
    expect_flaw(status_line(&said.stdout, "Seccomp") == "0" && lab.rootfs().join("work/x").exists(), OURS, &said);
    let lab = Lab::new();
    let status = our_exec(&lab, &set(lab.spec(SLEEP), "/linux/seccomp", filter), script);
    assert_eq!(("2", "1"), (status_line(&status, "Seccomp"), status_line(&status, "Seccomp_filters")));
    assert!(!lab.rootfs().join("work/x").exists());
}

#[test]
fn outside_of_the_user_namespace() {
    let mapped = |lab: &Lab| {
        let mut spec = lab.spec(SLEEP);
        spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
        for kind in ["uidMappings", "gidMappings"] {
            spec["linux"][kind] = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
        }
        // Else libcontainer insists on systemd (it takes an absolute path only with `cgroupsPath`).
        spec["linux"]["cgroupsPath"] = json!("/minipod-test-bare");
        fs::set_permissions(lab.dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        spec
    };
    let words = |text: &str| text.split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>();
    let script = "cat /proc/self/uid_map";
    let lab = Lab::new();
    let spec = mapped(&lab);
    let state = lab.path("host-state");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let said = bare_exec(&lab, &spec, script);
    expect_flaw(words(&said.stdout) == ["0", "0", "4294967295"], OURS, &said);
    let lab = Lab::new();
    assert_eq!(["0", "100000", "65536"], *words(&our_exec(&lab, &mapped(&lab), script)));
}

#[test]
fn as_somebody_else() {
    let confined = |lab: &Lab| {
        let spec = set(lab.spec(SLEEP), "/process/user", json!({ "uid": 1000, "gid": 1001, "additionalGids": [7], "umask": 0o77 }));
        let spec = set(spec, "/process/cwd", json!("/work"));
        set(spec, "/process/rlimits", json!([{ "type": "RLIMIT_NOFILE", "soft": 64, "hard": 64 }]))
    };
    let script = "id -u; id -g; id -G; pwd; ulimit -n; umask";
    let lab = Lab::new();
    let said = bare_exec(&lab, &confined(&lab), script);
    let lines: Vec<&str> = said.stdout.lines().collect();
    let ignored = lines.len() == 6 && lines[0] == "0" && lines[1] == "0" && lines[3] == "/" && lines[4] == "1024" && lines[5] == "0022";
    expect_flaw(ignored, OURS, &said);
    let lab = Lab::new();
    assert_eq!("1000\n1001\n1001 7\n/work\n64\n0077\n", our_exec(&lab, &confined(&lab), script));
}

/// With no descriptor of the caller's, whatever it left open.
#[test]
fn with_descriptors_of_the_caller() {
    let lab = Lab::new();
    fs::write(lab.rootfs().join("script"), "test -e /proc/self/fd/3 && cat <&3").unwrap();
    let script = "$BARE start $BUNDLE $STATE; exec 3</etc/hostname; LISTEN_FDS=1 $BARE exec $STATE sh /script";
    let said = bare_without_cgroups(&lab, &lab.spec(SLEEP), script);
    expect_flaw(said.stdout == fs::read_to_string("/etc/hostname").unwrap(), OURS, &said);
    let lab = Lab::new();
    let secret = fs::File::open("/etc/hostname").unwrap();
    rustix::io::fcntl_setfd(&secret, rustix::io::FdFlags::empty()).unwrap();
    let fds = our_exec(&lab, &lab.spec(SLEEP), "ls /proc/self/fd");
    assert_eq!(vec!["0", "1", "2", "3"], fds.split_whitespace().collect::<Vec<_>>(), "3 is ls reading");
}
