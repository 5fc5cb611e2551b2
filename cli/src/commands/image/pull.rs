//! `minipod image pull`.

use bundles::image::{Change, ImageStore, Platform};
use clap::Args;

use crate::args::LogFormat;
use crate::error::{Error, print};
use crate::meter::Shown;
use crate::output::line;
use crate::pulling::{Wanted, pull};
use crate::registries::RegistryOptions;

/// Fetch images from registries
///
/// By tag or digest; a name without registry is docker.io's. Layers are unpacked while they arrive, several at a time, and every
/// digest is verified. All of an image is there in the end, or nothing.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  minipod image pull nginx:1.27-alpine
  minipod image pull --platform linux/arm64 quay.io/podman/hello
  minipod image pull -q 127.0.0.1:5000/app@sha256:...

Settings of registries: /etc/minipod/registries.conf, in the words of containers-registries.conf(5). Credentials: as podman and
docker keep them, `minipod image login`.")]
pub(crate) struct Pull {
    /// Print the ids of the images only, and show nothing meanwhile
    #[arg(short, long)]
    quiet: bool,
    /// For another machine than this one
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    #[command(flatten)]
    registries: RegistryOptions,
    /// Names
    #[arg(required = true, value_name = "REF")]
    images: Vec<String>,
}

impl Pull {
    /// Each is tried; all that failed are told.
    pub(crate) fn run(&self, store: &ImageStore, format: LogFormat) -> Result<(), Error> {
        let mut wanted = Vec::new();
        for name in &self.images {
            match store.fetchable(name)? {
                Some(reference) => wanted.push(Wanted { reference, secrets: Vec::new() }),
                None => return Err(Error::Usage(format!("image {name}: no registry has it, it is of this machine only (`minipod image ls`)"))),
            }
        }
        let shown = if self.quiet { Shown::Nothing } else { Shown::All };
        let platform = match &self.platform {
            Some(text) => text.parse().map_err(|why| Error::Usage(format!("--platform: {why}")))?,
            None => Platform::host(),
        };
        let (mut text, mut failures) = (String::new(), Vec::new());
        for (wanted, result) in wanted.iter().zip(pull(store, &self.registries, format, shown, &platform, &wanted)?) {
            match result {
                Err(e) => failures.push(e.into()),
                Ok(pulled) if self.quiet => line(&mut text, format_args!("{}", pulled.image.id)),
                Ok(pulled) => match pulled.change {
                    Change::Fetched => line(&mut text, format_args!("pulled {}", wanted.reference)),
                    Change::UpToDate => line(&mut text, format_args!("pulled {} (nothing new)", wanted.reference)),
                },
            }
        }
        print(&text)?;
        Error::all(failures)
    }
}
