//! The first process of a container.

use std::path::PathBuf;

use oci_spec::runtime::Process;

use super::environment::{self, Given};
use super::{SpecContext, SpecError, capabilities, user};
use crate::image::ImageConfig;
use crate::plan::{ContainerPlan, PodPlan, RootSource};

pub(super) fn process(pod: &PodPlan, container: &ContainerPlan, context: &SpecContext<'_>) -> Result<Process, SpecError> {
    let bare = ImageConfig::default();
    let image = match &container.root {
        RootSource::Image(image) => &image.config,
        RootSource::Directory(_) | RootSource::Bundle(_) => &bare,
        RootSource::Reference => {
            return Err(SpecError::Unresolved { container: container.name.clone(), image: container.image.clone() });
        }
    };
    let mut given = super::given(container)?;
    let args = args(container, image, &mut given)?;
    let user = user::user(container, image, context.rootfs)?;
    let mut process = Process::default();
    process.set_terminal(Some(container.tty));
    process.set_args(Some(args));
    process.set_env(Some(environment::whole(&image.env, given.environment, &pod.hostname, &user.home, container.tty)));
    process.set_cwd(cwd(container, image));
    process.set_capabilities(Some(capabilities::of(&container.security, user.oci.uid())));
    process.set_user(user.oci);
    // Never Some(false): libcontainer takes its presence for true.
    process.set_no_new_privileges((!container.security.allow_privilege_escalation).then_some(true));
    process.set_rlimits(None);
    Ok(process)
}

/// The four cases of Kubernetes: command replaces the entry point and drops the image's command, args replaces the
/// image's command.
///
/// Source: Kubernetes documentation, "Define a Command and Arguments for a Container".
fn args(container: &ContainerPlan, image: &ImageConfig, given: &mut Given) -> Result<Vec<String>, SpecError> {
    let (first, rest) = match (given.command.take(), given.args.take()) {
        (None, None) => (image.entrypoint.clone(), image.cmd.clone()),
        (Some(command), None) => (command, Vec::new()),
        (None, Some(args)) => (image.entrypoint.clone(), args),
        (Some(command), Some(args)) => (command, args),
    };
    let words: Vec<String> = first.into_iter().chain(rest).collect();
    if words.first().is_none_or(String::is_empty) {
        return Err(SpecError::NoCommand { container: container.name.clone(), image: container.image.clone() });
    }
    Ok(words)
}

fn cwd(container: &ContainerPlan, image: &ImageConfig) -> PathBuf {
    let image = Some(PathBuf::from(&image.working_dir)).filter(|dir| dir.is_absolute());
    container.working_dir.clone().or(image).unwrap_or_else(|| PathBuf::from("/"))
}
