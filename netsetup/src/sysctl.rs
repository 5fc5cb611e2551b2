//! Kernel settings under /proc/sys/net, of the network namespace of the calling thread.

use crate::NetError;
use std::{fs, io, path::PathBuf};

/// sysctl(8) name, with '/' as separator since link names may hold dots.
pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(name)
}

/// Makes a setting, unless it has that value already (so that a read-only /proc/sys with right values will do).
pub(crate) fn ensure(name: &str, value: &'static str) -> Result<(), NetError> {
    let path = path(name);
    let write = || -> io::Result<()> {
        if fs::read_to_string(&path)?.split_whitespace().eq(value.split_whitespace()) {
            return Ok(());
        }
        fs::write(&path, value)
    };
    write().map_err(|source| NetError::Sysctl { name: name.to_owned(), value, source })
}

/// [`ensure`], where the kernel has the setting: one built without IPv6 lacks those under net/ipv6.
pub(crate) fn ensure_if_known(name: &str, value: &'static str) -> Result<(), NetError> {
    match ensure(name, value) {
        Err(NetError::Sysctl { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
