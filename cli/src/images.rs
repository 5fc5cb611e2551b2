//! Finds the images of pods, in the store or at a registry; and which images pods use.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use bundles::image::{Hold, ImageError, ImageStore, Platform, Reference, Usage};
use bundles::manifest::{PodManifest, PullSecret, PullSecretKind};
use bundles::plan::{ImageReference, PodPlan, PullPolicy};
use bundles::registry::DockerConfig;
use runtime::layout::Layout;
use runtime::store::Store;

use crate::args::LogFormat;
use crate::error::Error;
use crate::meter::Shown;
use crate::pulling::{Wanted, pull};
use crate::registries::RegistryOptions;

/// The image store of this installation.
pub(crate) fn store(layout: &Layout) -> Result<ImageStore, Error> {
    Ok(ImageStore::open(&layout.lib)?)
}

/// Whether images may be fetched.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fetch<'a> {
    /// No: those that would be stay references.
    No,
    /// As the pods' pull policies say.
    AsAsked(&'a RegistryOptions),
}

/// Gives everything in the pods that names an image that image, fetched first where its policy says so, all side by side; reports all
/// that cannot be had. Nothing is removed from the image store while the hold lives; none is needed when no pod names an image.
///
/// Spec: Kubernetes documentation, "Images", "Image pull policy".
pub(crate) fn resolve(layout: &Layout, format: LogFormat, pods: &mut [PodManifest], fetch: Fetch<'_>) -> Result<Option<Hold>, Error> {
    let needs: Vec<Need> = pods.iter_mut().enumerate().flat_map(|(pod, manifest)| Need::all(pod, manifest)).collect();
    if needs.is_empty() {
        return Ok(None);
    }
    let store = store(layout)?;
    let mut failures = Failures::default();
    let mut jobs: Vec<(Wanted, Vec<&Need>)> = Vec::new();
    // What is not looked up in the end: why not is told, or it would be fetched.
    let mut missing: Vec<&Need> = Vec::new();
    for need in &needs {
        match need.to_fetch(&store) {
            Ok(None) => {}
            Ok(Some(reference)) => {
                let pod = &pods[need.pod];
                let same = |job: &&mut (Wanted, Vec<&Need>)| job.0.reference == reference && pods[job.1[0].pod].pull_secrets == pod.pull_secrets;
                match jobs.iter_mut().find(same) {
                    Some((_, needs)) => needs.push(need),
                    None => jobs.push((Wanted { secrets: secrets(pod)?, reference }, vec![need])),
                }
            }
            Err(e) => {
                failures.add(need, e);
                missing.push(need);
            }
        }
    }
    if let Fetch::AsAsked(options) = fetch
        && !jobs.is_empty()
    {
        let (wanted, users): (Vec<Wanted>, Vec<Vec<&Need>>) = jobs.into_iter().unzip();
        let results = pull(&store, options, format, Shown::All, &Platform::host(), &wanted)?;
        for (result, needs) in results.into_iter().zip(users) {
            if let Err(e) = result {
                failures.add_pull(&store, &needs, e);
                missing.extend(needs);
            }
        }
    } else {
        missing.extend(jobs.into_iter().flat_map(|(_, needs)| needs));
    }
    let hold = store.hold()?;
    for (pod, manifest) in pods.iter_mut().enumerate() {
        let label = label(&manifest.plan);
        for wanted in manifest.plan.image_references_mut() {
            if missing.iter().any(|need| need.pod == pod && need.reference == wanted.reference) {
                continue;
            }
            match store.find(wanted.reference) {
                Ok(image) => wanted.set(image),
                Err(e) => failures.add(&Need::new(pod, &label, &wanted), e),
            }
        }
    }
    failures.into_result().map(|()| Some(hold))
}

/// What an image is needed for.
#[derive(Debug)]
struct Need {
    pod: usize,
    /// `container web of pod default/hello`.
    user: String,
    reference: String,
    policy: PullPolicy,
}

impl Need {
    fn all(pod: usize, manifest: &mut PodManifest) -> Vec<Self> {
        let label = label(&manifest.plan);
        manifest.plan.image_references_mut().map(|wanted| Self::new(pod, &label, &wanted)).collect()
    }

    fn new(pod: usize, label: &str, wanted: &ImageReference<'_>) -> Self {
        let user = format!("{} of pod {label}", wanted.user);
        Self { pod, user, reference: wanted.reference.to_owned(), policy: wanted.pull_policy }
    }

    /// What a registry has to be asked for; nothing when the image is here, or is only to be had here.
    fn to_fetch(&self, store: &ImageStore) -> Result<Option<Reference>, ImageError> {
        match self.policy {
            PullPolicy::Never => Ok(None),
            PullPolicy::Always => store.fetchable_for_pod(&self.reference),
            PullPolicy::IfNotPresent if store.resolve(&self.reference)?.is_some() => Ok(None),
            PullPolicy::IfNotPresent => store.fetchable_for_pod(&self.reference),
        }
    }
}

fn label(plan: &PodPlan) -> String {
    format!("{}/{}", plan.namespace, plan.name)
}

/// What may prove to registries that the pod may have its images.
fn secrets(pod: &PodManifest) -> Result<Vec<DockerConfig>, Error> {
    let config = |secret: &PullSecret| {
        let parsed = match secret.kind {
            PullSecretKind::DockerConfigJson => DockerConfig::parse(secret.json()),
            PullSecretKind::DockerCfg => DockerConfig::parse_legacy(secret.json()),
        };
        let name = format!("Secret {}", secret.name);
        parsed.map(|config| config.from_source(&*name)).map_err(|e| Error::Usage(format!("{name} of pod {}: {e}", label(&pod.plan))))
    };
    pod.pull_secrets.iter().map(config).collect()
}

/// Images that cannot be had: one failure for each and why, whoever needs it.
#[derive(Debug, Default)]
struct Failures(Vec<Error>);

impl Failures {
    fn add(&mut self, need: &Need, source: ImageError) {
        let user = match need.policy {
            PullPolicy::Never => format!("{} (imagePullPolicy: Never)", need.user),
            PullPolicy::Always | PullPolicy::IfNotPresent => need.user.clone(),
        };
        self.0.push(Error::PodImage { image: need.reference.clone(), user, source: Box::new(source) });
    }

    fn add_pull(&mut self, store: &ImageStore, needs: &[&Need], source: ImageError) {
        let Some(first) = needs.first() else { return };
        let others = match needs.len() - 1 {
            0 => String::new(),
            1 => " and one other".to_owned(),
            n => format!(" and {n} others"),
        };
        let unreachable = matches!(&source, ImageError::Registry(e) if e.is_unreachable());
        let hint = match store.resolve(&first.reference) {
            Ok(Some(_)) if unreachable => " (it is here: imagePullPolicy IfNotPresent would run it as it is)",
            _ => "",
        };
        let user = format!("{}{others}{hint}", first.user);
        self.0.push(Error::PodImage { image: first.reference.clone(), user, source: Box::new(source) });
    }

    fn into_result(self) -> Result<(), Error> {
        Error::all(self.0)
    }
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
