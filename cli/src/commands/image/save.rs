//! `minipod image save`.

use std::io::{self, BufWriter, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use bundles::cancel::Cancel;
use bundles::image::ImageStore;
use clap::Args;

use crate::error::Error;
use crate::signals::interruptible;

/// Write images into an archive
///
/// `docker load`, `podman load`, `ctr images import` and `minipod image load` read it, and skopeo as docker-archive or oci-archive.
/// Layers are packed anew: what they hold is the same, ids and digests are not.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  minipod image save -o web.tar nginx:1.27 localhost/app:1
  minipod image save toolbox | docker load")]
pub(crate) struct Save {
    /// Where to; standard output when missing
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Names, ids, prefixes of ids (6 digits or more) or digests
    #[arg(required = true, value_name = "REF")]
    images: Vec<String>,
}

impl Save {
    pub(crate) fn run(&self, store: &ImageStore) -> Result<(), Error> {
        match &self.output {
            Some(path) if path != Path::new("-") => self.to_file(store, path),
            _ if io::stdout().is_terminal() => Err(Error::Usage("standard output is a terminal: give --output FILE, or a pipe".to_owned())),
            _ => {
                let mut out = BufWriter::new(io::stdout().lock());
                store.save(&self.images, &mut out)?;
                out.flush().map_err(Error::Output)
            }
        }
    }

    /// The file gets its name when it is whole.
    fn to_file(&self, store: &ImageStore, path: &Path) -> Result<(), Error> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = tempfile::Builder::new().prefix(".minipod-").tempfile_in(parent).map_err(Error::file("write", path))?;
        let cancel = Cancel::new();
        let file = interruptible(&cancel, || {
            let mut out = BufWriter::with_capacity(1 << 20, Until { cancel: &cancel, to: file });
            store.save(&self.images, &mut out)?;
            out.into_inner().map(|until| until.to).map_err(|e| Error::file("write", path)(e.into_error()))
        })?;
        file.persist(path).map(drop).map_err(|e| Error::file("write", path)(e.error))
    }
}

/// Writes until somebody wishes to stop.
struct Until<'a, W> {
    cancel: &'a Cancel,
    to: W,
}

impl<W: io::Write> io::Write for Until<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() { Err(io::Error::other("interrupted")) } else { self.to.write(bytes) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
