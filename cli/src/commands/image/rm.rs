//! `minipod image rm` and `minipod image prune`: they say alike what went.

use bundles::image::{Force, ImageStore, Pruned, Removed};
use clap::Args;
use runtime::store::Store;

use crate::error::{Error, print};
use crate::images::Pods;
use crate::output::{self, line, size};

/// Remove images
///
/// By name: that name, and the image with its last name. By id or digest: the image with all its names. An image that a pod uses,
/// running or stopped, is not removed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  minipod image rm nginx
  minipod image rm 3f57d9401f8d localhost/app:1")]
pub(crate) struct Rm {
    /// Take the names away even when pods use the image; its files stay until those are removed and `gc` has run
    #[arg(short, long)]
    force: bool,
    /// Names, ids, prefixes of ids (6 digits or more) or digests
    #[arg(required = true, value_name = "REF")]
    images: Vec<String>,
}

/// Remove images without a name, and content that no image needs
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  minipod image prune
  minipod image prune -a     all images that no pod uses")]
pub(crate) struct Prune {
    /// Remove every image that no pod uses
    #[arg(short, long)]
    all: bool,
}

impl Rm {
    /// Each is tried; all that failed are told.
    pub(crate) fn run(&self, store: &ImageStore, pods: &Store) -> Result<(), Error> {
        let force = if self.force { Force::Yes } else { Force::No };
        let one = |image: &String| tell(&store.remove(image, &Pods::of(pods), force)?);
        Error::all(self.images.iter().filter_map(|image| one(image).err()).collect())
    }
}

impl Prune {
    pub(crate) fn run(&self, store: &ImageStore, pods: &Store) -> Result<(), Error> {
        tell(&store.prune(&Pods::of(pods), if self.all { Pruned::All } else { Pruned::Nameless })?)
    }
}

/// Says what went.
fn tell(removed: &Removed) -> Result<(), Error> {
    let mut text = String::new();
    for name in &removed.untagged {
        line(&mut text, format_args!("untagged {name}"));
    }
    for id in &removed.deleted {
        line(&mut text, format_args!("deleted {id}"));
    }
    if removed.bytes > 0 {
        line(&mut text, format_args!("freed {}", size(removed.bytes)));
    }
    if removed.kept > 0 {
        output::note(&format!("{} layers are used by pods and stay until `minipod gc`", removed.kept));
    }
    print(&text)
}
