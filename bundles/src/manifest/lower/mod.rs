//! From a defaulted Pod to the plan, checking each value on the way. Nothing is looked up but the directories that
//! annotations name; an image stays a reference.
//!
//! Every function goes on after a problem, so that one run reports them all; a plan made beside an error is thrown away.

mod container;
mod network;
mod ports;
mod security;
mod volumes;

pub(crate) use ports::collide;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::documents::Workload;
use super::names::{self, Form};
use super::path;
use super::report::Report;
use crate::plan::{IpcMode, NetworkMode, PidMode, PodPlan, RestartPolicy};

/// Longest file name of Linux, in bytes (`NAME_MAX`).
const NAME_MAX: usize = 255;

/// The plan of a defaulted pod; without meaning once `report` has errors.
pub(super) fn pod(pod: &Pod, base: &str, workload: Option<Workload>, report: &mut Report<'_>) -> PodPlan {
    let default = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&default);
    let at = path::field(base, "spec");
    let (name, namespace) = identity(pod, base, workload, report);
    let network = if spec.host_network == Some(true) { NetworkMode::Host } else { NetworkMode::Pod };
    let volumes = volumes::volumes(spec, &at, report);
    let containers = if container::too_many(spec, &at, report) {
        container::Containers { init: Vec::new(), app: Vec::new() }
    } else {
        container::check_names(spec, &at, report);
        container::containers(pod, spec, base, report)
    };
    ports::check(spec, network, &at, report);
    if spec.os.as_ref().is_some_and(|os| os.name != "linux") {
        report.error(&path::field(&path::field(&at, "os"), "name"), "minipod runs linux pods only");
    }
    PodPlan {
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        hostname: network::hostname(spec, &name, network, &at, report),
        name,
        namespace,
        labels: pod.metadata.labels.clone().unwrap_or_default(),
        annotations: pod.metadata.annotations.clone().unwrap_or_default(),
        restart_policy: restart_policy(spec, workload, &at, report),
        grace_seconds: grace(spec, &at, report),
        network,
        ipc: if spec.host_ipc == Some(true) { IpcMode::Host } else { IpcMode::Pod },
        pid: pid_mode(spec, &at, report),
        host_aliases: network::host_aliases(spec, &at, report),
        dns: network::dns(spec, &at, report),
        volumes,
        init_containers: containers.init,
        containers: containers.app,
    }
}

/// Name and namespace, checked.
fn identity(pod: &Pod, base: &str, workload: Option<Workload>, report: &mut Report<'_>) -> (String, String) {
    let metadata = &pod.metadata;
    let at = path::field(base, "metadata");
    let name = metadata.name.clone().unwrap_or_default();
    let namespace = metadata.namespace.clone().unwrap_or_default();
    if name.is_empty() {
        report.error(&path::field(&at, "name"), "missing: a pod needs a name");
    } else {
        // A template's name comes from its workload, two steps above.
        let owner = base.strip_suffix("spec.template").filter(|_| workload.is_some());
        let at = owner.map_or_else(|| at.clone(), |owner| path::field(owner.trim_end_matches('.'), "metadata"));
        names::check(&name, Form::Subdomain, &path::field(&at, "name"), report);
        names::check(&namespace, Form::Label, &path::field(&at, "namespace"), report);
        // The log directory is <namespace>_<name>_<uid>.
        let longest = NAME_MAX - 2 - 36;
        if name.len() <= 253 && namespace.len() <= 63 && name.len() + namespace.len() > longest {
            report.error(&path::field(&at, "name"), format!("name and namespace together have more than {longest} characters"));
        }
    }
    let labels = path::field(&at, "labels");
    for (key, value) in metadata.labels.iter().flatten() {
        names::check_label(key, value, &format!("{labels}[{key}]"), report);
    }
    (name, namespace)
}

fn restart_policy(spec: &PodSpec, workload: Option<Workload>, at: &str, report: &mut Report<'_>) -> RestartPolicy {
    const CHOICES: &[(&str, RestartPolicy)] = &[
        ("Always", RestartPolicy::Always),
        ("OnFailure", RestartPolicy::OnFailure),
        ("Never", RestartPolicy::Never),
    ];
    let at = path::field(at, "restartPolicy");
    let policy = choice(spec.restart_policy.as_deref(), CHOICES, &at, report).unwrap_or(RestartPolicy::Always);
    match workload {
        Some(Workload::Job) if policy == RestartPolicy::Always => {
            report.error(&at, "a Job's template needs OnFailure or Never");
        }
        Some(Workload::Job) | None => {}
        Some(other) if policy != RestartPolicy::Always => {
            report.lint(&at, format!("the template of a {other:?} needs Always; Kubernetes would refuse it"));
        }
        Some(_) => {}
    }
    policy
}

fn grace(spec: &PodSpec, at: &str, report: &mut Report<'_>) -> u64 {
    let seconds = spec.termination_grace_period_seconds.unwrap_or(30);
    u64::try_from(seconds).unwrap_or_else(|_| {
        report.error(&path::field(at, "terminationGracePeriodSeconds"), format!("{seconds} is negative: give 0 or more seconds"));
        0
    })
}

fn pid_mode(spec: &PodSpec, at: &str, report: &mut Report<'_>) -> PidMode {
    match (spec.host_pid == Some(true), spec.share_process_namespace == Some(true)) {
        (true, true) => {
            report.error(&path::field(at, "shareProcessNamespace"), "contradicts hostPID: take one of them out");
            PidMode::Host
        }
        (true, false) => PidMode::Host,
        (false, true) => PidMode::Pod,
        (false, false) => PidMode::Container,
    }
}

/// One of a few words; anything else is reported with the words.
fn choice<T: Copy>(value: Option<&str>, choices: &[(&str, T)], at: &str, report: &mut Report<'_>) -> Option<T> {
    let value = value?;
    if let Some((_, found)) = choices.iter().find(|(word, _)| *word == value) {
        return Some(*found);
    }
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    let near = super::typed::nearest(value, &words).map_or(String::new(), |word| format!(", did you mean {word}?"));
    let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    report.error(at, format!("{:?} is none of {}{near}", super::tree::shortened(value), words.join(", ")));
    None
}

/// Most names among which one is looked for that was meant.
const MOST_CANDIDATES: usize = 100;

/// Names for a message: all of them, unless they are too many to read.
fn some(names: &[&str]) -> String {
    const SHOWN: usize = 10;
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown} and others") } else { shown }
}

/// Reports whatever occurs a second time.
fn unique<'k>(items: impl Iterator<Item = (&'k str, String)>, what: &str, report: &mut Report<'_>) {
    let mut seen: BTreeMap<&str, String> = BTreeMap::new();
    for (key, at) in items.filter(|(key, _)| !key.is_empty()) {
        if let Some(first) = seen.get(key) {
            report.error(&at, format!("{what} {key:?} is already used by {first}"));
        } else {
            seen.insert(key, at);
        }
    }
}
