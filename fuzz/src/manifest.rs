//! Whatever a manifest says: it is read or refused, every problem lies in the text, and what was read can be written again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bundles::image::{Image, ImageConfig};
use bundles::manifest::{ParseOptions, PodManifest, Problem, Source, parse};
use bundles::plan::{ContainerPlan, PodPlan, RootSource};
use bundles::spec::expand::ALL;
use bundles::spec::{self, Namespaces, PodFiles, SpecContext};

/// The manifest, if it is text.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let read = |text: &str, strict| parse(&[Source { name: "fuzz".to_owned(), text: text.to_owned() }], &ParseOptions { strict });
    let lenient = read(text, false);
    let strict = read(text, true);
    assert!(lenient.is_ok() || strict.is_err(), "strictly it would be read");
    let places = Places::of(text);
    for result in [&lenient, &strict] {
        match result {
            Ok(manifest) => places.check(&manifest.warnings),
            Err(problems) => {
                assert!(!problems.errors.is_empty(), "refused without a reason");
                places.check(&problems.errors);
                places.check(&problems.warnings);
            }
        }
    }
    for pod in lenient.into_iter().flat_map(|manifest| manifest.pods) {
        check_round_trip(&pod, &|text| read(text, false).map_err(|problems| problems.to_string()).map(|manifest| manifest.pods));
        pod.plan.init_containers.iter().chain(&pod.plan.containers).for_each(|container| check_spec(&pod.plan, container));
    }
}

/// The length of each line in characters.
struct Places(Vec<u64>);

impl Places {
    /// A carriage return ends a line as well (YAML 1.2, 5.4).
    fn of(text: &str) -> Self {
        let lines = text.replace("\r\n", "\n").replace('\r', "\n");
        Self(lines.split('\n').map(|line| line.chars().count() as u64).collect())
    }

    fn check(&self, problems: &[Problem]) {
        for problem in problems {
            let Some(line) = problem.line.checked_sub(1) else { continue };
            // The end of the text may be to blame: the line behind the last, the column behind the line.
            let length = usize::try_from(line).ok().and_then(|line| self.0.get(line)).copied();
            assert!(line <= self.0.len() as u64, "{problem} is behind the text");
            assert!(problem.column >= 1 && problem.column <= length.unwrap_or(0) + 1, "{problem} is beside the line");
            assert!(!problem.to_string().chars().any(char::is_control), "{problem:?} would move the cursor");
        }
    }
}

/// The pod, written as JSON, is the same pod.
fn check_round_trip(pod: &PodManifest, read: &dyn Fn(&str) -> Result<Vec<PodManifest>, String>) {
    let text = serde_json::to_string(&pod.pod).expect("write a pod");
    let mut again = read(&text).unwrap_or_else(|problems| panic!("{problems}\nof {text}"));
    assert_eq!(again.len(), 1);
    let mut again = again.remove(0);
    assert_ne!(again.plan.uid, pod.plan.uid, "each reading makes a pod of its own");
    again.plan.uid.clone_from(&pod.plan.uid);
    assert_eq!(again.plan, pod.plan);
}

/// A spec is made or refused, and no larger than a process can be given.
fn check_spec(plan: &PodPlan, container: &ContainerPlan) {
    let config = ImageConfig { cmd: vec!["/command".to_owned()], env: vec!["PATH=/bin".to_owned()], ..ImageConfig::default() };
    let mut container = container.clone();
    if container.root == RootSource::Reference {
        container.root = RootSource::Image(Box::new(Image {
            reference: String::new(),
            names: Vec::new(),
            id: String::new(),
            digest: String::new(),
            digests: Vec::new(),
            layers: Vec::new(),
            config,
            size: 0,
            created: None,
            architecture: String::new(),
        }));
    }
    let volumes: BTreeMap<String, PathBuf> = plan.volumes.keys().map(|name| (name.clone(), PathBuf::from("/volume"))).collect();
    let staged = container.mounts.iter().filter_map(|mount| Some(((mount.volume.clone(), mount.sub_path.clone()?), PathBuf::from("/staged"))));
    let sub_paths = staged.collect();
    let made = spec::container(plan, &container, &SpecContext {
        rootfs: None,
        pod_ip: None,
        node_name: "node",
        files: PodFiles::default(),
        volumes: &volumes,
        sub_paths: &sub_paths,
        image_volumes: &BTreeMap::new(),
        namespaces: &Namespaces::default(),
        cgroups_path: "/cgroup",
        cgroup_v2: false,
        seccomp_root: Path::new("/nonexistent"),
    });
    let Ok(made) = made else { return };
    let process = made.process().as_ref().expect("a process");
    let strings = process.args().iter().flatten().chain(process.env().iter().flatten());
    assert!(strings.map(String::len).sum::<usize>() <= ALL + 4096, "more than a process can be given");
    assert!(made.mounts().iter().flatten().all(|mount| mount.destination().is_absolute()));
}
