//! What minipod does with each field of a Pod: one table, which the checks walk and the documentation is made from.
//!
//! A test compares it with the Kubernetes types: every field has exactly one entry, its own or that of a field above it.

/// What minipod does with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Honoured, with all that is below it.
    Supported,
    /// Its fields have entries of their own.
    Fields,
    /// Honoured as far as this says.
    Partly(&'static str),
    /// Not honoured; the reader is told what happens instead.
    Warn(&'static str),
    /// As [`Verdict::Warn`], unless the value is this default.
    WarnUnless(&'static str, &'static str),
    /// Not honoured, and running without it would be wrong.
    Refuse(&'static str),
    /// A volume source that is not supported: refused when a container mounts it, else a warning.
    Volume(&'static str),
    /// Means something to a cluster only.
    Cluster(&'static str),
    /// Written by the API server into exports; nothing to say.
    Silent,
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// The path, lists as `[]`; relative to the pod, or to the container in [`CONTAINER`].
    pub path: &'static str,
    /// What minipod does with it.
    pub verdict: Verdict,
}

const fn field(path: &'static str, verdict: Verdict) -> Field {
    Field { path, verdict }
}

use Verdict::{Cluster, Fields, Partly, Refuse, Silent, Supported, Volume, Warn, WarnUnless};

/// The fields of a Pod, but for those of its containers.
pub const POD: &[Field] = &[
    field("apiVersion", Supported),
    field("kind", Supported),
    field("status", Silent),
    field("metadata", Fields),
    field("metadata.name", Supported),
    field("metadata.generateName", Supported),
    field("metadata.namespace", Supported),
    field("metadata.labels", Supported),
    field("metadata.annotations", Supported),
    field("metadata.uid", Silent), // each run is a pod of its own
    field("metadata.creationTimestamp", Silent),
    field("metadata.deletionGracePeriodSeconds", Silent),
    field("metadata.deletionTimestamp", Silent),
    field("metadata.finalizers", Silent),
    field("metadata.generation", Silent),
    field("metadata.managedFields", Silent),
    field("metadata.ownerReferences", Silent),
    field("metadata.resourceVersion", Silent),
    field("metadata.selfLink", Silent),
    field("spec", Fields),
    field("spec.containers", Fields),     // see CONTAINER
    field("spec.initContainers", Fields), // see CONTAINER
    field("spec.ephemeralContainers", Warn("ephemeral containers are not started")),
    field("spec.restartPolicy", Supported),
    field("spec.terminationGracePeriodSeconds", Supported),
    field("spec.activeDeadlineSeconds", Warn("the pod has no deadline")),
    field("spec.hostname", Supported),
    field("spec.hostnameOverride", Warn("the pod's hostname is used")),
    field("spec.subdomain", Warn("the hostname has no domain")),
    field("spec.setHostnameAsFQDN", WarnUnless("false", "the hostname is not qualified")),
    field("spec.shareProcessNamespace", Supported),
    field("spec.hostNetwork", Supported),
    field("spec.hostPID", Supported),
    field("spec.hostIPC", Supported),
    field("spec.hostUsers", WarnUnless("true", "the pod shares the host's user namespace")),
    field("spec.hostAliases", Supported),
    field("spec.dnsPolicy", Partly("ClusterFirst uses the host's resolvers: there is no cluster DNS")),
    field("spec.dnsConfig", Supported),
    field("spec.nodeName", Cluster("the pod runs on this host")),
    field("spec.nodeSelector", Cluster("the pod runs on this host")),
    field("spec.affinity", Cluster("there is nothing to schedule")),
    field("spec.tolerations", Cluster("there is nothing to schedule")),
    field("spec.topologySpreadConstraints", Cluster("there is nothing to schedule")),
    field("spec.schedulerName", Cluster("there is nothing to schedule")),
    field("spec.schedulingGates", Cluster("there is nothing to schedule")),
    field("spec.schedulingGroup", Cluster("there is nothing to schedule")),
    field("spec.priority", Cluster("there is nothing to schedule")),
    field("spec.priorityClassName", Cluster("there is nothing to schedule")),
    field("spec.preemptionPolicy", Cluster("there is nothing to schedule")),
    field("spec.overhead", Cluster("there is nothing to schedule")),
    field("spec.readinessGates", Cluster("nobody sets such conditions here")),
    field("spec.serviceAccount", Cluster("there is no API server")),
    field("spec.serviceAccountName", Cluster("there is no API server")),
    field("spec.automountServiceAccountToken", Cluster("there is no API server")),
    field("spec.enableServiceLinks", Cluster("there are no services")),
    field("spec.imagePullSecrets", Supported),
    field("spec.runtimeClassName", Warn("minipod's own runtime is used")),
    field("spec.os", Fields),
    field("spec.os.name", Partly("linux only")),
    field("spec.resourceClaims", Refuse("there is no driver for dynamic resources")),
    field("spec.resources", Warn("only the containers' own limits apply")),
    field("spec.securityContext", Fields),
    field("spec.securityContext.runAsUser", Supported),
    field("spec.securityContext.runAsGroup", Supported),
    field("spec.securityContext.runAsNonRoot", Supported),
    field("spec.securityContext.supplementalGroups", Supported),
    field("spec.securityContext.supplementalGroupsPolicy", WarnUnless("Merge", "groups are merged with the image's")),
    field("spec.securityContext.seccompProfile", Supported),
    field("spec.securityContext.fsGroup", Warn("volumes keep their group")),
    field("spec.securityContext.fsGroupChangePolicy", Warn("volumes keep their group")),
    field("spec.securityContext.sysctls", Warn("the kernel's values stay")),
    field("spec.securityContext.appArmorProfile", Warn("no AppArmor profile is set")),
    field("spec.securityContext.seLinuxOptions", Warn("no SELinux label is set")),
    field("spec.securityContext.seLinuxChangePolicy", Warn("no SELinux label is set")),
    field("spec.securityContext.windowsOptions", Warn("this is Linux")),
    field("spec.volumes", Fields),
    field("spec.volumes[].name", Supported),
    field("spec.volumes[].emptyDir", Supported),
    field("spec.volumes[].hostPath", Supported),
    field("spec.volumes[].configMap", Volume("configMap volumes are not supported yet")),
    field("spec.volumes[].secret", Volume("secret volumes are not supported yet")),
    field("spec.volumes[].projected", Volume("projected volumes are not supported yet")),
    field("spec.volumes[].downwardAPI", Volume("downwardAPI volumes are not supported yet")),
    field("spec.volumes[].persistentVolumeClaim", Volume("persistent volume claims are not supported yet")),
    field("spec.volumes[].image", Supported),
    field("spec.volumes[].ephemeral", Volume("there is no storage provisioner")),
    field("spec.volumes[].csi", Volume("there is no CSI driver")),
    field("spec.volumes[].nfs", Volume("network storage is not mounted: mount it on the host and use hostPath")),
    field("spec.volumes[].iscsi", Volume("network storage is not mounted: mount it on the host and use hostPath")),
    field("spec.volumes[].fc", Volume("network storage is not mounted: mount it on the host and use hostPath")),
    field("spec.volumes[].cephfs", Volume("network storage is not mounted: mount it on the host and use hostPath")),
    field("spec.volumes[].rbd", Volume("network storage is not mounted: mount it on the host and use hostPath")),
    field("spec.volumes[].glusterfs", Volume("network storage is not mounted: mount it on the host and use hostPath")),
    field("spec.volumes[].quobyte", Volume("network storage is not mounted: mount it on the host and use hostPath")),
    field("spec.volumes[].flexVolume", Volume("there is no volume plug-in")),
    field("spec.volumes[].flocker", Volume("there is no volume plug-in")),
    field("spec.volumes[].gitRepo", Volume("gitRepo is withdrawn from Kubernetes")),
    field("spec.volumes[].awsElasticBlockStore", Volume("cloud disks need their cloud")),
    field("spec.volumes[].azureDisk", Volume("cloud disks need their cloud")),
    field("spec.volumes[].azureFile", Volume("cloud disks need their cloud")),
    field("spec.volumes[].cinder", Volume("cloud disks need their cloud")),
    field("spec.volumes[].gcePersistentDisk", Volume("cloud disks need their cloud")),
    field("spec.volumes[].photonPersistentDisk", Volume("cloud disks need their cloud")),
    field("spec.volumes[].portworxVolume", Volume("cloud disks need their cloud")),
    field("spec.volumes[].scaleIO", Volume("cloud disks need their cloud")),
    field("spec.volumes[].storageos", Volume("cloud disks need their cloud")),
    field("spec.volumes[].vsphereVolume", Volume("cloud disks need their cloud")),
];

/// The fields of a container, init containers included, relative to it.
pub const CONTAINER: &[Field] = &[
    field("name", Supported),
    field("image", Supported),
    field("imagePullPolicy", Supported),
    field("command", Supported),
    field("args", Supported),
    field("workingDir", Supported),
    field("env", Fields),
    field("env[].name", Supported),
    field("env[].value", Supported),
    field("env[].valueFrom", Refuse("not supported yet: the variable would be missing")),
    field("envFrom", Refuse("not supported yet: the variables would be missing")),
    field("ports", Supported),
    field("resources", Fields),
    field("resources.limits", Partly("cpu and memory")),
    field("resources.requests", Partly("cpu and memory")),
    field("resources.claims", Refuse("there is no driver for dynamic resources")),
    field("resizePolicy", Warn("resources are not changed while it runs")),
    field("restartPolicy", Partly("sidecars (init containers with Always) are refused; else the pod's applies")),
    field("restartPolicyRules", Warn("the pod's restartPolicy applies")),
    field("livenessProbe", Warn("the container is not probed")),
    field("readinessProbe", Warn("the container counts as ready when it runs")),
    field("startupProbe", Warn("the container is not probed")),
    field("lifecycle", Fields),
    field("lifecycle.postStart", Warn("the hook is not run")),
    field("lifecycle.preStop", Warn("the hook is not run")),
    field("lifecycle.stopSignal", Warn("the image's stop signal is used, else TERM")),
    field("stdin", Supported),
    field("stdinOnce", WarnUnless("false", "stdin stays open")),
    field("tty", Supported),
    field("terminationMessagePath", WarnUnless("/dev/termination-log", "no termination message is read")),
    field("terminationMessagePolicy", WarnUnless("File", "no termination message is read")),
    field("volumeMounts", Fields),
    field("volumeMounts[].name", Supported),
    field("volumeMounts[].mountPath", Supported),
    field("volumeMounts[].readOnly", Supported),
    field("volumeMounts[].subPath", Supported),
    field("volumeMounts[].subPathExpr", Refuse("not supported yet: the whole volume would be mounted")),
    field("volumeMounts[].mountPropagation", WarnUnless("None", "the mount is private")),
    field("volumeMounts[].recursiveReadOnly", WarnUnless("Disabled", "mounts below it stay writable")),
    field("volumeDevices", Refuse("raw block volumes need a storage provisioner")),
    field("securityContext", Fields),
    field("securityContext.runAsUser", Supported),
    field("securityContext.runAsGroup", Supported),
    field("securityContext.runAsNonRoot", Supported),
    field("securityContext.privileged", Supported),
    field("securityContext.allowPrivilegeEscalation", Supported),
    field("securityContext.readOnlyRootFilesystem", Supported),
    field("securityContext.capabilities", Supported),
    field("securityContext.seccompProfile", Supported),
    field("securityContext.procMount", WarnUnless("Default", "/proc is masked")),
    field("securityContext.appArmorProfile", Warn("no AppArmor profile is set")),
    field("securityContext.seLinuxOptions", Warn("no SELinux label is set")),
    field("securityContext.windowsOptions", Warn("this is Linux")),
];

/// The entry for a path of the tables, as written there; `None` when it has none of its own.
pub(super) fn verdict(table: &[Field], path: &str) -> Option<Verdict> {
    table.iter().find(|field| field.path == path).map(|field| field.verdict)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Container, Pod};

    use super::super::schema::schema;
    use super::*;

    /// The nearest entry at or above a path.
    fn ruling(table: &[Field], path: &str) -> Option<Verdict> {
        let mut path = path;
        loop {
            if let Some(found) = verdict(table, path) {
                return Some(found);
            }
            path = path.strip_suffix("[]").or_else(|| path.rsplit_once('.').map(|(above, _)| above))?;
        }
    }

    fn every_field_is_ruled(table: &[Field], schema: &[String]) {
        assert!(schema.len() > 100, "the types gave only {} fields", schema.len());
        for path in schema {
            match ruling(table, path) {
                // An entry "see below" must not be the last word.
                Some(Fields) if verdict(table, path).is_none() => panic!("{path} has no entry"),
                Some(_) => {}
                None => panic!("{path} has no entry"),
            }
        }
    }

    fn every_entry_exists(table: &[Field], schema: &[String]) {
        for (index, entry) in table.iter().enumerate() {
            if !matches!(entry.path, "apiVersion" | "kind") {
                assert!(schema.iter().any(|path| path == entry.path), "{} is no field", entry.path);
            }
            assert!(table[..index].iter().all(|other| other.path != entry.path), "{} is listed twice", entry.path);
        }
    }

    #[test]
    fn the_table_matches_the_kubernetes_types() {
        let pod: Vec<String> = schema::<Pod>()
            .into_iter()
            .filter(|path| !path.contains("ontainers[]."))
            .collect();
        every_field_is_ruled(POD, &pod);
        every_entry_exists(POD, &pod);
        let container = schema::<Container>();
        every_field_is_ruled(CONTAINER, &container);
        every_entry_exists(CONTAINER, &container);
    }

    #[test]
    fn the_schema_reaches_into_lists_and_optional_structs() {
        let paths = schema::<Pod>();
        for path in ["spec.containers[].ports[].hostPort", "spec.dnsConfig.options[].value", "status.podIPs[].ip"] {
            assert!(paths.iter().any(|found| found == path), "{path} was not found");
        }
    }
}
