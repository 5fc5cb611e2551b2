//! From an unpacked initramfs to a machine on which containers can run.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nix::mount::{MsFlags, mount};

/// Where, of which type, with which options.
const MOUNTS: [(&str, &str, &str); 6] = [
    ("/proc", "proc", ""),
    ("/sys", "sysfs", ""),
    ("/dev", "devtmpfs", ""),
    ("/dev/pts", "devpts", "gid=5,mode=620,ptmxmode=666"),
    ("/dev/shm", "tmpfs", ""),
    ("/sys/fs/cgroup", "cgroup2", ""),
];
const MODULES: &str = "/lib/modules";

/// Does all of it.
pub(crate) fn prepare() -> io::Result<()> {
    leave_rootfs()?;
    for (at, kind, options) in MOUNTS {
        fs::create_dir_all(at)?;
        mount(Some(kind), at, Some(kind), MsFlags::empty(), Some(options)).map_err(|e| told("mount", at, e.into()))?;
    }
    for dir in ["/run", "/tmp", "/var/lib", "/var/log", "/root"] {
        fs::create_dir_all(dir)?;
    }
    fs::set_permissions("/tmp", fs::Permissions::from_mode(0o1777))?;
    modules()?;
    testkit::sys::interface_up("lo")
}

/// pivot_root(2) refuses to leave the kernel's own rootfs, which an initramfs is. A second mount of it, on top of the first, is a root
/// like any other.
fn leave_rootfs() -> io::Result<()> {
    let none = None::<&str>;
    fs::create_dir("/root-again")?;
    mount(Some("/"), "/root-again", none, MsFlags::MS_BIND, none)?;
    std::env::set_current_dir("/root-again")?;
    mount(Some("."), "/", none, MsFlags::MS_MOVE, none)?;
    nix::unistd::chroot(".")?;
    std::env::set_current_dir("/")?;
    fs::remove_dir("/root-again")
}

/// Loads what the test has put there, in the order of the names.
fn modules() -> io::Result<()> {
    let mut files: Vec<_> = fs::read_dir(MODULES)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    files.sort();
    for file in files {
        rustix::system::finit_module(&File::open(&file)?, c"", 0).map_err(|e| told("load", &file, e.into()))?;
    }
    Ok(())
}

fn told(what: &str, subject: impl AsRef<Path>, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what} {}: {error}", subject.as_ref().display()))
}
