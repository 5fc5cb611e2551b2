//! Our own program as launchers execute it: a file that nobody can write through `/proc/PID/exe` (CVE-2019-5736).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, MemfdFlags, SealFlags};
use rustix::mount::OpenTreeFlags;

use crate::sys;

/// Opens the program at `path` for execution by descriptor, protected against writing: a read-only detached clone of
/// its mount (Linux 5.12), else a sealed copy in memory.
///
/// Call it once, with `/proc/self/exe`, when the shim starts.
///
/// # Errors
/// When the file cannot be opened, or neither way works.
pub fn protected(path: &Path) -> io::Result<OwnedFd> {
    readonly_mount(path).or_else(|_| sealed_copy(path))
}

fn readonly_mount(path: &Path) -> io::Result<OwnedFd> {
    // The magic link is resolved first: a clone of /proc itself would not be of the program's mount.
    let path = std::fs::canonicalize(path)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(CWD, &path, flags)?;
    sys::make_tree_readonly(tree.as_fd())?;
    Ok(tree)
}

fn sealed_copy(path: &Path) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Since Linux 6.3 executability is asked for; before, the flag is unknown and not needed.
    let fd = rustix::fs::memfd_create("minipod", flags | MemfdFlags::EXEC)
        .or_else(|_| rustix::fs::memfd_create("minipod", flags))?;
    let mut copy = File::from(fd);
    io::copy(&mut File::open(path)?, &mut copy)?;
    rustix::fs::fcntl_add_seals(&copy, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    // Reopened read-only: a file open for writing cannot be executed (ETXTBSY).
    let readonly = File::open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&copy)))?;
    Ok(readonly.into())
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::os::fd::AsRawFd;

    use super::*;

    /// Both ways, because the fallback is not taken on a kernel as new as this one.
    #[test]
    fn a_protected_program_cannot_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("program");
        std::fs::write(&file, "#!/bin/true").unwrap();
        for (way, refused) in [
            (readonly_mount as fn(&Path) -> io::Result<OwnedFd>, libc::EROFS),
            (sealed_copy, libc::EPERM),
        ] {
            let fd = way(&file).unwrap();
            let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
            let written = OpenOptions::new().write(true).open(&link).and_then(|mut f| io::Write::write_all(&mut f, b"x"));
            assert_eq!(Some(refused), written.unwrap_err().raw_os_error());
            assert_eq!("#!/bin/true", std::fs::read_to_string(&link).unwrap());
        }
        std::fs::write(&file, "changed").unwrap(); // the original stays what it was: writable
    }
}
