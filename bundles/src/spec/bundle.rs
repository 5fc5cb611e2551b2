//! OCI bundles: a given one joined to the sandbox, and one written for other runtimes.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use super::{SpecContext, SpecError, namespaces};
use crate::plan::{ContainerPlan, PodPlan};

/// The spec of a bundle as it is, but for what makes it part of the pod: namespaces, cgroup, an absolute root, and what
/// the manifest itself says (command, args, env, workingDir).
pub(super) fn joined(
    pod: &PodPlan,
    container: &ContainerPlan,
    dir: &Path,
    context: &SpecContext<'_>,
) -> Result<Spec, SpecError> {
    let path = dir.join("config.json");
    let lacks = |what| SpecError::BundleLacks { container: container.name.clone(), path: path.clone(), what };
    let mut spec = Spec::load(&path)
        .map_err(|source| SpecError::BundleRead { container: container.name.clone(), path: path.clone(), source: Box::new(source) })?;
    let root = spec.root_mut().as_mut().ok_or_else(|| lacks("root"))?;
    let absolute = context.rootfs.map_or_else(|| dir.join(root.path()), Path::to_owned);
    root.set_path(absolute);
    let linux = spec.linux_mut().as_mut().ok_or_else(|| lacks("linux"))?;
    let mut kept = linux.namespaces().clone().unwrap_or_default();
    let ours = namespaces(context);
    // A user, time or cgroup namespace of its own stays; the pod's replace the others.
    let shared = |kind| context_decides(kind) || ours.iter().any(|namespace| namespace.typ() == kind);
    kept.retain(|namespace| !shared(namespace.typ()));
    kept.extend(ours.iter().cloned());
    linux.set_namespaces(Some(kept));
    linux.set_cgroups_path(Some(PathBuf::from(context.cgroups_path)));
    spec.set_hostname(None);
    spec.set_domainname(None);
    let process = spec.process_mut().as_mut().ok_or_else(|| lacks("process"))?;
    process.set_terminal(Some(container.tty));
    let given = super::given(container)?;
    let words: Vec<String> = given.command.into_iter().chain(given.args).flatten().collect();
    if !words.is_empty() {
        process.set_args(Some(words));
    }
    let mut env = process.env().clone().unwrap_or_default();
    env.extend(given.environment.into_lines());
    process.set_env(Some(env));
    if let Some(cwd) = &container.working_dir {
        process.set_cwd(cwd.clone());
    }
    let mut annotations = spec.annotations().clone().unwrap_or_default();
    annotations.extend(super::annotations(pod, container));
    spec.set_annotations(Some(annotations));
    Ok(spec)
}

/// The namespaces that are the pod's to decide, even by leaving them to the host.
fn context_decides(kind: oci_spec::runtime::LinuxNamespaceType) -> bool {
    use oci_spec::runtime::LinuxNamespaceType::{Ipc, Mount, Network, Pid, Uts};
    matches!(kind, Network | Ipc | Uts | Pid | Mount)
}

/// Writes `config.json` into a bundle directory, which is made when missing; a former one is replaced whole.
///
/// # Errors
/// [`SpecError::Write`].
pub fn write(dir: &Path, spec: &Spec) -> Result<(), SpecError> {
    let failed = |operation, path: &Path| {
        let path = path.to_owned();
        move |source| SpecError::Write { operation, path, source }
    };
    fs::create_dir_all(dir).map_err(failed("make the bundle directory", dir))?;
    let path = dir.join("config.json");
    let json = serde_json::to_vec_pretty(spec).map_err(|error| failed("serialise", &path)(error.into()))?;
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed("make a file in", dir))?;
    file.write_all(&json).map_err(failed("write", &path))?;
    file.persist(&path).map_err(|error| failed("replace", &path)(error.error))?;
    Ok(())
}
