//! The defaults of the API server (`pkg/apis/core/v1/defaults.go`), so that what is shown later looks as from `kubectl get`.

use k8s_openapi::api::core::v1::{Container, EmptyDirVolumeSource, Pod, PodSecurityContext, PodSpec, Volume};

/// Fills in what the manifest leaves out. `uid` becomes the pod's.
pub(super) fn apply(pod: &mut Pod, uid: &str) {
    let metadata = &mut pod.metadata;
    metadata.uid = Some(uid.to_owned());
    if metadata.name.as_deref().unwrap_or_default().is_empty()
        && let Some(prefix) = metadata.generate_name.as_deref().filter(|prefix| !prefix.is_empty())
    {
        metadata.name = Some(format!("{prefix}{}", &uid[..5]));
    }
    if metadata.namespace.as_deref().unwrap_or_default().is_empty() {
        metadata.namespace = Some("default".to_owned());
    }
    // Leftovers of another life, in an export.
    metadata.creation_timestamp = None;
    metadata.deletion_timestamp = None;
    metadata.deletion_grace_period_seconds = None;
    metadata.managed_fields = None;
    metadata.resource_version = None;
    metadata.generation = None;
    metadata.owner_references = None;
    metadata.finalizers = None;
    pod.status = None;
    spec(pod.spec.get_or_insert_default());
}

fn spec(spec: &mut PodSpec) {
    spec.restart_policy.get_or_insert_with(|| "Always".to_owned());
    spec.dns_policy.get_or_insert_with(|| "ClusterFirst".to_owned());
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.enable_service_links.get_or_insert(true);
    spec.security_context.get_or_insert_with(PodSecurityContext::default);
    let host_network = spec.host_network == Some(true);
    for item in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        container(item, host_network);
    }
    for item in spec.volumes.iter_mut().flatten() {
        volume(item);
    }
}

fn container(container: &mut Container, host_network: bool) {
    let image = container.image.as_deref().unwrap_or_default();
    container.image_pull_policy.get_or_insert_with(|| pull_policy(image).to_owned());
    container.termination_message_path.get_or_insert_with(|| "/dev/termination-log".to_owned());
    container.termination_message_policy.get_or_insert_with(|| "File".to_owned());
    let resources = container.resources.get_or_insert_default();
    if let Some(limits) = &resources.limits {
        let requests = resources.requests.get_or_insert_default();
        for (name, limit) in limits {
            requests.entry(name.clone()).or_insert_with(|| limit.clone());
        }
    }
    for port in container.ports.iter_mut().flatten() {
        port.protocol.get_or_insert_with(|| "TCP".to_owned());
        if host_network && port.host_port.unwrap_or(0) == 0 {
            port.host_port = Some(port.container_port);
        }
    }
}

/// Always for `latest` or no tag, else `IfNotPresent`; images that can only be local are never asked for.
fn pull_policy(image: &str) -> &'static str {
    let local = image == "toolbox" || image.starts_with("minipod.local/") || image.starts_with("localhost/");
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let tag = name.rsplit('/').next().and_then(|last| last.split_once(':')).map(|(_, tag)| tag);
    match (local, digest, tag) {
        (false, None, None | Some("latest")) => "Always",
        _ => "IfNotPresent",
    }
}

fn volume(volume: &mut Volume) {
    let bare = Volume { name: volume.name.clone(), ..Volume::default() };
    if *volume == bare {
        volume.empty_dir = Some(EmptyDirVolumeSource::default());
    }
    if let Some(host_path) = &mut volume.host_path {
        host_path.type_.get_or_insert_with(String::new);
    }
    if let Some(image) = &mut volume.image {
        let reference = image.reference.as_deref().unwrap_or_default();
        image.pull_policy.get_or_insert_with(|| pull_policy(reference).to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pull_policy_depends_on_the_tag() {
        for image in ["nginx", "nginx:latest", "reg.example:5000/a/b", "a/b:latest"] {
            assert_eq!(pull_policy(image), "Always", "{image}");
        }
        for image in ["nginx:1.2", "reg.example:5000/a:1", "nginx@sha256:0", "toolbox", "localhost/a", "minipod.local/toolbox"] {
            assert_eq!(pull_policy(image), "IfNotPresent", "{image}");
        }
    }
}
