//! The launcher: a short-lived copy of our program with one thread, which may call libcontainer.
//!
//! libcontainer clones without executing and runs much code in the clones; from a process with threads that
//! deadlocks, and twice in one process it corrupts itself. So each creation has a process of its own, which starts
//! clean, holds nothing of the shim's but what it was given, and aborts on panic instead of running the rest of the
//! program in a clone.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use nix::mount::{MntFlags, MsFlags};
use nix::sched::{CloneFlags, CpuSet, unshare};
use oci_spec::runtime::Spec;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{DumpableBehavior, Pid, Signal, WaitId, WaitIdOptions};

use super::identity::{Inherited, Prepared, prepare, tell};
use super::protocol::{
    ChildFailure, FIRST_UNUSED_FD, Message, Mode, REPLY_FD, REPORT_FD, REQUEST_FD, Request, STDIO_FDS, Stage,
    TARGET_FD, read_request, send,
};
use super::{exec, logs};
use crate::process::ProcessId;
use crate::sys;

/// The name by which a copy of our program knows that it is a launcher: its `argv[0]`.
pub const LAUNCHER_ARGV0: &str = "minipod: launcher";

/// What a launcher is: to be called first thing in the `main` of every program that starts containers, when
/// `argv[0]` is [`LAUNCHER_ARGV0`].
pub fn launcher_main() -> ! {
    let code = match sys::inherited_fd(REPLY_FD) {
        Err(_) => {
            // No shim to tell: somebody called us by that name.
            eprintln!("{LAUNCHER_ARGV0}: this is started by minipod, not by people");
            2
        }
        Ok(reply) => {
            // Opened now: once we have joined a container's mount namespace, what is under /proc is the container's.
            let children = std::fs::File::open("/proc/thread-self/children").ok();
            match work(&reply) {
                Ok(()) => 0,
                Err(failure) => {
                    end_children(children);
                    // When the shim is gone there is nobody to tell.
                    send(reply.as_fd(), &Message::Failed(failure), None).unwrap_or_default();
                    1
                }
            }
        }
    };
    std::process::exit(code)
}

fn work(reply: &OwnedFd) -> Result<(), ChildFailure> {
    prologue(reply).map_err(ChildFailure::at::<io::Error>(Stage::Prologue, "launcher"))?;
    let bad_request = || ChildFailure::at::<io::Error>(Stage::Request, "descriptor");
    let request = sys::inherited_fd(REQUEST_FD).map_err(bad_request())?;
    let (request, bpf) = read_request(request).map_err(bad_request())?;
    let Request { mode, settings, cgroup_procs } = request;

    for file in &cgroup_procs {
        std::fs::write(file, "0")
            .map_err(ChildFailure::at::<io::Error>(Stage::Cgroup, file.display().to_string()))?;
    }
    let stdio = match settings.terminal {
        Some(_) => None,
        None => {
            let [stdin, stdout, stderr] = STDIO_FDS.map(sys::inherited_fd);
            Some([stdin.map_err(bad_request())?, stdout.map_err(bad_request())?, stderr.map_err(bad_request())?])
        }
    };
    let inherited = Inherited {
        stdio,
        reply: reply.try_clone().map_err(bad_request())?,
        report: sys::inherited_fd(REPORT_FD).map_err(bad_request())?,
    };
    let process = match mode {
        Mode::Create { id, bundle, state_root, hide_cgroups } => {
            if hide_cgroups {
                hide_cgroup_mounts()?;
            }
            let start = Start { settings, bpf, inherited };
            create(&id, &bundle, &state_root, Workload::new(start))?
        }
        Mode::Exec { target } => {
            let pidfd = sys::inherited_fd(TARGET_FD).map_err(bad_request())?;
            exec::run(&pidfd, target, settings, bpf, inherited)?
        }
    };
    send(reply.as_fd(), &Message::Ready(process), None).map_err(bad_request())
}

/// Forgets what a caller could have left us: libcontainer hands all of it on to the container.
fn prologue(reply: &OwnedFd) -> io::Result<()> {
    sys::default_signals(); // the mask was emptied by spawn
    sys::close_from(FIRST_UNUSED_FD, false)?;
    sys::close_from(REQUEST_FD, true)?;
    nix::unistd::setgroups(&[])?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    sys::new_session_keyring()?;
    all_processors()?;
    give_up_oom_protection()?;
    // Nobody may trace us or read our descriptors while we are inside a container and not yet of it.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // Without a shim nobody would end us if we hang, and `gc`, which ends what is in the pod's cgroup, may have come and gone
    // before we join it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if is_closed(reply)? {
        return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the shim is gone"));
    }
    // What our children leave behind comes to us, so that a failure ends them all.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    std::env::set_current_dir("/")?;
    report_panics(reply.try_clone()?);
    logs::to_shim(reply.try_clone()?);
    Ok(())
}

/// Whether nobody has the other end.
fn is_closed(socket: &OwnedFd) -> io::Result<bool> {
    let mut polled = [PollFd::new(socket, PollFlags::empty())];
    rustix::event::poll(&mut polled, Some(&Timespec::default()))?;
    Ok(polled[0].revents().contains(PollFlags::HUP))
}

/// Takes back what the caller was bound to: a container may use what its cgroup allows.
fn all_processors() -> io::Result<()> {
    let mut all = CpuSet::new();
    for cpu in 0..CpuSet::count() {
        all.set(cpu)?;
    }
    Ok(nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &all)?) // of these, the kernel takes those there are
}

/// The shim asks the OOM killer to spare it, which needs CAP_SYS_RESOURCE. Written with the same capability, 0 is also the least that a
/// container without it may set (proc_pid_oom_score_adj(5)).
fn give_up_oom_protection() -> io::Result<()> {
    let file = "/proc/self/oom_score_adj";
    if std::fs::read_to_string(file)?.starts_with('-') {
        std::fs::write(file, "0")?;
    }
    Ok(())
}

fn report_panics(reply: OwnedFd) {
    std::panic::set_hook(Box::new(move |info| {
        let failure = ChildFailure { stage: Stage::Panic, errno: None, causes: vec![info.to_string()] };
        // The abort says the rest.
        send(reply.as_fd(), &Message::Failed(failure), None).unwrap_or_default();
        std::process::abort();
    }));
}

/// Kills and reaps whatever we started, however far it came. `list` is our `/proc/thread-self/children`.
fn end_children(mut list: Option<std::fs::File>) {
    loop {
        let mut children = String::new();
        if let Some(list) = &mut list {
            // Unreadable is empty: then their own end is waited for.
            list.rewind().and_then(|()| list.read_to_string(&mut children)).unwrap_or_default();
        }
        for pid in children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter_map(Pid::from_raw) {
            // Not reaped yet, so the pid is still theirs; one that has just ended needs no signal.
            rustix::process::kill_process(pid, Signal::KILL).unwrap_or_default();
        }
        match rustix::process::waitid(WaitId::All, WaitIdOptions::EXITED) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return, // ECHILD: none left
        }
    }
}

/// In a mount namespace of our own, puts an empty directory in the place of the cgroup mounts. libcontainer then does
/// nothing about cgroups: we have joined them already, and its search for them is a quarter of its time on v1.
fn hide_cgroup_mounts() -> Result<(), ChildFailure> {
    const MOUNTS: &str = "/sys/fs/cgroup";
    let failed = |what: &'static str| move |e: nix::errno::Errno| ChildFailure::at(Stage::HideCgroups, what)(e);
    unshare(CloneFlags::CLONE_NEWNS).map_err(failed("unshare"))?;
    let slave = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, slave, None::<&str>).map_err(failed("propagation of /"))?;
    match nix::mount::umount2(MOUNTS, MntFlags::MNT_DETACH) {
        Ok(()) | Err(nix::errno::Errno::EINVAL) => {} // EINVAL: not a mount point, so nothing is there to hide
        Err(e) => return Err(failed(MOUNTS)(e)),
    }
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    nix::mount::mount(Some("none"), MOUNTS, Some("tmpfs"), flags, Some("size=0")).map_err(failed(MOUNTS))
}

fn create(id: &str, bundle: &Path, state_root: &Path, workload: Workload) -> Result<ProcessId, ChildFailure> {
    let build = || {
        let builder = ContainerBuilder::new(id.to_owned(), SyscallType::default())
            .with_root_path(state_root)?
            .with_executor(workload)
            .validate_id()?;
        builder.as_init(bundle).with_systemd(false).with_detach(true).as_sibling(false).build()
    };
    let container = build().map_err(|e| ChildFailure::of(Stage::Libcontainer, &e))?;
    let pid = container.pid().ok_or_else(|| ChildFailure {
        stage: Stage::Libcontainer,
        errno: None,
        causes: vec!["it reports no pid".into()],
    })?;
    let pid = u32::try_from(pid.as_raw()).map_err(|e| ChildFailure::of(Stage::Libcontainer, &e))?;
    // Our child, so the pid is its own until we reap it, which we never do.
    ProcessId::of(pid).map_err(ChildFailure::at::<io::Error>(Stage::Libcontainer, format!("process {pid}")))
}

/// What the container's process needs to become itself.
struct Start {
    settings: super::protocol::Settings,
    bpf: Vec<u8>,
    inherited: Inherited,
}

/// libcontainer's seam for "execute": called in the container's first process. libcontainer insists on cloning it
/// across its clones, hence the shared interior; each process has its own copy of that memory.
#[derive(Clone)]
struct Workload {
    start: Rc<RefCell<Option<Start>>>,
    prepared: Rc<RefCell<Option<Prepared>>>,
}

impl Workload {
    fn new(start: Start) -> Self {
        Self { start: Rc::new(RefCell::new(Some(start))), prepared: Rc::default() }
    }
}

impl Executor for Workload {
    /// Called inside the container's root, before the container counts as created.
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        let refused = |why: String| ExecutorValidationError::ArgValidationError(why);
        let start = self.start.borrow_mut().take().ok_or_else(|| refused("validated twice".into()))?;
        let reply = start.inherited.reply.try_clone().map_err(|e| refused(e.to_string()))?;
        match prepare(start.settings, start.bpf, start.inherited, super::terminal::Console::Mounted) {
            Ok(prepared) => {
                self.prepared.replace(Some(prepared));
                Ok(())
            }
            Err(failure) => {
                let text = failure.to_string();
                // Whole and straight to the shim: libcontainer passes on one line. If this fails, that line remains.
                send(reply.as_fd(), &Message::Failed(failure), None).unwrap_or_default();
                Err(refused(text))
            }
        }
    }

    /// The environment is handed to execve itself.
    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }

    /// Called once the container is started. Never returns: on failure, which is reported on our pipe, the process
    /// ends with the code a shell would give.
    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        let prepared = self.prepared.borrow_mut().take();
        let prepared = prepared.ok_or_else(|| ExecutorError::Other("executed before it was validated".into()))?;
        let failure = prepared.finish();
        std::process::exit(super::exit_code_of(&failure).into())
    }
}

/// For an exec'd process: prepares and executes; never returns.
pub(super) fn prepare_and_execute(start: (super::protocol::Settings, Vec<u8>, Inherited)) -> ! {
    let (settings, bpf, inherited) = start;
    let report = inherited.report.try_clone();
    let failure = match prepare(settings, bpf, inherited, super::terminal::Console::Untouched) {
        Ok(prepared) => prepared.finish(),
        Err(failure) => {
            if let Ok(report) = report {
                tell(&mut std::fs::File::from(report), &failure);
            }
            failure
        }
    };
    std::process::exit(super::exit_code_of(&failure).into())
}
