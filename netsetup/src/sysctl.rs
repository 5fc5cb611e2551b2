//! Kernel settings under /proc/sys/net, of the network namespace of the calling thread.

use crate::NetError;
use std::{
    fs::{self, File},
    io::{self, Write},
    path::PathBuf,
};

/// sysctl(8) name, with '/' as separator since link names may hold dots.
pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(name)
}

/// Makes a setting. Where /proc/sys is read-only, having that value already will do.
pub(crate) fn ensure(name: &str, value: &'static str) -> Result<(), NetError> {
    let path = path(name);
    // Not fs::write, which would try to create what the kernel does not have.
    File::options()
        .write(true)
        .open(&path)
        .and_then(|mut file| file.write_all(value.as_bytes()))
        .or_else(|refused| match fs::read_to_string(&path) {
            Ok(current) if current.split_whitespace().eq(value.split_whitespace()) => Ok(()),
            _ => Err(refused),
        })
        .map_err(|source| NetError::Sysctl {
            name: name.to_owned(),
            value,
            source,
        })
}

/// [`ensure`], where the kernel has the setting: one built without IPv6 lacks those under net/ipv6.
pub(crate) fn ensure_if_known(name: &str, value: &'static str) -> Result<(), NetError> {
    match ensure(name, value) {
        Err(NetError::Sysctl { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
