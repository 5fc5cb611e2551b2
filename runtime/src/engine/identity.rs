//! The last steps of every process of a container, created or exec'd: from a privileged helper inside the
//! container's namespaces to exactly what the spec asks for.
//!
//! The order, and why:
//!
//! | step | stands there because |
//! |---|---|
//! | terminal or stdio, host name | needs privileges over devpts and the UTS namespace |
//! | limits | raising one needs CAP_SYS_RESOURCE |
//! | working directory | made as root, like runc; entered before the user changes, who may not be let in |
//! | groups, gid, uid | needs CAP_SETGID and CAP_SETUID, which the next step drops |
//! | bounding set, then all but what `finish` needs | from here on we are nearly the container's process |
//! | find the command | permission counts as the user and with the user's capabilities |
//! | — start — | |
//! | close all descriptors | execve(2) follows the command's path before it closes any: one that is a link to `/proc/self/fd/N/..` would lead out of the container (CVE-2024-21626) |
//! | no_new_privs | lets a filter load without CAP_SYS_ADMIN |
//! | with it: capabilities, seccomp | the filter may forbid capset(2) |
//! | without it: seccomp, capabilities | loading needs CAP_SYS_ADMIN, which is dropped next |
//! | execve | nothing may stand between the filter and it |

use std::ffi::CString;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{Gid, Uid};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::protocol::{ABOUT_TO_EXEC, Capabilities, ChildFailure, Settings, Stage};
use super::terminal::{self, Console};
use crate::sys;

/// Where an image does not say, as execvp(3) and runc.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const CAP_SETPCAP: u64 = 1 << 8;
const CAP_SYS_ADMIN: u64 = 1 << 21;

/// Descriptors the process came with.
pub(super) struct Inherited {
    /// Standard input, output and error; `None` when a terminal is wanted.
    pub stdio: Option<[OwnedFd; 3]>,
    /// Where the terminal's master goes.
    pub reply: OwnedFd,
    /// Tells the shim how execve went.
    pub report: OwnedFd,
}

/// A process that has all but its filter and its last capabilities dropped.
pub(super) struct Prepared {
    path: CString,
    argv: Vec<CString>,
    envp: Vec<CString>,
    settings: Settings,
    bpf: Vec<u8>,
    report: OwnedFd,
}

/// All steps up to the start signal.
pub(super) fn prepare(
    settings: Settings,
    bpf: Vec<u8>,
    inherited: Inherited,
    console: Console,
) -> Result<Prepared, ChildFailure> {
    match (settings.terminal, inherited.stdio) {
        (Some(size), _) => terminal::attach(inherited.reply.as_fd(), size, (settings.uid, settings.gid), console)
            .map_err(ChildFailure::at::<io::Error>(Stage::Terminal, "pseudo-terminal in /dev/pts"))?,
        (None, Some(stdio)) => take_stdio(stdio, &settings)?,
        (None, None) => {}
    }
    if let Some(hostname) = &settings.hostname {
        nix::unistd::sethostname(hostname).map_err(ChildFailure::at(Stage::Hostname, hostname))?;
    }
    for limit in &settings.rlimits {
        sys::set_rlimit(limit.resource, limit.soft, limit.hard)
            .map_err(ChildFailure::at(Stage::Rlimits, format!("resource {}", limit.resource)))?;
    }
    let entered = enter(&settings.cwd)?;
    rustix::process::umask(Mode::from_raw_mode(settings.umask));
    become_user(&settings)?;
    shed_capabilities(&settings)?;
    if !entered {
        change_directory(&settings.cwd)
            .map_err(ChildFailure::at(Stage::WorkingDirectory, settings.cwd.display().to_string()))?;
    }
    // A directory outside the root has no path here (CVE-2024-21626).
    nix::unistd::getcwd().map_err(ChildFailure::at(Stage::WorkingDirectory, "it lies outside the container"))?;

    let strings = |list: &[String], stage| {
        list.iter()
            .map(|s| CString::new(s.as_str()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(ChildFailure::at(stage, "a NUL byte in arguments or environment"))
    };
    let path = find_executable(&settings)?;
    let argv = strings(&settings.args, Stage::FindExecutable)?;
    let mut envp = strings(&settings.env, Stage::FindExecutable)?;
    if !settings.env.iter().any(|e| e.starts_with("HOME=")) {
        envp.extend(CString::new(format!("HOME={}", home_of(settings.uid))));
    }
    Ok(Prepared { path, argv, envp, settings, bpf, report: inherited.report })
}

impl Prepared {
    /// The steps after the start signal; returns only when one of them, or execve(2), failed. The failure has been
    /// reported.
    pub(super) fn finish(self) -> ChildFailure {
        let mut report = std::fs::File::from(self.report);
        let settings = &self.settings;
        let failure = (|| {
            // libcontainer's are among them. Nobody comes back to use or close them: this process executes or ends.
            sys::descriptors::close_all_but(&[report.as_raw_fd()]).map_err(ChildFailure::at::<io::Error>(Stage::Execute, "close descriptors"))?;
            if settings.no_new_privileges {
                rustix::thread::set_no_new_privs(true)
                    .map_err(ChildFailure::at(Stage::NoNewPrivileges, "prctl"))?;
                set_final_capabilities(settings.capabilities)?;
            }
            // Written before the filter, which may forbid write(2).
            report.write_all(&[ABOUT_TO_EXEC]).map_err(ChildFailure::at(Stage::Execute, "report"))?;
            if let Some(flags) = settings.seccomp_flags {
                sys::load_seccomp(&self.bpf, flags).map_err(ChildFailure::at(Stage::Seccomp, "filter"))?;
            }
            if !settings.no_new_privileges {
                set_final_capabilities(settings.capabilities)?;
            }
            match nix::unistd::execve(&self.path, &self.argv, &self.envp) {
                Ok(never) => match never {},
                Err(errno) => {
                    Err(ChildFailure::at(Stage::Execute, self.path.to_string_lossy())(errno))
                }
            }
        })();
        let failure: ChildFailure = match failure {
            Ok(never) => never,
            Err(failure) => failure,
        };
        tell(&mut report, &failure);
        failure
    }
}

/// Writes a failure to the report pipe.
pub(super) fn tell(report: &mut impl Write, failure: &ChildFailure) {
    // When even this fails the shim sees the process end without having executed, and says that.
    if let Ok(json) = serde_json::to_vec(failure) {
        report.write_all(&json).unwrap_or_default();
    }
}

/// The three descriptors become 0, 1 and 2, owned by the user so that `/dev/stdout` can be opened.
fn take_stdio(stdio: [OwnedFd; 3], settings: &Settings) -> Result<(), ChildFailure> {
    let failed = |e: rustix::io::Errno| ChildFailure::at(Stage::Stdio, "standard descriptor")(e);
    for (number, fd) in (0..).zip(stdio) {
        let stat = rustix::fs::fstat(&fd).map_err(failed)?;
        // The host's /dev/null would be a way to the host's device: the container's own takes its place. (Opened for
        // both ways; libcontainer opens it read-only, so that output fails.)
        let null = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && stat.st_rdev == rustix::fs::makedev(1, 3);
        let fd = if null {
            rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
                .map_err(ChildFailure::at(Stage::Stdio, "/dev/null in the container"))?
        } else {
            if matches!(FileType::from_raw_mode(stat.st_mode), FileType::Fifo | FileType::Socket) {
                let (uid, gid) = (Uid::from_raw(settings.uid), Gid::from_raw(settings.gid));
                match nix::unistd::fchown(&fd, Some(uid), Some(gid)) {
                    // Not ours to give away in a user namespace (runc tolerates the same).
                    Ok(()) | Err(Errno::EPERM | Errno::EINVAL) => {}
                    Err(e) => return Err(ChildFailure::at(Stage::Stdio, "owner of a standard descriptor")(e)),
                }
            }
            fd
        };
        match number {
            0 => nix::unistd::dup2_stdin(&fd),
            1 => nix::unistd::dup2_stdout(&fd),
            _ => nix::unistd::dup2_stderr(&fd),
        }
        .map_err(ChildFailure::at(Stage::Stdio, "standard descriptor"))?;
    }
    Ok(())
}

/// Enters the working directory, making it when it is missing; `false` when only the user may enter it (NFS with
/// squashed root, FUSE).
fn enter(cwd: &Path) -> Result<bool, ChildFailure> {
    let failed = |e: Errno| ChildFailure::at(Stage::WorkingDirectory, cwd.display().to_string())(e);
    match change_directory(cwd) {
        Ok(()) => return Ok(true),
        Err(Errno::EACCES) => return Ok(false),
        Err(Errno::ENOENT) => {}
        Err(e) => return Err(failed(e)),
    }
    rustix::process::umask(Mode::from_raw_mode(0o022));
    make_directory(cwd).and_then(|()| change_directory(cwd)).map_err(failed)?;
    Ok(true)
}

/// chdir(2) that follows no magic link: `/proc/self/fd/N` leads to whatever we still have open (CVE-2024-21626).
fn change_directory(path: &Path) -> Result<(), Errno> {
    rustix::process::fchdir(open_inside(path)?).map_err(errno)
}

/// Makes the missing parts of `path`, one by one, as root.
fn make_directory(path: &Path) -> Result<(), Errno> {
    let (mut done, mut here) = (PathBuf::from("/"), open_inside(Path::new("/"))?);
    for part in path.components().skip_while(|part| *part == Component::RootDir) {
        done.push(part);
        here = match open_inside(&done) {
            Err(Errno::ENOENT) => {
                let part = part.as_os_str().as_bytes();
                rustix::fs::mkdirat(&here, part, Mode::from_raw_mode(0o755)).map_err(errno)?;
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                rustix::fs::openat(&here, part, flags, Mode::empty()).map_err(errno)?
            }
            other => other?,
        };
    }
    Ok(())
}

fn open_inside(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    loop {
        match rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS) {
            // A rename elsewhere in the tree while it looked: openat2(2) says to try again.
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            result => return result.map_err(errno),
        }
    }
}

fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error())
}

fn become_user(settings: &Settings) -> Result<(), ChildFailure> {
    let failed = |what: &'static str| move |e: Errno| ChildFailure::at(Stage::User, what)(e);
    let groups: Vec<Gid> = settings.groups.iter().copied().map(Gid::from_raw).collect();
    match nix::unistd::setgroups(&groups) {
        // A user namespace may forbid setgroups(2) (user_namespaces(7)); having none to set, that is no loss as
        // long as none are left.
        Err(Errno::EPERM) if groups.is_empty() && nix::unistd::getgroups().is_ok_and(|g| g.is_empty()) => {}
        other => other.map_err(failed("supplementary groups"))?,
    }
    // Else changing from uid 0 would drop the permitted set, which the next step still needs.
    rustix::thread::set_keep_capabilities(true).map_err(ChildFailure::at(Stage::User, "PR_SET_KEEPCAPS"))?;
    let (uid, gid) = (Uid::from_raw(settings.uid), Gid::from_raw(settings.gid));
    nix::unistd::setresgid(gid, gid, gid).map_err(failed("group"))?;
    nix::unistd::setresuid(uid, uid, uid).map_err(failed("user"))?;
    rustix::thread::set_keep_capabilities(false).map_err(ChildFailure::at(Stage::User, "PR_SET_KEEPCAPS"))
}

/// Drops the bounding set to its final value and the others to it plus what `finish` needs, and sets the ambient set.
fn shed_capabilities(settings: &Settings) -> Result<(), ChildFailure> {
    let wanted = settings.capabilities;
    let failed = |what: String| move |e: rustix::io::Errno| ChildFailure::at(Stage::Capabilities, what)(e);
    let mine = rustix::thread::capabilities(None).map_err(failed("capget".into()))?;
    let missing = (wanted.permitted | wanted.inheritable) & !mine.permitted.bits();
    if missing != 0 {
        let e = io::Error::from_raw_os_error(libc::EPERM);
        return Err(ChildFailure::new(Stage::Capabilities, format!("not ours to give: {missing:#x}"), &e));
    }
    // SETPCAP is needed to shrink the bounding set, SYS_ADMIN to load a filter without no_new_privs.
    let extra = if settings.no_new_privileges { 0 } else { CAP_SYS_ADMIN } | CAP_SETPCAP;
    let extra = extra & mine.permitted.bits();
    set(Capabilities { effective: wanted.effective | extra, permitted: wanted.permitted | extra, ..wanted })?;

    for bit in 0..64u32 {
        let cap = CapabilitySet::from_bits_retain(1 << bit);
        match rustix::thread::capability_is_in_bounding_set(cap) {
            Ok(true) if wanted.bounding & (1 << bit) == 0 => rustix::thread::remove_capability_from_bounding_set(cap)
                .map_err(failed(format!("bounding set, capability {bit}")))?,
            Ok(false) if wanted.bounding & (1 << bit) != 0 => {
                let e = io::Error::from_raw_os_error(libc::EPERM);
                return Err(ChildFailure::new(Stage::Capabilities, format!("bounding set lacks capability {bit}"), &e));
            }
            Ok(_) => {}
            Err(_) => break, // EINVAL: one above the kernel's last
        }
    }
    rustix::thread::clear_ambient_capability_set().map_err(failed("ambient set".into()))?;
    for bit in (0..64u32).filter(|bit| wanted.ambient & (1 << bit) != 0) {
        let cap = CapabilitySet::from_bits_retain(1 << bit);
        rustix::thread::configure_capability_in_ambient_set(cap, true)
            .map_err(failed(format!("ambient set, capability {bit}")))?;
    }
    Ok(())
}

/// The last drop. capset(2) either sets all three sets or fails; the ambient set stays a subset by itself.
fn set_final_capabilities(wanted: Capabilities) -> Result<(), ChildFailure> {
    set(wanted)
}

fn set(wanted: Capabilities) -> Result<(), ChildFailure> {
    let sets = CapabilitySets {
        effective: CapabilitySet::from_bits_retain(wanted.effective),
        permitted: CapabilitySet::from_bits_retain(wanted.permitted),
        inheritable: CapabilitySet::from_bits_retain(wanted.inheritable),
    };
    rustix::thread::set_capabilities(None, sets).map_err(ChildFailure::at(Stage::Capabilities, "capset"))
}

/// Finds `args[0]` as execvp(3) does, in the PATH of the new process, and checks that its user may execute it.
fn find_executable(settings: &Settings) -> Result<CString, ChildFailure> {
    let name = settings.args.first().map(String::as_str).unwrap_or_default();
    let failed = |e: io::Error| ChildFailure::new(Stage::FindExecutable, name, &e);
    if name.is_empty() {
        return Err(failed(io::Error::from_raw_os_error(libc::ENOENT)));
    }
    let candidates: Vec<PathBuf> = if name.contains('/') {
        vec![PathBuf::from(name)]
    } else {
        let path = settings.env.iter().rev().find_map(|e| e.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
        path.split(':').map(|dir| Path::new(if dir.is_empty() { "." } else { dir }).join(name)).collect()
    };
    let mut reason = io::Error::from_raw_os_error(libc::ENOENT);
    for candidate in candidates {
        match executable(&candidate) {
            Ok(()) => {
                return CString::new(candidate.as_os_str().as_bytes()).map_err(|e| failed(e.into()));
            }
            // A later directory may have one we may execute; else "not permitted" says more than "not found".
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {}
            Err(e) => reason = e,
        }
    }
    Err(failed(reason))
}

fn executable(path: &Path) -> io::Result<()> {
    let stat = rustix::fs::stat(path)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::from_raw_os_error(libc::EACCES)); // what execve(2) says of a directory
    }
    // faccessat2(2) with the effective ids and capabilities (Linux 5.8).
    Ok(rustix::fs::accessat(CWD, path, rustix::fs::Access::EXEC_OK, AtFlags::EACCESS)?)
}

/// The user's home in the container's `/etc/passwd`, else `/`, as runc. No name service: its modules would be the
/// image's code.
fn home_of(uid: u32) -> String {
    const MOST: u64 = 1 << 20;
    let mut text = Vec::new();
    let open = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    if let Ok(fd) = rustix::fs::open("/etc/passwd", open, Mode::empty()) {
        let file = std::fs::File::from(fd);
        if io::Read::read_to_end(&mut io::Read::take(file, MOST), &mut text).is_err() {
            text.clear(); // a directory, say: as if it were absent
        }
    }
    home_in(&String::from_utf8_lossy(&text), uid).unwrap_or("/").to_owned()
}

fn home_in(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let id: u32 = fields.nth(2)?.parse().ok()?;
        fields.nth(2).filter(|home| id == uid && home.starts_with('/'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_comes_from_passwd() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbad line\nuser:x:1000:1000::/home/user:\nnone:x:7:7:::\n";
        assert_eq!(Some("/root"), home_in(passwd, 0));
        assert_eq!(Some("/home/user"), home_in(passwd, 1000));
        assert_eq!(None, home_in(passwd, 7));
        assert_eq!(None, home_in(passwd, 1));
    }

    #[test]
    fn commands_are_found_as_execvp_does() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("a"), dir.path().join("b"));
        for d in [&first, &second] {
            std::fs::create_dir(d).unwrap();
        }
        std::fs::write(first.join("tool"), "").unwrap(); // not executable
        std::fs::create_dir(first.join("dir")).unwrap();
        let settings = |name: &str| Settings {
            args: vec![name.to_owned()],
            env: vec![format!("PATH={}:{}", first.display(), second.display())],
            ..Settings::default()
        };
        let errno = |name: &str| find_executable(&settings(name)).unwrap_err().errno.unwrap();
        assert_eq!(libc::ENOENT, errno("absent"));
        assert_eq!(libc::EACCES, errno("tool"));
        assert_eq!(libc::EACCES, errno("dir"));
        assert_eq!(libc::ENOENT, errno(""));

        let good = second.join("tool");
        std::fs::write(&good, "").unwrap();
        std::fs::set_permissions(&good, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(good.as_os_str().as_bytes(), find_executable(&settings("tool")).unwrap().as_bytes());
    }
}
