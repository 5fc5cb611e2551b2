//! The system calls between `clone3` and the pause program.
//!
//! The child of a `clone3` may only make raw system calls (signal-safety(7)): everything it needs is prepared before.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use super::descriptors::close_ranges;

/// What the child needs, prepared by the parent.
pub(crate) struct PauseChild<'a> {
    /// `CLONE_NEW*` flags of the pod's namespaces; a mount namespace of its own is always added.
    pub(crate) namespaces: u64,
    /// The sealed memfd to execute.
    pub(crate) program: BorrowedFd<'a>,
    /// An existing directory, hidden under the empty root in the child's mount namespace only.
    pub(crate) root: &'a CStr,
    /// The name of the new UTS namespace.
    pub(crate) hostname: Option<&'a CStr>,
    /// Descriptors from first to last that belong to the shim alone: its lock, which would outlive it in pause, and the other
    /// end of `go`, without which the end of the file never comes.
    pub(crate) close: &'a [(u32, u32)],
    /// `cgroup.procs` files through which the child joins the pod's cgroups, first of all: on cgroup v1 the first move after
    /// a quiet time waits for an RCU grace period (about 10 ms), and this way nobody else waits for it.
    pub(crate) cgroups: &'a [OwnedFd],
    /// One byte tells the child to go on; end of file (the parent died) tells it to end.
    pub(crate) go: BorrowedFd<'a>,
    /// Where `[stage, errno]` of a failure goes; closed by a successful `execveat`.
    pub(crate) failure: BorrowedFd<'a>,
    /// The seccomp program, loaded last.
    pub(crate) filter: &'a [libc::sock_filter],
}

/// Steps of the child, for the report of a failure.
pub(crate) const STAGES: &[&str] = &[
    "close the shim's descriptors",
    "join the pod's cgroups",
    "wait for the record",
    "set the host name",
    "make the mount namespace private",
    "mount the empty root",
    "enter the empty root",
    "pivot to the empty root",
    "leave the host's root",
    "detach standard streams",
    "reset signals",
    "drop the capability bounding set",
    "drop groups and users",
    "drop capabilities",
    "set no_new_privs",
    "load the seccomp filter",
    "execute pause",
];

/// User and group of pause, as Kubernetes' image has them.
const PAUSE_ID: libc::uid_t = 65535;

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Clones the pause process; it waits for `go` before anything else. Returns its pid and pidfd.
///
/// # Errors
/// Those of clone3(2).
pub(crate) fn clone_pause(child: &PauseChild<'_>) -> io::Result<(u32, OwnedFd)> {
    let mut pidfd: libc::c_int = -1;
    let args = CloneArgs {
        flags: child.namespaces | libc::CLONE_NEWNS as u64 | libc::CLONE_PIDFD as u64,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    // SAFETY: args is a valid clone_args of the given size and outlives the call; without CLONE_VM the child runs on a
    // copy of this memory, so it may use the borrows in `child`, and it only makes raw system calls.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => in_child(child),
        pid => {
            // SAFETY: the kernel stored a new descriptor, which nobody else knows.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let pid = u32::try_from(pid).map_err(io::Error::other)?;
            Ok((pid, pidfd))
        }
    }
}

/// Runs in the child; never returns.
fn in_child(child: &PauseChild<'_>) -> ! {
    let mut stage = 0_u8;
    let errno = setup_and_exec(child, &mut stage);
    let report = [stage, u8::try_from(errno).unwrap_or(u8::MAX)];
    // SAFETY: two bytes of a live array; the descriptor is ours. A parent that is gone needs no report.
    unsafe {
        libc::write(child.failure.as_raw_fd(), report.as_ptr().cast(), report.len());
        libc::_exit(1)
    }
}

/// Returns errno when a step failed.
fn setup_and_exec(child: &PauseChild<'_>, stage: &mut u8) -> i32 {
    // SAFETY: raw system calls on prepared, NUL-terminated or sized memory of this process' own copy.
    unsafe {
        if close_ranges(child.close) < 0 {
            return *libc::__errno_location();
        }
        *stage += 1;
        for procs in child.cgroups {
            if libc::write(procs.as_raw_fd(), c"0".as_ptr().cast(), 1) != 1 {
                return *libc::__errno_location();
            }
        }
        *stage += 1;
        let mut byte = 0_u8;
        if libc::read(child.go.as_raw_fd(), (&raw mut byte).cast(), 1) != 1 {
            libc::_exit(0);
        }
        macro_rules! step {
            ($call:expr) => {
                *stage += 1;
                if $call < 0 {
                    return *libc::__errno_location();
                }
            };
        }
        let empty = c"".as_ptr();
        step!(child.hostname.map_or(0, |name| libc::sethostname(name.as_ptr(), name.count_bytes())));
        step!(libc::mount(empty, c"/".as_ptr(), empty, libc::MS_REC | libc::MS_PRIVATE, std::ptr::null()));
        step!(libc::mount(
            c"tmpfs".as_ptr(),
            child.root.as_ptr(),
            c"tmpfs".as_ptr(),
            libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC,
            c"size=4k,nr_inodes=1,mode=555".as_ptr().cast(),
        ));
        step!(libc::chdir(child.root.as_ptr()));
        step!(libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()));
        step!(libc::umount2(c".".as_ptr(), libc::MNT_DETACH));
        // The shim's standard input is /dev/null; its error stream is a file that pause has no business with.
        step!(libc::dup2(0, 1).min(libc::dup2(0, 2)).min(close_on_exec_from(3)));
        let mut signals: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut signals);
        // Pause waits for these; blocked from here on, none is lost between exec and its own blocking of them.
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGCHLD] {
            libc::sigaddset(&raw mut signals, signal);
        }
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        step!(libc::sigprocmask(libc::SIG_SETMASK, &raw const signals, std::ptr::null_mut()));
        step!(drop_bounding_set());
        step!(libc::syscall(libc::SYS_setgroups, 0, 0)
            .min(libc::syscall(libc::SYS_setresgid, PAUSE_ID, PAUSE_ID, PAUSE_ID))
            .min(libc::syscall(libc::SYS_setresuid, PAUSE_ID, PAUSE_ID, PAUSE_ID)));
        step!(clear_capabilities());
        step!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
        let program = libc::sock_fprog { len: child.filter.len() as u16, filter: child.filter.as_ptr().cast_mut() };
        step!(libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program));
        let argv = [c"/pause".as_ptr(), std::ptr::null()];
        let envp = [std::ptr::null::<libc::c_char>()];
        step!(libc::syscall(
            libc::SYS_execveat,
            child.program.as_raw_fd(),
            empty,
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        ));
        0
    }
}

/// Raw call only: everything from `first` on closes at the next exec.
fn close_on_exec_from(first: u32) -> libc::c_int {
    // SAFETY: touches descriptor flags only.
    let rc = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if rc < 0 { -1 } else { 0 }
}

/// Empties the bounding set; the first unknown capability number is the end.
fn drop_bounding_set() -> libc::c_int {
    for capability in 0..64 {
        // SAFETY: prctl with integer arguments.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } < 0 {
            // SAFETY: errno of this thread.
            return if unsafe { *libc::__errno_location() } == libc::EINVAL { 0 } else { -1 };
        }
    }
    0
}

/// Empties the effective, permitted and inheritable sets.
fn clear_capabilities() -> libc::c_long {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header { version: VERSION_3, pid: 0 };
    let none = [0_u32; 6];
    // SAFETY: header and data have the layout of capset(2), version 3.
    unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) }
}
