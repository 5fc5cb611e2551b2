//! Creating and starting containers.

mod engine_support;

use std::fs;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use engine_support::{Lab, Pipes, block_on, chain, set, status_line};
use runtime::cgroup::Limits;
use runtime::engine::{EngineError, Stdio};
use runtime::process::{ProcessId, wait_exit};
use rustix::process::Signal;
use serde_json::{Value, json};

#[test]
fn a_command_runs_as_pid_1_with_exactly_its_arguments() {
    block_on(async {
        let lab = Lab::new();
        let spec = lab.spec("");
        let script = "echo $$; tr '\\0' '|' < /proc/self/cmdline; exit 7";
        let spec = set(spec, "/process/args", json!(["sh", "-c", script, "", "a b", "$x"]));
        let output = lab.run(&spec).await.unwrap();
        assert_eq!(7, output.exit.code, "{}", output.stderr);
        // The shell's own arguments; `tr` has others, but $$ and /proc/1 are the container's first process.
        assert!(output.stdout.starts_with("1\n"), "{}", output.stdout);
        let cmdline = lab.output_of(&set(lab.spec(""), "/process/args", json!(["cat", "/proc/1/cmdline"]))).await;
        assert_eq!("cat\0/proc/1/cmdline\0", cmdline);
    });
}

#[test]
fn death_by_signal_is_told_from_an_exit_code() {
    block_on(async {
        let lab = Lab::new();
        let (mut created, pipes) = lab.create(&lab.spec("echo up; exec sleep 1000")).await.unwrap();
        created.start().await.unwrap();
        assert!(created.process.signal(Signal::KILL).unwrap());
        let output = pipes.finish(created.pidfd).await;
        assert_eq!((137, Some(9)), (output.exit.code, output.exit.signal));
    });
}

/// The command must not run before the start, and must after it.
#[test]
fn created_is_not_started() {
    block_on(async {
        let lab = Lab::new();
        let (mut created, pipes) = lab.create(&lab.spec("touch /work/started")).await.unwrap();
        assert!(created.process.is_alive());
        assert!(!lab.rootfs().join("work/started").exists());
        created.start().await.unwrap();
        assert_eq!(0, pipes.finish(created.pidfd).await.exit.code);
        assert!(lab.rootfs().join("work/started").exists());
    });
}

#[test]
fn a_container_killed_before_its_start_cannot_be_started() {
    block_on(async {
        let lab = Lab::new();
        let (mut created, _pipes) = lab.create(&lab.spec("true")).await.unwrap();
        assert!(created.process.signal(Signal::KILL).unwrap());
        runtime::process::ended(created.pidfd.as_fd()).await.unwrap();
        let error = created.start().await.unwrap_err();
        assert!(matches!(error, EngineError::Ended { code: 137 }), "{}", chain(&error));
        assert_eq!(Some(libc::ECHILD), wait_exit(created.pidfd.as_fd()).await.unwrap_err().raw_os_error(), "reaped");
    });
}

#[test]
fn missing_and_unusable_commands_are_told_apart() {
    block_on(async {
        let lab = Lab::new();
        fs::write(lab.rootfs().join("work/plain"), "text").unwrap();
        for (args, code) in [
            (json!(["no-such-command"]), 127),
            (json!(["/bin/no-such-command"]), 127),
            (json!(["/etc/passwd/x"]), 127),
            (json!([""]), 127),
            (json!(["/work/plain"]), 126),
            (json!(["/work"]), 126),
        ] {
            let spec = set(lab.spec(""), "/process/args", args.clone());
            let error = lab.create(&spec).await.map(drop).unwrap_err();
            assert_eq!(code, error.exit_code(), "{args}: {}", chain(&error));
            let named = args[0].as_str().unwrap();
            assert!(chain(&error).contains(named), "{}", chain(&error));
            assert_nothing_left(&lab, "box");
        }
    });
}

/// Only execve itself finds these out.
#[test]
fn commands_that_the_kernel_refuses_fail_at_start() {
    block_on(async {
        let lab = Lab::new();
        let executable = |name: &str, text: &str| {
            let path = lab.rootfs().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        };
        executable("work/garbage", "\u{7f}not a program");
        executable("work/orphan", "#!/no/such/interpreter\n");
        for (path, code) in [("/work/garbage", 126), ("/work/orphan", 127)] {
            let spec = set(lab.spec(""), "/process/args", json!([path]));
            let (mut created, _pipes) = lab.create(&spec).await.unwrap();
            let error = created.start().await.unwrap_err();
            assert_eq!(code, error.exit_code(), "{}", chain(&error));
            assert!(chain(&error).contains(path), "{}", chain(&error));
            assert!(!created.process.is_alive());
            lab.forget("box");
        }
    });
}

#[test]
fn a_missing_working_directory_is_made() {
    block_on(async {
        let lab = Lab::new();
        let spec = set(lab.spec("pwd"), "/process/cwd", json!("/work/deep/er"));
        assert_eq!("/work/deep/er\n", lab.output_of(&spec).await);
        // On top of a link that leads out of the root: it resolves inside.
        std::os::unix::fs::symlink("/../../tmp/minipod-escape", lab.rootfs().join("work/link")).unwrap();
        let spec = set(lab.spec("pwd -P"), "/process/cwd", json!("/work/link/x"));
        fs::create_dir(lab.rootfs().join("tmp/minipod-escape")).unwrap();
        assert_eq!("/tmp/minipod-escape/x\n", lab.output_of(&spec).await);
        assert!(!std::path::Path::new("/tmp/minipod-escape").exists(), "made on the host");
    });
}

#[test]
fn nothing_of_ours_is_inherited() {
    block_on(async {
        // What the container could inherit if nobody looked.
        let secret = fs::File::open("/etc/hostname").unwrap();
        rustix::io::fcntl_setfd(&secret, rustix::io::FdFlags::empty()).unwrap();
        let lab = Lab::new();
        let script = "ls /proc/$$/fd; grep -E '^(Groups|SigBlk|SigIgn|SigCgt|Umask|NoNewPrivs|Seccomp):' /proc/self/status; env";
        let spec = set(lab.spec(script), "/process/args", json!(["sh", "-c", script]));
        let text = lab.output_of(&spec).await;
        let (fds, status) = text.split_once("Umask").unwrap();
        // 10 is the shell's own.
        let fds: Vec<&str> = fds.split_whitespace().filter(|fd| *fd != "10").collect();
        assert_eq!(vec!["0", "1", "2"], fds);
        let status = format!("Umask{status}");
        assert_eq!("0022", status_line(&status, "Umask"));
        assert_eq!("", status_line(&status, "Groups"));
        for set in ["SigBlk", "SigIgn"] {
            assert_eq!("0000000000000000", status_line(&status, set), "{set}");
        }
        let mut env: Vec<&str> = status.lines().filter(|line| line.contains('=')).collect();
        env.sort_unstable();
        assert_eq!(vec!["HOME=/root", "PATH=/bin", "PWD=/", "SHLVL=1"], env);
    });
}

#[test]
fn home_comes_from_the_image_when_it_is_not_set() {
    block_on(async {
        let lab = Lab::new();
        for (uid, home) in [(1000, "/home/user"), (4711, "/")] {
            let spec = set(lab.spec("echo $HOME"), "/process/env", json!(["PATH=/bin"]));
            let spec = set(spec, "/process/user", json!({ "uid": uid, "gid": uid }));
            assert_eq!(format!("{home}\n"), lab.output_of(&spec).await);
        }
    });
}

const CHOWN_KILL: &str = "0000000000000021";

fn caps(names: &[&str]) -> Value {
    json!({ "bounding": names, "effective": names, "permitted": names })
}

#[test]
fn capabilities_are_exact_with_and_without_no_new_privileges() {
    block_on(async {
        let lab = Lab::new();
        for nnp in [false, true] {
            for seccomp in [false, true] {
                let mut spec = lab.spec("cat /proc/self/status");
                spec = set(spec, "/process/capabilities", caps(&["CAP_CHOWN", "CAP_KILL"]));
                spec = set(spec, "/process/noNewPrivileges", json!(nnp));
                if seccomp {
                    spec = set(spec, "/linux/seccomp", deny_mkdir());
                }
                let status = lab.output_of(&spec).await;
                for set in ["CapBnd", "CapEff", "CapPrm"] {
                    assert_eq!(CHOWN_KILL, status_line(&status, set), "{set}, nnp {nnp}, seccomp {seccomp}");
                }
                for set in ["CapInh", "CapAmb"] {
                    assert_eq!("0000000000000000", status_line(&status, set), "{set}");
                }
                assert_eq!(if nnp { "1" } else { "0" }, status_line(&status, "NoNewPrivs"));
                assert_eq!(if seccomp { "2" } else { "0" }, status_line(&status, "Seccomp"));
            }
        }
    });
}

#[test]
fn a_user_has_its_ids_and_groups_and_no_capabilities_but_ambient_ones() {
    block_on(async {
        let lab = Lab::new();
        let user = json!({ "uid": 1000, "gid": 1001, "additionalGids": [7, 2000], "umask": 0o27 });
        let spec = set(lab.spec("cat /proc/self/status"), "/process/user", user);
        let names = ["CAP_CHOWN", "CAP_KILL"];
        let status = lab.output_of(&set(spec.clone(), "/process/capabilities", caps(&names))).await;
        assert_eq!("1000\t1000\t1000\t1000", status_line(&status, "Uid"));
        assert_eq!("1001\t1001\t1001\t1001", status_line(&status, "Gid"));
        assert_eq!("7 2000", status_line(&status, "Groups"));
        assert_eq!("0027", status_line(&status, "Umask"));
        assert_eq!(CHOWN_KILL, status_line(&status, "CapBnd"));
        assert_eq!("0000000000000000", status_line(&status, "CapEff"));

        let mut ambient = caps(&names);
        ambient["inheritable"] = json!(names);
        ambient["ambient"] = json!(names);
        let status = lab.output_of(&set(spec, "/process/capabilities", ambient)).await;
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
            assert_eq!(CHOWN_KILL, status_line(&status, set), "{set}");
        }
    });
}

fn deny_mkdir() -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 }]
    })
}

#[test]
fn a_denied_call_fails_with_eperm() {
    block_on(async {
        let lab = Lab::new();
        let script = "mkdir /work/x 2>&1; touch /work/y && ls /work";
        let text = lab.output_of(&set(lab.spec(script), "/linux/seccomp", deny_mkdir())).await;
        assert_eq!("mkdir: can't create directory '/work/x': Operation not permitted\ny\n", text);
    });
}

/// `value` is the mask, `valueTwo` what must remain: `socket` with a type of SOCK_DGRAM, whatever its flags.
#[test]
fn masked_comparisons_mask_the_argument() {
    block_on(async {
        let lab = Lab::new();
        let masked = |mask: u64, equals: u64| {
            json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{
                    "names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
                    "args": [{ "index": 1, "value": mask, "valueTwo": equals, "op": "SCMP_CMP_MASKED_EQ" }]
                }]
            })
        };
        // kill -0: 0 & 0xff == 0, and 0 & 0xff != 1.
        for (equals, denied) in [(0, true), (1, false)] {
            let spec = lab.spec("kill -0 1 2>/dev/null && echo allowed || echo denied");
            let text = lab.output_of(&set(spec, "/linux/seccomp", masked(0xff, equals))).await;
            assert_eq!(if denied { "denied\n" } else { "allowed\n" }, text);
        }
    });
}

#[test]
fn limits_of_the_process_are_set() {
    block_on(async {
        let lab = Lab::new();
        let rlimits = json!([
            { "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 },
            { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 }
        ]);
        let text = lab.output_of(&set(lab.spec("cat /proc/self/limits"), "/process/rlimits", rlimits)).await;
        let line = |name: &str| {
            let line = text.lines().find(|l| l.starts_with(name)).unwrap();
            line[name.len()..].split_whitespace().take(2).collect::<Vec<_>>().join(" ")
        };
        assert_eq!("100 200", line("Max open files"));
        assert_eq!("0 0", line("Max core file size"));
    });
}

#[test]
fn namespaces_of_a_process_are_joined_by_path() {
    block_on(async {
        let lab = Lab::new();
        // Not in the lab's own cgroup: on v2 one that has members gives its children no controllers.
        let group = lab.cgroup_below("holder", &Limits::default());
        let (mut holder, _pipes) = lab.create_named("holder", &lab.spec("exec sleep 1000"), &group).await.unwrap();
        holder.start().await.unwrap();
        let ns = |typ: &str, file: &str| json!({ "type": typ, "path": format!("/proc/{}/ns/{file}", holder.process) });
        let mut namespaces = vec![ns("network", "net"), ns("ipc", "ipc"), ns("uts", "uts"), ns("pid", "pid")];
        namespaces.push(json!({ "type": "mount" }));
        let script = "for n in net ipc uts pid mnt; do readlink /proc/self/ns/$n; done; echo $$; hostname";
        let spec = set(lab.spec(script), "/linux/namespaces", json!(namespaces));
        let spec = set(spec, "/hostname", json!("joined"));
        let other = lab.cgroup_below("other", &Limits::default());
        let (mut created, pipes) = lab.create_named("other", &spec, &other).await.unwrap();
        created.start().await.unwrap();
        let output = pipes.finish(created.pidfd).await;
        let lines: Vec<&str> = output.stdout.lines().collect();
        for (line, name) in lines.iter().zip(["net", "ipc", "uts", "pid"]) {
            let theirs = fs::read_link(format!("/proc/{}/ns/{name}", holder.process)).unwrap();
            assert_eq!(theirs.to_str().unwrap(), *line);
        }
        let theirs = fs::read_link(format!("/proc/{}/ns/mnt", holder.process)).unwrap();
        assert_ne!(theirs.to_str().unwrap(), lines[4], "the mount namespace is always its own");
        assert_ne!("1", lines[5], "the holder is");
        assert_eq!("joined", lines[6], "set in a joined namespace too, as runc does");
    });
}

#[test]
fn many_are_created_side_by_side() {
    block_on(async {
        let lab = Lab::new();
        let spec = lab.spec("exec sleep 1000");
        let names: Vec<String> = (0..6).map(|n| format!("c{n}")).collect();
        let cgroups: Vec<_> = names.iter().map(|n| lab.cgroup_below(n, &Limits::default())).collect();
        let creating = names.iter().zip(&cgroups).map(|(n, c)| lab.create_named(n, &spec, c));
        let mut all = futures::future::join_all(creating).await;
        for created in &mut all {
            let (created, _) = created.as_mut().unwrap();
            created.start().await.unwrap();
        }
        let pids: std::collections::HashSet<u32> = all.iter().map(|c| c.as_ref().unwrap().0.process.pid).collect();
        assert_eq!(6, pids.len());
        for (cgroup, created) in cgroups.iter().zip(&all) {
            assert_eq!(vec![created.as_ref().unwrap().0.process.pid], cgroup.procs().unwrap());
        }
    });
}

#[test]
fn an_image_whose_dev_leads_out_is_refused() {
    block_on(async {
        let lab = Lab::new();
        let outside = lab.path("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("ptmx"), "precious").unwrap();
        fs::remove_dir(lab.rootfs().join("dev")).unwrap();
        std::os::unix::fs::symlink(&outside, lab.rootfs().join("dev")).unwrap();
        let error = lab.create(&lab.spec("true")).await.map(drop).unwrap_err();
        assert!(matches!(error, EngineError::Refused(_)), "{}", chain(&error));
        assert_eq!("precious", fs::read_to_string(outside.join("ptmx")).unwrap());
        assert_nothing_left(&lab, "box");
    });
}

/// CVE-2019-5736: a created container's process still is our program; nobody may write that through its /proc.
#[test]
fn our_program_cannot_be_written_from_a_container() {
    block_on(async {
        // A copy, so that no other test executes it (ETXTBSY would hide what we look for).
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("launcher");
        fs::copy(engine_support::launcher_program(), &program).unwrap();
        let before = fs::read(&program).unwrap();
        let lab = Lab::with_program(&program, Limits::default(), |launcher| launcher);
        let (created, _pipes) = lab.create(&lab.spec("true")).await.unwrap();
        let exe = format!("/proc/{}/exe", created.process);
        let error = fs::OpenOptions::new().write(true).open(&exe).unwrap_err();
        assert!(matches!(error.raw_os_error(), Some(libc::EROFS | libc::ETXTBSY)), "{error}");
        // Once nothing executes it, only the read-only mount stands between: a descriptor kept over the end.
        let kept = fs::File::open(&exe).unwrap();
        created.process.signal(Signal::KILL).unwrap();
        wait_exit(created.pidfd.as_fd()).await.unwrap();
        let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&kept));
        let error = fs::OpenOptions::new().write(true).open(link).unwrap_err();
        assert_eq!(Some(libc::EROFS), error.raw_os_error(), "{error}");
        assert!(before == fs::read(&program).unwrap(), "it has changed");
    });
}

#[test]
fn a_launcher_that_hangs_is_ended() {
    block_on(async {
        let lab = Lab::with(Limits::default(), |launcher| launcher.with_time_limit(Duration::from_millis(300)));
        // A hook that never ends keeps libcontainer waiting; its process is the launcher's child.
        let hook = json!({ "createRuntime": [{ "path": "/bin/sleep", "args": ["sleep", "1000"] }] });
        let began = Instant::now();
        let error = lab.create(&set(lab.spec("true"), "/hooks", hook)).await.map(drop).unwrap_err();
        assert!(matches!(error, EngineError::TimedOut(_)), "{}", chain(&error));
        assert!(began.elapsed() < Duration::from_secs(10));
        assert_nothing_left(&lab, "box");
    });
}

/// Whoever starts launchers may be killed: none may wait for ever for one that is gone.
#[test]
fn a_launcher_ends_with_its_shim() {
    block_on(async {
        let lab = Lab::new();
        let hook = json!({ "createRuntime": [{ "path": "/bin/sleep", "args": ["sleep", "1000"] }] });
        let cgroup = &lab.cgroup;
        // A shim of its own: a thread that ends takes what it has spawned along, as a process would.
        let launcher = std::thread::scope(|scope| {
            let creating = scope.spawn(move || {
                let shim = Lab::new();
                let spec = set(shim.spec("true"), "/hooks", hook);
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let creating = shim.create_named("box", &spec, cgroup);
                    // Until the hook runs: the launcher, its parent, waits for it.
                    let hooked = async {
                        loop {
                            let members = cgroup.procs().unwrap();
                            let sleep = members.iter().find(|pid| {
                                fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "sleep\n")
                            });
                            if let Some(sleep) = sleep {
                                break parent_of(*sleep);
                            }
                            tokio::task::yield_now().await;
                        }
                    };
                    tokio::select! {
                        result = creating => panic!("created: {}", result.is_ok()),
                        pid = hooked => ProcessId::of(pid).unwrap(),
                    }
                })
            });
            creating.join().unwrap()
        });
        let pidfd = launcher.pidfd().unwrap().expect("the launcher is our child");
        assert_eq!(Some(9), wait_exit(pidfd.as_fd()).await.unwrap().signal);
    });
}

#[test]
fn a_failure_in_libcontainer_tells_its_cause_and_leaves_nothing() {
    block_on(async {
        let lab = Lab::new();
        for round in 0..3 {
            let mounts = json!([{ "destination": "/mnt", "type": "bind", "source": "/no/such/source", "options": ["bind"] }]);
            let error = lab.create(&set(lab.spec("true"), "/mounts", mounts)).await.map(drop).unwrap_err();
            assert!(chain(&error).contains("/no/such/source"), "round {round}: {}", chain(&error));
            assert_eq!(125, error.exit_code());
            assert_nothing_left(&lab, "box");
        }
    });
}

#[test]
fn a_descriptor_that_does_not_match_the_terminal_is_refused() {
    block_on(async {
        let lab = Lab::new();
        let error = lab.create_with("box", &lab.spec("true"), &lab.cgroup, Stdio::Terminal).await.map(drop).unwrap_err();
        assert!(chain(&error).contains("terminal"), "{}", chain(&error));
        assert_nothing_left(&lab, "box");
    });
}

#[test]
fn a_terminal_belongs_to_the_user_and_is_the_console() {
    block_on(async {
        let lab = Lab::new();
        let mut spec = lab.spec("tty; stty size; stat -c %u $(tty); stat -c %t /dev/console; ls /proc/$$/fd; exit 3");
        spec = set(spec, "/process/terminal", json!(true));
        spec = set(spec, "/process/consoleSize", json!({ "height": 33, "width": 77 }));
        spec = set(spec, "/process/user", json!({ "uid": 1000, "gid": 1000 }));
        let mut created = lab.create_with("box", &spec, &lab.cgroup, Stdio::Terminal).await.unwrap();
        let master = created.terminal.take().expect("a terminal");
        created.start().await.unwrap();
        let text = read_terminal(master);
        assert_eq!(3, wait_exit(created.pidfd.as_fd()).await.unwrap().code, "{text}");
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        assert_eq!(vec!["/dev/pts/0", "33 77", "1000", "88"], lines[..4], "{text}");
    });
}

/// A terminal's reader gets EIO when the other end is closed.
fn read_terminal(master: std::os::fd::OwnedFd) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(n @ 1..) = rustix::io::read(&master, &mut buffer) {
        text.extend_from_slice(&buffer[..n]);
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn output_can_be_reopened_by_its_user() {
    block_on(async {
        let lab = Lab::new();
        let spec = lab.spec("echo out > /dev/stdout; echo err > /dev/stderr");
        let spec = set(spec, "/process/user", json!({ "uid": 1000, "gid": 1000 }));
        let output = lab.run(&spec).await.unwrap();
        assert_eq!(("out\n", "err\n"), (output.stdout.as_str(), output.stderr.as_str()));
    });
}

#[test]
fn dev_null_as_output_can_be_written() {
    block_on(async {
        let lab = Lab::new();
        let null = || fs::OpenOptions::new().read(true).write(true).open("/dev/null").unwrap().into();
        let stdio = Stdio::Pipes { stdin: null(), stdout: null(), stderr: null() };
        let spec = lab.spec("echo x || exit 9; echo x >&2 || exit 8; cat; stat -L -c %d /dev/fd/1 > /work/dev");
        let mut created = lab.create_with("box", &spec, &lab.cgroup, stdio).await.unwrap();
        created.start().await.unwrap();
        assert_eq!(0, wait_exit(created.pidfd.as_fd()).await.unwrap().code);
        let device = fs::read_to_string(lab.rootfs().join("work/dev")).unwrap();
        let host = std::os::unix::fs::MetadataExt::dev(&fs::metadata("/dev/null").unwrap());
        assert_ne!(host.to_string(), device.trim(), "the container's own /dev/null, not the host's");
    });
}

#[test]
fn a_readonly_root_and_masked_paths_hold() {
    block_on(async {
        let lab = Lab::new();
        let spec = lab.spec("touch /work/x 2>&1; wc -c < /proc/meminfo; ls /proc/fs; echo 1 > /proc/sys/vm/swappiness");
        let spec = set(spec, "/linux/maskedPaths", json!(["/proc/meminfo", "/proc/fs", "/proc/no-such-file"]));
        let root = json!({ "path": lab.rootfs(), "readonly": true });
        let output = lab.run(&set(spec, "/root", root)).await.unwrap();
        assert!(output.stdout.contains("Read-only file system\n0\n"), "{}", output.stdout);
        assert_ne!(0, output.exit.code);
        assert!(output.stdout.ends_with("system\n0\n"), "masked: a file reads empty, a directory lists none: {}", output.stdout);
        assert!(!lab.rootfs().join("work/x").exists());
    });
}

#[test]
fn the_host_sees_no_mount_of_a_container() {
    block_on(async {
        let lab = Lab::new();
        let (mut created, _pipes) = lab.create(&lab.spec("exec sleep 1000")).await.unwrap();
        created.start().await.unwrap();
        let name = lab.dir.path().file_name().unwrap().to_str().unwrap().to_owned();
        let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!host.contains(&name), "{host}");
        // And the container sees none of the host's: its root holds all.
        let inside = fs::read_to_string(format!("/proc/{}/mountinfo", created.process)).unwrap();
        for line in inside.lines() {
            assert!(!line.contains("shared:"), "private by default: {line}");
        }
        let cgroups = inside.lines().filter(|l| l.contains(" - cgroup")).count();
        assert_eq!(0, cgroups, "v1 hierarchies are not shown: {inside}");
    });
}

/// The fallback: libcontainer handles the cgroups itself, and ours are still the ones that count.
#[test]
fn a_container_that_shows_the_hosts_sys_still_has_its_cgroup_and_limits() {
    block_on(async {
        let limits = Limits { pids: Some(50), ..Limits::default() };
        let lab = Lab::with_limits(limits);
        let mut spec = lab.spec("echo /host/fs/cgroup/*; exec cat");
        spec["mounts"].as_array_mut().unwrap().push(
            json!({ "destination": "/host", "type": "bind", "source": "/sys", "options": ["rbind", "ro"] }),
        );
        let (mut created, pipes) = lab.create(&spec).await.unwrap();
        created.start().await.unwrap();
        assert_eq!(vec![created.process.pid], lab.cgroup.procs().unwrap());
        assert_eq!(1, lab.cgroup.stats().unwrap().pids);
        let output = pipes.finish(created.pidfd).await;
        assert!(output.stdout.contains("pids") || output.stdout.contains("cgroup.procs"), "{}", output.stdout);
    });
}

/// proc_pid_stat(5), field 4.
fn parent_of(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap().parse().unwrap()
}

/// No process in the cgroup, no state, and no child of ours that is a zombie of this container.
fn assert_nothing_left(lab: &Lab, name: &str) {
    assert_eq!(Vec::<u32>::new(), lab.cgroup.procs().unwrap());
    assert!(!lab.path(&format!("state-{name}")).exists());
    assert_eq!(0, lab.cgroup.stats().unwrap().pids, "a zombie still counts");
}

#[test]
fn the_process_that_was_reported_is_the_one_that_runs() {
    block_on(async {
        let lab = Lab::new();
        let (mut created, pipes): (_, Pipes) = lab.create(&lab.spec("cat /proc/self/stat > /dev/null; exec cat")).await.unwrap();
        assert_eq!(created.process, ProcessId::of(created.process.pid).unwrap());
        created.start().await.unwrap();
        assert_eq!(std::process::id(), parent_of(created.process.pid), "it is our child");
        assert_eq!(0, pipes.finish(created.pidfd).await.exit.code);
    });
}
