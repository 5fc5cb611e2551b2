//! A process in a running container: ours from end to end, because libcontainer's loses seccomp and the user namespace.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::sched::{CloneFlags, setns};
use rustix::fs::{Mode, OFlags};

use super::identity::{Inherited, tell};
use super::launcher::prepare_and_execute;
use super::protocol::{ChildFailure, Settings, Stage};
use crate::process::ProcessId;
use crate::sys;

/// The namespaces a process may be in, as `/proc/PID/ns` names them.
const NAMESPACES: [(&str, CloneFlags); 8] = [
    ("user", CloneFlags::CLONE_NEWUSER),
    ("mnt", CloneFlags::CLONE_NEWNS),
    ("net", CloneFlags::CLONE_NEWNET),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("pid", CloneFlags::CLONE_NEWPID),
    ("cgroup", CloneFlags::CLONE_NEWCGROUP),
    // CLONE_NEWTIME, which nix does not name.
    ("time", CloneFlags::from_bits_retain(0x80)),
];

/// In the launcher: enters the namespaces of `target` (behind `pidfd`) and forks the process, which joins its PID
/// namespace so. Returns the process, whose parent we are until we exit.
pub(super) fn run(
    pidfd: &OwnedFd,
    target: ProcessId,
    settings: Settings,
    bpf: Vec<u8>,
    inherited: Inherited,
) -> Result<ProcessId, ChildFailure> {
    let failed = || ChildFailure::at::<io::Error>(Stage::JoinNamespaces, format!("process {target}"));
    let flags = differing(target).map_err(failed())?;
    // The pidfd is the proof that what we compared was the target: it still lives.
    if !target.is_alive() {
        return Err(failed()(io::Error::from_raw_os_error(libc::ESRCH)));
    }
    if let Some(score) = settings.oom_score_adj {
        std::fs::write("/proc/self/oom_score_adj", score.to_string())
            .map_err(ChildFailure::at::<io::Error>(Stage::Prologue, "oom_score_adj"))?;
    }
    // What is under /proc in the container may be the image's: keep a handle of ours.
    let host_proc = rustix::fs::open("/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(ChildFailure::at(Stage::JoinNamespaces, "/proc"))?;
    // All in one call, so that the kernel checks and orders them (setns(2), Linux 5.8).
    if !flags.is_empty() {
        setns(pidfd.as_fd(), flags).map_err(|e| failed()(e.into()))?;
    }
    // Joining a mount namespace sets root and working directory to its root, which is the container's.

    match sys::fork().map_err(ChildFailure::at::<io::Error>(Stage::Fork, "process"))? {
        Some(pid) => identify(&host_proc, pid).map_err(ChildFailure::at::<io::Error>(Stage::Fork, "process")),
        None => child(host_proc, settings, bpf, inherited),
    }
}

fn child(host_proc: OwnedFd, mut settings: Settings, bpf: Vec<u8>, inherited: Inherited) -> ! {
    let ready = (|| {
        rustix::process::setsid().map_err(ChildFailure::at(Stage::Session, "setsid"))?;
        if let Some(profile) = settings.apparmor_profile.take() {
            set_apparmor(&host_proc, &profile)
                .map_err(ChildFailure::at::<io::Error>(Stage::AppArmor, profile))?;
        }
        Ok(())
    })();
    // From here on paths are followed that the container controls, and one through `/proc/self/fd` would lead out.
    drop(host_proc);
    if let Err(failure) = ready {
        tell(&mut std::fs::File::from(inherited.report), &failure);
        std::process::exit(125);
    }
    prepare_and_execute((settings, bpf, inherited))
}

/// The namespaces in which `target` and we differ. One that is the same must not be named: setns(2) refuses to enter
/// our own user namespace.
fn differing(target: ProcessId) -> io::Result<CloneFlags> {
    let mut flags = CloneFlags::empty();
    for (name, flag) in NAMESPACES {
        let theirs = std::fs::read_link(format!("/proc/{}/ns/{name}", target.pid));
        let ours = std::fs::read_link(Path::new("/proc/self/ns").join(name));
        match (theirs, ours) {
            (Ok(theirs), Ok(ours)) if theirs == ours => {}
            (Ok(_), Ok(_)) => flags |= flag,
            // A kernel without this kind of namespace.
            (Err(_), Err(e)) if e.kind() == io::ErrorKind::NotFound => {}
            (Err(e), _) | (_, Err(e)) => return Err(e),
        }
    }
    Ok(flags)
}

/// [`ProcessId::of`] through a handle of the host's `/proc`: ours is the container's by now.
fn identify(host_proc: &OwnedFd, pid: u32) -> io::Result<ProcessId> {
    let file = rustix::fs::openat(host_proc, format!("{pid}/stat"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    ProcessId::from_stat(pid, std::fs::File::from(file))
}

/// Asks for the profile to be set at the next execve (apparmor(7), aa_change_onexec(3)).
fn set_apparmor(host_proc: &OwnedFd, profile: &str) -> io::Result<()> {
    // "self" through the host's /proc is our pid there.
    let open = |path| rustix::fs::openat(host_proc, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
    let file = open("self/attr/apparmor/exec").or_else(|_| open("self/attr/exec"))?;
    let written = rustix::io::write(&file, format!("exec {profile}").as_bytes())?;
    debug_assert!(written > 0 && file.as_raw_fd() >= 0);
    Ok(())
}
