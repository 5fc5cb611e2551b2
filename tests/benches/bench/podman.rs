//! A private podman: its own storage, configuration and (with the installation it stands beside) network, gone at the end.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use testkit::process::Process;
use testkit::{Cmd, Output};

/// Podman is slow at times; nothing waits for ever.
const LIMIT: Duration = Duration::from_secs(120);

/// Limits that can be set without CAP_SYS_RESOURCE; no systemd; the log that Kubernetes' tools read.
const CONFIG: &str = r#"[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
[network]
network_backend = "netavark"
"#;

/// One podman.
pub(crate) struct Podman {
    dir: TempDir,
    /// Where cgroups of ours may be, and were not before.
    cgroups: Vec<PathBuf>,
    hugetlb: Option<PathBuf>,
    locks: Option<PathBuf>,
}

impl Podman {
    pub(crate) fn new() -> Self {
        for program in ["podman", "crun", "conmon"] {
            assert!(testkit::installed(program).is_some(), "scripts/setup --bench installs {program}");
        }
        let dir = tempfile::Builder::new().prefix("mpb").tempdir().expect("make a directory");
        fs::write(dir.path().join("containers.conf"), CONFIG).expect("configure podman");
        let hugetlb = mount_hugetlb();
        let roots = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
        let cgroups = roots.chain(["/sys/fs/cgroup".into()]).map(|root| root.join("libpod_parent")).filter(|path| !path.exists()).collect();
        let locks = Some(PathBuf::from("/dev/shm/libpod_lock")).filter(|path| !path.exists());
        Self { dir, cgroups, hugetlb, locks }
    }

    /// Where it keeps everything.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// `podman`, to be given the rest.
    pub(crate) fn cmd(&self) -> Cmd {
        self.configured(Cmd::new("podman"))
    }

    /// Adds what makes it this one to a command that ends with `podman`.
    pub(crate) fn configured(&self, cmd: Cmd) -> Cmd {
        let at = |name: &str| self.dir().join(name);
        let cmd = cmd.env("CONTAINERS_CONF", at("containers.conf"));
        cmd.arg("--root").arg(at("root")).arg("--runroot").arg(at("run")).arg("--tmpdir").arg(at("tmp"))
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.cmd().args(args).run_within(LIMIT)
    }

    pub(crate) fn ok(&self, args: &[&str]) -> String {
        self.run(args).ok()
    }

    /// Its conmon processes: one a container, the infra container's too.
    pub(crate) fn conmons(&self) -> Vec<Process> {
        let dir = self.dir().to_string_lossy().into_owned();
        let ours = |process: &Process| {
            let line = process.cmdline();
            line.first().is_some_and(|program| program.ends_with("conmon")) && line.iter().any(|arg| arg.contains(&dir))
        };
        Process::all().into_iter().filter(ours).collect()
    }
}

/// crun wants every hierarchy that the kernel has; some machines do not mount this one.
fn mount_hugetlb() -> Option<PathBuf> {
    let path = PathBuf::from("/sys/fs/cgroup/hugetlb");
    let v1 = Path::new("/sys/fs/cgroup/memory").is_dir();
    let known = fs::read_to_string("/proc/cgroups").is_ok_and(|text| text.contains("hugetlb"));
    if !v1 || !known || path.is_dir() {
        return None;
    }
    fs::create_dir(&path).expect("make a mount point");
    let _said = Cmd::new("mount").args(["-t", "cgroup", "-o", "hugetlb", "cgroup"]).arg(&path).run().ok();
    Some(path)
}

impl Drop for Podman {
    fn drop(&mut self) {
        for args in [["pod", "rm", "-f", "-a", "-t", "0"].as_slice(), &["rm", "-f", "-a", "-t", "0"]] {
            drop(self.run(args));
        }
        for process in self.conmons() {
            process.kill();
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let dir = self.dir().to_string_lossy().into_owned();
        for mount in mounts.lines().filter_map(|line| line.split(' ').nth(4)).filter(|mount| mount.starts_with(&dir)) {
            drop(Cmd::new("umount").arg("-l").arg(mount).run());
        }
        // What netavark makes and leaves, in the network of the installation that this stands beside.
        for table in ["nat", "filter"] {
            drop(Cmd::new("nft").args(["delete", "table", "ip", table]).run());
        }
        for cgroup in &self.cgroups {
            remove_cgroup(cgroup);
        }
        if let Some(hugetlb) = &self.hugetlb {
            drop(Cmd::new("umount").arg(hugetlb).run());
            fs::remove_dir(hugetlb).ok();
        }
        if let Some(locks) = &self.locks {
            fs::remove_file(locks).ok();
        }
    }
}

/// A cgroup and those below it; nothing runs in them any more.
fn remove_cgroup(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        remove_cgroup(&entry.path());
    }
    fs::remove_dir(dir).ok();
}
