//! `minipod rm`.

use std::time::Duration;

use clap::Args;

use crate::args::Global;
use crate::error::Error;
use crate::stopping::{self, Missing, Then};
use crate::tasks::block_on;

/// Remove pods: their state, logs and emptyDir volumes
///
/// A pod that runs is refused, unless -f is given: then it is killed first. To stop gracefully and remove, use `down`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  minipod rm web
  minipod rm -f web db        also when they run; also when they are not there")]
pub(crate) struct Rm {
    /// Kill what runs; a pod that does not exist is fine
    #[arg(short, long)]
    force: bool,
    /// Names, namespace/name, uids or unique prefixes
    #[arg(required = true, value_name = "POD")]
    pods: Vec<String>,
}

impl Rm {
    pub(crate) fn run(self, global: &Global) -> Result<u8, Error> {
        let store = global.store();
        let missing = if self.force { Missing::Fine } else { Missing::Fails };
        let all = stopping::find(&store, &self.pods, missing)?;
        block_on(stopping::each(&all, "removed", |pod| {
            let store = store.clone();
            async move {
                if self.force {
                    stopping::stop(&store, &pod, Some(Duration::ZERO), Then::Remove).await
                } else {
                    Ok(runtime::pods::remove(&store, &pod.0, &pod.1).await?)
                }
            }
        }))?;
        Ok(0)
    }
}
