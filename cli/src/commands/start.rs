//! `minipod start`.

use clap::Args;
use runtime::pods::{NewPod, restore};
use runtime::store::Store;

use crate::args::Global;
use crate::error::{Error, print};
use crate::pods::short_name;
use crate::starting::{Display, all_started, spawn};
use crate::stopping::{self, Missing, Pod};
use crate::tasks::block_on;

/// Start pods that were stopped or are finished
///
/// From what was run: the manifest as it was, init containers included. The pod keeps its uid and gets a new sandbox, with an
/// address that may be another.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  minipod start web
  minipod stop web && minipod start web")]
pub(crate) struct Start {
    /// Names, namespace/name, uids or unique prefixes
    #[arg(required = true, value_name = "POD")]
    pods: Vec<String>,
}

impl Start {
    pub(crate) fn run(self, global: &Global) -> Result<u8, Error> {
        let store = global.store();
        again(global, &store, stopping::find(&store, &self.pods, Missing::Fails)?)?;
        Ok(0)
    }
}

/// Starts pods from what is on disk and waits until they have started.
pub(crate) fn again(global: &Global, store: &Store, pods: Vec<Pod>) -> Result<(), Error> {
    let names: Vec<String> = pods.iter().map(|(_, record)| short_name(record)).collect();
    let (mut new, mut failures): (Vec<NewPod>, Vec<Error>) = (Vec::new(), Vec::new());
    for (dir, record) in pods {
        match restore(dir, record) {
            Ok(pod) => new.push(pod),
            Err(e) => failures.push(e.into()),
        }
    }
    if !failures.is_empty() {
        // All or none: the others are stopped again.
        failures.extend(new.into_iter().filter_map(|pod| pod.discard(store).err()).map(Error::from));
        return Error::all(failures);
    }
    let mut starting = spawn(store, new)?;
    block_on(async { all_started(&mut starting, &Display::new(global, names.len())).await })?;
    print(&names.iter().map(|name| format!("pod/{name} started\n")).collect::<String>())
}
