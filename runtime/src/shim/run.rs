//! The life of a shim, from the fork to its exit.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use rustix::process::Signal;
use tokio::task::LocalSet;

use super::api;
use super::pod::{NotStarted, Pod};
use super::progress::{Progress, Reporter};
use crate::cgroup::Hierarchy;
use crate::engine::{Launcher, Libcontainer, protected};
use crate::error::{Error, chain};
use crate::pods::{Files, Keep, NewPod};
use crate::rootfs;
use crate::signal::Signals;
use crate::step::{self, Step};
use crate::store::Store;
use crate::sys;

/// Kernel's most unlikely victim short of immune: what kubelet gives a pod's sandbox.
const OOM_SCORE_ADJ: &str = "-998";

/// Runs in the forked child; returns its exit status.
pub(super) fn main(store: Store, new: NewPod, progress: OwnedFd) -> i32 {
    let log = new.dir.path.join("shim.log");
    let keep = [new.lock.as_fd().as_raw_fd(), progress.as_raw_fd()];
    let report = Reporter::new(progress);
    // From here on steps are told to the command.
    step::send_to(Some(report.sink()));
    match Step::LeaveCommand.take("", || detach(&log, &keep)).and_then(|()| runtime()) {
        Ok(runtime) => LocalSet::new().block_on(&runtime, live(store, new, report)),
        Err(e) => {
            // Nothing but files exists yet.
            let files = new.files();
            report.finish(&failed(chain(&e), e.exit_code(), files.keep, &files.discard(&store)));
            1
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| Error::System("start the shim's event loop", e))
}

/// Leaves everything of the command that forked us: session, directory, streams, descriptors, signals, mounts.
fn detach(log: &Path, keep: &[i32]) -> Result<(), Error> {
    let fail = |what| move |e: nix::errno::Errno| Error::System(what, e.into());
    nix::unistd::setsid().map_err(fail("start a session"))?;
    nix::unistd::chdir("/").map_err(fail("leave the working directory"))?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).map_err(fail("unblock signals"))?;
    // Containers whose launcher has gone become our children.
    nix::sys::prctl::set_child_subreaper(true).map_err(fail("become a sub-reaper"))?;
    nix::sys::prctl::set_name(c"minipod-shim").map_err(fail("set the process name"))?;
    let null = File::open("/dev/null").map_err(Error::file("open", "/dev/null"))?;
    let log_file = OpenOptions::new().append(true).create(true).mode(0o600).open(log).map_err(Error::file("open", log))?;
    sys::descriptors::replace_streams(null.as_fd(), log_file.as_fd()).map_err(|e| Error::System("replace the standard streams", e))?;
    drop((null, log_file));
    sys::descriptors::close_all_but(keep).map_err(|e| Error::System("close inherited descriptors", e))?;
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ) {
        // Needs CAP_SYS_RESOURCE; without it the pod merely dies earlier when memory runs out.
        tracing::debug!(%error, "oom_score_adj not lowered");
    }
    rootfs::unshare_mounts()
}

async fn live(store: Store, new: NewPod, report: Reporter) -> i32 {
    let files = new.files();
    let pod = match prepare(&store, new) {
        Ok(pod) => pod,
        Err(e) => {
            report.finish(&failed(chain(&e), e.exit_code(), files.keep, &files.discard(&store)));
            return 1;
        }
    };
    let Files { record, keep, .. } = files;
    let (served, started) = match Step::Serve.follow("", api::serve(&pod)).await {
        Ok(server) => (Some(server), pod.start().await),
        Err(e) => (None, Err(NotStarted::Cannot(e))),
    };
    let down = match started {
        Ok(()) => {
            report.finish(&Progress::Started);
            // The code that starts a pod is most of the program, and not needed to watch one.
            if let Err(error) = sys::program::forget_pages() {
                tracing::debug!(%error, "pages of the program not given back");
            }
            sys::program::forget_free_memory();
            tokio::task::spawn_local({
                let pod = Rc::clone(&pod);
                async move { pod.watch_pause().await }
            });
            pod.supervise().await;
            pod.tear_down(Keep::Pod).await
        }
        Err(NotStarted::Stopped) => {
            pod.finish_containers().await;
            let down = pod.tear_down(Keep::Pod).await;
            let message = format!("pod {} was stopped while it started", record.label());
            report.finish(&failed(message, 125, Keep::Pod, &down));
            down
        }
        Err(NotStarted::InitFailed { container, exit_code }) => {
            let message = format!("init container {container} of pod {} failed with exit code {exit_code}", record.label());
            pod.fail("InitContainerFailed", message.clone());
            let down = pod.tear_down(Keep::Pod).await;
            report.finish(&failed(message, exit_code, Keep::Pod, &down));
            down
        }
        Err(NotStarted::Cannot(e)) => {
            pod.request_stop(Some(Duration::ZERO));
            pod.finish_containers().await;
            let down = pod.tear_down(keep).await;
            report.finish(&failed(chain(&e), e.exit_code(), keep, &down));
            down
        }
    };
    // Whoever asked us to stop waits for our end, not for our answer; but let answers go out that are ready.
    if let Some(server) = served {
        server.finish().await;
    }
    match down {
        Ok(()) => 0,
        Err(e) => {
            tracing::error!(error = chain(&e), "pod not taken down whole");
            1
        }
    }
}

/// Why the pod did not start, and why it was not undone, should that have failed too.
fn failed(cause: String, exit_code: u8, keep: Keep, down: &Result<(), Error>) -> Progress {
    let message = match down {
        Ok(()) => cause,
        Err(e) => format!("{cause}; not all of it could be undone, `minipod gc` tries again: {}", chain(e)),
    };
    Progress::Failed { message, exit_code, removed: keep == Keep::Nothing && down.is_ok() }
}

fn prepare(store: &Store, new: NewPod) -> Result<Rc<Pod>, Error> {
    let look = step::reading("find program and cgroups");
    let program = protected(Path::new("/proc/self/exe")).map_err(|e| Error::System("protect the launcher's program", e))?;
    let hierarchy = Hierarchy::detect().map_err(|e| Error::System("find the cgroup hierarchies", e))?;
    let engine = Libcontainer::new(Launcher::new(program, store.layout.lib.join("seccomp")), &hierarchy);
    drop(look);
    let pod = Pod::new(store.clone(), new, engine, hierarchy)?;
    tokio::task::spawn_local({
        let pod = Rc::clone(&pod);
        async move { pod.publish_late().await }
    });
    let mut terminate = Signals::of(&[Signal::TERM]).map_err(|e| Error::System("watch SIGTERM", e))?;
    tokio::task::spawn_local({
        let pod = Rc::clone(&pod);
        async move {
            while terminate.next().await.is_ok() {
                pod.request_stop(None);
            }
        }
    });
    Ok(pod)
}
