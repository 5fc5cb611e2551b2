//! Volumes and where they are mounted.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, PodSpec, Volume};

use super::super::names::{self, Form};
use super::super::quantity;
use super::super::support::TOKEN_DIR;
use super::super::tree::Value;
use super::container::{amount, check_image, pull_policy};
use super::security::is_inside;
use super::{MOST_CANDIDATES, Report, choice, path, some, unique};
use crate::plan::{HostPathKind, VolumeMount, VolumeSource};

pub(super) fn volumes(spec: &PodSpec, at: &str, report: &mut Report<'_>) -> BTreeMap<String, VolumeSource> {
    let list = path::field(at, "volumes");
    let all: Vec<(&Volume, String)> =
        spec.volumes.iter().flatten().enumerate().map(|(index, volume)| (volume, path::element(&list, index))).collect();
    for (volume, at) in &all {
        let at = path::field(at, "name");
        if volume.name.is_empty() {
            report.error(&at, "missing: a volume needs a name");
        } else {
            names::check(&volume.name, Form::Label, &at, report);
        }
    }
    unique(all.iter().map(|(volume, at)| (volume.name.as_str(), path::field(at, "name"))), "the volume name", report);
    let mut plans = BTreeMap::new();
    for (volume, at) in all {
        check_one_source(volume, &at, report);
        if let Some(source) = source(volume, &at, report) {
            plans.insert(volume.name.clone(), source);
        }
    }
    plans
}

/// The volume's sources, as JSON names.
fn source_names(volume: &Volume) -> Vec<String> {
    match serde_json::to_value(volume) {
        Ok(serde_json::Value::Object(fields)) => fields.into_iter().map(|(name, _)| name).filter(|name| name != "name").collect(),
        _ => Vec::new(),
    }
}

/// A volume without a source is an emptyDir, as in Kubernetes; but not one whose source is mistyped.
fn check_one_source(volume: &Volume, at: &str, report: &mut Report<'_>) {
    let sources = source_names(volume);
    if sources.len() > 1 {
        report.error(at, format!("has {} sources ({}): take all but one out", sources.len(), sources.join(", ")));
    }
    let Some(node) = report.root().find(&path::steps(at)) else { return };
    let Value::Map(entries) = &node.value else { return };
    let written = |entry: &super::super::tree::Entry| !matches!(entry.node.value, Value::Null) && sources.contains(&entry.key);
    let strange: Vec<&str> = entries.iter().filter(|entry| entry.key != "name").map(|entry| entry.key.as_str()).collect();
    if !strange.is_empty() && !entries.iter().any(written) {
        let null = entries.iter().all(|entry| entry.key == "name" || matches!(entry.node.value, Value::Null));
        let hint = if null { "write `emptyDir: {}`" } else { "use emptyDir, hostPath or image" };
        report.error(at, format!("has no known source in {}: {hint}", strange.join(", ")));
    }
}

fn source(volume: &Volume, at: &str, report: &mut Report<'_>) -> Option<VolumeSource> {
    if let Some(empty) = &volume.empty_dir {
        let at = path::field(at, "emptyDir");
        const MEDIA: &[(&str, bool)] = &[("", false), ("Memory", true)];
        let memory = choice(Some(empty.medium.as_deref().unwrap_or("")), MEDIA, &path::field(&at, "medium"), report);
        let limit_at = path::field(&at, "sizeLimit");
        let size_limit = empty.size_limit.as_ref().and_then(|limit| amount(limit, quantity::units, &limit_at, report));
        let memory = memory.unwrap_or(false);
        if size_limit.is_some() && !memory {
            report.note(&limit_at, "not enforced on a disk; `medium: Memory` has a real limit");
        }
        return Some(VolumeSource::EmptyDir { memory, size_limit });
    }
    if let Some(image) = &volume.image {
        let at = path::field(at, "image");
        let reference = image.reference.clone().unwrap_or_default();
        check_image(&reference, "an image volume names an image", &path::field(&at, "reference"), report);
        let pull_policy = pull_policy(image.pull_policy.as_deref(), &path::field(&at, "pullPolicy"), report);
        return Some(VolumeSource::Image { reference, pull_policy, image: None });
    }
    let host = volume.host_path.as_ref()?;
    let at = path::field(at, "hostPath");
    let kind = choice(Some(host.type_.as_deref().unwrap_or("")), KINDS, &path::field(&at, "type"), report)?;
    let path_at = path::field(&at, "path");
    if host.path.is_empty() {
        report.error(&path_at, "missing: name a path of the host");
    } else if !host.path.starts_with('/') {
        report.error(&path_at, format!("{:?} is not absolute: it has to start with '/'", host.path));
    } else if has_parent(Path::new(&host.path)) {
        report.error(&path_at, format!("{:?} must not hold '..'", host.path));
    }
    Some(VolumeSource::HostPath { path: PathBuf::from(&host.path), kind })
}

const KINDS: &[(&str, HostPathKind)] = &[
    ("", HostPathKind::Unchecked),
    ("DirectoryOrCreate", HostPathKind::DirectoryOrCreate),
    ("Directory", HostPathKind::Directory),
    ("FileOrCreate", HostPathKind::FileOrCreate),
    ("File", HostPathKind::File),
    ("Socket", HostPathKind::Socket),
    ("CharDevice", HostPathKind::CharDevice),
    ("BlockDevice", HostPathKind::BlockDevice),
];

fn has_parent(path: &Path) -> bool {
    path.components().any(|part| part == Component::ParentDir)
}

/// A pod's volumes by name, the first of each.
pub(super) struct Volumes<'a>(BTreeMap<&'a str, &'a Volume>);

impl<'a> Volumes<'a> {
    pub(super) fn of(spec: &'a PodSpec) -> Self {
        Self(spec.volumes.iter().flatten().rev().map(|volume| (volume.name.as_str(), volume)).collect())
    }
}

/// The mounts of a container.
pub(super) fn mounts(container: &Container, volumes: &Volumes<'_>, at: &str, report: &mut Report<'_>) -> Vec<VolumeMount> {
    let list = path::field(at, "volumeMounts");
    let mut mounts = Vec::new();
    let mut targets = Vec::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let at = path::element(&list, index);
        let volume = volumes.0.get(mount.name.as_str());
        let name_at = path::field(&at, "name");
        match volume {
            _ if mount.name.is_empty() => report.error(&name_at, "missing: name one of spec.volumes"),
            None if report.is_full() => report.error(&name_at, ""),
            None => report.error(&name_at, unknown_volume(&mount.name, volumes)),
            Some(volume) if !is_ours(volume) && mount.mount_path == TOKEN_DIR => {
                report.note(&at, "left out: there is no API server whose token it could hold");
                continue;
            }
            Some(_) => {}
        }
        check_target(&mount.mount_path, &path::field(&at, "mountPath"), report);
        let target: PathBuf = Path::new(&mount.mount_path).components().collect();
        targets.push((target.to_string_lossy().into_owned(), path::field(&at, "mountPath")));
        let sub_path = mount.sub_path.as_deref().filter(|sub| !sub.is_empty()).map(PathBuf::from);
        if let Some(sub) = sub_path.as_ref().filter(|sub| !is_inside(sub)) {
            report.error(&path::field(&at, "subPath"), format!("{:?} has to be relative and without '..'", sub.display().to_string()));
        }
        mounts.push(VolumeMount {
            volume: mount.name.clone(),
            mount_path: target,
            // As kubelet has it, whatever the manifest says.
            read_only: mount.read_only == Some(true) || volume.is_some_and(|volume| volume.image.is_some()),
            sub_path,
        });
    }
    unique(targets.iter().map(|(target, at)| (target.as_str(), at.clone())), "the mount path", report);
    mounts
}

/// Whether its source is one of those that are supported.
fn is_ours(volume: &Volume) -> bool {
    volume.empty_dir.is_some() || volume.host_path.is_some() || volume.image.is_some()
}

fn unknown_volume(name: &str, volumes: &Volumes<'_>) -> String {
    let names: Vec<&str> = volumes.0.keys().copied().take(MOST_CANDIDATES).collect();
    let near = super::super::typed::nearest(name, &names);
    match (near, names.is_empty()) {
        (Some(near), _) => format!("there is no volume {name:?}, did you mean {near:?}?"),
        (None, true) => format!("there is no volume {name:?}: spec.volumes is empty"),
        (None, false) => format!("there is no volume {name:?}; there are {}", some(&names)),
    }
}

fn check_target(target: &str, at: &str, report: &mut Report<'_>) {
    let path = Path::new(target);
    if target.is_empty() {
        report.error(at, "missing: name a path in the container");
    } else if !path.is_absolute() {
        report.error(at, format!("{target:?} is not absolute: it has to start with '/'"));
    } else if has_parent(path) {
        report.error(at, format!("{target:?} must not hold '..'"));
    } else if path == Path::new("/") || path.starts_with("/proc") {
        report.error(at, format!("{target:?} cannot be covered by a volume"));
    }
}
