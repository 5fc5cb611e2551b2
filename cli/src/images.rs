//! Finds the images of pods in the store.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

use bundles::image::{Hold, ImageStore};
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

/// The layers that pods on disk use, stopped ones included: they can be started again.
fn layers_in_use(pods: &Store) -> Result<HashSet<PathBuf>, Error> {
    let mut used = HashSet::new();
    for (dir, _) in pods.list()? {
        let plan = match dir.plan().map_err(Error::from) {
            Err(e) if crate::pods::is_gone(&e) => continue,
            other => other?,
        };
        used.extend(plan.images().flat_map(|image| image.layers.iter().cloned()));
    }
    Ok(used)
}

/// Whether a pod uses a layer. Looked up when first asked, which is under the image store's locks: a pod that starts
/// before that is seen, one that starts after it finds its layers gone before it has begun. What cannot be looked up is in use.
pub(crate) fn in_use(pods: &Store) -> impl Fn(&Path) -> bool {
    let used = OnceCell::new();
    move |layer| match used.get_or_init(|| layers_in_use(pods)) {
        Ok(used) => used.contains(layer),
        Err(error) => {
            tracing::warn!(%error, "pods not readable: no layer is removed");
            true
        }
    }
}
