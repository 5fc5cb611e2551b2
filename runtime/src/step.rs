//! The steps by which a pod comes up and goes down, in their order. Knows what they are called, not what they do.
//!
//! Every step with a side effect is taken through [`Step::take`] or [`Step::follow`]: a fault point at its beginning, where tests
//! break it, and a span around it, which `minipod run -v` shows. The network's own steps ([`netsetup::Step`]) are among them.

use std::cell::RefCell;
use std::future::Future;

use tracing::{Instrument as _, Span, info_span};

use crate::error::Error;

mod fault;
mod timeline;

pub use timeline::{Timed, Timeline};
pub(crate) use timeline::{Sink, send_to};

/// Target of the spans, by which the [`Timeline`] knows them and others leave them out.
pub const TARGET: &str = "minipod::step";

macro_rules! steps {
    ($($(#[doc = $why:literal])+ $step:ident = $name:literal,)+) => {
        /// A step. The order is that in which they come, but that the cgroups of the first containers are made before pause; steps of
        /// several containers are taken side by side.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Step {
            $($(#[doc = $why])+ $step,)+
        }

        impl Step {
            /// All of them, in order.
            pub const ALL: &[Self] = &[$(Self::$step,)+];

            /// Its name, for people and for fault points.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$step => $name,)+
                }
            }
        }
    };
}

steps! {
    // Coming up, in the command.
    /// The pod's directory and its lock, by which everybody sees that somebody works on the pod.
    Directory = "make directory",
    /// What the pod will have on the host, before it has it.
    Record = "write record",
    /// What to run.
    Plan = "write plan",
    /// The name, once there is something on disk for it to lead to.
    Name = "claim name",
    /// Last in the command, so that all pods of a manifest are on disk before one of them starts.
    Fork = "fork shim",

    // Coming up, in the shim.
    /// Session, streams, descriptors, mounts: nothing of the command's is kept.
    LeaveCommand = "leave command",
    /// From here on others find the shim.
    RecordShim = "record shim",
    /// The socket, before anything that a `stop` could ask to end.
    Serve = "serve socket",
    /// The pod's own cgroup: what is in it can be ended without knowing what it is.
    PodCgroup = "make pod cgroup",
    /// Pause's below it: on v2 a cgroup with controllers has no processes of its own.
    PauseCgroup = "make pause cgroup",
    /// The namespaces; pause waits in them.
    Pause = "clone pause",
    /// Before pause may go on.
    RecordPause = "record pause",
    /// Pause gives up everything but its namespaces.
    ReleasePause = "release pause",
    /// `ip netns exec` finds the pod.
    LinkNetns = "link netns",
    /// /etc files know the address, so they follow the network.
    EtcFiles = "write etc files",
    /// /dev/shm of the pod.
    Shm = "mount shm",
    /// A volume.
    Volume = "prepare volume",
    /// A container's root.
    MountRoot = "mount root",
    /// The directories that its image wants, once for the pod, from its root.
    ImageVolumes = "fill image volumes",
    /// A container's cgroup and limits, before it has a process.
    Cgroup = "make cgroup",
    /// Sub paths of volumes, resolved once.
    SubPaths = "stage sub paths",
    /// The log file, before there is output.
    Log = "open log",
    /// A launcher makes the process.
    Launch = "launch",
    /// Pause has executed its program and named the host, before anything of the pod runs that could ask.
    PauseReady = "pause is ready",
    /// It executes its entry point.
    Start = "start",
    /// Others find the process.
    RecordStart = "record start",
    /// All containers run.
    RecordRunning = "record running",

    // Going down: a container.
    /// Its stop signal.
    Signal = "send stop signal",
    /// What its first process left behind.
    KillContainer = "kill container",
    /// Its outputs are at their end.
    Drain = "drain log",
    /// Others no longer find the process.
    ForgetProcess = "forget process",
    /// Its cgroup is empty.
    RemoveContainerCgroup = "remove container cgroup",
    /// What was staged for it.
    UnmountSubPaths = "unmount sub paths",
    /// Nobody is in it.
    UnmountRoot = "unmount root",
    /// Bundle, libcontainer's state, the upper directory.
    RemoveContainerFiles = "remove container files",

    // Going down: the pod.
    /// Everything that is left in the pod's cgroup.
    KillPod = "kill processes",
    /// Pause too, should it never have been in the cgroup.
    EndPause = "end pause",
    /// Cgroups need to be empty.
    RemoveCgroup = "remove cgroup",
    /// The one above all pods goes with the last of them.
    RemovePodsCgroup = "remove the pods' cgroup",
    /// The namespace is gone.
    UnlinkNetns = "remove netns link",
    /// In the shim's mount namespace; anybody else has nothing to unmount.
    Unmount = "unmount shm and volumes",
    /// Sockets, /etc files, bundles.
    RemoveState = "remove state",
    /// Upper directories, emptyDir volumes and those that images want.
    RemoveVolumes = "remove volumes",
    /// Nothing is left on the host but directory and logs.
    RecordStopped = "record stopped",

    // Removing what has stopped.
    /// Logs first: once the directory is gone nobody knows them.
    RemoveLogs = "remove logs",
    /// The name is free.
    Unname = "give name back",
    /// Last: until then everything that may be left can be found again.
    RemoveDirectory = "remove directory",
}

impl Step {
    /// Takes the step. `subject` is the container or volume it is for; empty for the pod.
    pub(crate) fn take<T, E>(self, subject: &str, work: impl FnOnce() -> Result<T, E>) -> Result<T, Error>
    where
        Error: From<E>,
    {
        let _timed = self.begin(subject)?;
        Ok(work()?)
    }

    /// As [`Self::take`], for work that waits.
    pub(crate) async fn follow<T, E>(self, subject: &str, work: impl Future<Output = Result<T, E>>) -> Result<T, Error>
    where
        Error: From<E>,
    {
        let timed = self.begin(subject)?;
        Ok(work.instrument(timed).await?)
    }

    fn begin(self, subject: &str) -> Result<Span, Error> {
        begin(self.name(), subject)
    }
}

fn begin(name: &str, subject: &str) -> Result<Span, Error> {
    fault::before(name, subject)?;
    Ok(info_span!(target: TARGET, "step", name, subject))
}

/// What only reads, such as a check before anything is made: shown among the steps until dropped, and no fault point.
#[must_use]
pub fn reading(name: &str) -> Span {
    info_span!(target: TARGET, "step", name, subject = "")
}

/// The names of all steps, the network's included.
pub fn names() -> impl Iterator<Item = String> {
    let network = [netsetup::Step::ATTACH, netsetup::Step::DETACH].concat();
    Step::ALL.iter().map(|step| step.name().to_owned()).chain(network.into_iter().map(network_name))
}

fn network_name(step: netsetup::Step) -> String {
    format!("network: {}", step.name())
}

/// Follows the network through its steps: each ends where the next begins.
#[derive(Debug, Default)]
pub(crate) struct NetworkSteps(RefCell<Option<Span>>);

impl netsetup::Watch for NetworkSteps {
    fn before(&self, step: netsetup::Step) -> Result<(), netsetup::NetError> {
        self.0.take();
        let stopped = |error: Error| netsetup::NetError::Stopped { step, why: error.to_string() };
        *self.0.borrow_mut() = Some(begin(&network_name(step), "").map_err(stopped)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    #[test]
    fn no_two_steps_have_one_name() {
        let names: Vec<String> = super::names().collect();
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len(), "{names:?}");
    }
}
