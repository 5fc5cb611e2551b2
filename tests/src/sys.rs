//! Raw calls only, no decisions.

use std::io;

/// `fork` with namespaces: clone3(2) with the flags and SIGCHLD, no shared memory. The child runs `child` and ends with its result.
///
/// Only for a process with a single thread: the child has no other, and may find the locks of others held.
///
/// # Errors
/// What clone3(2) says.
pub fn clone_child(flags: u64, child: impl FnOnce() -> i32) -> io::Result<i32> {
    // SAFETY: an all-zero clone_args is valid: no pointers, no flags.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags;
    args.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: without CLONE_VM and without a stack the child gets a copy of everything, as by fork(2); the caller has one thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: _exit(2) takes a number and does not return; nothing of the parent's is run twice.
        0 => unsafe { libc::_exit(child()) },
        pid => Ok(i32::try_from(pid).expect("a pid fits a pid_t")),
    }
}

/// Brings a network interface of the calling thread's namespace up (netdevice(7), SIOCSIFFLAGS).
///
/// # Errors
/// What ioctl(2) says.
///
/// # Panics
/// When `name` is longer than a name of an interface can be.
pub fn interface_up(name: &str) -> io::Result<()> {
    let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: an all-zero ifreq is valid: an empty name and no flags.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    assert!(name.len() < request.ifr_name.len(), "{name} is too long");
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the kernel reads an ifreq, which lives until the call returns; the descriptor is open.
    match unsafe { libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&socket), libc::SIOCSIFFLAGS, &raw const request) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
