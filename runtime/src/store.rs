//! What is on disk about pods. Everybody reads it; the pod's creator and then its shim write it.
//!
//! ```text
//! <run>/names/<namespace>_<name> -> <uid>    who owns a name
//! <run>/pods/<uid>/lock                      held while a creator or a shim lives
//!                  record.json               what the pod acquires on the host, before it does
//!                  plan.json  pod.json       what to run; the manifest as the user wrote it, defaulted
//!                  status.json               v1 PodStatus as seen by the shim
//!                  events.jsonl  shim.sock  shim.log
//!                  log-gap.<name>.json       what a container's log lacks, when it lacks something
//!                  containers/<name>/        bundle and engine state
//! <run>/trash/<uid>/                         a pod's directory, being deleted
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};

use bundles::plan::PodPlan;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::error::Error;
use crate::layout::Layout;
use crate::logs::Gap;
use crate::process::ProcessId;
use crate::step::Step;

/// What a pod has, or may have, on the host. Written before the first side effect, so that anyone can undo it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The pod's uid; owner of its lease, its cgroup, its host interface.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// When it was created (RFC 3339).
    pub created: String,
    /// How far it has come.
    pub stage: Stage,
    /// The bridge network it is or will be attached to.
    pub network: Option<NetworkRecord>,
    /// The link in /run/netns.
    pub netns_link: PathBuf,
    /// The cgroup, below each hierarchy's root.
    pub cgroup: String,
    /// Directory of `Localhost` seccomp profiles.
    pub seccomp_root: PathBuf,
    /// The pod's shim, once it runs.
    pub shim: Option<ProcessId>,
    /// The pause process, once it is cloned (before it may go on).
    pub pause: Option<ProcessId>,
}

impl Record {
    /// `namespace/name`, as people call it.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// The same pod when nothing is left of it on the host.
    pub(crate) fn stopped(&self) -> Self {
        Self { stage: Stage::Stopped, shim: None, pause: None, ..self.clone() }
    }
}

/// How far a pod has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Side effects may have begun.
    Creating,
    /// The shim supervises it.
    Running,
    /// Nothing is left but this directory and the logs.
    Stopped,
}

/// The bridge network of a pod.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// Name of the bridge.
    pub bridge: String,
    /// The node's pod CIDR.
    pub subnet: ipnet::Ipv4Net,
    /// The cluster CIDR, inside which nothing is masqueraded.
    pub cluster: ipnet::Ipv4Net,
    /// `--ip`.
    pub address: Option<std::net::Ipv4Addr>,
}

/// Held while somebody works on a pod: a creator, then its shim. Free when both are gone, however they went.
///
/// It follows the open file description across `fork`, so the shim takes it over from the command that forked it.
/// Closing one copy of the description does not unlock it, so this must not unlock on drop either.
#[derive(Debug)]
pub struct PodLock(File);

impl AsFd for PodLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// One pod's directory.
#[derive(Debug, Clone)]
pub struct PodDir {
    /// `<run>/pods/<uid>`.
    pub path: PathBuf,
}

impl PodDir {
    /// The record.
    ///
    /// # Errors
    /// When it cannot be read or parsed.
    pub fn record(&self) -> Result<Record, Error> {
        read_json(&self.path.join("record.json"))
    }

    /// Replaces the record.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_record(&self, record: &Record) -> Result<(), Error> {
        write_json(&self.path.join("record.json"), record)
    }

    /// What to run.
    ///
    /// # Errors
    /// When it cannot be read or parsed.
    pub fn plan(&self) -> Result<PodPlan, Error> {
        read_json(&self.path.join("plan.json"))
    }

    /// The manifest, defaulted, without status.
    ///
    /// # Errors
    /// When it cannot be read or parsed.
    pub fn manifest(&self) -> Result<Pod, Error> {
        read_json(&self.path.join("pod.json"))
    }

    /// The last status the shim wrote; an empty one before.
    ///
    /// # Errors
    /// When it cannot be read or parsed.
    pub fn status(&self) -> Result<PodStatus, Error> {
        match read_json(&self.path.join("status.json")) {
            Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(PodStatus::default()),
            other => other,
        }
    }

    /// Replaces the status.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_status(&self, status: &PodStatus) -> Result<(), Error> {
        write_json(&self.path.join("status.json"), status)
    }

    /// The socket of the pod's shim.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path.join("shim.sock")
    }

    /// The pod's events, one JSON object a line.
    #[must_use]
    pub fn events(&self) -> PathBuf {
        self.path.join("events.jsonl")
    }

    /// One container's directory: bundle and engine state.
    #[must_use]
    pub fn container(&self, name: &str) -> PathBuf {
        self.path.join("containers").join(name)
    }

    /// What the log of a container's present (or last) attempt lacks; `None` when it is whole.
    ///
    /// # Errors
    /// When the file cannot be read or parsed.
    pub fn log_gap(&self, container: &str) -> Result<Option<Gap>, Error> {
        match read_json(&self.log_gap_file(container)) {
            Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    pub(crate) fn write_log_gap(&self, container: &str, gap: &Gap) -> Result<(), Error> {
        write_json(&self.log_gap_file(container), gap)
    }

    pub(crate) fn remove_log_gap(&self, container: &str) -> Result<(), Error> {
        remove_file(&self.log_gap_file(container))
    }

    fn log_gap_file(&self, container: &str) -> PathBuf {
        self.path.join(format!("log-gap.{container}.json"))
    }

    /// Takes the lock, or `None` while a creator or the shim holds it.
    ///
    /// # Errors
    /// When there is no lock file, as in a pod that was just removed, or it cannot be opened.
    pub fn try_lock(&self) -> Result<Option<PodLock>, Error> {
        self.try_lock_with(&old_lock())
    }

    /// As [`Self::try_lock`], also in what a creator left that died before it made the lock file.
    ///
    /// # Errors
    /// When the directory is gone, also since the lock file was opened.
    pub(crate) fn try_lock_leftover(&self) -> Result<Option<PodLock>, Error> {
        let lock = self.try_lock_with(&new_lock())?;
        match &lock {
            Some(lock) if !self.is_locked_by(lock)? => Err(Error::file("lock", &self.path)(io::ErrorKind::NotFound.into())),
            _ => Ok(lock),
        }
    }

    fn try_lock_with(&self, options: &OpenOptions) -> Result<Option<PodLock>, Error> {
        let path = self.path.join("lock");
        let file = options.open(&path).map_err(Error::file("open", &path))?;
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&exclusive())) {
            Ok(_) => Ok(Some(PodLock(file))),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
            Err(e) => Err(Error::file("lock", path)(e.into())),
        }
    }

    /// Makes the lock file of a new pod, and waits for who takes it for a leftover.
    fn lock_new(&self) -> Result<PodLock, Error> {
        let path = self.path.join("lock");
        let file = new_lock().open(&path).map_err(Error::file("open", &path))?;
        loop {
            match fcntl(&file, FcntlArg::F_OFD_SETLKW(&exclusive())) {
                Ok(_) => return Ok(PodLock(file)),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(Error::file("lock", path)(e.into())),
            }
        }
    }

    /// Whether this is the lock of this directory, and not of one that was removed meanwhile.
    fn is_locked_by(&self, lock: &PodLock) -> Result<bool, Error> {
        let path = self.path.join("lock");
        let (here, held) = (fs::metadata(&path), lock.0.metadata());
        let (here, held) = (here.map_err(Error::file("look at", &path))?, held.map_err(Error::file("look at", &path))?);
        Ok((here.dev(), here.ino()) == (held.dev(), held.ino()))
    }

    /// Whether a creator or the shim is at work. Asks only: whoever wants the lock meanwhile gets it.
    ///
    /// # Errors
    /// When the lock file cannot be opened.
    pub fn is_busy(&self) -> Result<bool, Error> {
        let path = self.path.join("lock");
        let file = match old_lock().open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other.map_err(Error::file("open", &path))?,
        };
        let mut found = exclusive();
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut found)).map_err(|e| Error::file("ask for the lock", path)(e.into()))?;
        Ok(found.l_type != UNLOCKED)
    }
}

/// `F_UNLCK`, of the width that the structure has.
const UNLOCKED: libc::c_short = libc::F_UNLCK as libc::c_short;

/// The whole file, for nobody but us (fcntl(2), open file description locks).
fn exclusive() -> libc::flock {
    libc::flock { l_type: libc::F_WRLCK as libc::c_short, l_whence: libc::SEEK_SET as libc::c_short, l_start: 0, l_len: 0, l_pid: 0 }
}

/// How a lock file is opened that must be there.
fn old_lock() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options
}

/// How a lock file is made.
fn new_lock() -> OpenOptions {
    let mut options = old_lock();
    options.create(true).mode(0o600);
    options
}

/// All pods of one installation.
#[derive(Debug, Clone)]
pub struct Store {
    /// Where it is.
    pub layout: Layout,
}

impl Store {
    /// Opens the store; creates nothing.
    #[must_use]
    pub fn new(layout: Layout) -> Self {
        Self { layout }
    }

    /// One pod's directory, which need not exist.
    #[must_use]
    pub fn dir(&self, uid: &str) -> PodDir {
        PodDir { path: self.layout.pod(uid) }
    }

    /// Puts a new pod on disk and claims its name. Nothing else has happened yet when this returns.
    ///
    /// # Errors
    /// [`Error::NameTaken`] when another pod has the name; then nothing is left.
    pub fn create(&self, record: &Record, plan: &PodPlan, manifest: &Pod) -> Result<(PodDir, PodLock), Error> {
        let (dir, lock) = Step::Directory.take("", || self.new_dir(&record.uid))?;
        let written = (|| {
            Step::Record.take("", || dir.write_record(record))?;
            Step::Plan.take("", || {
                write_json(&dir.path.join("plan.json"), plan)?;
                write_json(&dir.path.join("pod.json"), manifest)
            })?;
            Step::Name.take("", || self.claim(record))
        })();
        match written {
            Ok(()) => Ok((dir, lock)),
            Err(e) => {
                // A failure to remove our own few files is the lesser news.
                if let Err(left) = self.remove_dir(&dir) {
                    tracing::warn!(error = crate::error::chain(&left), "left behind");
                }
                Err(e)
            }
        }
    }

    /// Makes a pod's directory and takes its lock.
    fn new_dir(&self, uid: &str) -> Result<(PodDir, PodLock), Error> {
        private_dir(&self.layout.names())?;
        let dir = self.dir(uid);
        loop {
            private_dir(&dir.path)?;
            // `gc` takes a directory that nobody has locked and that has no record for a leftover: between our two calls it may
            // have removed this one.
            match dir.lock_new().and_then(|lock| Ok(dir.is_locked_by(&lock)?.then_some(lock))) {
                Ok(Some(lock)) => return Ok((dir, lock)),
                Ok(None) => {}
                Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Claims `namespace/name`. A pod's directory exists before its link does, so a dangling link is stale.
    fn claim(&self, record: &Record) -> Result<(), Error> {
        let link = self.name_link(&record.namespace, &record.name);
        let _names = self.lock_names()?;
        loop {
            match symlink(&record.uid, &link) {
                Ok(()) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(Error::File { operation: "claim name", path: link, source }),
            }
            let Some(uid) = read_name(&link)? else { continue };
            let holder = self.dir(&uid);
            if holder.path.is_dir() {
                let phase = holder.status()?.phase.unwrap_or_else(|| "Pending".to_owned());
                return Err(Error::NameTaken { namespace: record.namespace.clone(), name: record.name.clone(), uid, phase });
            }
            remove_file(&link)?;
        }
    }

    /// Gives back a name, unless somebody else has it by now.
    pub(crate) fn release_name(&self, link: &Path, uid: &str) -> Result<(), Error> {
        let _names = self.lock_names()?;
        if read_name(link)?.as_deref() == Some(uid) { remove_file(link) } else { Ok(()) }
    }

    /// Held for change of any name: between a look at a link and its removal it could become another's.
    fn lock_names(&self) -> Result<File, Error> {
        let names = self.layout.names();
        let directory = File::open(&names).map_err(Error::file("open", &names))?;
        rustix::fs::flock(&directory, rustix::fs::FlockOperation::LockExclusive).map_err(|e| Error::file("lock", names)(e.into()))?;
        Ok(directory)
    }

    fn name_link(&self, namespace: &str, name: &str) -> PathBuf {
        // `_` is in no DNS name, so no two pairs make the same link.
        self.layout.names().join(format!("{namespace}_{name}"))
    }

    /// Who owns a name.
    ///
    /// # Errors
    /// When the link cannot be read.
    pub fn owner(&self, namespace: &str, name: &str) -> Result<Option<PodDir>, Error> {
        Ok(read_name(&self.name_link(namespace, name))?.map(|uid| self.dir(&uid)).filter(|dir| dir.path.is_dir()))
    }

    /// Removes a pod's directory and gives its name back. The caller holds the lock and has undone everything else.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn remove(&self, record: &Record) -> Result<(), Error> {
        Step::Unname.take("", || self.release_name(&self.name_link(&record.namespace, &record.name), &record.uid))?;
        Step::RemoveDirectory.take("", || self.remove_dir(&self.dir(&record.uid)))
    }

    /// Removes a pod's directory: at once for whoever looks, then file by file.
    pub(crate) fn remove_dir(&self, dir: &PodDir) -> Result<(), Error> {
        let trash = self.layout.trash();
        private_dir(&trash)?;
        let gone = trash.join(dir.path.file_name().unwrap_or_default());
        // Left by who was killed here, and whose directory was made again.
        remove_tree(&gone)?;
        match fs::rename(&dir.path, &gone) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", &dir.path)(e)),
            _ => remove_tree(&gone),
        }
    }

    /// Every pod, by uid order; directories without a readable record are left out (`gc` takes those).
    ///
    /// # Errors
    /// When the directory of pods cannot be read.
    pub fn list(&self) -> Result<Vec<(PodDir, Record)>, Error> {
        let mut pods = Vec::new();
        for dir in self.dirs()? {
            match dir.record() {
                Ok(record) => pods.push((dir, record)),
                Err(e) => tracing::debug!(path = %dir.path.display(), error = %e, "no readable record"),
            }
        }
        pods.sort_by(|a, b| a.1.created.cmp(&b.1.created).then_with(|| a.1.uid.cmp(&b.1.uid)));
        Ok(pods)
    }

    /// Every directory of a pod, readable record or not.
    ///
    /// # Errors
    /// When the directory of pods cannot be read.
    pub fn dirs(&self) -> Result<Vec<PodDir>, Error> {
        let pods = self.layout.pods();
        let entries = match fs::read_dir(&pods) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::file("read", pods)(e)),
        };
        entries
            .map(|entry| entry.map(|e| PodDir { path: e.path() }).map_err(Error::file("read", &pods)))
            .collect()
    }

    /// Finds a pod by name (in namespace `default`), `namespace/name`, uid, or a prefix of a uid or name that only one pod has.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`].
    pub fn find(&self, query: &str) -> Result<(PodDir, Record), Error> {
        let (namespace, name) = query.split_once('/').unwrap_or(("default", query));
        if !name.is_empty()
            && let Some(dir) = self.owner(namespace, name)?
        {
            return match dir.record() {
                // Removed since its name was read.
                Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => Err(Error::NotFound(query.to_owned())),
                record => Ok((dir, record?)),
            };
        }
        let mut found: Vec<_> = self
            .list()?
            .into_iter()
            .filter(|(_, r)| r.uid.starts_with(query) || r.name.starts_with(query) || r.label().starts_with(query))
            .collect();
        if let Some(exact) = found.iter().position(|(_, r)| r.uid == query || r.name == query) {
            found = vec![found.swap_remove(exact)];
        }
        match found.len() {
            0 => Err(Error::NotFound(query.to_owned())),
            1 => Ok(found.swap_remove(0)),
            _ => Err(Error::Ambiguous { query: query.to_owned(), matches: found.iter().map(|(_, r)| r.label()).collect() }),
        }
    }
}

pub(crate) fn read_name(link: &Path) -> Result<Option<String>, Error> {
    match fs::read_link(link) {
        Ok(target) => Ok(Some(target.to_string_lossy().into_owned())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::file("read", link)(e)),
    }
}

/// Makes a directory that only root can enter, and its parents.
pub(crate) fn private_dir(path: &Path) -> Result<(), Error> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(Error::file("create", path))
}

/// Removes a file; one that is gone already is fine.
pub(crate) fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Removes a tree; one that is gone already is fine. What is mounted in it is not entered: that is an error, never a loss.
pub(crate) fn remove_tree(path: &Path) -> Result<(), Error> {
    bundles::volume::remove(path).map_err(|source| Error::Volume { name: path.display().to_string(), source })
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let bytes = fs::read(path).map_err(Error::file("read", path))?;
    serde_json::from_slice(&bytes).map_err(|source| Error::Parse { path: path.to_owned(), source })
}

/// Replaces a file whole, so that a reader sees the old or the new one. No fsync: `<run>` does not survive a reboot.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), Error> {
    let bytes = serde_json::to_vec(value).map_err(|source| Error::Parse { path: path.to_owned(), source })?;
    let temporary = path.with_extension("tmp");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(Error::file("create", &temporary))?;
    file.write_all(&bytes).map_err(Error::file("write", &temporary))?;
    fs::rename(&temporary, path).map_err(Error::file("replace", path))
}
