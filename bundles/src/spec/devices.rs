//! The host's devices, for a privileged container.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};

use super::SpecError;

/// What the container has of its own below /dev, and consoles.
const SKIPPED: [&str; 7] = ["pts", "shm", "fd", "mqueue", "console", "ptmx", ".udev"];
/// What every container gets anyway.
const DEFAULT: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Every device of the host below /dev, as docker and containerd give to a privileged container.
pub(super) fn of_host() -> Result<Vec<LinuxDevice>, SpecError> {
    let mut devices = Vec::new();
    let mut pending = vec![PathBuf::from("/dev")];
    while let Some(dir) = pending.pop() {
        match list(&dir, &mut devices, &mut pending) {
            Ok(()) => {}
            // Hot-unplugged while we looked.
            Err(error) if error.kind() == io::ErrorKind::NotFound && dir != Path::new("/dev") => {}
            Err(source) => return Err(SpecError::Devices { path: dir, source }),
        }
    }
    devices.sort_by(|a, b| a.path().cmp(b.path()));
    Ok(devices)
}

fn list(dir: &Path, devices: &mut Vec<LinuxDevice>, pending: &mut Vec<PathBuf>) -> io::Result<()> {
    let top = dir == Path::new("/dev");
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let listed = |names: &[&str]| names.iter().any(|other| name == *other);
        if listed(&SKIPPED) || (top && listed(&DEFAULT)) {
            continue;
        }
        let Ok(found) = entry.metadata() else { continue };
        let kind = found.file_type();
        if kind.is_dir() {
            pending.push(entry.path());
        } else if kind.is_char_device() || kind.is_block_device() {
            devices.push(device(entry.path(), &found));
        }
    }
    Ok(())
}

fn device(path: PathBuf, found: &fs::Metadata) -> LinuxDevice {
    let number = found.rdev();
    let mut device = LinuxDevice::default();
    device.set_path(path);
    device.set_typ(if found.file_type().is_block_device() { LinuxDeviceType::B } else { LinuxDeviceType::C });
    device.set_major(i64::from(rustix::fs::major(number)));
    device.set_minor(i64::from(rustix::fs::minor(number)));
    device.set_file_mode(Some(found.mode() & 0o7777));
    device.set_uid(Some(found.uid()));
    device.set_gid(Some(found.gid()));
    device
}
