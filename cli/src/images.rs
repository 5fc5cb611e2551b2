//! Finds the images of pods in the store.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use bundles::image::{Hold, ImageStore, Usage};
use bundles::plan::PodPlan;
use runtime::layout::Layout;
use runtime::store::Store;

use crate::error::Error;

/// The image store of this installation.
pub(crate) fn store(layout: &Layout) -> Result<ImageStore, Error> {
    Ok(ImageStore::open(&layout.lib)?)
}

/// Replaces every reference of the plans by the image it names; reports all that are absent. Nothing is removed from the
/// image store while the hold lives; none is needed when no plan names an image.
pub(crate) fn resolve(layout: &Layout, plans: &mut [&mut PodPlan]) -> Result<Option<Hold>, Error> {
    if !plans.iter_mut().any(|plan| plan.image_references_mut().next().is_some()) {
        return Ok(None);
    }
    let store = store(layout)?;
    let hold = store.hold()?;
    let mut failures = Vec::new();
    for plan in plans {
        let pod = format!("{}/{}", plan.namespace, plan.name);
        for wanted in plan.image_references_mut() {
            match store.find(wanted.reference) {
                Ok(image) => wanted.set(image),
                Err(source) => failures.push(Error::PodImage {
                    pod: pod.clone(),
                    user: wanted.user.to_string(),
                    image: wanted.reference.to_owned(),
                    source: Box::new(source),
                }),
            }
        }
    }
    Error::all(failures).map(|()| Some(hold))
}

/// What the pods on disk use, stopped ones included: they can be started again.
#[derive(Debug, Default)]
struct Used {
    layers: HashSet<PathBuf>,
    /// Names of pods by the id of an image.
    pods: BTreeMap<String, BTreeSet<String>>,
}

impl Used {
    fn read(pods: &Store) -> Result<Self, Error> {
        let mut used = Self::default();
        for (dir, record) in pods.list()? {
            let plan = match dir.plan().map_err(Error::from) {
                Err(e) if crate::pods::is_gone(&e) => continue,
                other => other?,
            };
            for image in plan.images() {
                used.layers.extend(image.layers.iter().cloned());
                used.pods.entry(image.id.clone()).or_default().insert(record.label());
            }
        }
        Ok(used)
    }
}

/// What pods use, looked up when it is first asked for: that is under the image store's locks. A pod that starts before is
/// seen, one that starts after finds its image gone before it has begun. What cannot be looked up is in use.
#[derive(Debug)]
pub(crate) struct Pods<'a> {
    store: &'a Store,
    used: OnceCell<Option<Used>>,
}

impl<'a> Pods<'a> {
    /// Of this installation.
    pub(crate) fn of(store: &'a Store) -> Self {
        Self { store, used: OnceCell::new() }
    }

    fn used(&self) -> Option<&Used> {
        let look = || match Used::read(self.store) {
            Ok(used) => Some(used),
            Err(error) => {
                tracing::warn!(%error, "pods not readable: no image is removed");
                None
            }
        };
        self.used.get_or_init(look).as_ref()
    }
}

impl Usage for Pods<'_> {
    fn pods(&self, id: &str) -> Vec<String> {
        match self.used() {
            Some(used) => used.pods.get(id).into_iter().flatten().map(|pod| format!("pod {pod}")).collect(),
            None => vec!["pods that cannot be read".to_owned()],
        }
    }

    fn layer(&self, files: &Path) -> bool {
        self.used().is_none_or(|used| used.layers.contains(files))
    }
}
