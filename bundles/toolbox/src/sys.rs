//! The raw calls that have no safe wrapper: fork, signal handlers and descriptors by number.
//!
//! A shell deals in descriptor numbers its script names (`2>&1`, `exec 5<file`), so numbers it is here, not `OwnedFd`.

use std::ffi::CString;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{ForkResult, Pid};

/// Bit n is set when signal n has come and nobody has taken it.
static PENDING: AtomicU64 = AtomicU64::new(0);

extern "C" fn note(signal: libc::c_int) {
    PENDING.fetch_or(1 << signal, Ordering::SeqCst);
}

/// What a signal does to this process.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// What the kernel does with it.
    Default,
    /// Nothing.
    Ignore,
    /// It is noted for [`take_pending`] and interrupts system calls.
    Note,
}

/// Sets what `signal` does.
///
/// # Errors
/// EINVAL for SIGKILL and SIGSTOP.
pub(crate) fn on_signal(signal: Signal, what: Disposition) -> nix::Result<()> {
    let handler = match what {
        Disposition::Default => SigHandler::SigDfl,
        Disposition::Ignore => SigHandler::SigIgn,
        Disposition::Note => SigHandler::Handler(note),
    };
    // SAFETY: the handler does one atomic operation, which is async-signal-safe.
    unsafe { sigaction(signal, &SigAction::new(handler, SaFlags::empty(), SigSet::empty())) }.map(drop)
}

/// The lowest noted signal, SIGCHLD excepted, which only wakes sleepers.
pub(crate) fn take_pending() -> Option<Signal> {
    let pending = PENDING.load(Ordering::SeqCst) & !(1 << libc::SIGCHLD);
    let number = pending.trailing_zeros();
    if number == u64::BITS {
        return None;
    }
    PENDING.fetch_and(!(1 << number), Ordering::SeqCst);
    Signal::try_from(number as libc::c_int).ok()
}

/// Forgets what was noted, as a subshell does.
pub(crate) fn forget_pending() {
    PENDING.store(0, Ordering::SeqCst);
}

/// fork(2): the child's number in the parent, `None` in the child.
///
/// # Errors
/// As fork(2).
pub(crate) fn fork() -> nix::Result<Option<Pid>> {
    // SAFETY: this program has one thread while it forks, so the child may do whatever the parent might.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// Ends the process at once, without destructors or atexit handlers: those are the parent's to run.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) takes any number.
    unsafe { libc::_exit(code) }
}

/// Becomes another program. Returns the error only.
pub(crate) fn exec(path: &CString, args: &[CString], env: &[CString]) -> nix::Error {
    match nix::unistd::execve(path, args, env) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

/// dup2(2).
///
/// # Errors
/// As dup2(2).
pub(crate) fn dup_to(from: i32, to: i32) -> io::Result<()> {
    // SAFETY: descriptors are numbers; the kernel checks them.
    check(unsafe { libc::dup2(from, to) }).map(drop)
}

/// A copy of `fd` out of the way (10 or above), closed on exec.
///
/// # Errors
/// EBADF when `fd` is not open.
pub(crate) fn dup_away(fd: i32) -> io::Result<i32> {
    // SAFETY: as above.
    check(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 10) })
}

/// close(2); a descriptor that is not open is as closed as wanted.
pub(crate) fn close(fd: i32) {
    // SAFETY: the shell owns the descriptors its script names; no Rust object holds this number.
    unsafe { libc::close(fd) };
}

/// A pipe: the end to read and the end to write, both closed on exec.
///
/// # Errors
/// As pipe2(2).
pub(crate) fn pipe() -> io::Result<(i32, i32)> {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for the two numbers.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    Ok((ends[0], ends[1]))
}

/// read(2), not restarted after a signal.
///
/// # Errors
/// As read(2), EINTR included.
pub(crate) fn read(fd: i32, into: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are one slice's.
    let got = unsafe { libc::read(fd, into.as_mut_ptr().cast(), into.len()) };
    usize::try_from(got).map_err(|_| io::Error::last_os_error())
}

/// Writes all of `bytes`, on through signals.
///
/// # Errors
/// As write(2).
pub(crate) fn write_all(fd: i32, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        // SAFETY: the pointer and the length are one slice's.
        let put = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
        match usize::try_from(put) {
            Ok(put) => bytes = &bytes[put..],
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
    Ok(())
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The signal that [`take_pending`] would take.
pub(crate) fn pending() -> Option<Signal> {
    let pending = PENDING.load(Ordering::SeqCst) & !(1 << libc::SIGCHLD);
    Signal::try_from(pending.trailing_zeros() as libc::c_int).ok()
}

/// Sleeps with `mask` in force until a handler has run (sigsuspend(2)).
pub(crate) fn sleep_until_signal(mask: &SigSet) {
    // SAFETY: the set is a valid one. It always "fails" with EINTR: that is its way to return.
    unsafe { libc::sigsuspend(mask.as_ref()) };
}

/// A kind of System V IPC object.
#[derive(Clone, Copy)]
pub(crate) enum IpcKind {
    /// A segment of so many bytes.
    Memory(usize),
    /// An array of so many semaphores.
    Semaphores(usize),
    /// A message queue.
    Queue,
}

/// Makes an object with no key and gives its id.
///
/// # Errors
/// As shmget(2), semget(2), msgget(2).
pub(crate) fn ipc_make(kind: IpcKind, mode: i32) -> io::Result<i32> {
    let flags = libc::IPC_CREAT | mode;
    // SAFETY: these calls take numbers only.
    check(unsafe {
        match kind {
            IpcKind::Memory(bytes) => libc::shmget(libc::IPC_PRIVATE, bytes, flags),
            IpcKind::Semaphores(count) => libc::semget(libc::IPC_PRIVATE, i32::try_from(count).unwrap_or(i32::MAX), flags),
            IpcKind::Queue => libc::msgget(libc::IPC_PRIVATE, flags),
        }
    })
}

/// Removes an object.
///
/// # Errors
/// As shmctl(2), semctl(2), msgctl(2).
pub(crate) fn ipc_remove(kind: IpcKind, id: i32) -> io::Result<()> {
    // SAFETY: IPC_RMID uses no buffer.
    check(unsafe {
        match kind {
            IpcKind::Memory(_) => libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()),
            IpcKind::Semaphores(_) => libc::semctl(id, 0, libc::IPC_RMID),
            IpcKind::Queue => libc::msgctl(id, libc::IPC_RMID, std::ptr::null_mut()),
        }
    })
    .map(drop)
}
