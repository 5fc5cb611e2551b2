//! The floor: what the kernel charges for a pod of two containers, and nothing else.
//!
//! `minipod-floor up ROOT STATE BRIDGE ADDRESS/LEN` makes with bare system calls what `minipod run -d` makes for a pod of two
//! containers of the toolbox: pause in new net, ipc and uts namespaces, its cgroups, a veth on the bridge with address and
//! default route, and for each container an overlay, the mounts of the default spec, pivot_root, cgroups, setns, capabilities,
//! exec. `minipod-floor down STATE` removes it. No JSON, no checks, no logs, no seccomp, no supervision.
//!
//! ```text
//! up ── clone3(net ipc uts) ── pause
//!  ├─── clone3(mnt pid) ── joins pause, mounts, pivots, execs `sh`   (a)
//!  └─── clone3(mnt pid) ──                                           (b)
//! ```
#![deny(unsafe_code)]

mod container;
mod link;

use std::fs;
use std::io;
use std::path::Path;
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pause, setsid};

use container::Container;

/// The hierarchies in which a pod has limits; what exists of them is used, or else the unified one.
const CONTROLLERS: [&str; 3] = ["pids", "memory", "cpu"];

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[1..] {
        ["up", root, state, bridge, address] => up(Path::new(root), Path::new(state), bridge, address),
        ["down", state] => down(Path::new(state)),
        _ => Err(io::Error::other("usage: minipod-floor up ROOT STATE BRIDGE ADDRESS/LEN | down STATE")),
    }
}

fn up(root: &Path, state: &Path, bridge: &str, address: &str) -> io::Result<()> {
    let flags = libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    let sandbox = testkit::sys::clone_child(flags as u64, || {
        let quiet = fs::File::open("/dev/null").is_ok_and(|null| nix::unistd::dup2_stdout(&null).is_ok() && nix::unistd::dup2_stderr(&null).is_ok());
        if setsid().is_err() || !quiet {
            return 1;
        }
        loop {
            pause();
        }
    })?;
    let mut pids = vec![sandbox];
    let groups = cgroups(state);
    for group in &groups {
        fs::create_dir_all(group)?;
        join(group, sandbox)?;
    }
    link::attach(sandbox, bridge, &link::name(state), address)?;
    for name in ["a", "b"] {
        let container = Container::prepare(root, &state.join(name), sandbox)?;
        let own: Vec<_> = groups.iter().map(|group| group.join(name)).collect();
        for group in &own {
            fs::create_dir(group)?;
        }
        let pid = testkit::sys::clone_child((libc::CLONE_NEWNS | libc::CLONE_NEWPID) as u64, || {
            let error = container.become_it(&own);
            eprintln!("floor: container {name}: {error}");
            127
        })?;
        pids.push(pid);
    }
    let text: String = pids.iter().map(|pid| format!("{pid}\n")).collect();
    fs::write(state.join("pids"), text)
}

/// What takes the kernel time goes on side by side: processes end, and with them their mounts and namespaces, while the link goes.
fn down(state: &Path) -> io::Result<()> {
    let text = fs::read_to_string(state.join("pids"))?;
    let pids: Vec<Pid> = text.lines().filter_map(|line| line.parse().ok().map(Pid::from_raw)).collect();
    let watched: Vec<_> = pids.iter().map(|pid| rustix::process::pidfd_open(rustix::process::Pid::from_raw(pid.as_raw()).expect("a pid"), rustix::process::PidfdFlags::empty())).collect();
    for pid in pids.iter().rev() {
        kill(*pid, Signal::SIGKILL)?;
    }
    thread::scope(|scope| {
        let link = scope.spawn(|| link::detach(&link::name(state)));
        for pidfd in watched.into_iter().flatten() {
            rustix::event::poll(&mut [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)], None)?;
        }
        for group in cgroups(state) {
            for child in ["a", "b", ""] {
                fs::remove_dir(group.join(child))?;
            }
        }
        fs::remove_dir_all(state)?;
        link.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The pod's cgroup in each hierarchy.
fn cgroups(state: &Path) -> Vec<std::path::PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let v1: Vec<_> = CONTROLLERS.iter().map(|name| root.join(name)).filter(|dir| dir.is_dir()).collect();
    let roots = if v1.is_empty() { vec![root.to_owned()] } else { v1 };
    let name = link::name(state);
    roots.into_iter().map(|root| root.join(&name)).collect()
}

pub(crate) fn join(group: &Path, pid: i32) -> io::Result<()> {
    fs::write(group.join("cgroup.procs"), pid.to_string())
}
