//! What /proc says of a process.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// A process, by its number on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process(pub u32);

impl Process {
    /// Every process there is.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let entries = fs::read_dir("/proc").expect("read /proc");
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().map(Self)).collect()
    }

    fn path(self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.0))
    }

    /// A file of its directory, `None` once it is gone.
    #[must_use]
    pub fn file(self, file: &str) -> Option<Vec<u8>> {
        fs::read(self.path(file)).ok()
    }

    /// Its arguments.
    #[must_use]
    pub fn cmdline(self) -> Vec<String> {
        let bytes = self.file("cmdline").unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        text.split_terminator('\0').map(ToOwned::to_owned).collect()
    }

    /// A line of its `status`, without the name.
    #[must_use]
    pub fn status(self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.path("status")).ok()?;
        text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned()))
    }

    /// The inode of one of its namespaces: `net`, `ipc`, `uts`, `pid`, `mnt`, ...
    ///
    /// # Errors
    /// When the process is gone.
    pub fn namespace(self, name: &str) -> io::Result<u64> {
        fs::metadata(self.path("ns").join(name)).map(|m| m.ino())
    }

    /// Its cgroup in every hierarchy, as `/proc/PID/cgroup` has it.
    #[must_use]
    pub fn cgroups(self) -> String {
        String::from_utf8_lossy(&self.file("cgroup").unwrap_or_default()).into_owned()
    }

    /// Whether it lives (a zombie does not).
    #[must_use]
    pub fn lives(self) -> bool {
        self.status("State").is_some_and(|state| !state.starts_with('Z') && !state.starts_with('X'))
    }

    /// Ends it, by a file descriptor that cannot mean another.
    pub fn kill(self) {
        use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
        let pid = Pid::from_raw(self.0.cast_signed()).expect("a process id");
        let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return };
        match pidfd_send_signal(&pidfd, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(e) => panic!("kill {}: {e}", self.0),
        }
    }
}
