//! Who a container runs as.

use std::path::Path;

use oci_spec::runtime::User;

use super::SpecError;
use crate::image::{self, ImageConfig};
use crate::plan::ContainerPlan;

/// A user and where it is at home.
pub(super) struct Resolved {
    pub(super) oci: User,
    pub(super) home: String,
}

/// `securityContext` before the image before root. Names are looked up in the image.
pub(super) fn user(container: &ContainerPlan, image: &ImageConfig, rootfs: Option<&Path>) -> Result<Resolved, SpecError> {
    let security = &container.security;
    let wanted = match security.user {
        Some(uid) => uid.to_string(),
        None => image.user.clone(),
    };
    let found = lookup(if wanted.is_empty() { "0" } else { &wanted }, rootfs)
        .map_err(|source| SpecError::User { container: container.name.clone(), user: wanted.clone(), source: Box::new(source) })?;
    if security.non_root && found.uid == 0 && found.known {
        return Err(SpecError::RunAsRoot { container: container.name.clone(), user: wanted });
    }
    let mut groups = found.groups;
    for group in &security.supplemental_groups {
        if !groups.contains(group) {
            groups.push(*group);
        }
    }
    let mut oci = User::default();
    oci.set_uid(found.uid);
    oci.set_gid(security.group.unwrap_or(found.gid));
    oci.set_additional_gids((!groups.is_empty()).then_some(groups));
    Ok(Resolved { oci, home: found.home })
}

struct Found {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    home: String,
    /// False for a name that could not be looked up, as when only checking.
    known: bool,
}

fn lookup(user: &str, rootfs: Option<&Path>) -> Result<Found, image::ImageError> {
    if let Some(rootfs) = rootfs {
        let found = image::user::resolve(rootfs, user)?;
        return Ok(Found { uid: found.uid, gid: found.gid, groups: found.additional_gids, home: home(found.home.as_deref()), known: true });
    }
    let (user, group) = user.split_once(':').unwrap_or((user, "0"));
    let uid = user.parse().ok();
    let (gid, known) = (group.parse().unwrap_or(0), uid.is_some());
    Ok(Found { uid: uid.unwrap_or(0), gid, groups: Vec::new(), home: home(None), known })
}

/// Docker's and podman's answer to a user without a home.
fn home(home: Option<&str>) -> String {
    home.filter(|home| !home.is_empty()).unwrap_or("/").to_owned()
}
