//! A root file system of busybox, a cgroup and an engine per test, all of it gone when the test ends.

#![allow(dead_code)] // each test binary uses a part

use std::fs;
use std::future::Future;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use oci_spec::runtime::{Process as SpecProcess, Spec};
use runtime::cgroup::{Cgroup, Hierarchy, Limits};
use runtime::engine::{
    CreateRequest, Created, Engine, EngineError, ExecRequest, Launcher, Libcontainer, Process, Stdio, exec, protected,
};
use runtime::process::{Exit, wait_exit};
use serde_json::{Value, json};

const APPLETS: &[&str] = &[
    "sh", "ls", "cat", "id", "echo", "sleep", "grep", "mkdir", "rmdir", "env", "pwd", "hostname", "readlink", "stat",
    "true", "tty", "stty", "ps", "mount", "dd", "tr", "awk", "umask", "touch", "ulimit", "mknod", "head", "wc", "cut",
];

/// Longer than any test needs; shorter than anyone waits.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(60);

/// Runs a future in a small runtime, with a time limit.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(TIME_LIMIT, future).await.expect("the test takes too long") })
}

/// What every test needs.
pub(crate) struct Lab {
    pub dir: tempfile::TempDir,
    pub engine: Libcontainer,
    pub cgroup: Cgroup,
    pub hierarchy: Hierarchy,
}

pub(crate) struct Output {
    pub exit: Exit,
    pub stdout: String,
    pub stderr: String,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default(), |launcher| launcher)
    }

    pub(crate) fn with_limits(limits: Limits) -> Self {
        Self::with(limits, |launcher| launcher)
    }

    pub(crate) fn with(limits: Limits, adjust: impl FnOnce(Launcher) -> Launcher) -> Self {
        Self::with_program(&launcher_program(), limits, adjust)
    }

    pub(crate) fn with_program(
        program: &Path,
        limits: Limits,
        adjust: impl FnOnce(Launcher) -> Launcher,
    ) -> Self {
        static SUBREAPER: Once = Once::new();
        SUBREAPER.call_once(|| {
            assert!(rustix::process::geteuid().is_root(), "these tests must run as root");
            rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        });
        let dir = tempfile::Builder::new().prefix("minipod-engine-").tempdir().unwrap();
        make_rootfs(&dir.path().join("rootfs"));
        let hierarchy = Hierarchy::detect().unwrap();
        let launcher = Launcher::new(protected(program).unwrap(), dir.path().join("seccomp"));
        let cgroup = Cgroup::create(&hierarchy, &cgroup_path(), &limits).unwrap();
        let engine = Libcontainer::new(adjust(launcher), &hierarchy);
        Self { dir, engine, cgroup, hierarchy }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.path("rootfs")
    }

    /// A container that runs `script` with the shell, as root without capabilities.
    pub(crate) fn spec(&self, script: &str) -> Value {
        json!({
            "ociVersion": "1.1.0",
            "root": { "path": self.rootfs() },
            "hostname": "lab",
            "process": {
                "user": { "uid": 0, "gid": 0 },
                "args": ["sh", "-c", script],
                "env": ["PATH=/bin", "HOME=/root"],
                "cwd": "/",
                "capabilities": {}
            },
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                  "options": ["nosuid", "mode=755", "size=65536k"] },
                { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                  "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
                { "destination": "/sys", "type": "sysfs", "source": "sysfs",
                  "options": ["nosuid", "noexec", "nodev", "ro"] }
            ],
            "linux": {
                "namespaces": [
                    { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
                    { "type": "network" }
                ],
                "maskedPaths": ["/proc/kcore", "/sys/firmware"],
                "readonlyPaths": ["/proc/sys"]
            }
        })
    }

    /// Creates with pipes whose other ends are returned.
    pub(crate) async fn create(&self, spec: &Value) -> Result<(Created, Pipes), EngineError> {
        self.create_named("box", spec, &self.cgroup).await
    }

    pub(crate) async fn create_named(
        &self,
        name: &str,
        spec: &Value,
        cgroup: &Cgroup,
    ) -> Result<(Created, Pipes), EngineError> {
        let (stdio, pipes) = Pipes::new();
        let created = self.create_with(name, spec, cgroup, stdio).await?;
        Ok((created, pipes))
    }

    pub(crate) async fn create_with(
        &self,
        name: &str,
        spec: &Value,
        cgroup: &Cgroup,
        stdio: Stdio,
    ) -> Result<Created, EngineError> {
        let spec = parse(spec);
        let bundle = self.path(&format!("bundle-{name}"));
        fs::create_dir_all(&bundle).unwrap();
        let state_dir = self.path(&format!("state-{name}"));
        let request =
            CreateRequest { id: name, bundle: &bundle, spec: &spec, state_dir: &state_dir, cgroup, stdio };
        self.engine.create(request).await
    }

    /// Creates, starts and waits.
    pub(crate) async fn run(&self, spec: &Value) -> Result<Output, EngineError> {
        let (mut created, pipes) = self.create(spec).await?;
        created.start().await?;
        let output = pipes.finish(created.pidfd).await;
        self.forget("box");
        Ok(output)
    }

    /// The output of `script` in the container of [`Self::spec`], which must succeed.
    pub(crate) async fn output(&self, script: &str) -> String {
        self.output_of(&self.spec(script)).await
    }

    pub(crate) async fn output_of(&self, spec: &Value) -> String {
        let output = self.run(spec).await.unwrap_or_else(|e| panic!("{}", chain(&e)));
        assert_eq!((0, ""), (output.exit.code, output.stderr.as_str()), "stdout: {}", output.stdout);
        output.stdout
    }

    pub(crate) async fn exec(&self, created: &Created, spec: &Value, process: &Value) -> Result<(Process, Pipes), EngineError> {
        let (stdio, pipes) = Pipes::new();
        Ok((self.exec_with(created, spec, process, stdio).await?, pipes))
    }

    pub(crate) async fn exec_with(
        &self,
        created: &Created,
        spec: &Value,
        process: &Value,
        stdio: Stdio,
    ) -> Result<Process, EngineError> {
        let process: SpecProcess = serde_json::from_value(process.clone()).unwrap();
        let spec = parse(spec);
        let request = ExecRequest {
            target: &created.process,
            spec: &spec,
            process: &process,
            cgroup: &self.cgroup,
            stdio,
        };
        exec(self.engine.launcher(), request).await
    }

    /// Removes what the engine keeps of a container, so that its name can be used again.
    pub(crate) fn forget(&self, name: &str) {
        fs::remove_dir_all(self.path(&format!("state-{name}"))).unwrap();
    }

    /// A further cgroup; removed with the others.
    pub(crate) fn cgroup_below(&self, name: &str, limits: &Limits) -> Cgroup {
        Cgroup::create(&self.hierarchy, &format!("{}/{name}", self.cgroup.path()), limits).unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let cleared: Result<(), _> = std::thread::scope(|scope| {
            // A thread of its own: we may be inside a runtime.
            scope
                .spawn(|| {
                    block_on(async {
                        for pidfd in self.cgroup.kill_now()? {
                            runtime::process::ended(pidfd.as_fd()).await.unwrap();
                            // Children of others (exec'd, orphaned) end up with us too.
                            runtime::process::try_reap(pidfd.as_fd()).ok();
                        }
                        self.cgroup.kill().await?;
                        self.cgroup.remove().await
                    })
                })
                .join()
                .unwrap()
        });
        if !std::thread::panicking() {
            cleared.unwrap();
        }
    }
}

/// Our ends of a process' standard descriptors.
pub(crate) struct Pipes {
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

impl Pipes {
    pub(crate) fn new() -> (Stdio, Self) {
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let ((stdin, in_), (out, stdout), (err, stderr)) = (pipe(), pipe(), pipe());
        (Stdio::Pipes { stdin, stdout, stderr }, Self { stdin: in_, stdout: out, stderr: err })
    }

    /// Reads all the output and waits for the process.
    pub(crate) async fn finish(self, pidfd: OwnedFd) -> Output {
        drop(self.stdin);
        let (stdout, stderr) = (read_all(self.stdout), read_all(self.stderr));
        let exit = wait_exit(pidfd.as_fd()).await.unwrap();
        Output { exit, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
    }
}

fn read_all(fd: OwnedFd) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        fs::File::from(fd).read_to_string(&mut text).unwrap();
        text
    })
}

pub(crate) fn parse(spec: &Value) -> Spec {
    serde_json::from_value(spec.clone()).unwrap()
}

/// The whole chain of an error in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}

/// Replaces a value inside a spec.
pub(crate) fn set(mut spec: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    spec.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(key.to_owned(), value);
    spec
}

/// A `Cap*` line of `/proc/PID/status`, and others like it.
pub(crate) fn status_line<'a>(status: &'a str, name: &str) -> &'a str {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .unwrap_or_else(|| panic!("no {name} in {status}"))
        .trim()
}

pub(crate) fn cgroup_path() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("/minipod-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// `target/.../debug/examples/launcher`, beside `deps` where this test is.
pub(crate) fn launcher_program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(Path::parent).unwrap().join("examples/launcher");
    assert!(program.exists(), "{} is missing: run cargo build --examples, as cargo test without --test does", program.display());
    program
}

fn make_rootfs(root: &Path) {
    for dir in ["bin", "etc", "proc", "sys", "dev", "tmp", "root", "home/user", "work"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    let busybox = root.join("bin/busybox");
    fs::copy("/bin/busybox", &busybox).expect("busybox-static must be installed");
    for applet in APPLETS {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n").unwrap();
    fs::set_permissions(root, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
}
