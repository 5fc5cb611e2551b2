//! A routing netlink socket and its driver task.

use crate::{NetError, sys};
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use rtnetlink::Handle;
use std::io;

/// rtnetlink(7) in the namespace where the socket was opened, wherever it is used from.
pub(crate) struct Rtnl {
    handle: Handle,
    driver: tokio::task::JoinHandle<()>,
}

impl Rtnl {
    /// Speaks to the calling thread's namespace.
    pub(crate) fn here() -> Result<Self, NetError> {
        let (connection, handle, _) = rtnetlink::new_connection()
            .map_err(NetError::netlink("open", "routing netlink socket"))?;
        Ok(Self {
            handle,
            driver: tokio::spawn(connection),
        })
    }

    /// Speaks to the namespace in which `socket` was opened.
    pub(crate) fn with(socket: Socket) -> Self {
        let (connection, handle, _) = rtnetlink::from_socket(sys::tokio_netlink(socket));
        Self {
            handle,
            driver: tokio::spawn(connection),
        }
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Rtnl {
    fn drop(&mut self) {
        self.driver.abort(); // closes the socket, and with it the hold on the namespace
    }
}

/// Opens a socket in the calling thread's namespace, for [`Rtnl::with`].
pub(crate) fn open_socket() -> io::Result<Socket> {
    Socket::new(NETLINK_ROUTE)
}

/// The kernel's answer to a request: its errno, or what else went wrong.
pub(crate) fn answer(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}
