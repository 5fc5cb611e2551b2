//! Hostile images, containers and callers against minipod as a whole; what they do to libcontainer is in `runtime/tests/hostile`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testkit::process::Process;
use testkit::{Cmd, Entry, FOREVER, Image, Minipod, container, docker_archive, eventually, installed, pod, with};

/// An image of busybox with these entries besides, loaded as `evil:1`.
fn evil_image(mp: &Minipod, more: Vec<Entry>, config: Value) -> bool {
    let Some(busybox) = installed("busybox") else { return false };
    let mut entries = vec![Entry::Dir("bin".into()), Entry::File("bin/busybox".into(), fs::read(busybox).expect("read busybox"), 0o755)];
    entries.push(Entry::Link("bin/sh".into(), "busybox".into()));
    entries.extend(more);
    let config = with(json!({ "Env": ["PATH=/bin"], "Cmd": ["sh", "-c", "while :; do busybox sleep 1; done"] }), config);
    let archive = mp.file("evil.tar");
    docker_archive(&Image { reference: "evil:1".into(), layers: vec![entries], config }, &archive);
    drop(mp.ok(&["image", "load", archive.to_str().expect("UTF-8")]));
    true
}

fn evil(name: &str) -> Value {
    pod(name, &[json!({ "name": "c", "image": "evil:1", "imagePullPolicy": "Never" })])
}

/// `minipod run -d`, which may do or not; what it said.
fn try_up(mp: &Minipod, manifest: &Value) -> testkit::Output {
    let path = mp.manifest("evil.json", &manifest.to_string());
    mp.run(&["run", "-d", &path])
}

/// A directory of the host's that must stay as it is.
fn decoy(mp: &Minipod) -> PathBuf {
    let dir = mp.file("outside");
    fs::create_dir(&dir).expect("make a directory");
    fs::write(dir.join("ptmx"), "precious").expect("write a file");
    dir
}

fn assert_untouched(decoy: &Path) {
    let names: Vec<_> = fs::read_dir(decoy).expect("read it").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(names, ["ptmx"]);
    assert_eq!(fs::read_to_string(decoy.join("ptmx")).expect("read it"), "precious");
}

#[test]
fn dev_proc_and_sys_of_the_image_as_links() {
    let Some(mp) = Minipod::new() else { return };
    let outside = decoy(&mp);
    let target = outside.to_str().expect("UTF-8").to_owned();
    for name in ["dev", "proc", "sys"] {
        if !evil_image(&mp, vec![Entry::Link(name.into(), target.clone())], json!({})) {
            return;
        }
        let said = try_up(&mp, &evil("linked"));
        assert!(said.code() != 0 && said.stderr.contains(&format!("/{name} is a symbolic link")), "{said}");
        assert_untouched(&outside);
        drop(mp.run(&["rm", "-f", "linked"]));
    }
}

#[test]
fn a_volume_on_a_link_of_the_image() {
    let Some(mp) = Minipod::new() else { return };
    let outside = decoy(&mp);
    let links = vec![Entry::Dir("dev".into()), Entry::Dir("proc".into()), Entry::Link("data".into(), "/dev".into()), Entry::Link("more".into(), "/proc".into())];
    if !evil_image(&mp, links, json!({})) {
        return;
    }
    for at in ["/data", "/more"] {
        let volumes = json!({ "spec": { "volumes": [{ "name": "v", "hostPath": { "path": outside } }] } });
        let mut manifest = with(evil("volume"), volumes);
        manifest["spec"]["containers"][0]["volumeMounts"] = json!([{ "name": "v", "mountPath": at }]);
        mp.up(&manifest);
        assert_eq!(mp.sh("volume", "busybox ls /dev/ptmx /proc/1/status"), "/dev/ptmx\n/proc/1/status");
        assert_untouched(&outside);
        drop(mp.ok(&["rm", "-f", "volume"]));
    }
}

/// What a Dockerfile calls VOLUME: filled from the image before the container runs.
#[test]
fn links_of_the_image_where_it_wants_volumes() {
    let Some(mp) = Minipod::new() else { return };
    let outside = decoy(&mp);
    let entries = || vec![
        Entry::Link("out".into(), outside.to_str().expect("UTF-8").to_owned()), Entry::Link("led".into(), "/data".into()),
        Entry::Link("kernel".into(), "/proc".into()), Entry::Dir("proc".into()), Entry::Dir("data".into()), Entry::text("data/file", "inside"),
    ];
    if !evil_image(&mp, entries(), json!({ "Volumes": { "/led": {}, "/kernel": {} } })) {
        return;
    }
    mp.up(&evil("led"));
    assert_eq!(mp.sh("led", "busybox cat /led/file; echo; echo x > /led/x; busybox ls /data"), "inside\nfile\nx");
    assert_eq!(mp.sh("led", "test -r /proc/self/mounts && test -r /kernel/self/mounts && echo proc"), "proc");
    // Where these lead nothing is in the image: refused or not, the host's is none of its business.
    assert!(evil_image(&mp, entries(), json!({ "Volumes": { "/out": {}, "/out/below": {} } })));
    if try_up(&mp, &evil("out")).code() == 0 {
        assert_eq!(mp.sh("out", "busybox ls -A /out/; echo x > /out/ptmx; echo x > /out/below/x"), "below");
    }
    assert_untouched(&outside);
}

/// What is mounted is shared by all pods of the image.
#[test]
fn an_image_volume_is_made_writable() {
    let Some(mp) = Minipod::new() else { return };
    if !evil_image(&mp, Vec::new(), json!({})) {
        return;
    }
    let script = "exec 2>&1; busybox mount -o remount,rw /v; busybox mount -o remount,bind,rw /v; busybox touch /v/new; echo $?";
    let privileged = json!({ "securityContext": { "privileged": true }, "volumeMounts": [{ "name": "v", "mountPath": "/v" }] });
    let volumes = json!({ "volumes": [{ "name": "v", "image": { "reference": "evil:1", "pullPolicy": "Never" } }], "restartPolicy": "Never" });
    let mut manifest = with(evil("writes"), json!({ "spec": volumes }));
    let command = json!({ "command": ["/bin/sh", "-c", script] });
    manifest["spec"]["containers"][0] = with(with(manifest["spec"]["containers"][0].clone(), privileged), command);
    let output = mp.foreground(&manifest);
    assert!(output.stdout.ends_with("/v/new: Read-only file system\n[c] 1\n"), "{output}");
}

/// CVE-2024-21626, by the image and by the manifest.
#[test]
fn a_working_directory_outside() {
    let Some(mp) = Minipod::new() else { return };
    let outside = decoy(&mp);
    for number in [7, 9] {
        for way in [String::new(), format!("{}/root{}/made", std::process::id(), outside.display()), format!("..{}/made", outside.display())] {
            let cwd = format!("/proc/self/fd/{number}/{way}");
            let manifest = pod("cwd", &[with(container("c", FOREVER), json!({ "workingDir": cwd }))]);
            let said = try_up(&mp, &manifest);
            assert!(said.code() == 125 && said.stderr.contains("working directory"), "{cwd}: {said}");
        }
    }
    assert_untouched(&outside);
    mp.up(&pod("cwd", &[container("c", FOREVER)]));
    for number in [7, 9, 11, 12] {
        let cwd = format!("/proc/self/fd/{number}/..{}/made", outside.display());
        let said = mp.run(&["exec", "-w", &cwd, "cwd", "--", "pwd"]).fails(125);
        assert!(said.contains("working directory"), "{said}");
    }
    assert_untouched(&outside);
}

/// A container that makes its shell a link to a descriptor of whoever executes it.
#[test]
fn a_shell_that_is_a_link_to_the_host() {
    let Some(mp) = Minipod::new() else { return };
    let Some(busybox) = installed("busybox") else { return };
    let outside = decoy(&mp);
    fs::copy(busybox, mp.file("uname")).expect("copy a program");
    let tool = mp.file("uname");
    mp.up(&pod("shell", &[container("c", FOREVER)]));
    let ways = [format!("..{}", tool.display()), format!("{}/root{}", std::process::id(), tool.display())];
    let targets: Vec<String> = (5..15).flat_map(|number| ways.iter().map(move |way| format!("/proc/self/fd/{number}/{way}"))).collect();
    let links: String = targets.iter().enumerate().map(|(n, target)| format!("mkdir -p /tmp/{n}; ln -s {target} /tmp/{n}/uname; ")).collect();
    drop(mp.sh("shell", &format!("{links} echo")));
    for (n, target) in targets.iter().enumerate() {
        let said = mp.run(&["exec", "shell", "--", &format!("/tmp/{n}/uname")]);
        assert!([126, 127].contains(&said.code()) && said.stdout.is_empty(), "{target}: {said}");
    }
    assert_untouched(&outside);
}

/// A volume that two containers share: one puts a link where the other's part of it is to be.
#[test]
fn a_sub_path_that_is_a_link() {
    let Some(mp) = Minipod::new() else { return };
    let outside = decoy(&mp);
    let mount = |at: &str, more: Value| with(json!({ "name": "v", "mountPath": at }), more);
    let first = with(container("first", &format!("ln -s {} /v/part", outside.display())), json!({ "volumeMounts": [mount("/v", json!({}))] }));
    let second = with(container("second", FOREVER), json!({ "volumeMounts": [mount("/part", json!({ "subPath": "part" }))] }));
    let mut manifest = with(pod("parts", &[second]), json!({ "spec": { "volumes": [{ "name": "v", "emptyDir": {} }], "restartPolicy": "Never" } }));
    manifest["spec"]["initContainers"] = json!([first]);
    if try_up(&mp, &manifest).code() == 0 {
        let seen = mp.run(&["exec", "parts/second", "--", "ls", "/part"]);
        assert!(!seen.stdout.contains("ptmx"), "{seen}");
    }
    assert_untouched(&outside);
}

/// What a careless caller has open, ignores, belongs to and possesses.
#[test]
fn nothing_of_the_caller_is_inherited() {
    let Some(mp) = Minipod::new() else { return };
    let script = "cat /proc/self/status; echo fds; ls /proc/1/fd; echo env; env; echo keys; cat /proc/keys; echo oom; cat /proc/self/oom_score_adj; umask; while :; do sleep 1; done";
    let manifest = mp.manifest("dirty.json", &pod("dirty", &[container("c", script)]).to_string());
    let line = format!(
        "umask 007; exec 3</etc/shadow 9</etc/shadow; exec env SECRET=sesame LISTEN_FDS=1 --ignore-signal=INT --block-signal=USR1 \
         setpriv --groups 4,27 taskset 1 {} run -d {manifest}",
        testkit::binary().display()
    );
    drop(mp.program("sh").args(["-c", &line]).run().ok());
    let log = eventually(testkit::LIMIT, "the container's last line", || {
        let log = mp.ok(&["logs", "dirty"]).replace("[c] ", "");
        log.ends_with("0022\n").then_some(log)
    });
    let line = |name: &str| log.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in {log}")).trim();
    let own = fs::read_to_string("/proc/self/status").expect("own status");
    let processors = own.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("processors").trim();
    assert_eq!((line("Groups:"), line("SigIgn:"), line("SigBlk:")), ("", "0000000000000000", "0000000000000000"));
    assert_eq!(line("Cpus_allowed_list:"), processors);
    let fds = log.split("fds\n").nth(1).and_then(|rest| rest.split("env\n").next()).expect("descriptors");
    assert!(fds.split_whitespace().all(|fd| ["0", "1", "2", "10", "255"].contains(&fd)), "{fds}");
    assert!(!log.contains("sesame") && !log.contains("LISTEN_FDS"), "{log}");
    assert_eq!(log.split("oom\n").nth(1).and_then(|rest| rest.lines().next()), Some("0"));
}

/// In a shared process namespace a container sees pause, and what starts beside it.
#[test]
fn pause_is_no_way_to_the_host() {
    let Some(mp) = Minipod::new() else { return };
    let outside = decoy(&mp);
    let nosy = with(container("c", FOREVER), json!({ "securityContext": { "capabilities": { "add": ["SYS_PTRACE"] } } }));
    mp.up(&with(pod("shared", &[nosy]), json!({ "spec": { "shareProcessNamespace": true } })));
    let root = mp.sh("shared", "ls -A /proc/1/root/; ls -A /proc/1/cwd/; echo end");
    assert_eq!(root, "end", "the root of pause is empty");
    let through = mp.run(&["exec", "shared", "--", "ls", &format!("/proc/1/root{}", outside.display())]);
    assert_ne!(through.code(), 0, "{through}");
    let written = mp.run(&["exec", "shared", "--", "sh", "-c", "echo x >> /proc/1/exe"]);
    assert_ne!(written.code(), 0, "{written}");
    let fds = mp.sh("shared", "for fd in /proc/1/fd/*; do readlink $fd; done; echo end");
    assert!(fds.lines().all(|line| line == "end" || line == "/dev/null" || line.starts_with("pipe:")), "{fds}");
}

/// The name of a socket needs no file system, and a pod on the host's network sees those of the host.
#[test]
fn no_abstract_socket_is_open_to_pods() {
    let Some(mp) = Minipod::new() else { return };
    let listed = || fs::read_to_string("/proc/thread-self/net/unix").expect("sockets").lines().filter(|line| line.contains(" @")).map(|line| line.rsplit(' ').next().unwrap_or_default().to_owned()).collect::<Vec<_>>();
    let before = listed();
    mp.up(&with(pod("net", &[container("c", FOREVER)]), json!({ "spec": { "hostNetwork": true } })));
    let inside = mp.sh("net", "cat /proc/net/unix");
    let named = |socket: &str| !before.iter().any(|known| known == socket);
    let new: Vec<_> = inside.lines().filter(|line| line.contains(" @")).filter_map(|line| line.rsplit(' ').next()).filter(|socket| named(socket)).collect();
    assert!(new.is_empty(), "{new:?}");
}

/// With CAP_MKNOD a container makes any node; opening one is another matter.
#[test]
fn a_made_device_cannot_be_opened() {
    let Some(mp) = Minipod::new() else { return };
    let maker = with(container("c", FOREVER), json!({ "securityContext": { "capabilities": { "add": ["MKNOD"] } } }));
    mp.up(&pod("maker", &[maker]));
    let said = mp.run(&["exec", "maker", "--", "sh", "-c", "mknod /tmp/kmsg c 1 11 && mknod /tmp/mem c 1 1 && echo made && cat /tmp/kmsg"]);
    assert!(said.stdout == "made\n" && said.code() != 0 && said.stderr.contains("not permitted"), "{said}");
}

/// A container that mounts over /proc and fills its process limit must not turn those who enter against the host.
#[test]
fn a_false_proc() {
    let Some(mp) = Minipod::new() else { return };
    let victim = Cmd::new("sleep").arg("1000").spawn();
    let pid = Process(victim.pid());
    let fake = "mount -t tmpfs none /proc && mkdir -p /proc/thread-self /proc/self && ";
    let script = format!("{fake} echo {} > /proc/thread-self/children; echo ready; while true; do read x < /tmp/none; done 2>/dev/null", pid.0);
    let mighty = with(container("c", &script), json!({ "securityContext": { "capabilities": { "add": ["SYS_ADMIN"] } } }));
    mp.up(&pod("fake", &[mighty]));
    eventually(testkit::LIMIT, "the false /proc", || mp.ok(&["logs", "fake"]).contains("ready").then_some(()));
    assert_eq!(mp.sh("fake", "echo entered"), "entered");
    drop(mp.ok(&["rm", "-f", "fake"]));
    assert!(pid.lives(), "killed at the container's word");
    drop(victim);
    mp.assert_clean();
}

/// Forks as fast as it can, while it is removed.
#[test]
fn a_fork_bomb_is_removed() {
    let Some(mp) = Minipod::new() else { return };
    let bomb = "echo '#!/bin/sh\n/tmp/bomb & /tmp/bomb & wait' > /tmp/bomb; chmod 755 /tmp/bomb; echo ready; /tmp/bomb 2>/dev/null; while :; do /tmp/bomb 2>/dev/null; done";
    let limited = with(container("c", bomb), json!({ "resources": { "limits": { "memory": "256Mi", "cpu": "500m" } } }));
    mp.up(&pod("bomb", &[limited]));
    eventually(testkit::LIMIT, "the bomb", || mp.ok(&["logs", "bomb"]).contains("ready").then_some(()));
    drop(mp.ok(&["rm", "-f", "bomb"]));
    mp.assert_clean();
}

/// What an exec looks at as fifos and endless files.
#[test]
fn files_that_never_end() {
    let Some(mp) = Minipod::new() else { return };
    if !evil_image(&mp, vec![Entry::Dir("etc".into()), Entry::text("etc/passwd", "root:x:0:0::/root:/bin/sh\n")], json!({})) {
        return;
    }
    mp.up(&evil("endless"));
    for spoil in ["busybox mkfifo /etc/passwd /etc/group", "busybox ln -s /dev/zero /etc/passwd", "busybox truncate -s 1T /etc/passwd"] {
        drop(mp.sh("endless", &format!("busybox rm -f /etc/passwd /etc/group; {spoil}; echo")));
        assert_eq!(mp.sh("endless", "echo entered"), "entered", "{spoil}");
        let by_name = mp.run(&["exec", "-u", "somebody", "endless", "--", "true"]);
        assert!(by_name.code() != 0 && !by_name.stderr.is_empty(), "{spoil}: {by_name}");
    }
    drop(mp.sh("endless", "busybox mkfifo /bin/trap; busybox chmod 755 /bin/trap; echo"));
    assert_eq!(mp.run(&["exec", "endless", "--", "trap"]).code(), 126);
}

/// CVE-2019-5736: the command is whoever executes it.
#[test]
fn our_program_cannot_be_overwritten() {
    let Some(mp) = Minipod::new() else { return };
    let before = fs::read(testkit::binary()).expect("read minipod");
    mp.up(&pod("self", &[container("c", FOREVER)]));
    drop(mp.sh("self", "ln -s /proc/self/exe /tmp/evil; echo"));
    // It runs as the container's: our program, which says what it can, and finds nothing of the host's.
    let ran = mp.run(&["exec", "self", "--", "/tmp/evil", "ps"]);
    assert!(!ran.stdout.contains("self"), "{ran}");
    let writing = mp.run(&["exec", "self", "--", "sh", "-c", "for p in /proc/[0-9]*; do echo x >> $p/exe; done"]);
    assert_ne!(writing.stderr.matches("exe").count(), 0, "{writing}");
    assert!(before == fs::read(testkit::binary()).expect("read minipod"), "minipod has changed");
}
