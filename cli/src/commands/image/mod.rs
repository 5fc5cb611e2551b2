//! `minipod image`.

mod load;
mod login;
mod ls;
mod pull;
mod rm;
mod save;

use clap::{Args, Subcommand};

use crate::args::Global;
use crate::error::Error;
use crate::images;
use crate::output::{self, DocumentFormat};

/// Manage images
///
/// `toolbox`, the image inside minipod, is always there: a shell, the everyday utilities and network tools, for labs.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  minipod image pull nginx:1.27-alpine
  docker save nginx | minipod image load -
  minipod image ls
  minipod image rm nginx")]
pub(crate) struct Image {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Pull(pull::Pull),
    Load(load::Load),
    #[command(visible_alias = "list")]
    Ls(ls::Ls),
    Inspect(Inspect),
    Rm(rm::Rm),
    Tag(Tag),
    Prune(rm::Prune),
    Save(save::Save),
    Login(login::Login),
    Logout(login::Logout),
}

/// Show one image whole
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  minipod image inspect toolbox
  minipod image inspect nginx -o yaml")]
struct Inspect {
    /// How to print
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = DocumentFormat::Json)]
    output: DocumentFormat,
    /// A name, an id, a prefix of an id (6 digits or more) or a digest
    #[arg(value_name = "REF")]
    image: String,
}

/// Give an image one more name
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  minipod image tag nginx:1.27 localhost/web:1")]
struct Tag {
    /// The image
    #[arg(value_name = "REF")]
    image: String,
    /// Its new name
    #[arg(value_name = "NAME")]
    name: String,
}

impl Image {
    pub(crate) fn run(self, global: &Global) -> Result<u8, Error> {
        let pods = global.store();
        let store = images::store(&pods.layout)?;
        match self.action {
            Action::Load(load) => load.run(&store, &pods.layout.lib)?,
            Action::Pull(pull) => pull.run(&store, global.log_format)?,
            Action::Save(save) => save.run(&store)?,
            Action::Login(login) => login.run()?,
            Action::Logout(logout) => logout.run()?,
            Action::Ls(ls) => ls.run(&store)?,
            Action::Inspect(inspect) => output::document(&store.find(&inspect.image)?, inspect.output)?,
            Action::Tag(tag) => store.tag(&tag.image, &tag.name)?,
            Action::Rm(rm) => rm.run(&store, &pods)?,
            Action::Prune(prune) => prune.run(&store, &pods)?,
        }
        Ok(0)
    }
}
