//! The files behind emptyDir, hostPath and image volumes, sub paths of volumes, and the directories that an image wants.
//!
//! Makes directories and files, mounts nothing but a staged sub path, and undoes only what it made in the pod's own
//! directory: what a hostPath volume created stays, as in Kubernetes.

mod empty_dir;
mod error;
mod host_path;
mod of_image;
mod sub_path;

use std::path::{Path, PathBuf};

pub use error::VolumeError;
pub use of_image::{fill, of_image};
pub use sub_path::{Missing, SubPath, sub_path};

use crate::plan::VolumeSource;

/// A volume that is ready to be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// Its path on the host: what a container's mount binds.
    pub path: PathBuf,
    /// What to mount there first, once for the pod.
    pub mount: Option<PodMount>,
}

/// What is mounted for a volume before any container has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodMount {
    /// `medium: Memory`.
    Tmpfs(Tmpfs),
    /// The layers of an image, topmost first: one tree of them, which nobody can write.
    Layers(Vec<PathBuf>),
}

/// A tmpfs for `medium: Memory`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tmpfs {
    /// `size=` in bytes; the kernel's default (half of the memory) when absent.
    pub size: Option<u64>,
    /// `mode=`.
    pub mode: u32,
}

impl Tmpfs {
    /// Options for mount(8) or `fsconfig`, such as `mode=777,size=65536`.
    pub fn options(&self) -> String {
        let mode = format!("mode={:o}", self.mode);
        self.size.map_or_else(|| mode.clone(), |size| format!("{mode},size={size}"))
    }
}

/// Makes a volume ready. `dir` is the pod's own directory for volumes (it is made when missing), `name` the volume's name.
///
/// Works again on what an earlier call made: an emptyDir outlives its containers.
///
/// # Errors
/// [`VolumeError`]: a hostPath that is not what its type says, or a failed system call.
pub fn prepare(source: &VolumeSource, dir: &Path, name: &str) -> Result<Prepared, VolumeError> {
    match source {
        VolumeSource::EmptyDir { memory, size_limit } => {
            let path = empty_dir::make(dir, name)?;
            let mount = memory.then_some(PodMount::Tmpfs(Tmpfs { size: *size_limit, mode: 0o777 }));
            Ok(Prepared { path, mount })
        }
        VolumeSource::HostPath { path, kind } => {
            host_path::check(path, *kind)?;
            Ok(Prepared { path: path.clone(), mount: None })
        }
        VolumeSource::Image { image: Some(image), .. } => {
            // The mount covers it.
            let path = empty_dir::make(dir, name)?;
            Ok(Prepared { path, mount: Some(PodMount::Layers(image.layers.clone())) })
        }
        VolumeSource::Image { reference, image: None, .. } => Err(VolumeError::Unresolved { image: reference.clone() }),
    }
}

/// Removes what [`prepare`] made below `dir`, and `dir`. What is not there is no error. A file system that is still mounted
/// below is not entered, and named in the error.
///
/// # Errors
/// [`VolumeError::Remove`] with the first path that could not be removed; the others are removed all the same.
pub fn remove(dir: &Path) -> Result<(), VolumeError> {
    empty_dir::remove(dir)
}
