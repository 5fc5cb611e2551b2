//! `minipod image load`.

use std::fs::{DirBuilder, File};
use std::io::Read;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use bundles::cancel::Cancel;
use bundles::image::{ImageStore, Watch};
use clap::Args;

use crate::error::{Error, print};
use crate::meter::{Meter, Shown};
use crate::output::line;
use crate::signals::interruptible;

/// Load images from an archive or a directory
///
/// Takes docker-archives (`docker save`), oci-archives and OCI layout directories, plain or compressed with gzip or zstd.
/// Every digest is verified. All images of the archive are loaded, or none.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  minipod image load nginx.tar.gz
  minipod image load oci-layout/
  docker save nginx | minipod image load -")]
pub(crate) struct Load {
    /// An archive, an OCI layout directory, or `-` for an archive from standard input
    #[arg(value_name = "FILE|DIR|-")]
    path: PathBuf,
}

impl Load {
    pub(crate) fn run(&self, store: &ImageStore, lib: &Path) -> Result<(), Error> {
        let (meter, cancel) = (Meter::new(Shown::All), Cancel::new());
        let loaded = interruptible(&cancel, || {
            let bar = meter.bar(&self.path.display().to_string());
            let watch = Watch { progress: &|progress| bar.show(&progress), cancel: &cancel };
            if self.path != Path::new("-") {
                return Ok(store.load(&self.path, watch)?);
            }
            // Archives are read back and forth, which standard input cannot.
            let spool = spool(std::io::stdin().lock(), lib)?;
            Ok(store.load(Path::new(&format!("/proc/self/fd/{}", spool.as_raw_fd())), watch)?)
        })?;
        let mut text = String::new();
        for image in loaded {
            line(&mut text, format_args!("loaded {}", if image.names.is_empty() { image.id } else { image.names.join(", ") }));
        }
        print(&text)
    }
}

/// Puts a stream into a file without a name, which nothing has to remove.
fn spool(mut from: impl Read, lib: &Path) -> Result<File, Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(lib).map_err(Error::file("create", lib))?;
    let mut file = tempfile::tempfile_in(lib).map_err(Error::file("make a temporary file in", lib))?;
    std::io::copy(&mut from, &mut file).map_err(|e| Error::System("copy standard input into a temporary file", e))?;
    Ok(file)
}
