//! Seccomp profiles: the default one and `Localhost` files.

mod localhost;
mod table;

use std::path::Path;

use oci_spec::runtime::{
    Arch, Capabilities, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompOperator, LinuxSyscall,
};

use super::{SpecError, capabilities};
use crate::plan::{ContainerPlan, SeccompProfile};

/// The profile of a container; none when privileged or unconfined.
pub(super) fn of(container: &ContainerPlan, root: &Path) -> Result<Option<LinuxSeccomp>, SpecError> {
    let security = &container.security;
    let granted = capabilities::bounding(security);
    match &security.seccomp {
        _ if security.privileged => Ok(None),
        SeccompProfile::Unconfined => Ok(None),
        SeccompProfile::RuntimeDefault => Ok(Some(default_profile(&granted))),
        SeccompProfile::Localhost(path) => localhost::read(&container.name, root, path, &granted).map(Some),
    }
}

/// minipod's own default profile for a container with these capabilities, for the architecture this is built for.
///
/// An allow list. What is known and not allowed fails with EPERM; what a kernel newer than this list may bring fails with
/// ENOSYS, so that a libc falls back to what it used before.
pub fn default_profile(granted: &Capabilities) -> LinuxSeccomp {
    let mut denied: Vec<&str> = table::NEVER.to_vec();
    let mut syscalls = vec![allow(table::ALWAYS)];
    for (capability, names) in table::WITH {
        if granted.contains(capability) {
            syscalls.push(allow(names));
        } else {
            denied.extend(*names);
        }
    }
    syscalls.extend(table::PERSONALITIES.iter().map(|persona| only_if(&["personality"], &[equal(0, *persona)])));
    syscalls.extend(sockets());
    if !granted.contains(&oci_spec::runtime::Capability::SysAdmin) {
        syscalls.push(clone_without_namespaces());
        // Its flags lie in memory, where no filter sees them: libcs fall back to clone on ENOSYS.
        syscalls.push(fail(&["clone3"], ENOSYS));
    }
    let allowed: Vec<&str> =
        syscalls.iter().filter(|rule| rule.action() == LinuxSeccompAction::ScmpActAllow).flat_map(|rule| rule.names()).map(String::as_str).collect();
    denied.retain(|name| !allowed.contains(name) && *name != "clone3");
    let denied = fail(&denied, EPERM);
    syscalls.push(denied);
    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(LinuxSeccompAction::ScmpActErrno);
    profile.set_default_errno_ret(Some(ENOSYS));
    profile.set_architectures(Some(vec![native()]));
    profile.set_flags(None);
    profile.set_syscalls(Some(syscalls));
    profile
}

/// `EPERM` and `ENOSYS` of every Linux architecture that libseccomp knows, but MIPS.
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// The architecture this is built for, alone: see docs/decisions/0004-seccomp-native-arch.md.
fn native() -> Arch {
    if cfg!(target_arch = "x86_64") {
        Arch::ScmpArchX86_64
    } else if cfg!(target_arch = "aarch64") {
        Arch::ScmpArchAarch64
    } else {
        Arch::ScmpArchNative
    }
}

fn rule(names: &[&str], action: LinuxSeccompAction) -> LinuxSyscall {
    let mut rule = LinuxSyscall::default();
    rule.set_names(names.iter().map(|name| (*name).to_owned()).collect());
    rule.set_action(action);
    rule
}

fn allow(names: &[&str]) -> LinuxSyscall {
    rule(names, LinuxSeccompAction::ScmpActAllow)
}

fn fail(names: &[&str], errno: u32) -> LinuxSyscall {
    let mut rule = rule(names, LinuxSeccompAction::ScmpActErrno);
    rule.set_errno_ret(Some(errno));
    rule
}

fn only_if(names: &[&str], arguments: &[LinuxSeccompArg]) -> LinuxSyscall {
    let mut rule = allow(names);
    rule.set_args(Some(arguments.to_vec()));
    rule
}

fn argument(index: usize, op: LinuxSeccompOperator, value: u64, value_two: Option<u64>) -> LinuxSeccompArg {
    let builder = LinuxSeccompArgBuilder::default().index(index).op(op).value(value);
    let builder = match value_two {
        Some(two) => builder.value_two(two),
        None => builder,
    };
    builder.build().expect("every field of the builder has a default")
}

fn equal(index: usize, value: u64) -> LinuxSeccompArg {
    argument(index, LinuxSeccompOperator::ScmpCmpEq, value, None)
}

/// Every address family but AF_ALG (38, the kernel's crypto), AF_NFC (39) and AF_VSOCK (40, the hypervisor's door).
/// Two ranges, because libseccomp compares an argument once per rule.
fn sockets() -> [LinuxSyscall; 2] {
    [
        only_if(&["socket"], &[argument(0, LinuxSeccompOperator::ScmpCmpLt, 38, None)]),
        only_if(&["socket"], &[argument(0, LinuxSeccompOperator::ScmpCmpGt, 40, None)]),
    ]
}

/// CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET: none of them may be set.
const CLONE_NAMESPACES: u64 = 0x7E02_0000;

fn clone_without_namespaces() -> LinuxSyscall {
    only_if(&["clone"], &[argument(0, LinuxSeccompOperator::ScmpCmpMaskedEq, CLONE_NAMESPACES, Some(0))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::Capability;

    fn names(profile: &LinuxSeccomp, action: LinuxSeccompAction) -> Vec<&str> {
        let rules = profile.syscalls().as_ref().expect("rules");
        rules.iter().filter(|rule| rule.action() == action).flat_map(|rule| rule.names()).map(String::as_str).collect()
    }

    #[test]
    fn a_call_is_either_allowed_or_denied() {
        for granted in [Capabilities::new(), capabilities::DEFAULT.into_iter().collect(), capabilities::ALL.into_iter().collect()] {
            let profile = default_profile(&granted);
            let allowed = names(&profile, LinuxSeccompAction::ScmpActAllow);
            for denied in names(&profile, LinuxSeccompAction::ScmpActErrno) {
                assert!(!allowed.contains(&denied), "{denied} is both");
            }
        }
    }

    #[test]
    fn no_call_is_listed_twice_without_a_condition() {
        let mut seen = std::collections::BTreeSet::new();
        for name in table::ALWAYS.iter().chain(table::NEVER) {
            assert!(seen.insert(name), "{name} is listed twice");
        }
        for (capability, names) in table::WITH {
            for name in *names {
                assert!(!seen.contains(name), "{name} of {capability} is in a list for all");
            }
        }
    }

    #[test]
    fn a_capability_opens_its_calls() {
        let plain = default_profile(&capabilities::DEFAULT.into_iter().collect());
        let allowed = names(&plain, LinuxSeccompAction::ScmpActAllow);
        for name in ["mount", "setns", "bpf", "reboot", "init_module", "settimeofday", "keyctl", "io_uring_setup", "kexec_load"] {
            assert!(!allowed.contains(&name), "{name}");
            assert!(names(&plain, LinuxSeccompAction::ScmpActErrno).contains(&name), "{name} would be ENOSYS");
        }
        for name in ["chroot", "read", "execve", "clone", "socket", "capset", "prctl", "seccomp", "futex"] {
            assert!(allowed.contains(&name), "{name}");
        }
        let admin = default_profile(&[Capability::SysAdmin].into_iter().collect());
        let allowed = names(&admin, LinuxSeccompAction::ScmpActAllow);
        for name in ["mount", "setns", "unshare", "clone3"] {
            assert!(allowed.contains(&name), "{name}");
        }
        assert!(!allowed.contains(&"init_module") && !allowed.contains(&"chroot"));
    }

    #[test]
    fn clone3_is_said_not_to_exist_and_clone_makes_no_namespaces() {
        let profile = default_profile(&Capabilities::new());
        let rules = profile.syscalls().as_ref().expect("rules");
        let clone3: Vec<_> = rules.iter().filter(|rule| rule.names().iter().any(|name| name == "clone3")).collect();
        assert_eq!(clone3.len(), 1);
        assert_eq!(clone3[0].errno_ret(), Some(38));
        let clone = rules.iter().find(|rule| rule.names() == &["clone"]).expect("clone");
        let argument = clone.args().as_ref().expect("condition")[0];
        assert_eq!((argument.value(), argument.value_two()), (0x7E02_0000, Some(0)));
        assert_eq!(profile.default_errno_ret(), Some(38));
    }
}
