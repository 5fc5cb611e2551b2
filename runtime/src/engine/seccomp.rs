//! Seccomp profiles compiled to BPF once, then kept in memory and on disk by the hash of the profile.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::str::FromStr;

use libseccomp::error::SeccompError;
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator, LinuxSyscall,
};
use rustix::fs::{AtFlags, CWD};
use serde::Serialize;
use sha2::{Digest, Sha256};

/// Part of the hash: change it when the compilation changes.
const COMPILER: &str = "minipod-bpf-1";

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SeccompProfileError {
    /// The profile asks for what we do not do.
    #[error("seccomp profile: {0} is not supported")]
    Unsupported(String),
    /// libseccomp refused a part of it.
    #[error("compile the seccomp profile: {subject}")]
    Compile {
        /// Which part.
        subject: String,
        /// libseccomp's reason.
        source: SeccompError,
    },
    /// The compiled program could not be read back.
    #[error("read the compiled seccomp program")]
    Read(#[source] io::Error),
}

/// A compiled filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    /// An array of `struct sock_filter`.
    pub bpf: Rc<[u8]>,
    /// Flags of seccomp(2).
    pub flags: u32,
}

/// Compiled programs by hash.
#[derive(Debug)]
pub(super) struct Cache {
    dir: PathBuf,
    memory: RefCell<HashMap<String, Rc<[u8]>>>,
}

impl Cache {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, memory: RefCell::default() }
    }

    /// The program of `profile`, compiled if it has never been.
    pub(super) fn program(&self, profile: &LinuxSeccomp) -> Result<Program, SeccompProfileError> {
        let flags = flags(profile)?;
        let key = key(profile)?;
        if let Some(bpf) = self.memory.borrow().get(&key) {
            return Ok(Program { bpf: Rc::clone(bpf), flags });
        }
        let file = self.dir.join(format!("{key}.bpf"));
        let bpf: Rc<[u8]> = match fs::read(&file) {
            Ok(bpf) if looks_whole(&bpf) => bpf.into(),
            _ => {
                let bpf = compile(profile)?;
                if let Err(error) = keep(&self.dir, &file, &bpf) {
                    // Only time is lost: a full disk must not stop a container that needs no disk.
                    tracing::debug!(file = %file.display(), %error, "keep the compiled seccomp program");
                }
                bpf.into()
            }
        };
        self.memory.borrow_mut().insert(key, Rc::clone(&bpf));
        Ok(Program { bpf, flags })
    }
}

fn looks_whole(bpf: &[u8]) -> bool {
    !bpf.is_empty() && bpf.len().is_multiple_of(size_of::<libc::sock_filter>())
}

/// Named once it is whole: another shim never reads half a filter, and one that is killed leaves none.
fn keep(dir: &Path, file: &Path, bpf: &[u8]) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let mut unnamed = tempfile::tempfile_in(dir)?;
    unnamed.write_all(bpf)?;
    let itself = format!("/proc/self/fd/{}", unnamed.as_raw_fd());
    let name = || rustix::fs::linkat(CWD, &itself, CWD, file, AtFlags::SYMLINK_FOLLOW);
    match name() {
        // Another shim's of this moment is the same; a file that a crash of the host cut short is not.
        Err(rustix::io::Errno::EXIST) if !fs::read(file).is_ok_and(|bpf| looks_whole(&bpf)) => {
            fs::remove_file(file)?;
            Ok(name()?)
        }
        Err(rustix::io::Errno::EXIST) => Ok(()),
        other => Ok(other?),
    }
}

fn key(profile: &LinuxSeccomp) -> Result<String, SeccompProfileError> {
    let json = serde_json::to_vec(profile).map_err(|e| SeccompProfileError::Read(e.into()))?;
    let mut hash = Sha256::new();
    for part in [COMPILER.as_bytes(), std::env::consts::ARCH.as_bytes(), &json] {
        hash.update(part);
        hash.update([0]);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn flags(profile: &LinuxSeccomp) -> Result<u32, SeccompProfileError> {
    let mut bits = 0;
    for flag in profile.flags().iter().flatten() {
        bits |= match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => 1 << 1,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => 1 << 2,
            // The filter is loaded by the container's only thread.
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => {
                return Err(SeccompProfileError::Unsupported(name_of(flag)));
            }
        };
    }
    Ok(bits)
}

/// The name as the profile writes it (`SCMP_ACT_ERRNO`).
fn name_of(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        other => format!("{other:?}"),
    }
}

fn failed(subject: impl Into<String>) -> impl FnOnce(SeccompError) -> SeccompProfileError {
    let subject = subject.into();
    move |source| SeccompProfileError::Compile { subject, source }
}

fn compile(profile: &LinuxSeccomp) -> Result<Vec<u8>, SeccompProfileError> {
    if profile.listener_path().is_some() {
        return Err(SeccompProfileError::Unsupported("listenerPath".into()));
    }
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let mut filter = ScmpFilterContext::new(default).map_err(failed("default action"))?;
    // A lookup tree instead of a list of comparisons.
    filter.set_ctl_optimize(2).map_err(failed("optimise"))?;
    for arch in profile.architectures().iter().flatten() {
        let name = name_of(arch);
        let arch = ScmpArch::from_str(&name).map_err(failed(&name))?;
        filter.add_arch(arch).map_err(failed(&name))?;
    }
    for rule in profile.syscalls().iter().flatten() {
        add(&mut filter, rule, default)?;
    }
    let mut file = memory_file().map_err(SeccompProfileError::Read)?;
    filter.export_bpf(file.as_fd()).map_err(failed("export"))?;
    let mut bpf = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bpf)).map_err(SeccompProfileError::Read)?;
    Ok(bpf)
}

fn memory_file() -> io::Result<fs::File> {
    Ok(rustix::fs::memfd_create("minipod-bpf", rustix::fs::MemfdFlags::CLOEXEC)?.into())
}

fn add(filter: &mut ScmpFilterContext, rule: &LinuxSyscall, default: ScmpAction) -> Result<(), SeccompProfileError> {
    let action = action(rule.action(), rule.errno_ret())?;
    if action == default {
        return Ok(()); // libseccomp refuses rules that say nothing new
    }
    let args = rule.args().as_deref().unwrap_or_default();
    let comparisons = args.iter().map(comparison).collect::<Result<Vec<_>, _>>()?;
    let distinct = |c: &[LinuxSeccompArg]| {
        let mut indices: Vec<usize> = c.iter().map(LinuxSeccompArg::index).collect();
        indices.sort_unstable();
        indices.windows(2).all(|pair| pair[0] != pair[1])
    };
    for name in rule.names() {
        // A name that this libseccomp does not know is a system call newer than it: the default action holds.
        let Ok(syscall) = ScmpSyscall::from_name(name) else { continue };
        if comparisons.is_empty() {
            filter.add_rule(action, syscall).map_err(failed(name))?;
        } else if distinct(args) {
            filter.add_rule_conditional(action, syscall, &comparisons).map_err(failed(name))?;
        } else {
            // One argument may be compared only once per rule; runc makes each comparison a rule of its own then.
            for comparison in &comparisons {
                let one = std::slice::from_ref(comparison);
                filter.add_rule_conditional(action, syscall, one).map_err(failed(name))?;
            }
        }
    }
    Ok(())
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<ScmpAction, SeccompProfileError> {
    let name = name_of(&action);
    if action == LinuxSeccompAction::ScmpActNotify {
        return Err(SeccompProfileError::Unsupported(name));
    }
    // Runtime spec: EPERM when errnoRet is absent.
    let value = i32::try_from(errno.unwrap_or(libc::EPERM.unsigned_abs()))
        .map_err(|_| SeccompProfileError::Unsupported(format!("errnoRet of {name}")))?;
    ScmpAction::from_str(&name, Some(value)).map_err(failed(&name))
}

fn comparison(arg: &LinuxSeccompArg) -> Result<ScmpArgCompare, SeccompProfileError> {
    let index = u32::try_from(arg.index())
        .ok()
        .filter(|index| *index < 6)
        .ok_or_else(|| SeccompProfileError::Unsupported(format!("argument {}", arg.index())))?;
    let (op, datum) = match arg.op() {
        LinuxSeccompOperator::ScmpCmpNe => (ScmpCompareOp::NotEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpLt => (ScmpCompareOp::Less, arg.value()),
        LinuxSeccompOperator::ScmpCmpLe => (ScmpCompareOp::LessOrEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpEq => (ScmpCompareOp::Equal, arg.value()),
        LinuxSeccompOperator::ScmpCmpGe => (ScmpCompareOp::GreaterEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpGt => (ScmpCompareOp::Greater, arg.value()),
        // `value` is the mask and `valueTwo` what the masked argument must equal (seccomp_rule_add(3)).
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            (ScmpCompareOp::MaskedEqual(arg.value()), arg.value_two().unwrap_or_default())
        }
    };
    Ok(ScmpArgCompare::new(index, op, datum))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(json: serde_json::Value) -> LinuxSeccomp {
        serde_json::from_value(json).unwrap()
    }

    fn deny_mkdir() -> LinuxSeccomp {
        profile(serde_json::json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["mkdir", "mkdirat", "no_such_call"], "action": "SCMP_ACT_ERRNO" }]
        }))
    }

    #[test]
    fn compiled_once_then_read_from_disk_then_from_memory() {
        let dir = tempfile::tempdir().unwrap();
        let first = Cache::new(dir.path().to_owned()).program(&deny_mkdir()).unwrap();
        assert!(looks_whole(&first.bpf));
        let file = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
        assert_eq!(first.bpf.as_ref(), fs::read(&file).unwrap());

        let marked = vec![7; 16];
        fs::write(&file, &marked).unwrap();
        let cache = Cache::new(dir.path().to_owned());
        assert_eq!(marked, cache.program(&deny_mkdir()).unwrap().bpf.as_ref(), "from disk");
        fs::remove_file(&file).unwrap();
        assert_eq!(marked, cache.program(&deny_mkdir()).unwrap().bpf.as_ref(), "from memory");
    }

    #[test]
    fn a_torn_file_is_compiled_again() {
        let dir = tempfile::tempdir().unwrap();
        let good = Cache::new(dir.path().to_owned()).program(&deny_mkdir()).unwrap();
        let file = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
        fs::write(&file, &good.bpf[..good.bpf.len() - 3]).unwrap();
        assert_eq!(good, Cache::new(dir.path().to_owned()).program(&deny_mkdir()).unwrap());
    }

    #[test]
    fn what_we_cannot_do_is_refused() {
        let cache = Cache::new(PathBuf::from("/nonexistent"));
        for (json, named) in [
            (serde_json::json!({ "defaultAction": "SCMP_ACT_NOTIFY" }), "SCMP_ACT_NOTIFY"),
            (serde_json::json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x" }), "listenerPath"),
            (
                serde_json::json!({
                    "defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]
                }),
                "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
            ),
        ] {
            let error = cache.program(&profile(json)).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn a_cache_that_cannot_be_written_does_not_stop_us() {
        let cache = Cache::new(PathBuf::from("/proc/nonexistent"));
        assert!(looks_whole(&cache.program(&deny_mkdir()).unwrap().bpf));
    }
}
