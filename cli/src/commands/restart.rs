//! `minipod restart`.

use std::time::Duration;

use clap::Args;
use runtime::client::Client;

use crate::args::Global;
use crate::commands::start;
use crate::error::{Error, print};
use crate::pods;
use crate::stopping::{self, Then};
use crate::tasks::block_on;

/// Restart a pod, or one container of it
///
/// A pod gets a new sandbox and runs its init containers again; a container of a running pod is ended and started again in
/// the sandbox as it is, whatever the restartPolicy.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  minipod restart web
  minipod restart web/app        the pod's address stays")]
pub(crate) struct Restart {
    /// Grace period in seconds, instead of the manifest's
    #[arg(short = 't', long = "time", value_name = "SECONDS")]
    grace: Option<u64>,
    /// Name, namespace/name, uid or a unique prefix; with /CTR one container of it
    #[arg(value_name = "POD[/CTR]")]
    target: String,
}

impl Restart {
    pub(crate) fn run(self, global: &Global) -> Result<u8, Error> {
        let store = global.store();
        let (view, container) = pods::target(&store, &self.target)?;
        let grace = self.grace.map(Duration::from_secs);
        if let Some(container) = container {
            block_on(async {
                let client = Client::connect(&view.dir, &view.record).await?;
                client.restart_container(&container, grace).await?;
                print(&format!("pod/{}/{container} restarted\n", view.short_name()))
            })?;
            return Ok(0);
        }
        let pod = (view.dir.clone(), view.record.clone());
        block_on(stopping::stop(&store, &pod, grace, Then::Keep))?;
        let record = pod.0.record()?;
        start::again(global, &store, vec![(pod.0, record)])?;
        Ok(0)
    }
}
