//! `minipod down`.

use std::path::Path;
use std::time::Duration;

use bundles::manifest::{ParseOptions, Source, parse};
use clap::Args;
use runtime::store::Store;

use crate::args::Global;
use crate::error::{Error, ManifestFailure};
use crate::manifests;
use crate::pods::is_gone;
use crate::stopping::{self, Pod, Then};
use crate::tasks::block_on;

/// Stop and remove the pods of manifests, or pods by name
///
/// Says nothing against pods that are not there, so that it can be run twice.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  minipod down pod.yaml
  minipod down -t 0 web db
  cat pod.yaml | minipod down -")]
pub(crate) struct Down {
    /// Grace period in seconds, instead of the manifest's
    #[arg(short = 't', long = "time", value_name = "SECONDS")]
    grace: Option<u64>,
    /// Also remove volumes that outlive their pod (those of a pod itself go with it)
    #[arg(long)]
    volumes: bool,
    /// Manifests (`-` is standard input), or names, namespace/name, uids or unique prefixes of pods
    #[arg(required = true, value_name = "FILE|-|POD")]
    subjects: Vec<String>,
}

impl Down {
    pub(crate) fn run(self, global: &Global) -> Result<u8, Error> {
        let store = global.store();
        let (files, names): (Vec<String>, Vec<String>) = self.subjects.into_iter().partition(|subject| is_file(&store, subject));
        let mut all = of_manifests(&store, &files)?;
        for name in names {
            match store.find(&name).map_err(Error::from) {
                Ok(pod) => all.push(pod),
                Err(e) if is_gone(&e) => {}
                Err(e) => return Err(e),
            }
        }
        all.sort_by(|(_, a), (_, b)| a.uid.cmp(&b.uid));
        all.dedup_by(|(_, a), (_, b)| a.uid == b.uid);
        let grace = self.grace.map(Duration::from_secs);
        block_on(stopping::each(&all, "removed", |pod| {
            let store = store.clone();
            async move { stopping::stop(&store, &pod, grace, Then::Remove).await }
        }))?;
        Ok(0)
    }
}

/// A file is what looks like one, unless a pod is called exactly so.
fn is_file(store: &Store, subject: &str) -> bool {
    let looks = subject == "-" || [".yaml", ".yml", ".json"].iter().any(|end| subject.ends_with(end));
    looks || (Path::new(subject).exists() && store.find(subject).is_err())
}

fn of_manifests(store: &Store, files: &[String]) -> Result<Vec<Pod>, Error> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let sources: Vec<Source> = manifests::read(files)?;
    // What the pods do not honour was told when they were run.
    let manifest = parse(&sources, &ParseOptions { strict: false }).map_err(|problems| Error::Manifest(ManifestFailure(problems)))?;
    let mut found = Vec::new();
    for pod in &manifest.pods {
        if let Some(dir) = store.owner(&pod.plan.namespace, &pod.plan.name)? {
            match dir.record().map_err(Error::from) {
                Ok(record) => found.push((dir, record)),
                Err(e) if is_gone(&e) => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(found)
}
