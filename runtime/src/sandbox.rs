//! Pause and the namespaces it holds. Knows nothing of containers.
//!
//! ```text
//! shim                                       pause
//!   clone3(NEWNET|NEWIPC|NEWUTS|NEWNS...) -->  joins the cgroup, waits
//!   record on disk                             (the namespaces exist from here on; end of file: the shim died, it ends)
//!   go                                    -->  empty root, no capabilities, filter, execveat
//!   wires the network, creates containers      sleeps until SIGTERM
//!   ready: end of file on the failure pipe <-- exec closed it
//!   starts containers
//! ```

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use bundles::plan::{IpcMode, NetworkMode, PidMode, PodPlan};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::cgroup::Cgroup;
use crate::error::Error;
use crate::process::ProcessId;
use crate::store;
use crate::sys::descriptors::all_but;
use crate::sys::pause::{PauseChild, STAGES, clone_pause};

/// A pause process and what it holds.
#[derive(Debug)]
pub(crate) struct Sandbox {
    /// Who pause is.
    pub(crate) pause: ProcessId,
    /// Turns readable when pause ends.
    pub(crate) pidfd: OwnedFd,
    go: Option<OwnedFd>,
    failure: Option<File>,
}

impl Sandbox {
    /// Clones pause into new namespaces as the plan wants them. It waits until [`Self::release`].
    ///
    /// `scratch` is an empty directory that the empty root is mounted over, in pause's own mount namespace.
    pub(crate) fn create(plan: &PodPlan, scratch: &Path, cgroup: &Cgroup) -> Result<Self, Error> {
        let program = pause_program().map_err(|e| Error::System("prepare the pause program", e))?;
        let (go_read, go_write) = pipe()?;
        let (failure_read, failure_write) = pipe()?;
        let root = c_string(scratch.as_os_str().as_bytes())?;
        let own_uts = plan.network != NetworkMode::Host;
        let hostname = own_uts.then(|| c_string(plan.hostname.as_bytes())).transpose()?;
        let filter = pause_filter()?;
        let open = |path: PathBuf| File::options().write(true).open(&path).map(OwnedFd::from).map_err(Error::file("open", path));
        let cgroups = cgroup.procs_files().into_iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let keep = [program.as_raw_fd(), go_read.as_raw_fd(), failure_write.as_raw_fd()];
        let keep: Vec<i32> = keep.into_iter().chain(cgroups.iter().map(OwnedFd::as_raw_fd)).collect();
        let (pid, pidfd) = clone_pause(&PauseChild {
            close: &all_but(&keep),
            namespaces: namespaces(plan),
            program: program.as_fd(),
            root: &root,
            hostname: hostname.as_deref(),
            cgroups: &cgroups,
            go: go_read.as_fd(),
            failure: failure_write.as_fd(),
            filter: &filter,
        })
        .map_err(|e| Error::System("clone the pause process", e))?;
        drop((go_read, failure_write));
        let pause = ProcessId::of(pid).map_err(|e| Error::System("identify the pause process", e))?;
        Ok(Self { pause, pidfd, go: Some(go_write), failure: Some(File::from(failure_read)) })
    }

    /// Lets pause go on: its record is on disk.
    pub(crate) fn release(&mut self) -> Result<(), Error> {
        let Some(go) = self.go.take() else { return Ok(()) };
        File::from(go).write_all(&[1]).map_err(|e| Error::System("release the pause process", e))
    }

    /// Whether nobody has seen yet that pause has executed its program.
    pub(crate) fn is_awaited(&self) -> bool {
        self.failure.is_some()
    }

    /// Returns once pause has executed its program; by then it is long done, for the containers took longer.
    pub(crate) fn ready(&mut self) -> Result<(), Error> {
        let Some(mut failure) = self.failure.take() else { return Ok(()) };
        let mut report = Vec::new();
        failure.read_to_end(&mut report).map_err(|e| Error::System("wait for the pause process", e))?;
        match report[..] {
            [] => Ok(()),
            [stage, errno, ..] => {
                let step = STAGES.get(usize::from(stage)).copied().unwrap_or("start");
                Err(Error::System("start the pause process", io::Error::other(format!("{step}: {}", io::Error::from_raw_os_error(errno.into())))))
            }
            _ => Err(Error::System("start the pause process", io::Error::other("it ended before it could say why"))),
        }
    }

    /// The path by which a container joins one of pause's namespaces.
    pub(crate) fn namespace(&self, name: &str) -> PathBuf {
        namespace_of(&self.pause, name)
    }
}

/// The `CLONE_NEW*` flags of a pod.
fn namespaces(plan: &PodPlan) -> u64 {
    let mut flags = 0;
    if plan.network != NetworkMode::Host {
        // The host name belongs to the host's network identity: a pod on the host's network keeps it.
        flags |= libc::CLONE_NEWNET | libc::CLONE_NEWUTS;
    }
    if plan.ipc == IpcMode::Pod {
        flags |= libc::CLONE_NEWIPC;
    }
    if plan.pid == PidMode::Pod {
        flags |= libc::CLONE_NEWPID;
    }
    flags as u64
}

/// The program in memory, sealed, so that nothing on disk has to be found and nobody can write it.
fn pause_program() -> io::Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Since Linux 6.3 executability is asked for; before, the flag is unknown and not needed.
    let memfd = memfd_create("pause", flags | MemfdFlags::EXEC).or_else(|_| memfd_create("pause", flags))?;
    let mut file = File::from(memfd);
    file.write_all(bundles::pause::PAUSE)?;
    fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(file.into())
}

/// Allows what pause calls and the `execveat` that starts it; kills on anything else.
fn pause_filter() -> Result<Vec<libc::sock_filter>, Error> {
    let fail = |e: libseccomp::error::SeccompError| Error::System("compile the pause filter", io::Error::other(e));
    let mut filter = libseccomp::ScmpFilterContext::new(libseccomp::ScmpAction::KillProcess).map_err(fail)?;
    for name in bundles::pause::SYSCALLS.iter().copied().chain(["execveat", "write", "exit", "exit_group"]) {
        let call = libseccomp::ScmpSyscall::from_name(name).map_err(fail)?;
        filter.add_rule(libseccomp::ScmpAction::Allow, call).map_err(fail)?;
    }
    let mut file = File::from(memfd_create(c"filter", MFdFlags::MFD_CLOEXEC).map_err(|e| Error::System("compile the pause filter", e.into()))?);
    filter.export_bpf(&file).map_err(fail)?;
    let mut bytes = Vec::new();
    io::Seek::rewind(&mut file).and_then(|()| file.read_to_end(&mut bytes)).map_err(|e| Error::System("compile the pause filter", e))?;
    // struct sock_filter { u16 code; u8 jt; u8 jf; u32 k; }, native endian.
    Ok(bytes
        .chunks_exact(8)
        .map(|b| libc::sock_filter {
            code: u16::from_ne_bytes([b[0], b[1]]),
            jt: b[2],
            jf: b[3],
            k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
        })
        .collect())
}

/// Lets `ip netns exec` find the pod. A link, not a mount: nothing is pinned when pause is gone.
pub(crate) fn link_netns(link: &Path, pause: &ProcessId) -> Result<(), Error> {
    if let Some(dir) = link.parent() {
        std::fs::create_dir_all(dir).map_err(Error::file("create", dir))?;
    }
    store::remove_file(link)?;
    symlink(namespace_of(pause, "net"), link).map_err(Error::file("link", link))
}

/// The path of one of a pause's namespaces.
pub(crate) fn namespace_of(pause: &ProcessId, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/ns/{name}", pause.pid))
}

/// Opens pause's network namespace.
pub(crate) fn open_netns(sandbox: &Sandbox) -> Result<OwnedFd, Error> {
    let path = sandbox.namespace("net");
    File::open(&path).map(OwnedFd::from).map_err(Error::file("open", path))
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| Error::System("make a pipe", e.into()))
}

fn c_string(bytes: &[u8]) -> Result<CString, Error> {
    CString::new(bytes).map_err(|e| Error::System("pass a name with a NUL", e.into()))
}
