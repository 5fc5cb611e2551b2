//! One container: prepared outside, entered by its first process.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{chdir, execve, pivot_root, setsid};

/// Hidden and read-only paths of the default spec.
const MASKED: [&str; 6] = ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
const DEVICES: [(&str, u64, u64); 6] = [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
/// The same first command as in the pod that it is compared with.
pub(crate) const SCRIPT: &str = "echo up > /bench/fifo; exec sleep 1000";

pub(crate) struct Container {
    lower: PathBuf,
    state: PathBuf,
    namespaces: [File; 3],
    output: File,
}

impl Container {
    /// Makes the directories and files that a container needs, and opens pause's namespaces.
    pub(crate) fn prepare(root: &Path, state: &Path, pause: i32) -> io::Result<Self> {
        for dir in ["upper", "work", "root", "shm"] {
            fs::create_dir_all(state.join(dir))?;
        }
        for file in ["hosts", "hostname", "resolv.conf"] {
            fs::write(state.join(file), "127.0.0.1 localhost\n")?;
        }
        let open = |name| File::open(format!("/proc/{pause}/ns/{name}"));
        let output = File::create(state.join("log"))?;
        Ok(Self { lower: root.to_owned(), state: state.to_owned(), namespaces: [open("ipc")?, open("uts")?, open("net")?], output })
    }

    /// Returns only when it fails.
    pub(crate) fn become_it(&self, cgroups: &[PathBuf]) -> io::Error {
        match self.try_become(cgroups) {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    fn try_become(&self, cgroups: &[PathBuf]) -> io::Result<Infallible> {
        setsid()?;
        for group in cgroups {
            fs::write(group.join("cgroup.procs"), "0")?;
        }
        for namespace in &self.namespaces {
            setns(namespace, CloneFlags::empty())?;
        }
        self.mounts()?;
        for number in 0..=40 {
            // Everything but what an ordinary container keeps; EINVAL ends the kernel's list.
            let keeps = matches!(number, 0 | 1 | 3 | 4 | 5 | 6 | 7 | 8 | 10 | 18 | 31);
            if !keeps && rustix::thread::remove_capability_from_bounding_set(capability(number)).is_err() {
                break;
            }
        }
        nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
        nix::unistd::dup2_stdout(&self.output)?;
        nix::unistd::dup2_stderr(&self.output)?;
        let args = ["sh", "-c", SCRIPT].map(|arg| CString::new(arg).expect("no NUL"));
        Ok(execve(c"/bin/sh", &args, &[c"PATH=/bin:/usr/bin"])?)
    }

    fn mounts(&self) -> io::Result<()> {
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_SLAVE | MsFlags::MS_REC, none)?;
        let root = self.state.join("root");
        let layers = format!("lowerdir={},upperdir={},workdir={}", self.lower.display(), self.state.join("upper").display(), self.state.join("work").display());
        mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(&*layers))?;
        let safe = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
        let fresh = |at: &str, kind: &str, flags, data: &str| {
            let at = root.join(at);
            fs::create_dir_all(&at)?;
            mount(Some(kind), &at, Some(kind), flags, Some(data)).map_err(io::Error::from)
        };
        fresh("proc", "proc", safe, "")?;
        fresh("dev", "tmpfs", MsFlags::MS_NOSUID | MsFlags::MS_STRICTATIME, "mode=755,size=65536k")?;
        fresh("dev/pts", "devpts", MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5")?;
        fresh("dev/mqueue", "mqueue", safe, "")?;
        fresh("sys", "sysfs", safe | MsFlags::MS_RDONLY, "")?;
        let bind = |from: &Path, at: &str| {
            let at = root.join(at);
            if from.is_dir() { fs::create_dir_all(&at)? } else { File::create(&at).map(drop)? }
            mount(Some(from), &at, none, MsFlags::MS_BIND | MsFlags::MS_REC, none).map_err(io::Error::from)
        };
        bind(&self.state.join("shm"), "dev/shm")?;
        bind(self.state.parent().and_then(Path::parent).unwrap_or(&self.state).join("seen").as_path(), "bench")?;
        fs::create_dir_all(root.join("etc"))?;
        for file in ["hosts", "hostname", "resolv.conf"] {
            bind(&self.state.join(file), &format!("etc/{file}"))?;
        }
        for (name, major, minor) in DEVICES {
            mknod(&root.join("dev").join(name), SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(major, minor))?;
        }
        for (name, to) in [("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2"), ("ptmx", "pts/ptmx")] {
            symlink(to, root.join("dev").join(name))?;
        }
        chdir(&root)?;
        pivot_root(".", ".")?;
        umount2(".", MntFlags::MNT_DETACH)?;
        chdir("/")?;
        for path in MASKED.into_iter().map(Path::new).filter(|path| path.exists()) {
            if path.is_dir() {
                mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::MS_RDONLY, none)?;
            } else {
                mount(Some("/dev/null"), path, none, MsFlags::MS_BIND, none)?;
            }
        }
        for path in READ_ONLY.into_iter().filter(|path| Path::new(path).exists()) {
            mount(Some(path), path, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
            mount(none, path, none, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | safe, none)?;
        }
        Ok(())
    }
}

fn capability(number: u32) -> rustix::thread::CapabilitySet {
    rustix::thread::CapabilitySet::from_bits_retain(1 << number)
}
