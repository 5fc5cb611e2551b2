//! `minipod stop`.

use std::time::Duration;

use clap::Args;

use crate::args::Global;
use crate::error::Error;
use crate::stopping::{self, Missing, Then};
use crate::tasks::block_on;

/// Stop pods; their state and logs stay until `rm`
///
/// Containers get their stop signal and, when the grace period is over, SIGKILL. Works also when a pod's shim has died.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  minipod stop web
  minipod stop -t 5 web db
  minipod start web           run it again")]
pub(crate) struct Stop {
    /// Grace period in seconds, instead of the manifest's
    #[arg(short = 't', long = "time", value_name = "SECONDS")]
    grace: Option<u64>,
    /// Names, namespace/name, uids or unique prefixes
    #[arg(required = true, value_name = "POD")]
    pods: Vec<String>,
}

impl Stop {
    pub(crate) fn run(self, global: &Global) -> Result<u8, Error> {
        let store = global.store();
        let all = stopping::find(&store, &self.pods, Missing::Fails)?;
        let grace = self.grace.map(Duration::from_secs);
        block_on(stopping::each(&all, "stopped", |pod| {
            let store = store.clone();
            async move { stopping::stop(&store, &pod, grace, Then::Keep).await }
        }))?;
        Ok(0)
    }
}
