//! From documents to pods: `kind: Pod`, lists of them, and the pod templates of workloads.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;

use super::path;
use super::report::Report;
use super::secrets::{self, Secret};
use super::tree::{Node, Value};
use super::typed::typed;

/// Most pods that one workload's `replicas` may ask for on one host.
const MAX_REPLICAS: i32 = 250;

/// What the copies of all templates may take together, in bytes (about: see [`Node::weight`]).
pub(super) const MAX_COPIES: usize = 64 << 20;

/// What the smallest pod takes, in bytes.
const LEAST_POD: usize = 8 << 10;

/// A pod as written, not yet defaulted.
pub(super) struct Draft {
    pub(super) pod: Pod,
    /// Path of the pod (or pod template) in its document; empty at the root.
    pub(super) base: String,
    /// What it came from, when not a Pod.
    pub(super) workload: Option<Workload>,
}

/// The kinds that carry a pod template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Workload {
    Deployment,
    ReplicaSet,
    StatefulSet,
    DaemonSet,
    Job,
}

/// What became of a document.
#[derive(Default)]
pub(super) struct Found {
    pub(super) drafts: Vec<Draft>,
    /// The Secrets, each with its path in the document.
    pub(super) secrets: Vec<(String, Secret)>,
    /// It holds something that runs, even when it is wrong.
    pub(super) runnable: bool,
    /// What is left of [`MAX_COPIES`].
    pub(super) room: usize,
}

/// The pods of the object at `base`; the copies of templates among them have `room` bytes.
pub(super) fn pods(node: &Node, base: &str, room: usize, report: &mut Report<'_>) -> Found {
    let mut found = Found { room, ..Found::default() };
    collect(node, base, report, &mut found);
    found
}

fn collect(node: &Node, base: &str, report: &mut Report<'_>, found: &mut Found) {
    if !matches!(node.value, Value::Map(_)) {
        report.error(base, format!("expected a Kubernetes object, found {}", node.value.describe()));
        return;
    }
    let (Some(kind), version) = (node.text("kind"), node.text("apiVersion")) else {
        let path = path::field(base, "kind");
        let hint = "missing: a manifest starts with `apiVersion: v1` and `kind: Pod`";
        report.error(&path, if node.get("kind").is_some() { "expected a string such as Pod" } else { hint });
        return;
    };
    let wanted = match kind {
        "Pod" | "List" | "PodList" => "v1",
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" => "apps/v1",
        "Job" => "batch/v1",
        "Secret" if secrets::kind_of(node).is_some() => "v1",
        _ => {
            if kind == "Secret" {
                found.secrets.push((base.to_owned(), secrets::read(node, base, report)));
            }
            other_kind(kind, base, report);
            return;
        }
    };
    found.runnable |= kind != "Secret";
    if version != Some(wanted) {
        let path = path::field(base, "apiVersion");
        let message = match version {
            None => format!("missing: {kind} wants {wanted}"),
            Some(version) => format!("{version:?} is not the version of {kind}: write {wanted}"),
        };
        report.error(&path, message);
        return;
    }
    match kind {
        "Pod" => {
            if let Some(pod) = read::<Pod>(node, base, report) {
                found.drafts.push(Draft { pod, base: base.to_owned(), workload: None });
            }
        }
        "List" | "PodList" => list(node, base, report, found),
        "Secret" => found.secrets.push((base.to_owned(), secrets::read(node, base, report))),
        _ => {
            let drafts = workload(kind, node, base, &mut found.room, report);
            found.drafts.extend(drafts);
        }
    }
}

/// A kind that does not run: named, and no more.
fn other_kind(kind: &str, base: &str, report: &mut Report<'_>) {
    const RUNNABLE: [&str; 7] = ["Pod", "List", "Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job"];
    let path = path::field(base, "kind");
    let message = match kind {
        "ConfigMap" | "Secret" | "PersistentVolumeClaim" => format!("{kind} is not supported yet by minipod, ignored"),
        "Service" | "Ingress" | "NetworkPolicy" => format!("{kind} is not supported by minipod, ignored: use hostPort to reach a pod"),
        _ => match super::typed::nearest(kind, &RUNNABLE) {
            Some(near) => format!("unknown kind {kind:?}, ignored, did you mean {near}?"),
            None => format!("kind {kind:?} is not supported by minipod, ignored"),
        },
    };
    report.warn(&path, message);
}

fn list(node: &Node, base: &str, report: &mut Report<'_>, found: &mut Found) {
    let path = path::field(base, "items");
    match node.get("items").map(|items| &items.value) {
        Some(Value::Seq(items)) => {
            for (index, item) in items.iter().enumerate() {
                collect(item, &path::element(&path, index), report, found);
            }
        }
        Some(other) => report.error(&path, format!("expected a list, found {}", other.describe())),
        None => report.error(&path, "missing: a List has items"),
    }
}

/// A node as `T`; what does not fit is reported.
fn read<T: DeserializeOwned>(node: &Node, base: &str, report: &mut Report<'_>) -> Option<T> {
    let (typed, findings) = typed::<T>(node, base);
    report.findings(findings);
    typed
}

/// The pods of a workload, as its controller would name them on one node: `<name>-0`, `<name>-1`, ...
fn workload(kind: &str, node: &Node, base: &str, room: &mut usize, report: &mut Report<'_>) -> Vec<Draft> {
    let parts = match kind {
        "Deployment" => read::<Deployment>(node, base, report).map(|object| {
            let (template, replicas) = object.spec.map(|spec| (spec.template, spec.replicas)).unwrap_or_default();
            (Workload::Deployment, object.metadata, Some(template), replicas)
        }),
        "ReplicaSet" => read::<ReplicaSet>(node, base, report).map(|object| {
            let (template, replicas) = object.spec.map(|spec| (spec.template, spec.replicas)).unwrap_or_default();
            (Workload::ReplicaSet, object.metadata, template, replicas)
        }),
        "StatefulSet" => read::<StatefulSet>(node, base, report).map(|object| {
            let (template, replicas) = object.spec.map(|spec| (spec.template, spec.replicas)).unwrap_or_default();
            (Workload::StatefulSet, object.metadata, Some(template), replicas)
        }),
        "DaemonSet" => read::<DaemonSet>(node, base, report)
            .map(|object| (Workload::DaemonSet, object.metadata, object.spec.map(|spec| spec.template), Some(1))),
        _ => read::<Job>(node, base, report).map(|object| {
            let (template, parallelism) = object.spec.map(|spec| (spec.template, spec.parallelism)).unwrap_or_default();
            (Workload::Job, object.metadata, Some(template), parallelism)
        }),
    };
    let Some((workload, metadata, template, replicas)) = parts else { return Vec::new() };
    let field = if workload == Workload::Job { "parallelism" } else { "replicas" };
    let replicas = replicas.unwrap_or(1);
    let path = path::field(&path::field(base, "spec"), field);
    if !(0..=MAX_REPLICAS).contains(&replicas) {
        report.error(&path, format!("{replicas} is out of range: 0 to {MAX_REPLICAS} on one host"));
        return Vec::new();
    }
    let pods = usize::try_from(replicas).unwrap_or_default();
    let Some(left) = room.checked_sub(node.weight().max(LEAST_POD) * pods) else {
        report.error(&path, format!("{replicas} copies of this template are too much: those of all templates have at most {MAX_COPIES} bytes"));
        return Vec::new();
    };
    *room = left;
    if replicas == 0 {
        report.warn(&path, "0: there is nothing to run");
    }
    if metadata.name.as_deref().unwrap_or_default().is_empty() {
        report.error(&path::field(&path::field(base, "metadata"), "name"), format!("missing: a {kind} needs a name"));
        return Vec::new();
    }
    report.note(&path::field(base, "kind"), format!("only the pod template of a {kind} is used: nothing is rolled out or rescheduled"));
    let base = path::field(&path::field(base, "spec"), "template");
    let template = template.unwrap_or_default();
    (0..replicas)
        .map(|index| Draft { pod: replica(&template, &metadata, index), base: base.clone(), workload: Some(workload) })
        .collect()
}

/// One pod of a template.
fn replica(template: &PodTemplateSpec, owner: &ObjectMeta, index: i32) -> Pod {
    let mut metadata = template.metadata.clone().unwrap_or_default();
    metadata.name = Some(format!("{}-{index}", owner.name.as_deref().unwrap_or_default()));
    metadata.namespace.clone_from(&owner.namespace);
    Pod { metadata, spec: template.spec.clone(), status: None }
}
