//! Capabilities that minipod itself lacks cannot be given to a container: a privileged one gets what there is.

use std::collections::BTreeSet;
use std::io;

use oci_spec::runtime::{Capabilities, Spec};

use crate::error::Error;

/// Takes out of a spec what is not in our own bounding set; returns the names of what was taken out.
pub(super) fn limit_to_ours(spec: &mut Spec) -> Result<Vec<String>, Error> {
    let ours = caps::read(None, caps::CapSet::Bounding).map_err(|e| Error::System("read our capabilities", io::Error::other(e)))?;
    let ours: BTreeSet<String> = ours.into_iter().map(|c| c.to_string()).collect();
    let Some(process) = spec.process_mut() else { return Ok(Vec::new()) };
    let Some(mut wanted) = process.capabilities().clone() else { return Ok(Vec::new()) };
    let mut withheld = BTreeSet::new();
    let mut limit = |set: &Option<Capabilities>| {
        set.as_ref().map(|set| {
            let (given, taken): (Capabilities, Capabilities) = set.iter().copied().partition(|c| ours.contains(&format!("CAP_{c}")));
            withheld.extend(taken.into_iter().map(|c| c.to_string()));
            given
        })
    };
    let limited = [limit(wanted.bounding()), limit(wanted.effective()), limit(wanted.permitted()), limit(wanted.inheritable()), limit(wanted.ambient())];
    let [bounding, effective, permitted, inheritable, ambient] = limited;
    wanted.set_bounding(bounding).set_effective(effective).set_permitted(permitted).set_inheritable(inheritable).set_ambient(ambient);
    process.set_capabilities(Some(wanted));
    Ok(withheld.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::{Capability, LinuxCapabilities, Process};

    #[test]
    fn what_we_have_is_kept_and_what_we_lack_is_named() {
        let ours = caps::read(None, caps::CapSet::Bounding).unwrap();
        let mut capabilities = LinuxCapabilities::default();
        capabilities.set_bounding(Some([Capability::Chown, Capability::SysResource].into()));
        let mut process = Process::default();
        process.set_capabilities(Some(capabilities));
        let mut spec = Spec::default();
        spec.set_process(Some(process));
        let withheld = limit_to_ours(&mut spec).unwrap();
        let given = spec.process().as_ref().unwrap().capabilities().as_ref().unwrap().bounding().clone().unwrap();
        for (capability, name) in [(caps::Capability::CAP_CHOWN, "CHOWN"), (caps::Capability::CAP_SYS_RESOURCE, "SYS_RESOURCE")] {
            let have = ours.contains(&capability);
            assert_eq!(given.iter().any(|c| c.to_string() == name), have, "{name}");
            assert_eq!(withheld.iter().any(|w| w == name), !have, "{name}");
        }
    }
}
