//! `minipod image login` and `minipod image logout`.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::sync::Arc;

use bundles::cancel::Cancel;
use bundles::registry::Login as Proof;
use bundles::registry::login::{self, Forgotten, Stored};
use clap::Args;

use crate::credential_helper::HelperPrograms;
use crate::error::{Error, print};
use crate::output;
use crate::pulling::told;
use crate::registries::RegistryOptions;
use crate::signals::interruptible;
use crate::terminal::Hidden;

/// Longest password, in bytes; tokens have a few thousand.
const LONGEST: u64 = 64 << 10;

/// Prove to a registry who you are, and keep the proof for later pulls
///
/// The registry is asked first: what it refuses is not kept. Kept where podman looks for it, readable by its owner only, or with the
/// credential helper that the file names.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  minipod image login quay.io
  minipod image login -u alice --password-stdin registry.example.com:5000 < token")]
pub(crate) struct Login {
    /// The name; asked for on a terminal when missing
    #[arg(short, long, value_name = "USER")]
    username: Option<String>,
    /// Read the password or token from standard input
    #[arg(long)]
    password_stdin: bool,
    #[command(flatten)]
    registries: RegistryOptions,
    /// The registry
    #[arg(value_name = "HOST[:PORT]", default_value = "docker.io")]
    registry: String,
}

/// Forget what was kept for a registry
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  minipod image logout quay.io")]
pub(crate) struct Logout {
    #[command(flatten)]
    registries: RegistryOptions,
    /// The registry
    #[arg(value_name = "HOST[:PORT]", default_value = "docker.io")]
    registry: String,
}

impl Login {
    pub(crate) fn run(&self) -> Result<(), Error> {
        let proof = self.proof()?;
        let cancel = Cancel::new();
        let client = self.registries.stranger(&cancel, Arc::new(|notice| output::note(&told(notice))))?;
        interruptible(&cancel, || Ok(client.check(&self.registry, &proof)?))?;
        let path = self.registries.places().written();
        match login::store(&path, &self.registry, &proof, &HelperPrograms::default())? {
            Stored::File => print(&format!("logged in to {}; kept in {}\n", self.registry, path.display())),
            Stored::Helper(helper) => print(&format!("logged in to {}; kept by docker-credential-{helper}\n", self.registry)),
        }
    }

    fn proof(&self) -> Result<Proof, Error> {
        let interactive = io::stdin().is_terminal();
        let username = match &self.username {
            Some(name) => name.clone(),
            None if interactive && !self.password_stdin => ask("Username: ")?,
            None => return Err(Error::Usage("who? give --username".to_owned())),
        };
        if username.is_empty() || username.contains(':') {
            return Err(Error::Usage(format!("username {username:?}: it must not be empty nor have a colon")));
        }
        let password = match self.password_stdin {
            false if interactive => {
                let _hidden = Hidden::enter().map_err(|e| Error::System("hide what is typed", e))?;
                ask("Password: ")
            }
            false => Err(Error::Usage("standard input is no terminal: give --password-stdin, and the password there".to_owned())),
            true => {
                let mut text = String::new();
                let read = io::stdin().lock().take(LONGEST).read_to_string(&mut text);
                read.map_err(|e| Error::System("read the password from standard input", e)).map(|_| text)
            }
        }?;
        // What `echo` and text editors add.
        let password = password.strip_suffix('\n').map_or(&*password, |line| line.strip_suffix('\r').unwrap_or(line));
        if password.is_empty() {
            return Err(Error::Usage("the password is empty".to_owned()));
        }
        Ok(Proof::password(username, password))
    }
}

impl Logout {
    pub(crate) fn run(&self) -> Result<(), Error> {
        let path = self.registries.places().written();
        match login::remove(&path, &self.registry, &HelperPrograms::default())? {
            Forgotten::Removed => print(&format!("logged out of {}\n", self.registry)),
            Forgotten::Nothing => {
                let message = format!("not logged in to {}: nothing is kept for it in {}", self.registry, path.display());
                Err(Error::Told { message, code: crate::exit::OWN })
            }
        }
    }
}

/// Asks on standard error, which may be seen when standard output goes elsewhere.
fn ask(question: &str) -> Result<String, Error> {
    let failed = |e| Error::System("ask on the terminal", e);
    write!(io::stderr(), "{question}").map_err(failed)?;
    let mut line = String::new();
    io::stdin().read_line(&mut line).map_err(failed)?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}
