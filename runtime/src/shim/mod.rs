//! One process per pod: it creates the sandbox and the containers, supervises them, and takes them down again.
//!
//! ```text
//! minipod run                            shim
//!   parse, check, record on disk
//!   fork ------------------------------> own session, sub-reaper, own mount namespace
//!   reads progress  <--- Step* --------  pause, network, init containers, app containers
//!   returns or follows <--- Started ---  supervises; serves the Task and Sandbox services
//!                                        until nothing will run again, or it is told to stop
//! ```

mod api;
mod backoff;
mod capabilities;
mod container;
mod events;
mod exec;
mod io;
mod log;
mod pod;
mod progress;
mod run;

use std::os::fd::{AsFd as _, OwnedFd};

use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::unix::pipe;

use crate::error::{Error, chain};
use crate::pods::NewPod;
use crate::process::{self, ProcessId};
use crate::step::{self, Step};
use crate::store::Store;
use crate::sys::fork;

pub use exec::ExecOverrides;
pub(crate) use exec::OVERRIDES;
pub use progress::Progress;

/// A shim that was just forked.
#[derive(Debug)]
pub struct ShimHandle {
    pipe: Option<OwnedFd>,
    lines: Option<Lines<BufReader<pipe::Receiver>>>,
    /// The shim's process.
    pub pid: u32,
}

impl ShimHandle {
    /// The shim's next message; `None` once it has said its last, or died.
    ///
    /// # Errors
    /// When the pipe cannot be read, or a line is not a message.
    pub async fn next(&mut self) -> Result<Option<Progress>, Error> {
        let fail = |e| Error::System("read the shim's progress", e);
        if let Some(pipe) = self.pipe.take() {
            self.lines = Some(BufReader::new(pipe::Receiver::from_owned_fd(pipe).map_err(fail)?).lines());
        }
        let Some(lines) = &mut self.lines else { return Ok(None) };
        let Some(line) = lines.next_line().await.map_err(fail)? else { return Ok(None) };
        serde_json::from_str(&line).map(Some).map_err(|e| fail(e.into()))
    }

    /// Returns once the shim has ended: then it holds nothing any more, the pod's lock included.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub async fn ended(&self) -> Result<(), Error> {
        let fail = |e| Error::System("wait for the shim", e);
        // Our child, so the pid is its own until we reap it.
        let pidfd = ProcessId::of(self.pid).and_then(|shim| shim.pidfd()).map_err(fail)?;
        match pidfd {
            Some(pidfd) => process::wait_exit(pidfd.as_fd()).await.map(drop).map_err(fail),
            None => Ok(()),
        }
    }
}

/// Forks the shim of a pod that is on disk. The caller has one thread, and no tokio runtime.
///
/// # Errors
/// When there are several threads, or no process can be made; the pod is given up then, as by [`NewPod::discard`].
pub fn spawn(store: &Store, pod: NewPod) -> Result<ShimHandle, Error> {
    let files = pod.files();
    let (read, write, pid) = match fork_with_pipe() {
        Ok(forked) => forked,
        Err(e) => {
            if let Err(left) = files.discard(store) {
                tracing::warn!(error = chain(&left), "left behind");
            }
            return Err(e);
        }
    };
    let Some(pid) = pid else {
        drop(read);
        // A panic must not unwind into the frames of the command that was forked.
        let run = std::panic::AssertUnwindSafe(|| run::main(store.clone(), pod, write));
        std::process::exit(std::panic::catch_unwind(run).unwrap_or(70))
    };
    Ok(ShimHandle { pipe: Some(read), lines: None, pid })
}

/// The pipe's ends, and the child's pid; `None` in the child.
fn fork_with_pipe() -> Result<(OwnedFd, OwnedFd, Option<u32>), Error> {
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC | nix::fcntl::OFlag::O_NONBLOCK)
        .map_err(|e| Error::System("make a pipe", e.into()))?;
    // Only the reader is asynchronous; a shim that waits for a slow reader is fine.
    rustix::fs::fcntl_setfl(write.as_fd(), rustix::fs::OFlags::empty()).map_err(|e| Error::System("make a pipe", e.into()))?;
    if threads().map_err(|e| Error::System("count threads", e))? > 1 {
        // The child would inherit locks that nobody will release.
        return Err(Error::System("fork the shim", std::io::Error::other("this process has several threads")));
    }
    let pid = Step::Fork.take("", || {
        let pid = fork().map_err(|e| Error::System("fork the shim", e))?;
        if pid.is_none() {
            // This span is the command's.
            step::send_to(None);
        }
        Ok::<_, Error>(pid)
    })?;
    Ok((read, write, pid))
}

fn threads() -> std::io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}
