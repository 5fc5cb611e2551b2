//! The options that say how registries are asked, and the client that follows them.

use std::path::PathBuf;
use std::sync::Arc;

use bundles::cancel::Cancel;
use bundles::registry::{Client, Credentials, Notice, Options, Places, Settings, TlsVerify};
use clap::{ArgAction, Args};

use crate::args::LogFormat;
use crate::credential_helper::HelperPrograms;
use crate::error::Error;
use crate::output;

/// Hears of what a client tries again.
pub(crate) type Notify = Arc<dyn Fn(&Notice) + Send + Sync>;

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
    /// A client that has the user's credentials. May be used by several threads.
    pub(crate) fn client(&self, cancel: &Cancel, format: LogFormat, notify: Notify) -> Result<Client, Error> {
        let credentials = Credentials::load(&self.places(), Arc::new(HelperPrograms::default()))?;
        for warning in credentials.warnings() {
            output::message(format, "warning", warning);
        }
        self.client_with(credentials, cancel, notify)
    }

    /// A client that knows no credentials.
    pub(crate) fn stranger(&self, cancel: &Cancel, notify: Notify) -> Result<Client, Error> {
        self.client_with(Credentials::none(), cancel, notify)
    }

    fn client_with(&self, credentials: Credentials, cancel: &Cancel, notify: Notify) -> Result<Client, Error> {
        let tls = if self.tls_verify { TlsVerify::Required } else { TlsVerify::Skipped };
        let settings = Settings::load(self.registries.as_deref())?;
        Ok(Client::new(Options { tls, cancel: cancel.clone(), notify, ..Options::new(settings, credentials) }))
    }

    /// Where credentials are.
    pub(crate) fn places(&self) -> Places {
        Places::from_env(self.authfile.clone())
    }
}
