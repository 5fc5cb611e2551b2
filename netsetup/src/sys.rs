//! The crate's only unsafe code.

use netlink_sys::{Socket, TokioSocket};
use std::os::fd::{FromRawFd, IntoRawFd};

/// Registers a netlink socket, opened elsewhere, with the calling task's runtime.
///
/// # Panics
/// Outside a tokio runtime with I/O enabled.
pub(crate) fn tokio_netlink(socket: Socket) -> TokioSocket {
    // SAFETY: `socket` owns an open descriptor, and `into_raw_fd` gives that ownership up to the new owner.
    unsafe { TokioSocket::from_raw_fd(socket.into_raw_fd()) }
}
