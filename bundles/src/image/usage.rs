//! Who uses what of the store.

use std::path::Path;

/// What pods use: the store itself knows nothing of them. Asked under the store's locks, so a pod that comes up with a
/// [`Hold`](super::Hold) is either seen, or finds the image gone before it has begun.
pub trait Usage {
    /// The pods that use the image with this id (as in [`Image::id`](super::Image::id)), as people name them.
    fn pods(&self, id: &str) -> Vec<String>;

    /// Whether a pod uses a directory of [`Image::layers`](super::Image::layers).
    fn layer(&self, files: &Path) -> bool;
}

/// Nobody uses anything.
#[derive(Debug, Clone, Copy)]
pub struct Unused;

impl Usage for Unused {
    fn pods(&self, _: &str) -> Vec<String> {
        Vec::new()
    }

    fn layer(&self, _: &Path) -> bool {
        false
    }
}
