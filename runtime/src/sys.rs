//! The crate's one unsafe door: raw calls only, no decisions.

pub(crate) mod bpf;
pub(crate) mod descriptors;
pub(crate) mod pause;
pub(crate) mod program;

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

fn check(rc: libc::c_int) -> io::Result<libc::c_int> {
    if rc == -1 { Err(io::Error::last_os_error()) } else { Ok(rc) }
}

fn check_long(rc: libc::c_long) -> io::Result<libc::c_long> {
    if rc == -1 { Err(io::Error::last_os_error()) } else { Ok(rc) }
}

/// The functions of the posix_spawn(3) family return the error instead of setting errno.
fn check_returned(rc: libc::c_int) -> io::Result<()> {
    if rc == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(rc)) }
}

/// A real-time signal by its number, SIGRTMIN to SIGRTMAX; `None` for any other.
pub(crate) fn real_time_signal(number: i32) -> Option<rustix::process::Signal> {
    let ours = (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&number);
    // SAFETY: the number is in the range that the C library leaves to programs, which is what the function asks for.
    ours.then(|| unsafe { rustix::process::Signal::from_raw_unchecked(number) })
}

/// Executes `path` in a new process (posix_spawn(3): the child borrows our memory until it executes, so nothing is
/// copied) with the argument `argv0` alone, an empty environment, no signal blocked and all at their defaults.
/// Each pair of `fds` makes our descriptor the child's descriptor of that number; ours must lie above all the numbers.
pub(crate) fn spawn(path: &CStr, argv0: &CStr, fds: &[(BorrowedFd<'_>, RawFd)]) -> io::Result<u32> {
    let mut actions = MaybeUninit::<libc::posix_spawn_file_actions_t>::uninit();
    let mut attributes = MaybeUninit::<libc::posix_spawnattr_t>::uninit();
    let mut signals = MaybeUninit::<libc::sigset_t>::uninit();
    let argv = [argv0.as_ptr().cast_mut(), ptr::null_mut()];
    let envp: [*mut libc::c_char; 1] = [ptr::null_mut()];
    let mut pid = 0;

    // SAFETY: both objects are initialised by their init call before any other use and destroyed exactly once
    // below; init on glibc cannot fail otherwise than by returning an error, which is checked.
    unsafe {
        check_returned(libc::posix_spawn_file_actions_init(actions.as_mut_ptr()))?;
        check_returned(libc::posix_spawnattr_init(attributes.as_mut_ptr()))?;
    }
    // SAFETY: `actions`, `attributes` and `signals` are initialised (above and by sigfillset/sigemptyset before they
    // are read); `path`, `argv` and `envp` are NUL-terminated, null-terminated and outlive the call, which returns
    // only once the child has executed or ended.
    let spawned = unsafe {
        fds.iter()
            .try_for_each(|(fd, number)| {
                check_returned(libc::posix_spawn_file_actions_adddup2(actions.as_mut_ptr(), fd.as_raw_fd(), *number))
            })
            .and_then(|()| {
                libc::sigfillset(signals.as_mut_ptr());
                check_returned(libc::posix_spawnattr_setsigdefault(attributes.as_mut_ptr(), signals.as_ptr()))?;
                libc::sigemptyset(signals.as_mut_ptr());
                check_returned(libc::posix_spawnattr_setsigmask(attributes.as_mut_ptr(), signals.as_ptr()))?;
                let flags = libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETSIGMASK;
                let flags = libc::c_short::try_from(flags).map_err(io::Error::other)?;
                check_returned(libc::posix_spawnattr_setflags(attributes.as_mut_ptr(), flags))?;
                check_returned(libc::posix_spawn(
                    &mut pid,
                    path.as_ptr(),
                    actions.as_ptr(),
                    attributes.as_ptr(),
                    argv.as_ptr(),
                    envp.as_ptr(),
                ))
            })
    };
    // SAFETY: both were initialised above and are not used again.
    unsafe {
        check_returned(libc::posix_spawnattr_destroy(attributes.as_mut_ptr()))?;
        check_returned(libc::posix_spawn_file_actions_destroy(actions.as_mut_ptr()))?;
    }
    spawned?;
    u32::try_from(pid).map_err(io::Error::other)
}

/// Takes over a descriptor that whoever executed us put at a number we agreed on; `EBADF` when it is not open.
/// To be called once per number.
pub(crate) fn inherited_fd(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD has no argument and changes nothing.
    check(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    // SAFETY: the descriptor is open (just checked); the protocol with our parent gives it to us alone, and callers
    // take each number once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// close_range(2): closes the descriptors from `first` on, or with `cloexec` marks them close-on-exec.
pub(crate) fn close_from(first: RawFd, cloexec: bool) -> io::Result<()> {
    let flags = if cloexec { libc::CLOSE_RANGE_CLOEXEC } else { 0 };
    // SAFETY: callers name a range in which they own nothing that is used again, or only set a flag.
    check_long(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, flags) }).map(drop)
}

/// Every signal to its default action: the Rust runtime ignores SIGPIPE, and posix_spawn(3) of glibc ignores its own two
/// real-time signals, all of which execve(2) would hand on. By the raw call: libc's refuses the latter.
pub(crate) fn default_signals() {
    // An all-zero kernel sigaction is SIG_DFL without flags or mask (64 signals are 8 bytes of mask).
    let default = [0_u64; 8];
    for signal in 1..=64 {
        // SAFETY: SIG_DFL runs none of our code. EINVAL for SIGKILL and SIGSTOP is expected: they have no other action.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), ptr::null::<libc::c_void>(), 8_usize) };
    }
}

/// A new and empty session keyring (keyctl(2), `KEYCTL_JOIN_SESSION_KEYRING`): the caller's keys stay the caller's.
pub(crate) fn new_session_keyring() -> io::Result<()> {
    // SAFETY: a null name asks for an anonymous keyring; nothing is read or written through it.
    let joined = unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, ptr::null::<libc::c_char>()) };
    match check_long(joined) {
        // A kernel without keys has none to lose; and who may not call this, by a filter, has containers that may not either.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => Ok(()),
        other => other.map(drop),
    }
}

/// fork(2); `None` in the child. Only for a process with one thread.
pub(crate) fn fork() -> io::Result<Option<u32>> {
    // SAFETY: the caller has one thread, so the child finds every lock free and may do what it likes.
    match check(unsafe { libc::fork() })? {
        0 => Ok(None),
        pid => Ok(Some(u32::try_from(pid).map_err(io::Error::other)?)),
    }
}

/// setrlimit(2) by the kernel's number of the resource.
pub(crate) fn set_rlimit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` is initialised and outlives the call; no old value is asked for.
    check_long(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, ptr::from_ref(&limit), ptr::null_mut::<libc::rlimit64>())
    })
    .map(drop)
}

/// seccomp(2) `SECCOMP_SET_MODE_FILTER` for this thread. `program` is an array of `struct sock_filter`.
pub(crate) fn load_seccomp(program: &[u8], flags: u32) -> io::Result<()> {
    const INSTRUCTION: usize = size_of::<libc::sock_filter>();
    let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
    if program.is_empty() || !program.len().is_multiple_of(INSTRUCTION) {
        return Err(invalid());
    }
    let mut filter: Vec<libc::sock_filter> = program
        .chunks_exact(INSTRUCTION)
        .map(|b| libc::sock_filter {
            code: u16::from_ne_bytes([b[0], b[1]]),
            jt: b[2],
            jf: b[3],
            k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
        })
        .collect();
    let len = u16::try_from(filter.len()).map_err(|_| invalid())?;
    let prog = libc::sock_fprog { len, filter: filter.as_mut_ptr() };
    // SAFETY: `prog` points to `len` instructions that outlive the call; the kernel copies and verifies them.
    let rc = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, ptr::from_ref(&prog))
    };
    check_long(rc).map(drop)
}

/// Makes the detached mount `tree` (open_tree(2)) read-only.
pub(crate) fn make_tree_readonly(tree: BorrowedFd<'_>) -> io::Result<()> {
    let attr = libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the path is an empty C string, `attr` outlives the call and its true size is given.
    check_long(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            ptr::from_ref(&attr),
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

/// The `CLONE_NEW*` flag of the namespace behind `fd` (ioctl_ns(2), `NS_GET_NSTYPE`).
pub(crate) fn namespace_type(fd: BorrowedFd<'_>) -> io::Result<libc::c_int> {
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: this request takes no argument; on a descriptor that is no namespace it fails.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE) })
}

/// Watches `fd` for becoming readable. Each watch needs a descriptor of its own (epoll refuses one twice).
pub(crate) fn watch_readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    watch(fd, Interest::READABLE)
}

/// As [`watch_readable`], for becoming writable.
pub(crate) fn watch_writable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    watch(fd, Interest::WRITABLE)
}

fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: `OwnedFd` always gives the same open descriptor, and it is moved into the watch, which deregisters it
    // before it closes it.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(io::Error::from)
}
