//! Containers.

use std::collections::BTreeSet;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::super::names::{self, Form};
use super::super::quantity::{self, QuantityError};
use super::volumes::{self, Volumes};
use super::{Report, choice, path, ports, security, some, unique};
use crate::plan::{ContainerPlan, NetworkMode, PullPolicy, Resources, RootSource};
use crate::spec::{Word, too_long};

/// The containers of a pod.
pub(super) struct Containers {
    pub(super) init: Vec<ContainerPlan>,
    pub(super) app: Vec<ContainerPlan>,
}

/// Which list a container stands in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Init,
    App,
}

/// Every container with its role and path.
pub(super) fn each<'a>(spec: &'a PodSpec, at: &str) -> impl Iterator<Item = (&'a Container, Role, String)> {
    let (init, app) = (path::field(at, "initContainers"), path::field(at, "containers"));
    let init = spec.init_containers.iter().flatten().enumerate().map(move |(i, c)| (c, Role::Init, path::element(&init, i)));
    let app = spec.containers.iter().enumerate().map(move |(i, c)| (c, Role::App, path::element(&app, i)));
    init.chain(app)
}

/// Most containers of one pod. Kubernetes has no such limit, but its objects have one of 1.5 MiB (etcd's); a host has one as well.
const MAX_CONTAINERS: usize = 1000;

/// Whether there are so many containers that nothing else need be said of them.
pub(super) fn too_many(spec: &PodSpec, at: &str, report: &mut Report<'_>) -> bool {
    let lists = [("initContainers", spec.init_containers.as_ref().map_or(0, Vec::len)), ("containers", spec.containers.len())];
    for (list, count) in lists.into_iter().filter(|(_, count)| *count > MAX_CONTAINERS) {
        report.error(&path::field(at, list), format!("{count} containers: at most {MAX_CONTAINERS} can be in one pod"));
    }
    lists.iter().any(|(_, count)| *count > MAX_CONTAINERS)
}

pub(super) fn check_names(spec: &PodSpec, at: &str, report: &mut Report<'_>) {
    if spec.containers.is_empty() {
        report.error(&path::field(at, "containers"), "missing: a pod needs at least one container");
    }
    for (container, _, at) in each(spec, at) {
        let at = path::field(&at, "name");
        if container.name.is_empty() {
            report.error(&at, "missing: a container needs a name");
        } else {
            names::check(&container.name, Form::Label, &at, report);
        }
    }
    let names = each(spec, at).map(|(container, _, at)| (container.name.as_str(), path::field(&at, "name")));
    unique(names.collect::<Vec<_>>().into_iter(), "the container name", report);
}

pub(super) fn containers(pod: &Pod, spec: &PodSpec, base: &str, report: &mut Report<'_>) -> Containers {
    let roots = Roots::read(pod, spec, base, report);
    let volumes = Volumes::of(spec);
    let mut plans = Containers { init: Vec::new(), app: Vec::new() };
    for (container, role, at) in each(spec, &path::field(base, "spec")) {
        let plan = plan(container, spec, role, (&roots, &volumes), &at, report);
        match role {
            Role::Init => plans.init.push(plan),
            Role::App => plans.app.push(plan),
        }
    }
    plans
}

fn plan(container: &Container, spec: &PodSpec, role: Role, (roots, volumes): (&Roots, &Volumes<'_>), at: &str, report: &mut Report<'_>) -> ContainerPlan {
    let root = roots.of(&container.name);
    let image = container.image.clone().unwrap_or_default();
    if root == RootSource::Reference {
        let hint = "a container needs an image, such as `toolbox`, or the pod an annotation minipod.dev/rootfs.<container>";
        check_image(&image, hint, &path::field(at, "image"), report);
    }
    check_restart_policy(container, role, at, report);
    let network = if spec.host_network == Some(true) { NetworkMode::Host } else { NetworkMode::Pod };
    let ports = ports::lower(container, role, network, at, report);
    let plan = ContainerPlan {
        name: container.name.clone(),
        image,
        pull_policy: pull_policy(container.image_pull_policy.as_deref(), &path::field(at, "imagePullPolicy"), report),
        root,
        command: container.command.clone().filter(|words| !words.is_empty()),
        args: container.args.clone().filter(|words| !words.is_empty()),
        env: env(container, at, report),
        working_dir: working_dir(container, at, report),
        mounts: volumes::mounts(container, volumes, at, report),
        host_ports: ports.host,
        container_ports: ports.container,
        resources: container.resources.as_ref().map(|r| resources(r, &path::field(at, "resources"), report)).unwrap_or_default(),
        security: security::lower(container, spec, at, report),
        tty: container.tty == Some(true),
        stdin: container.stdin == Some(true),
    };
    if let Some((word, why)) = too_long(&plan) {
        report.error(&word_path(word, at), why.to_string());
    }
    plan
}

fn word_path(word: Word, at: &str) -> String {
    match word {
        Word::Env(index) => path::field(&path::element(&path::field(at, "env"), index), "value"),
        Word::Command(index) => path::element(&path::field(at, "command"), index),
        Word::Args(index) => path::element(&path::field(at, "args"), index),
    }
}

/// `hint` says what to do when there is none.
pub(super) fn check_image(image: &str, hint: &str, at: &str, report: &mut Report<'_>) {
    if image.is_empty() {
        report.error(at, format!("missing: {hint}"));
    } else if image.contains(char::is_whitespace) {
        report.error(at, format!("{image:?} is no image reference: it holds a space"));
    }
}

fn check_restart_policy(container: &Container, role: Role, at: &str, report: &mut Report<'_>) {
    let at = path::field(at, "restartPolicy");
    match (container.restart_policy.as_deref(), role) {
        (None, _) => {}
        (Some("Always"), Role::Init) => report.error(&at, "sidecars are not supported yet by minipod: the pod would wait for it forever; make it an ordinary container"),
        (Some("Always" | "OnFailure" | "Never"), _) => report.warn(&at, "not supported yet by minipod, ignored: the pod's restartPolicy applies"),
        (Some(other), _) => report.error(&at, format!("{other:?} is none of Always, OnFailure, Never")),
    }
}

/// A defaulted pull policy; `at` is its own path.
pub(super) fn pull_policy(policy: Option<&str>, at: &str, report: &mut Report<'_>) -> PullPolicy {
    const CHOICES: &[(&str, PullPolicy)] =
        &[("Always", PullPolicy::Always), ("IfNotPresent", PullPolicy::IfNotPresent), ("Never", PullPolicy::Never)];
    choice(policy, CHOICES, at, report).unwrap_or(PullPolicy::IfNotPresent)
}

fn env(container: &Container, at: &str, report: &mut Report<'_>) -> Vec<(String, String)> {
    let at = path::field(at, "env");
    let variables = container.env.iter().flatten().enumerate();
    variables
        .map(|(index, variable)| {
            let at = path::field(&path::element(&at, index), "name");
            if variable.name.is_empty() {
                report.error(&at, "missing: a variable needs a name");
            } else if variable.name.contains('=') {
                report.error(&at, format!("{:?} must not hold '='", variable.name));
            }
            (variable.name.clone(), variable.value.clone().unwrap_or_default())
        })
        .collect()
}

fn working_dir(container: &Container, at: &str, report: &mut Report<'_>) -> Option<PathBuf> {
    let dir = container.working_dir.as_deref().filter(|dir| !dir.is_empty())?;
    if !dir.starts_with('/') {
        report.error(&path::field(at, "workingDir"), format!("{dir:?} is not absolute: it has to start with '/'"));
    }
    Some(PathBuf::from(dir))
}

fn resources(requirements: &ResourceRequirements, at: &str, report: &mut Report<'_>) -> Resources {
    let mut plan = Resources::default();
    for (list, limits) in [("limits", true), ("requests", false)] {
        let values = if limits { &requirements.limits } else { &requirements.requests };
        for (name, value) in values.iter().flatten() {
            let at = path::field(&path::field(at, list), name);
            // The default of a request is its limit, which has been read.
            let defaulted = !limits && requirements.limits.as_ref().and_then(|all| all.get(name)) == Some(value);
            match name.as_str() {
                "cpu" if defaulted => {
                    plan.cpu_request_milli = plan.cpu_limit_milli;
                    continue;
                }
                "memory" if defaulted => {
                    plan.memory_request = plan.memory_limit;
                    continue;
                }
                _ => {}
            }
            let slot = match (name.as_str(), limits) {
                ("cpu", true) => &mut plan.cpu_limit_milli,
                ("cpu", false) => &mut plan.cpu_request_milli,
                ("memory", true) => &mut plan.memory_limit,
                ("memory", false) => &mut plan.memory_request,
                _ => {
                    if !defaulted {
                        other_resource(name, &at, report);
                    }
                    continue;
                }
            };
            let read = if name == "cpu" { quantity::milli } else { quantity::units };
            *slot = amount(value, read, &at, report);
        }
    }
    for (name, request, limit) in
        [("cpu", plan.cpu_request_milli, plan.cpu_limit_milli), ("memory", plan.memory_request, plan.memory_limit)]
    {
        if let (Some(request), Some(limit)) = (request, limit)
            && request > limit
        {
            report.error(&path::field(&path::field(at, "requests"), name), format!("more than the limit of {name}"));
        }
    }
    plan
}

fn other_resource(name: &str, at: &str, report: &mut Report<'_>) {
    match super::super::typed::nearest(name, &["cpu", "memory"]) {
        Some(near) if !name.contains('/') => report.lint(at, format!("unknown resource, ignored, did you mean `{near}`?")),
        _ => report.warn(at, "not supported yet by minipod, ignored: only cpu and memory are limited"),
    }
}

/// A quantity, or a problem and `None`.
pub(super) fn amount(
    value: &Quantity,
    read: fn(&str) -> Result<u64, QuantityError>,
    at: &str,
    report: &mut Report<'_>,
) -> Option<u64> {
    read(&value.0).inspect_err(|error| report.error(at, error.to_string())).ok()
}

/// `minipod.dev/restart-backoff-seconds`, which the pod's shim reads.
const BACK_OFF: &str = "restart-backoff-seconds";

/// `minipod.dev/rootfs.<container>` and `minipod.dev/bundle.<container>`.
struct Roots(Vec<(String, RootSource)>);

impl Roots {
    fn read(pod: &Pod, spec: &PodSpec, base: &str, report: &mut Report<'_>) -> Self {
        let at = path::field(&path::field(base, "metadata"), "annotations");
        let names: BTreeSet<&str> = each(spec, "").map(|(container, _, _)| container.name.as_str()).collect();
        let mut roots: Vec<(String, RootSource)> = Vec::new();
        for (key, dir) in pod.metadata.annotations.iter().flatten() {
            let Some(name) = key.strip_prefix("minipod.dev/").filter(|name| *name != BACK_OFF) else { continue };
            let at = format!("{at}[{key}]");
            let Some((kind, container)) = name.split_once('.').filter(|(kind, _)| matches!(*kind, "rootfs" | "bundle")) else {
                report.warn(&at, "unknown annotation, ignored: minipod.dev/rootfs.<container>, minipod.dev/bundle.<container> and minipod.dev/restart-backoff-seconds are known");
                continue;
            };
            if !names.contains(container) {
                let known: Vec<&str> = names.iter().copied().filter(|name| !name.is_empty()).collect();
                report.error(&at, format!("there is no container {container:?}; there are {}", some(&known)));
                continue;
            }
            let path = PathBuf::from(dir);
            if let Err(why) = check_directory(&path, kind == "bundle") {
                report.error(&at, format!("{dir:?} {why}"));
            }
            if roots.iter().any(|(other, _)| other == container) {
                report.error(&at, format!("container {container:?} has both a rootfs and a bundle annotation: take one out"));
            }
            let root = if kind == "bundle" { RootSource::Bundle(path) } else { RootSource::Directory(path) };
            roots.push((container.to_owned(), root));
        }
        Self(roots)
    }

    fn of(&self, container: &str) -> RootSource {
        let found = self.0.iter().find(|(name, _)| name == container);
        found.map_or(RootSource::Reference, |(_, root)| root.clone())
    }
}

fn check_directory(path: &std::path::Path, bundle: bool) -> Result<(), String> {
    if !path.is_absolute() {
        return Err("is not absolute: it has to start with '/'".to_owned());
    }
    match std::fs::metadata(path) {
        Err(error) => Err(format!("cannot be used: {error}")),
        Ok(found) if !found.is_dir() => Err("is not a directory".to_owned()),
        Ok(_) if bundle && !path.join("config.json").is_file() => Err("is no OCI bundle: it has no config.json".to_owned()),
        Ok(_) => Ok(()),
    }
}
