//! A container's root: its image's read-only layers below a private upper directory, by overlayfs. Image volumes: the layers alone.
//! Mounted in the shim's mount namespace, so that it goes with the pod's last process.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
};

use crate::error::Error;
use crate::store::{private_dir, remove_tree};

/// Bytes of options that mount(2) takes, the last NUL among them: a page, the smallest there is.
const PAGE: usize = 4096;

/// Mounts `layers` (topmost first) with a fresh upper directory below `scratch` at `target`.
///
/// Each start of a container gets a fresh upper directory, as kubelet makes a new container for it.
pub(crate) fn mount_overlay(layers: &[PathBuf], scratch: &Path, target: &Path) -> Result<(), Error> {
    remove_tree(scratch)?;
    let (upper, work) = (scratch.join("upper"), scratch.join("work"));
    private_dir(&work)?;
    private_dir(target)?;
    fs::create_dir(&upper).map_err(Error::file("create", &upper))?;
    set_root_mode(layers, &upper)?;
    overlay(layers, Access::Write { upper: &upper, work: &work }, target)
}

/// Mounts `layers` (topmost first) at `target`, an empty directory: for reading, and neither for programs nor for devices.
///
/// An overlay without an upper directory is read-only itself, not its mount alone: no remount, not even a privileged container's,
/// can make it writable. That is why one layer is no bind mount either.
pub(crate) fn mount_layers(layers: &[PathBuf], target: &Path) -> Result<(), Error> {
    match layers {
        // An image without files.
        [] => mount_tmpfs(target, 0o755, None, MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC),
        // Overlay wants two where nothing is written. The other one is the empty directory that the mount covers.
        [one] => overlay(&[one.clone(), target.to_owned()], Access::Read, target),
        several => overlay(several, Access::Read, target),
    }
}

/// What an overlay is mounted for.
#[derive(Clone, Copy)]
enum Access<'a> {
    /// A root: what is written goes into `upper`.
    Write { upper: &'a Path, work: &'a Path },
    /// A volume.
    Read,
}

fn overlay(layers: &[PathBuf], access: Access<'_>, target: &Path) -> Result<(), Error> {
    match overlay_by_fsopen(layers, access, target) {
        // Before Linux 6.5 there is no `lowerdir+`; before 5.2 no fsopen.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {}
        Err(e) => return Err(Error::file("mount overlay at", target)(e.into())),
        Ok(()) => return Ok(()),
    }
    overlay_by_mount(layers, access, target).map_err(|e| Error::file("mount overlay at", target)(e.into()))
}

/// An overlay's root directory has the upper's mode and owner: take them from the image.
fn set_root_mode(layers: &[PathBuf], upper: &Path) -> Result<(), Error> {
    let Some(top) = layers.first() else { return Ok(()) };
    let of = fs::metadata(top).map_err(Error::file("read", top))?;
    fs::set_permissions(upper, of.permissions()).map_err(Error::file("set mode of", upper))?;
    let (uid, gid) = (std::os::unix::fs::MetadataExt::uid(&of), std::os::unix::fs::MetadataExt::gid(&of));
    std::os::unix::fs::chown(upper, Some(uid), Some(gid)).map_err(Error::file("set owner of", upper))
}

fn overlay_by_fsopen(layers: &[PathBuf], access: Access<'_>, target: &Path) -> rustix::io::Result<()> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for layer in layers {
        fsconfig_set_string(context.as_fd(), "lowerdir+", layer.as_path())?;
    }
    let attributes = match access {
        Access::Write { upper, work } => {
            fsconfig_set_string(context.as_fd(), "upperdir", upper)?;
            fsconfig_set_string(context.as_fd(), "workdir", work)?;
            // The upper directory is thrown away with the container: what a crash of the host loses, nobody would read.
            fsconfig_set_flag(context.as_fd(), "volatile")?;
            MountAttrFlags::empty()
        }
        Access::Read => {
            fsconfig_set_flag(context.as_fd(), "ro")?;
            let inert = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
            MountAttrFlags::MOUNT_ATTR_RDONLY | inert
        }
    };
    fsconfig_create(context.as_fd())?;
    let mounted = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    move_to(mounted.as_fd(), target)
}

fn move_to(mounted: BorrowedFd<'_>, target: &Path) -> rustix::io::Result<()> {
    move_mount(mounted, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// For older kernels. mount(2) takes one page of options: where the paths of many layers are more than that, descriptors stand for them.
fn overlay_by_mount(layers: &[PathBuf], access: Access<'_>, target: &Path) -> rustix::io::Result<()> {
    let mut options = overlay_options(layers, access);
    let mut open = Vec::new();
    if options.len() >= PAGE {
        for layer in layers {
            open.push(rustix::fs::open(layer, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?);
        }
        let names: Vec<PathBuf> = open.iter().map(|fd| format!("/proc/self/fd/{}", fd.as_raw_fd()).into()).collect();
        options = overlay_options(&names, access);
        if options.len() >= PAGE {
            // What is behind the page would be cut off without a word.
            return Err(rustix::io::Errno::TOOBIG);
        }
    }
    let flags = match access {
        Access::Write { .. } => MsFlags::empty(),
        Access::Read => MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
    };
    mount(Some("overlay"), target, Some("overlay"), flags, Some(options.as_slice()))
        .map_err(|e| rustix::io::Errno::from_raw_os_error(e as i32))
}

/// `lowerdir=a:b,upperdir=u,workdir=w` with overlayfs' escapes (Documentation/filesystems/overlayfs.rst).
fn overlay_options(layers: &[PathBuf], access: Access<'_>) -> Vec<u8> {
    let mut options = b"lowerdir=".to_vec();
    for (index, layer) in layers.iter().enumerate() {
        if index > 0 {
            options.push(b':');
        }
        escape(layer, &mut options);
    }
    if let Access::Write { upper, work } = access {
        for (key, path) in [(&b",upperdir="[..], upper), (b",workdir=", work)] {
            options.extend_from_slice(key);
            escape(path, &mut options);
        }
    }
    options
}

fn escape(path: &Path, into: &mut Vec<u8>) {
    for &byte in path.as_os_str().as_bytes() {
        if matches!(byte, b':' | b',' | b'\\') {
            into.push(b'\\');
        }
        into.push(byte);
    }
}

/// Mounts one tmpfs for the whole pod: /dev/shm or an emptyDir of medium Memory.
pub(crate) fn mount_tmpfs(target: &Path, mode: u32, size: Option<u64>, flags: MsFlags) -> Result<(), Error> {
    private_dir(target)?;
    let mut options = format!("mode={mode:o}");
    if let Some(size) = size {
        options.push_str(&format!(",size={size}"));
    }
    mount(Some("tmpfs"), target, Some("tmpfs"), flags, Some(options.as_str())).map_err(|e| Error::file("mount tmpfs at", target)(e.into()))
}

/// Unmounts; what is not mounted (any more) is fine.
pub(crate) fn unmount(target: &Path) -> Result<(), Error> {
    match umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => Ok(()),
        Err(e) => Err(Error::file("unmount", target)(io::Error::from(e))),
    }
}

/// Unmounts everything mounted right below `dir`.
pub(crate) fn unmount_below(dir: &Path) -> Result<(), Error> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::file("read", dir)(e)),
    };
    for entry in entries {
        unmount(&entry.map_err(Error::file("read", dir))?.path())?;
    }
    Ok(())
}

/// Gives the calling process a mount namespace of its own that still receives the host's new mounts.
pub(crate) fn unshare_mounts() -> Result<(), Error> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).map_err(|e| Error::System("unshare the mount namespace", e.into()))?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>).map_err(|e| Error::System("make mounts slaves of the host's", e.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_in_paths_are_escaped() {
        let access = Access::Write { upper: Path::new("/u,v"), work: Path::new("/w\\x") };
        let options = overlay_options(&["/a:b".into(), "/c".into()], access);
        assert_eq!(String::from_utf8_lossy(&options), r"lowerdir=/a\:b:/c,upperdir=/u\,v,workdir=/w\\x");
        let options = overlay_options(&["/a".into(), "/b".into()], Access::Read);
        assert_eq!(String::from_utf8_lossy(&options), "lowerdir=/a:/b");
    }
}
