//! Waiting for changes on disk (inotify) instead of looking again and again.
//!
//! ```text
//! <run>/pods/<uid>/status.json   replaced by the shim (rename)     -> Changed
//! <run>/pods/<uid>/              removed by whoever removes a pod  -> Removed
//! the shim's pidfd               readable when it is gone          -> ShimExited
//! ```

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::error::Error;
use crate::process::ProcessId;
use crate::store::PodDir;

/// A descriptor that a task can wait for to be readable.
#[allow(deprecated)] // an OwnedFd always names the same open descriptor, which is what the unsafe successor asks for
fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

/// One event of [`Inotify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Which watch it belongs to.
    pub watch: i32,
    /// What happened.
    pub what: ReadFlags,
    /// To which entry of a watched directory.
    pub name: Option<String>,
}

/// An inotify descriptor that a task can wait for.
#[derive(Debug)]
pub struct Inotify {
    fd: AsyncFd<OwnedFd>,
}

impl Inotify {
    /// A descriptor without watches. Needs to be inside a tokio runtime.
    ///
    /// # Errors
    /// When the kernel refuses one (inotify(7): `fs.inotify.max_user_instances`).
    pub fn new() -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        Ok(Self { fd: readable(fd)? })
    }

    /// Watches a file or directory; the number comes back in [`Event::watch`]. The same path gives the same number.
    ///
    /// # Errors
    /// `NotFound` when there is nothing; else when the kernel refuses (`fs.inotify.max_user_watches`).
    pub fn add(&self, path: &Path, what: WatchFlags) -> io::Result<i32> {
        Ok(inotify::add_watch(self.fd.get_ref(), path, what)?)
    }

    /// Ends a watch; one that ended by itself (its subject is gone) is fine.
    ///
    /// # Errors
    /// Any but "no such watch".
    pub fn remove(&self, watch: i32) -> io::Result<()> {
        match inotify::remove_watch(self.fd.get_ref(), watch) {
            Err(rustix::io::Errno::INVAL) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Waits for events and takes all there are, never none. An overflow of the queue is among them as
    /// [`ReadFlags::QUEUE_OVERFLOW`]: then look at everything anew.
    ///
    /// # Errors
    /// When the descriptor cannot be read.
    pub async fn next(&self) -> io::Result<Vec<Event>> {
        loop {
            let mut ready = self.fd.readable().await?;
            let events = self.take()?;
            if events.is_empty() {
                ready.clear_ready();
            } else {
                return Ok(events);
            }
        }
    }

    fn take(&self) -> io::Result<Vec<Event>> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(self.fd.get_ref(), &mut buffer);
        let mut events = Vec::new();
        loop {
            match reader.next() {
                Ok(event) => events.push(Event {
                    watch: event.wd(),
                    what: event.events(),
                    name: event.file_name().map(|name| name.to_string_lossy().into_owned()),
                }),
                Err(rustix::io::Errno::AGAIN) => return Ok(events),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

/// What a [`PodWatch`] has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The status or the record may be another.
    Changed,
    /// The pod's directory is gone.
    Removed,
    /// The shim is gone; what is on disk now stays until somebody stops or removes the pod.
    ShimExited,
}

/// Waits for changes of one pod. Begin to watch, then read the status, then wait: no change is missed.
#[derive(Debug)]
pub struct PodWatch {
    inotify: Inotify,
    shim: Option<(ProcessId, AsyncFd<OwnedFd>)>,
    /// The shim whose end was told: its pidfd stays readable while it waits to be reaped.
    ended: Option<ProcessId>,
}

impl PodWatch {
    /// Begins to watch a pod.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the pod is gone; else when the kernel refuses the watch.
    pub fn new(dir: &PodDir) -> Result<Self, Error> {
        let inotify = Inotify::new().map_err(|e| Error::System("watch files (inotify)", e))?;
        let what = WatchFlags::MOVED_TO | WatchFlags::CREATE | WatchFlags::DELETE_SELF | WatchFlags::ONLYDIR;
        match inotify.add(&dir.path, what) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let uid = dir.path.file_name().unwrap_or_default();
                return Err(Error::NotFound(uid.to_string_lossy().into_owned()));
            }
            other => other.map_err(Error::file("watch", &dir.path))?,
        };
        let mut watch = Self { inotify, shim: None, ended: None };
        watch.find_shim(dir)?;
        Ok(watch)
    }

    /// Looks up the shim again, when the record says there is one now.
    fn find_shim(&mut self, dir: &PodDir) -> Result<(), Error> {
        // No readable record: the pod is being removed, which its directory tells.
        let Some(shim) = dir.record().ok().and_then(|record| record.shim) else { return Ok(()) };
        if self.ended == Some(shim) {
            return Ok(());
        }
        let pidfd = shim.pidfd().map_err(|e| Error::System("open the shim's pidfd", e))?;
        self.shim = match pidfd {
            Some(fd) => Some((shim, readable(fd).map_err(|e| Error::System("wait for the shim", e))?)),
            None => None,
        };
        Ok(())
    }

    /// Whether a shim was alive when last looked for.
    #[must_use]
    pub fn has_shim(&self) -> bool {
        self.shim.is_some()
    }

    /// Waits for the next change. After [`Change::ShimExited`] only the files are watched.
    ///
    /// # Errors
    /// When the descriptor cannot be read.
    pub async fn changed(&mut self, dir: &PodDir) -> Result<Change, Error> {
        if self.shim.is_none() {
            self.find_shim(dir)?;
        }
        let events = match &self.shim {
            None => self.inotify.next().await,
            Some((id, shim)) => tokio::select! {
                // Files first: the last status a shim wrote is told before its end.
                biased;
                events = self.inotify.next() => events,
                gone = shim.readable() => {
                    gone.map_err(|e| Error::System("wait for the shim", e))?.retain_ready();
                    self.ended = Some(*id);
                    self.shim = None;
                    return Ok(if dir.path.is_dir() { Change::ShimExited } else { Change::Removed });
                }
            },
        };
        let events = events.map_err(|e| Error::System("read inotify events", e))?;
        let gone = events.iter().any(|e| e.what.intersects(ReadFlags::DELETE_SELF | ReadFlags::IGNORED));
        Ok(if gone { Change::Removed } else { Change::Changed })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn a_replaced_status_and_a_removed_pod_are_seen() {
        let root = tempfile::tempdir().unwrap();
        let dir = PodDir { path: root.path().join("pod") };
        fs::create_dir(&dir.path).unwrap();
        runtime().block_on(async {
            let mut watch = PodWatch::new(&dir).unwrap();
            assert!(!watch.has_shim());
            dir.write_status(&Default::default()).unwrap();
            assert_eq!(watch.changed(&dir).await.unwrap(), Change::Changed);
            fs::remove_dir_all(&dir.path).unwrap();
            while watch.changed(&dir).await.unwrap() != Change::Removed {}
        });
    }

    #[test]
    fn a_pod_that_is_gone_cannot_be_watched() {
        let dir = PodDir { path: "/nonexistent/pod".into() };
        runtime().block_on(async {
            assert!(matches!(PodWatch::new(&dir), Err(Error::NotFound(_))));
        });
    }
}
