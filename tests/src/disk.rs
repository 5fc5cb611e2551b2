//! Small file systems, to be filled.

use std::fs;
use std::path::PathBuf;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::{Cmd, Minipod};

/// Gives the calling thread a mount namespace of its own: what it mounts from now on is in nobody else's shims.
pub fn private_mounts() {
    unshare(CloneFlags::CLONE_NEWNS).expect("make a mount namespace");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_PRIVATE | MsFlags::MS_REC, None::<&str>).expect("keep mounts private");
}

/// A small file system in a directory of an installation. Needs [`private_mounts`].
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// A tmpfs with these mount options, in `<root>/<below>`.
    #[must_use]
    pub fn mount(mp: &Minipod, below: &str, options: &str) -> Self {
        let path = mp.root().join(below);
        fs::create_dir_all(&path).expect("make a mount point");
        let _said = Cmd::new("mount").args(["-t", "tmpfs", "-o", options, "small"]).arg(&path).run().ok();
        Self(path)
    }

    /// Gives it more.
    pub fn grow(&self, options: &str) {
        let _said = Cmd::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.0).run().ok();
    }

    /// Leaves no byte free.
    pub fn fill(&self) {
        let room = Cmd::new("df").args(["--output=avail", "-B1"]).arg(&self.0).run().ok();
        let room: usize = room.lines().last().and_then(|n| n.trim().parse().ok()).expect("df prints a number");
        fs::write(self.0.join("filler"), vec![0; room]).expect("fill a disk");
    }

    /// Takes back what [`Self::fill`] did.
    pub fn free(&self) {
        fs::remove_file(self.0.join("filler")).expect("make room");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Cmd::new("umount").arg("-l").arg(&self.0).run());
    }
}
