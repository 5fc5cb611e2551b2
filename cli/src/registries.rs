//! The options that say how registries are asked, and the client that follows them.

use std::path::PathBuf;
use std::sync::Arc;

use bundles::cancel::Cancel;
use bundles::registry::{Client, Credentials, Notice, Options, Places, Settings, TlsVerify};
use clap::{ArgAction, Args};

use crate::args::LogFormat;
use crate::credential_helper::Programs;
use crate::error::Error;
use crate::output;

/// How to ask registries.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Registries")]
pub(crate) struct RegistryOptions {
    /// Credentials of this file, of podman's or docker's kind, instead of those in the usual places
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
    /// Whether registries must prove who they are; `false` takes plain http as well
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = ArgAction::Set)]
    tls_verify: bool,
    /// Mirrors, certificates, blocked and insecure registries, instead of /etc/minipod/registries.conf
    #[arg(long, value_name = "FILE", env = "MINIPOD_REGISTRIES", hide_env_values = true)]
    registries: Option<PathBuf>,
}

impl RegistryOptions {
    /// A client that may be used by several threads; `notify` hears of what it tries again.
    pub(crate) fn client(&self, cancel: &Cancel, format: LogFormat, notify: Arc<dyn Fn(&Notice) + Send + Sync>) -> Result<Client, Error> {
        let credentials = Credentials::load(&self.places(), Arc::new(Programs))?;
        for warning in credentials.warnings() {
            output::message(format, "warning", warning);
        }
        let tls = if self.tls_verify { TlsVerify::Required } else { TlsVerify::Skipped };
        let settings = Settings::load(self.registries.as_deref())?;
        Ok(Client::new(Options { tls, cancel: cancel.clone(), notify, ..Options::new(settings, credentials) }))
    }

    /// Where credentials are.
    pub(crate) fn places(&self) -> Places {
        Places::from_env(self.authfile.clone())
    }
}
