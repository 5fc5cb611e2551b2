//! A container's own processes, as root, against whoever enters the container.
//!
//! libcontainer's part in entering is not used, so these have only our half.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio as Streams};
use std::time::Duration;

use runtime::cgroup::Limits;
use runtime::engine::{Created, EngineError, Stdio};
use runtime::process::ProcessId;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::engine_support::{Lab, Pipes, block_on, chain, set};

/// podman's defaults: what an ordinary pod has.
const ORDINARY: [&str; 11] = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SETFCAP", "CAP_SETGID",
    "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
];

fn ordinary(spec: Value, more: &[&str]) -> Value {
    let names: Vec<&str> = ORDINARY.iter().chain(more).copied().collect();
    set(spec, "/process/capabilities", json!({ "bounding": names, "effective": names, "permitted": names }))
}

async fn started(lab: &Lab, spec: &Value) -> (Created, Pipes) {
    let (mut created, pipes) = lab.create(spec).await.unwrap_or_else(|e| panic!("{}", chain(&e)));
    created.start().await.unwrap();
    (created, pipes)
}

/// Reads what the container has written until `word` is there: it is as far as the test needs it.
fn wait_for(pipes: &Pipes, word: &str) -> String {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(word) {
        let mut buffer = [0; 256];
        let n = rustix::io::read(&pipes.stdout, &mut buffer).unwrap();
        assert_ne!(0, n, "it ended: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..n]);
    }
    String::from_utf8_lossy(&seen).into_owned()
}

fn command(spec: &Value, args: &[&str]) -> Value {
    set(spec.clone(), "/process/args", json!(args))["process"].clone()
}

/// A container that may mount puts its own files over /proc. When an exec fails then, its launcher must not kill by what it reads
/// there: it is root, in the host's process namespace.
#[test]
fn a_false_proc_names_victims() {
    let mut victim = Command::new("sleep").arg("1000").stdin(Streams::null()).spawn().unwrap();
    block_on(async {
        let lab = Lab::new();
        let pid = victim.id();
        let script = format!(
            "mount -t tmpfs none /proc && mkdir -p /proc/thread-self /proc/self && echo {pid} > /proc/thread-self/children && echo ready; exec sleep 1000"
        );
        let spec = ordinary(lab.spec(&script), &["CAP_SYS_ADMIN"]);
        let (created, pipes) = started(&lab, &spec).await;
        wait_for(&pipes, "ready");
        // No process more: the launcher's fork fails.
        lab.cgroup.set(&Limits { pids: Some(1), ..Limits::default() }).unwrap();
        let error = lab.exec(&created, &spec, &command(&spec, &["true"])).await.map(drop).unwrap_err();
        assert!(chain(&error).starts_with("fork"), "{}", chain(&error));
        // With room for it, an exec works whatever lies over /proc.
        lab.cgroup.set(&Limits { pids: Some(10), ..Limits::default() }).unwrap();
        let (exec, pipes) = lab.exec(&created, &spec, &command(&spec, &["echo", "entered"])).await.unwrap();
        assert_eq!("entered\n", pipes.finish(exec.pidfd).await.stdout);
    });
    // Of two signals the first decides how it ends.
    assert!(ProcessId::of(victim.id()).unwrap().signal(Signal::TERM).unwrap());
    let signal = std::os::unix::process::ExitStatusExt::signal(&victim.wait().unwrap());
    assert_eq!(Some(Signal::TERM.as_raw()), signal, "killed at the container's word");
}

/// /etc/passwd and the command as what a reader could wait for or choke on.
#[test]
fn files_to_hang_on() {
    block_on(async {
        let lab = Lab::new();
        let spec = set(lab.spec("exec sleep 1000"), "/process/env", json!(["PATH=/bin"]));
        let (created, _pipes) = started(&lab, &spec).await;
        let passwd = lab.rootfs().join("etc/passwd");
        let fifo = |path: &std::path::Path| mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o777), 0).unwrap();
        let put: [&dyn Fn(); 4] = [
            &|| fifo(&passwd),
            &|| fs::File::create(&passwd).unwrap().set_len(1 << 40).unwrap(),
            &|| symlink("/dev/zero", &passwd).unwrap(),
            &|| symlink("passwd", &passwd).unwrap(),
        ];
        for put in put {
            fs::remove_file(&passwd).unwrap();
            put();
            let (exec, pipes) = lab.exec(&created, &spec, &command(&spec, &["sh", "-c", "echo $HOME"])).await.unwrap();
            assert_eq!("/\n", pipes.finish(exec.pidfd).await.stdout);
        }
        fifo(&lab.rootfs().join("bin/trap"));
        let error = lab.exec(&created, &spec, &command(&spec, &["trap"])).await.map(drop).unwrap_err();
        assert_eq!(126, error.exit_code(), "{}", chain(&error));
        symlink("loop", lab.rootfs().join("bin/loop")).unwrap();
        let error = lab.exec(&created, &spec, &command(&spec, &["loop"])).await.map(drop).unwrap_err();
        assert_eq!(126, error.exit_code(), "{}", chain(&error));
    });
}

/// The container's /dev is its own to spoil; what enters must neither be led out by it nor hang.
#[test]
fn a_spoiled_dev() {
    block_on(async {
        let lab = Lab::new();
        let script = "rm /dev/null && ln -s /etc/passwd /dev/null && rm -f /dev/ptmx && ln -s /etc/passwd /dev/ptmx && echo ready; exec sleep 1000";
        fs::remove_file(lab.rootfs().join("bin/true")).unwrap();
        let mut spec = ordinary(lab.spec(script), &[]);
        spec["process"]["env"] = json!(["PATH=/bin", "HOME=/"]);
        for applet in ["rm", "ln", "true"] {
            symlink("busybox", lab.rootfs().join("bin").join(applet)).unwrap();
        }
        let (created, pipes) = started(&lab, &spec).await;
        wait_for(&pipes, "ready");
        let before = fs::read_to_string(lab.rootfs().join("etc/passwd")).unwrap();
        let null = || fs::File::options().read(true).write(true).open("/dev/null").unwrap().into();
        let stdio = Stdio::Pipes { stdin: null(), stdout: null(), stderr: null() };
        let error = lab.exec_with(&created, &spec, &command(&spec, &["echo", "evil"]), stdio).await.map(drop).unwrap_err();
        assert!(chain(&error).contains("/dev/null in the container"), "{}", chain(&error));
        assert_eq!(before, fs::read_to_string(lab.rootfs().join("etc/passwd")).unwrap());
        // A terminal comes from the devpts that was mounted, by descriptor.
        let wanted = set(spec.clone(), "/process/terminal", json!(true));
        let exec = lab.exec_with(&created, &wanted, &command(&wanted, &["true"]), Stdio::Terminal).await.unwrap();
        assert!(exec.terminal.is_some());
        runtime::process::wait_exit(exec.pidfd.as_fd()).await.unwrap();
    });
}

/// Every process but its own and itself is stopped, again and again: those that are just entering too.
#[test]
fn whoever_enters_is_stopped() {
    block_on(async {
        let lab = Lab::with(Limits::default(), |launcher| launcher.with_time_limit(Duration::from_secs(1)));
        let spec = ordinary(lab.spec("echo ready; while :; do kill -STOP -1; done 2>/dev/null"), &[]);
        let (created, pipes) = started(&lab, &spec).await;
        wait_for(&pipes, "ready");
        for _ in 0..3 {
            match lab.exec(&created, &spec, &command(&spec, &["sleep", "1000"])).await {
                // It may have executed before the first signal.
                Ok((exec, _pipes)) => {
                    exec.process.signal(Signal::KILL).unwrap();
                    runtime::process::wait_exit(exec.pidfd.as_fd()).await.unwrap();
                }
                Err(error) => assert!(matches!(error, EngineError::TimedOut(_)), "{}", chain(&error)),
            }
        }
        assert_eq!(vec![created.process.pid], lab.cgroup.procs().unwrap(), "nothing is left behind");
    });
}

/// The same to a container that starts in the process namespace of another.
#[test]
fn whoever_starts_is_stopped() {
    block_on(async {
        let lab = Lab::with(Limits::default(), |launcher| launcher.with_time_limit(Duration::from_secs(1)));
        let spec = ordinary(lab.spec("echo ready; while :; do kill -STOP -1; done 2>/dev/null"), &[]);
        let (first, pipes) = started(&lab, &spec).await;
        wait_for(&pipes, "ready");
        let inner = lab.cgroup_below("inner", &Limits::default());
        let second = beside(&first, ordinary(lab.spec("exec sleep 1000"), &[]));
        match lab.create_named("second", &second, &inner).await {
            Ok((mut created, _pipes)) => match created.start().await {
                Ok(()) => {
                    created.process.signal(Signal::KILL).unwrap();
                    runtime::process::wait_exit(created.pidfd.as_fd()).await.unwrap();
                }
                Err(error) => assert!(matches!(error, EngineError::TimedOut(_)), "{}", chain(&error)),
            },
            Err(error) => assert!(matches!(error, EngineError::TimedOut(_)), "{}", chain(&error)),
        }
        assert_eq!(Vec::<u32>::new(), inner.procs().unwrap(), "nothing is left behind");
    });
}

/// A created container that is stopped, surely: by the test.
#[test]
fn a_stopped_container_does_not_start() {
    block_on(async {
        let lab = Lab::with(Limits::default(), |launcher| launcher.with_time_limit(Duration::from_secs(1)));
        let (mut created, _pipes) = lab.create(&lab.spec("exec sleep 1000")).await.unwrap();
        created.process.signal(Signal::STOP).unwrap();
        let error = created.start().await.unwrap_err();
        assert!(matches!(error, EngineError::TimedOut(_)), "{}", chain(&error));
        assert_eq!(Vec::<u32>::new(), lab.cgroup.procs().unwrap());
        assert_eq!(0, lab.cgroup.stats().unwrap().pids, "no zombie");
    });
}

/// `spec`, in the process namespace of `other`.
fn beside(other: &Created, mut spec: Value) -> Value {
    spec["linux"]["namespaces"] = json!([
        { "type": "pid", "path": format!("/proc/{}/ns/pid", other.process) }, { "type": "mount" }, { "type": "ipc" },
        { "type": "uts" }, { "type": "network" }
    ]);
    spec
}

/// The created process of a second container still is our program, with our memory, when the first, in the same process
/// namespace, can see it.
#[test]
fn a_created_process_is_looked_into() {
    block_on(async {
        let lab = Lab::new();
        let script = "read go; cd /proc/$go; for f in exe root cwd ns/mnt fd/*; do readlink $f && echo read $f; done 2>/dev/null; \
                      for f in exe environ maps mem fd/*; do head -c 1 $f && echo read $f; done 2>/dev/null; echo end";
        let spec = ordinary(lab.spec(script), &[]);
        let (first, pipes) = started(&lab, &spec).await;
        let second = beside(&first, ordinary(lab.spec("true"), &[]));
        let inner = lab.cgroup_below("inner", &Limits::default());
        let (created, _more) = lab.create_named("second", &second, &inner).await.unwrap();
        let status = fs::read_to_string(format!("/proc/{}/status", created.process)).unwrap();
        let inside = crate::engine_support::status_line(&status, "NSpid").split_whitespace().last().unwrap().to_owned();
        rustix::io::write(&pipes.stdin, format!("{inside}\n").as_bytes()).unwrap();
        let seen = wait_for(&pipes, "end\n");
        // The first is the namespace's init: it is not gone before the second is reaped.
        created.process.signal(Signal::KILL).unwrap();
        runtime::process::wait_exit(created.pidfd.as_fd()).await.unwrap();
        runtime::process::wait_exit(first.pidfd.as_fd()).await.unwrap();
        assert_eq!("end\n", seen);
    });
}

/// A container that forks as fast as it can is killed to the last process.
#[test]
fn a_fork_bomb_is_killed() {
    block_on(async {
        let lab = Lab::with_limits(Limits { pids: Some(64), ..Limits::default() });
        let bomb = lab.rootfs().join("bin/bomb");
        fs::write(&bomb, "#!/bin/sh\n/bin/bomb & /bin/bomb & wait\n").unwrap();
        fs::set_permissions(&bomb, PermissionsExt::from_mode(0o755)).unwrap();
        // Under its first process, and then without it: orphans that fork on.
        let (created, pipes) = started(&lab, &lab.spec("bomb 2>/dev/null & bomb 2>/dev/null & echo ready; exec cat")).await;
        wait_for(&pipes, "ready");
        lab.cgroup.kill().await.unwrap();
        runtime::process::wait_exit(created.pidfd.as_fd()).await.unwrap();
        assert_eq!(Vec::<u32>::new(), lab.cgroup.procs().unwrap());
    });
}

/// With its pipes full and nobody reading, it waits; killed, it goes.
#[test]
fn a_container_that_nobody_reads() {
    block_on(async {
        let lab = Lab::new();
        let (created, pipes) = started(&lab, &lab.spec("while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done")).await;
        lab.cgroup.kill().await.unwrap();
        let exit = runtime::process::wait_exit(created.pidfd.as_fd()).await.unwrap();
        assert_eq!(Some(9), exit.signal);
        drop(pipes);
    });
}
