//! The engine that uses libcontainer, from the shim's side. No type of libcontainer's is used here.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::launch::{Failed, Launcher, Outcome};
use super::protocol::{Mode, Request};
use super::sanitise::{Context, sanitise};
use super::{CreateRequest, Created, Engine, EngineError, reap};
use crate::cgroup::{Cgroup, Hierarchy};

/// libcontainer's socket that waits for the start.
pub(super) const NOTIFY_SOCKET: &str = "notify.sock";

/// Containers by libcontainer.
#[derive(Debug)]
pub struct Libcontainer {
    launcher: Launcher,
    cgroup_v2: bool,
}

impl Libcontainer {
    /// An engine that starts launchers with `launcher` on a machine with these cgroups.
    pub fn new(launcher: Launcher, hierarchy: &Hierarchy) -> Self {
        Self { launcher, cgroup_v2: hierarchy.is_v2() }
    }

    /// What starts launchers, for [`super::exec`].
    pub fn launcher(&self) -> &Launcher {
        &self.launcher
    }

    async fn try_create(&self, request: CreateRequest<'_>) -> Result<Created, EngineError> {
        let CreateRequest { id, bundle, spec, state_dir, cgroup, stdio } = request;
        let context = Context { bundle, cgroup_path: cgroup.path(), cgroup_v2: self.cgroup_v2 };
        let mut sanitised = sanitise(spec, &context)?;
        let bpf = self.launcher.seccomp_program(spec, &mut sanitised.settings)?;

        write_json(&bundle.join("config.json"), spec)?;
        let its_bundle = state_dir.join("bundle");
        make_private_dir(&its_bundle)?;
        write_json(&its_bundle.join("config.json"), &sanitised.spec)?;
        let state_root = state_dir.join("state");
        let notify_dir = state_root.join(id);

        let mode = Mode::Create { id: id.to_owned(), bundle: its_bundle, state_root, hide_cgroups: sanitised.hide_cgroups };
        let request = Request { mode, settings: sanitised.settings, cgroup_procs: cgroup.procs_files() };
        match self.launcher.launch(&request, &bpf, stdio, None).await {
            Ok(Outcome { process, pidfd, terminal, report, .. }) => {
                let time_limit = self.launcher.time_limit();
                Ok(Created { process, pidfd, terminal, report: Some(report), notify_dir, time_limit })
            }
            Err(Failed { error, .. }) => {
                end_all(cgroup).await?;
                Err(error)
            }
        }
    }
}

impl Engine for Libcontainer {
    async fn create(&self, request: CreateRequest<'_>) -> Result<Created, EngineError> {
        let state_dir = request.state_dir;
        let existed = state_dir.exists();
        let result = self.try_create(request).await;
        if let Err(error) = result {
            // Only what is ours in it, should the caller keep something there.
            let ours: Vec<_> = if existed {
                ["bundle", "state"].map(|name| state_dir.join(name)).into()
            } else {
                vec![state_dir.to_owned()]
            };
            for dir in ours {
                match fs::remove_dir_all(&dir) {
                    Ok(()) => {}
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    // The first failure is the one to report; the caller removes the directory once more.
                    Err(e) => tracing::warn!(dir = %dir.display(), error = %e, "remove after a failed create"),
                }
            }
            return Err(error);
        }
        result
    }
}

/// Kills and reaps all in the cgroup of a container that could not be made. They are our children by now: their
/// launcher has ended.
async fn end_all(cgroup: &Cgroup) -> Result<(), EngineError> {
    loop {
        let members = cgroup.kill_now()?;
        if members.is_empty() {
            return Ok(());
        }
        for member in members {
            reap(member).await.map_err(EngineError::io("reap the processes of", cgroup.path()))?;
        }
    }
}

/// Tells the container in `state_dir` to go on. The path goes through a descriptor: sun_path holds 108 bytes.
pub(super) fn notify(state_dir: &Path) -> io::Result<()> {
    let dir = fs::File::open(state_dir)?;
    let path = format!("/proc/self/fd/{}/{NOTIFY_SOCKET}", dir.as_raw_fd());
    // The container reads to the end of file, which is all there is to say.
    drop(UnixStream::connect(path)?);
    Ok(())
}

fn make_private_dir(dir: &Path) -> Result<(), EngineError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(EngineError::io("make", dir))
}

/// Replaced whole.
fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), EngineError> {
    let failed = || EngineError::io("write", path);
    let json = serde_json::to_vec(value).map_err(|e| failed()(e.into()))?;
    let temporary = path.with_extension("json.new");
    fs::write(&temporary, json).and_then(|()| fs::rename(&temporary, path)).map_err(failed())
}
