//! The pause program as it is embedded. Needs root (for PID namespaces) and util-linux.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const LIMIT: Duration = Duration::from_secs(10);

fn until<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(started.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A running pause; killed when the test is over.
struct Pause(Child);

impl Pause {
    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.0.id()).expect("a pid"))
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.0.id())).unwrap_or_default()
    }

    /// It sleeps in rt_sigtimedwait, signals blocked.
    fn wait_until_it_waits(&self) {
        until("pause waits", || (self.proc("comm") == "pause\n" && self.proc("wchan").contains("sigtimedwait")).then_some(()));
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        // It may have left already, as the tests want it to.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Starts it from memory, as the runtime does.
fn start() -> Pause {
    let file = File::from(memfd_create(c"pause", MFdFlags::empty()).expect("make a memfd"));
    (&file).write_all(bundles::pause::PAUSE).expect("write pause");
    let child = Command::new(format!("/proc/self/fd/{}", file.as_raw_fd())).arg0("/pause").env_clear().spawn();
    let pause = Pause(child.expect("start pause"));
    pause.wait_until_it_waits();
    pause
}

#[test]
fn it_is_small_and_shows_as_pause() {
    assert!(bundles::pause::PAUSE.len() < 10 * 1024, "{} bytes", bundles::pause::PAUSE.len());
    let pause = start();
    assert_eq!(pause.proc("cmdline"), "/pause\0");
    let rollup = pause.proc("smaps_rollup");
    let pss: u32 = rollup.lines().find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next()?.parse().ok()).expect("its PSS");
    assert!(pss < 50, "PSS is {pss} KiB:\n{rollup}");
}

#[test]
fn sigterm_and_sigint_end_it_with_status_0() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut pause = start();
        kill(pause.pid(), signal).expect("send the signal");
        let status = until("pause ends", || pause.0.try_wait().expect("ask for its status"));
        assert_eq!(status.code(), Some(0), "{signal}");
    }
}

#[test]
fn as_pid_1_it_collects_orphans_and_leaves_on_sigterm() {
    let dir = tempfile::tempdir().expect("make a directory");
    let program = dir.path().join("pause");
    fs::write(&program, bundles::pause::PAUSE).expect("write pause");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("make it executable");
    let mut unshare = Command::new("unshare").args(["--pid", "--fork", "--kill-child"]).arg(&program).spawn().expect("start unshare");
    let children = format!("/proc/{0}/task/{0}/children", unshare.id());
    let pid: i32 = until("pause starts", || fs::read_to_string(&children).ok()?.trim().parse().ok());
    until("pause waits", || (fs::read_to_string(format!("/proc/{pid}/comm")).ok()? == "pause\n").then_some(()));
    until("pause waits", || fs::read_to_string(format!("/proc/{pid}/wchan")).ok()?.contains("sigtimedwait").then_some(()));
    // The inner sleeps lose their parent at once, and end as pause's children.
    let orphans = Command::new("nsenter").args(["--target", &pid.to_string(), "--pid", "sh", "-c", "for i in 1 2 3; do sleep 0.1 & done"]).status();
    assert!(orphans.expect("enter the namespace").success());
    let adopted = format!("/proc/{pid}/task/{pid}/children");
    until("orphans end and are collected", || fs::read_to_string(&adopted).ok()?.trim().is_empty().then_some(()));
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("send SIGTERM");
    let status = until("unshare ends with pause's status", || unshare.try_wait().expect("ask for its status"));
    assert_eq!(status.code(), Some(0));
}
