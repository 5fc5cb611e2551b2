//! Security contexts: the container's over the pod's.

use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use k8s_openapi::api::core::v1::{Container, PodSecurityContext, PodSpec, SeccompProfile as Profile, SecurityContext};
use oci_spec::runtime::Capability;

use super::{Report, path};
use crate::plan::{SeccompProfile, Security};

pub(super) fn lower(container: &Container, spec: &PodSpec, at: &str, report: &mut Report<'_>) -> Security {
    let (no_pod, no_own) = (PodSecurityContext::default(), SecurityContext::default());
    let pod = spec.security_context.as_ref().unwrap_or(&no_pod);
    let own = container.security_context.as_ref().unwrap_or(&no_own);
    // spec.containers[0] and spec.initContainers[0] lie in the spec.
    let above = at.rsplit_once('.').map_or("", |(spec, _)| spec);
    let at = path::field(at, "securityContext");
    let pod_at = path::field(above, "securityContext");
    let user = id(own.run_as_user, "runAsUser", &at, report).or_else(|| id(pod.run_as_user, "runAsUser", &pod_at, report));
    let security = Security {
        user,
        group: id(own.run_as_group, "runAsGroup", &at, report).or_else(|| id(pod.run_as_group, "runAsGroup", &pod_at, report)),
        non_root: own.run_as_non_root.or(pod.run_as_non_root) == Some(true),
        supplemental_groups: groups(pod, &pod_at, report),
        privileged: own.privileged == Some(true),
        allow_privilege_escalation: own.allow_privilege_escalation != Some(false),
        read_only_root: own.read_only_root_filesystem == Some(true),
        capabilities_add: capabilities(own, "add", &at, report),
        capabilities_drop: capabilities(own, "drop", &at, report),
        seccomp: seccomp(own, pod, &at, &pod_at, report),
    };
    contradictions(&security, own, &at, report);
    security
}

fn id(value: Option<i64>, name: &str, at: &str, report: &mut Report<'_>) -> Option<u32> {
    let value = value?;
    let id = u32::try_from(value).ok().filter(|id| i32::try_from(*id).is_ok());
    if id.is_none() {
        report.error(&path::field(at, name), format!("{value} is out of range: 0 to {}", i32::MAX));
    }
    id
}

fn groups(pod: &PodSecurityContext, at: &str, report: &mut Report<'_>) -> Vec<u32> {
    let list = path::field(at, "supplementalGroups");
    let groups = pod.supplemental_groups.iter().flatten().enumerate();
    groups
        .filter_map(|(index, group)| {
            let id = u32::try_from(*group).ok().filter(|id| i32::try_from(*id).is_ok());
            if id.is_none() {
                report.error(&path::element(&list, index), format!("{group} is out of range: 0 to {}", i32::MAX));
            }
            id
        })
        .collect()
}

fn contradictions(security: &Security, own: &SecurityContext, at: &str, report: &mut Report<'_>) {
    if security.non_root && security.user == Some(0) {
        let at = path::field(at, if own.run_as_user.is_some() { "runAsUser" } else { "runAsNonRoot" });
        report.error(&at, "runAsNonRoot forbids user 0");
    }
    if security.allow_privilege_escalation {
        return;
    }
    let at = path::field(at, "allowPrivilegeEscalation");
    if security.privileged {
        report.error(&at, "false contradicts privileged: true");
    }
    if security.capabilities_add.iter().any(|name| name == "SYS_ADMIN" || name == "ALL") {
        report.error(&at, "false contradicts the added capability SYS_ADMIN");
    }
}

/// Capability names without `CAP_`, in capitals, checked.
fn capabilities(own: &SecurityContext, list: &str, at: &str, report: &mut Report<'_>) -> Vec<String> {
    let Some(capabilities) = &own.capabilities else { return Vec::new() };
    let names = if list == "add" { &capabilities.add } else { &capabilities.drop };
    let at = path::field(&path::field(at, "capabilities"), list);
    let names = names.iter().flatten().enumerate();
    names
        .map(|(index, name)| {
            let upper = name.to_uppercase();
            let plain = upper.strip_prefix("CAP_").unwrap_or(&upper).to_owned();
            if plain != "ALL" && Capability::from_str(&plain).is_err() {
                report.error(&path::element(&at, index), format!("{:?} is no capability: see capabilities(7)", super::super::tree::shortened(name)));
            }
            plain
        })
        .collect()
}

fn seccomp(own: &SecurityContext, pod: &PodSecurityContext, at: &str, pod_at: &str, report: &mut Report<'_>) -> SeccompProfile {
    match (&own.seccomp_profile, &pod.seccomp_profile) {
        (Some(profile), _) => profile_of(profile, &path::field(at, "seccompProfile"), report),
        (None, Some(profile)) => profile_of(profile, &path::field(pod_at, "seccompProfile"), report),
        (None, None) => SeccompProfile::default(),
    }
}

fn profile_of(profile: &Profile, at: &str, report: &mut Report<'_>) -> SeccompProfile {
    let file = profile.localhost_profile.as_deref().filter(|file| !file.is_empty());
    let file_at = path::field(at, "localhostProfile");
    if file.is_some() && profile.type_ != "Localhost" {
        report.error(&file_at, "may stand only beside type: Localhost");
    }
    match (profile.type_.as_str(), file) {
        ("RuntimeDefault", _) => SeccompProfile::RuntimeDefault,
        ("Unconfined", _) => SeccompProfile::Unconfined,
        ("Localhost", Some(file)) => {
            if !is_inside(Path::new(file)) {
                report.error(&file_at, format!("{file:?} has to be relative and without '..'"));
            }
            SeccompProfile::Localhost(PathBuf::from(file))
        }
        ("Localhost", None) => {
            report.error(&file_at, "missing: type Localhost names a file below --seccomp-profile-root");
            SeccompProfile::RuntimeDefault
        }
        (other, _) => {
            report.error(&path::field(at, "type"), format!("{other:?} is none of RuntimeDefault, Localhost, Unconfined"));
            SeccompProfile::RuntimeDefault
        }
    }
}

/// True for a relative path that never steps up.
pub(super) fn is_inside(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}
