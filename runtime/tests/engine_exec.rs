//! Processes in running containers.

mod engine_support;

use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use engine_support::{Lab, Pipes, block_on, chain, set, status_line};
use runtime::cgroup::Limits;
use runtime::engine::{Created, EngineError, Stdio};
use runtime::process::wait_exit;
use rustix::process::Signal;
use serde_json::{Value, json};

/// A container that sleeps, and what must live as long as it.
async fn sleeper(lab: &Lab, spec: &Value) -> (Created, Pipes) {
    let (mut created, pipes) = lab.create(spec).await.unwrap_or_else(|e| panic!("{}", chain(&e)));
    created.start().await.unwrap();
    (created, pipes)
}

fn process(script: &str) -> Value {
    json!({
        "user": { "uid": 0, "gid": 0 }, "args": ["sh", "-c", script],
        "env": ["PATH=/bin", "HOME=/root"], "cwd": "/", "capabilities": {}
    })
}

const SLEEP: &str = "exec sleep 1000";

#[test]
fn it_runs_in_every_namespace_and_the_cgroup_of_the_container() {
    block_on(async {
        let lab = Lab::new();
        let spec = lab.spec(SLEEP);
        let (created, _pipes) = sleeper(&lab, &spec).await;
        let script = "for n in net ipc uts pid mnt cgroup user; do readlink /proc/self/ns/$n; done; hostname; cat; exit 5";
        let (exec, pipes) = lab.exec(&created, &spec, &process(script)).await.unwrap();
        let mut members = lab.cgroup.procs().unwrap();
        members.sort_unstable();
        let mut expected = vec![created.process.pid, exec.process.pid];
        expected.sort_unstable();
        // The shell may have a child at any moment.
        assert!(expected.iter().all(|pid| members.contains(pid)), "{members:?} lacks one of {expected:?}");

        fs::File::from(pipes.stdin.try_clone().unwrap()).write_all(b"through stdin\n").unwrap();
        let output = pipes.finish(exec.pidfd).await;
        assert_eq!(5, output.exit.code, "{}", output.stderr);
        let lines: Vec<&str> = output.stdout.lines().collect();
        for (line, name) in lines.iter().zip(["net", "ipc", "uts", "pid", "mnt", "cgroup", "user"]) {
            let theirs = fs::read_link(format!("/proc/{}/ns/{name}", created.process)).unwrap();
            assert_eq!(theirs.to_str().unwrap(), *line);
        }
        assert_eq!(["lab", "through stdin"], lines[7..]);
    });
}

#[test]
fn it_is_confined_as_its_container() {
    block_on(async {
        let lab = Lab::new();
        let seccomp = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" }]
        });
        let spec = set(lab.spec(SLEEP), "/linux/seccomp", seccomp);
        let (created, _pipes) = sleeper(&lab, &spec).await;
        for nnp in [false, true] {
            let mut wanted = process("cat /proc/self/status; ls /proc/self/fd; mkdir /work/x");
            wanted["capabilities"] = json!({
                "bounding": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"]
            });
            wanted["noNewPrivileges"] = json!(nnp);
            let (exec, pipes) = lab.exec(&created, &spec, &wanted).await.unwrap();
            let output = pipes.finish(exec.pidfd).await;
            assert_eq!("2", status_line(&output.stdout, "Seccomp"));
            assert_eq!("1", status_line(&output.stdout, "Seccomp_filters"));
            assert_eq!(if nnp { "1" } else { "0" }, status_line(&output.stdout, "NoNewPrivs"));
            for set in ["CapBnd", "CapEff", "CapPrm"] {
                assert_eq!("0000000000000001", status_line(&output.stdout, set), "{set}");
            }
            for set in ["CapInh", "CapAmb", "SigBlk", "SigIgn"] {
                assert_eq!("0000000000000000", status_line(&output.stdout, set), "{set}");
            }
            let fds: Vec<&str> = output.stdout.lines().rev().take(4).collect();
            assert_eq!(vec!["3", "2", "1", "0"], fds, "3 is ls reading the directory");
            assert!(output.stderr.contains("Operation not permitted"), "{}", output.stderr);
            assert!(!lab.rootfs().join("work/x").exists());
        }
    });
}

#[test]
fn user_groups_environment_directory_and_limits_are_its_own() {
    block_on(async {
        let lab = Lab::new();
        let spec = lab.spec(SLEEP);
        let (created, _pipes) = sleeper(&lab, &spec).await;
        let mut wanted = process("id -u; id -g; id -G; pwd; echo $WHAT $HOME; ulimit -n; umask");
        wanted["user"] = json!({ "uid": 1000, "gid": 1001, "additionalGids": [7], "umask": 0o77 });
        wanted["env"] = json!(["PATH=/bin", "WHAT=that"]);
        wanted["cwd"] = json!("/work");
        wanted["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 64, "hard": 64 }]);
        let (exec, pipes) = lab.exec(&created, &spec, &wanted).await.unwrap();
        let output = pipes.finish(exec.pidfd).await;
        assert_eq!("1000\n1001\n1001 7\n/work\nthat /home/user\n64\n0077\n", output.stdout, "{}", output.stderr);
    });
}

#[test]
fn failures_are_told_apart_and_leave_the_container_alone() {
    block_on(async {
        let lab = Lab::new();
        fs::write(lab.rootfs().join("work/plain"), "text").unwrap();
        let spec = lab.spec(SLEEP);
        let (created, _pipes) = sleeper(&lab, &spec).await;
        for (args, code) in [(json!(["nope"]), 127), (json!(["/work/plain"]), 126), (json!(["/work"]), 126)] {
            let mut wanted = process("");
            wanted["args"] = args.clone();
            let error = lab.exec(&created, &spec, &wanted).await.map(drop).unwrap_err();
            assert_eq!(code, error.exit_code(), "{}", chain(&error));
            assert!(chain(&error).contains(args[0].as_str().unwrap()), "{}", chain(&error));
        }
        let mut wanted = process("true");
        wanted["capabilities"] = json!({ "effective": ["CAP_CHOWN"] });
        let error = lab.exec(&created, &spec, &wanted).await.map(drop).unwrap_err();
        assert!(matches!(error, EngineError::Refused(_)), "{}", chain(&error));
        assert_eq!(vec![created.process.pid], lab.cgroup.procs().unwrap());
        assert_eq!(1, lab.cgroup.stats().unwrap().pids, "no zombie");
        assert!(created.process.is_alive());
    });
}

#[test]
fn a_container_that_has_ended_cannot_be_entered() {
    block_on(async {
        let lab = Lab::new();
        let spec = lab.spec(SLEEP);
        let (created, _pipes) = sleeper(&lab, &spec).await;
        created.process.signal(Signal::KILL).unwrap();
        runtime::process::ended(created.pidfd.as_fd()).await.unwrap();
        // A zombie, then nothing: neither is entered.
        let error = lab.exec(&created, &spec, &process("true")).await.map(drop).unwrap_err();
        assert_eq!(125, error.exit_code(), "{}", chain(&error));
        wait_exit(created.pidfd.as_fd()).await.unwrap();
        let error = lab.exec(&created, &spec, &process("true")).await.map(drop).unwrap_err();
        assert!(chain(&error).contains("No such process"), "{}", chain(&error));
    });
}

#[test]
fn a_terminal_in_a_running_container() {
    block_on(async {
        let lab = Lab::new();
        let spec = lab.spec(SLEEP);
        let (created, _pipes) = sleeper(&lab, &spec).await;
        let mut wanted = process("read line; echo got $line; tty; stty size; stat -c %u $(tty); exit 4");
        wanted["terminal"] = json!(true);
        wanted["consoleSize"] = json!({ "height": 20, "width": 90 });
        wanted["user"] = json!({ "uid": 1000, "gid": 1000 });
        let mut exec = lab.exec_with(&created, &spec, &wanted, Stdio::Terminal).await.unwrap();
        let master: OwnedFd = exec.terminal.take().expect("a terminal");
        rustix::io::write(&master, b"typed\n").unwrap();
        let mut text = Vec::new();
        let mut buffer = [0; 1024];
        while let Ok(n @ 1..) = rustix::io::read(&master, &mut buffer) {
            text.extend_from_slice(&buffer[..n]);
        }
        let text = String::from_utf8(text).unwrap();
        assert_eq!(4, wait_exit(exec.pidfd.as_fd()).await.unwrap().code, "{text}");
        assert_eq!("typed\r\ngot typed\r\n/dev/pts/0\r\n20 90\r\n1000\r\n", text);
    });
}

#[test]
fn a_user_namespace_is_entered() {
    block_on(async {
        let lab = Lab::new();
        let mut spec = lab.spec(SLEEP);
        spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
        spec["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": 100000, "size": 65536 }]);
        spec["linux"]["gidMappings"] = json!([{ "containerID": 0, "hostID": 100000, "size": 65536 }]);
        // The mapped root must reach the root file system, and /work is its to write.
        fs::set_permissions(lab.dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let (created, _pipes) = sleeper(&lab, &spec).await;
        let (exec, pipes) = lab.exec(&created, &spec, &process("id -u; cat /proc/self/uid_map")).await.unwrap();
        let output = pipes.finish(exec.pidfd).await;
        let words: Vec<&str> = output.stdout.split_whitespace().collect();
        assert_eq!(vec!["0", "0", "100000", "65536"], words, "{}", output.stderr);
    });
}

#[test]
fn an_exec_that_may_not_fork_fails_and_leaves_nothing() {
    block_on(async {
        let lab = Lab::new();
        let spec = lab.spec(SLEEP);
        let (created, _pipes) = sleeper(&lab, &spec).await;
        lab.cgroup.set(&Limits { pids: Some(1), ..Limits::default() }).unwrap();
        let error = lab.exec(&created, &spec, &process("true")).await.map(drop).unwrap_err();
        assert!(chain(&error).starts_with("fork"), "{}", chain(&error));
        assert_eq!(125, error.exit_code());
        assert_eq!(vec![created.process.pid], lab.cgroup.procs().unwrap());
        assert_eq!(1, lab.cgroup.stats().unwrap().pids, "no zombie");
    });
}
