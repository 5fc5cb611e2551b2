//! A private containerd: its own root, state, socket and configuration, gone at the end.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};
use tempfile::TempDir;
use testkit::process::Process;
use testkit::{Cmd, eventually};

use crate::measure::{Cost, cost, measured};

/// For one command, on whatever disk.
const LIMIT: Duration = Duration::from_secs(120);
/// Without what would write elsewhere (`opt` makes /opt/containerd), needs devices or serves the kubelet.
const DISABLED: [&str; 7] = [
    "io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs", "io.containerd.runtime.v1.linux",
];

/// One containerd, whose daemon is part of what a command costs.
pub(crate) struct Containerd {
    child: Child,
    dir: TempDir,
}

impl Containerd {
    pub(crate) fn new() -> Self {
        assert!(testkit::installed("containerd").is_some(), "scripts/setup --bench installs containerd");
        let dir = tempfile::Builder::new().prefix("mpc").tempdir().expect("make a directory");
        let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ntemp = {:?}\ndisabled_plugins = {DISABLED:?}\n\
            [grpc]\naddress = {:?}\n[ttrpc]\naddress = {:?}\n",
            at("root"), at("state"), at("temp"), at("grpc.sock"), at("ttrpc.sock"),
        );
        fs::write(at("config.toml"), config).expect("configure containerd");
        let log = File::create(at("log")).expect("make a log");
        // The kernel ends it with us, should we be killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "containerd", "--config"]).arg(at("config.toml"));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("start containerd");
        let this = Self { child, dir };
        let answers = || this.configured(Cmd::new("ctr")).arg("version").run().code() == 0;
        eventually(LIMIT, "containerd answers", || answers().then_some(()));
        this
    }

    fn configured(&self, cmd: Cmd) -> Cmd {
        cmd.arg("--address").arg(self.dir.path().join("grpc.sock"))
    }

    fn daemon(&self) -> Process {
        Process(self.child.id())
    }

    /// What a command costs, `ctr` and the daemon together; the memory is the daemon's, which does the work.
    pub(crate) fn cost(&self, args: &[&str]) -> Cost {
        let daemon = self.daemon();
        // Begins the peak anew (proc_pid_clear_refs(5)).
        fs::write(format!("/proc/{}/clear_refs", daemon.0), "5").expect("reset the peak of the daemon");
        let before = cpu(daemon);
        let client = cost(self.configured(measured("ctr")).args(args).run_within(LIMIT));
        let peak = daemon.status("VmHWM").and_then(|text| text.trim_end_matches(" kB").parse::<f64>().ok());
        let peak = peak.expect("the daemon's peak");
        Cost { wall: client.wall, cpu: client.cpu + cpu(daemon) - before, peak: peak / 1024.0 }
    }

    /// Removes an image and waits until nothing of it is left.
    pub(crate) fn remove(&self, name: &str) {
        let ctr = |args: &[&str]| self.configured(Cmd::new("ctr")).args(args).run_within(LIMIT).ok();
        let _said = ctr(&["images", "rm", "--sync", name]);
        for list in [["content", "ls"], ["snapshots", "ls"]] {
            eventually(LIMIT, "containerd has removed the image", || (ctr(&list).lines().count() <= 1).then_some(()));
        }
    }
}

/// Milliseconds of processor that a process and its ended children have had (proc_pid_stat(5), fields 14 to 17).
fn cpu(process: Process) -> f64 {
    let stat = String::from_utf8(process.file("stat").expect("the daemon runs")).expect("stat is text");
    let behind_name = stat.rsplit_once(')').expect("a name in parentheses").1;
    let ticks: f64 = behind_name.split_whitespace().skip(11).take(4)
        .map(|field| field.parse::<f64>().expect("a number of ticks")).sum();
    let per_second = sysconf(SysconfVar::CLK_TCK).expect("ask for the length of a tick").expect("it is known");
    ticks * 1000.0 / per_second as f64
}

impl Drop for Containerd {
    fn drop(&mut self) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), rustix::process::Signal::TERM).ok();
        self.child.wait().expect("wait for containerd's end");
        let dir = self.dir.path().to_string_lossy().into_owned();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for mount in mounts.lines().filter_map(|line| line.split(' ').nth(4)).filter(|mount| mount.starts_with(&dir)) {
            drop(Cmd::new("umount").arg("-l").arg(mount).run());
        }
    }
}
