//! `minipod wait`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use k8s_openapi::api::core::v1::PodStatus;
use runtime::watch::{Change, PodWatch};

use crate::args::Global;
use crate::duration;
use crate::error::{Error, print};
use crate::exit;
use crate::pods::{self, View};
use crate::status::{condition, container_exit, is_finished, pod_exit};
use crate::tasks::block_on;

/// Wait for a pod or a container
///
/// For `exited` (the default) the exit code is printed and returned: the container's, or the pod's first that is not 0. A pod
/// has exited when no container of it will run again; a container when its process has ended, restart or not.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  minipod wait web                        until it is finished
  minipod wait --for ready --timeout 30s web
  minipod wait web/job; echo $?")]
pub(crate) struct Wait {
    /// What to wait for
    #[arg(long = "for", value_enum, value_name = "WHAT", default_value_t = Goal::Exited)]
    goal: Goal,
    /// Give up after this long (exit code 124)
    #[arg(long, value_name = "D", value_parser = duration::parse)]
    timeout: Option<Duration>,
    /// Name, namespace/name, uid or a unique prefix; with /CTR one container of it
    #[arg(value_name = "POD[/CTR]")]
    target: String,
}

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Goal {
    /// The container, or all app containers, run.
    Running,
    /// The container is, or all are, ready.
    Ready,
    /// The container has ended; the pod is finished.
    Exited,
    /// The pod is gone.
    Removed,
}

/// How far it is.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    NotYet,
    Reached(u8),
    Never,
}

impl Wait {
    pub(crate) fn run(self, global: &Global) -> Result<u8, Error> {
        let store = global.store();
        let (view, container) = match pods::target(&store, &self.target) {
            Err(e) if self.goal == Goal::Removed && pods::is_gone(&e) => return Ok(0),
            other => other?,
        };
        let code = block_on(within(self.timeout, &self.target, self.goal.word(), until(&view, container.as_deref(), self.goal)))?;
        if self.goal == Goal::Exited {
            print(&format!("{code}\n"))?;
        }
        Ok(code)
    }
}

impl Goal {
    fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Ready => "ready",
            Self::Exited => "exited",
            Self::Removed => "removed",
        }
    }
}

/// Runs `work`, or gives up when the time is over.
pub(crate) async fn within<T>(
    limit: Option<Duration>,
    target: &str,
    goal: &str,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let Some(limit) = limit else { return work.await };
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(Error::Timeout { what: format!("pod {target} is not {goal}"), after: format!("{limit:?}") }),
    }
}

/// Waits until a pod's containers are ready.
pub(crate) async fn until_ready(view: &View) -> Result<(), Error> {
    until(view, None, Goal::Ready).await.map(drop)
}

async fn until(view: &View, container: Option<&str>, goal: Goal) -> Result<u8, Error> {
    let mut watch = match PodWatch::new(&view.dir).map_err(Error::from) {
        Err(e) if goal == Goal::Removed && pods::is_gone(&e) => return Ok(0),
        other => other?,
    };
    let mut last = view.status();
    loop {
        // Watched before it is read: no change between the two is lost.
        let present = view.dir.path.join("record.json").exists();
        let supervised = present && view.dir.is_busy()?;
        if present {
            last = view.dir.status()?;
        }
        match judge(&last, container, goal, total(view)) {
            _ if !present => return gone(view, &last, container, goal),
            Verdict::Reached(code) => return Ok(code),
            Verdict::Never => return Err(never(view, container, goal, "it is finished")),
            Verdict::NotYet if !supervised && goal != Goal::Removed => {
                return Err(never(view, container, goal, "its shim is gone (`minipod gc` cleans up)"));
            }
            Verdict::NotYet => {}
        }
        match watch.changed(&view.dir).await? {
            Change::Changed | Change::Removed | Change::ShimExited => {}
        }
    }
}

fn total(view: &View) -> usize {
    view.pod.spec.as_ref().map_or(0, |spec| spec.containers.len())
}

/// What the end of a removed pod was, as far as it was seen.
fn gone(view: &View, last: &PodStatus, container: Option<&str>, goal: Goal) -> Result<u8, Error> {
    match (goal, judge(last, container, goal, total(view))) {
        (Goal::Removed, _) => Ok(0),
        (_, Verdict::Reached(code)) => Ok(code),
        _ => Err(never(view, container, goal, "it was removed")),
    }
}

fn never(view: &View, container: Option<&str>, goal: Goal, why: &str) -> Error {
    let container = container.map(|name| format!("/{name}")).unwrap_or_default();
    let message = format!("pod {}{container} will never be {}: {why}", view.record.label(), goal.word());
    Error::Told { message, code: exit::OWN }
}

fn judge(status: &PodStatus, container: Option<&str>, goal: Goal, total: usize) -> Verdict {
    let finished = is_finished(status);
    let reached = match (goal, container) {
        (Goal::Removed, _) => None,
        (Goal::Exited, None) => finished.then(|| pod_exit(status)),
        (Goal::Exited, Some(name)) => {
            let code = View::container(status, name).and_then(container_exit);
            code.map(|code| u8::try_from(code).unwrap_or(exit::OWN))
        }
        (Goal::Ready, None) => condition(status, "Ready").then_some(0),
        (Goal::Ready, Some(name)) => View::container(status, name).is_some_and(|c| c.ready).then_some(0),
        (Goal::Running, name) => runs(status, name, total).then_some(0),
    };
    match reached {
        Some(code) => Verdict::Reached(code),
        None if finished && goal != Goal::Removed => Verdict::Never,
        None => Verdict::NotYet,
    }
}

fn runs(status: &PodStatus, container: Option<&str>, total: usize) -> bool {
    let running = |state: &Option<k8s_openapi::api::core::v1::ContainerState>| state.as_ref().is_some_and(|s| s.running.is_some());
    match container {
        Some(name) => View::container(status, name).is_some_and(|c| running(&c.state)),
        None => total > 0 && status.container_statuses.iter().flatten().filter(|c| running(&c.state)).count() == total,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn status(phase: &str, ready: &str, a: Value, b: Value) -> PodStatus {
        let c = |name: &str, state: &Value| json!({"name": name, "state": state, "ready": state.get("running").is_some(), "restartCount": 0, "image": "", "imageID": ""});
        serde_json::from_value(json!({"phase": phase, "conditions": [{"type": "Ready", "status": ready}], "containerStatuses": [c("a", &a), c("b", &b)]})).unwrap()
    }

    #[test]
    fn goals_are_reached_not_yet_or_never() {
        let run = || json!({"running": {}});
        let end = |code: i32| json!({"terminated": {"exitCode": code}});
        let up = status("Running", "True", run(), run());
        let half = status("Running", "False", run(), end(4));
        let done = status("Failed", "False", end(0), end(4));
        let cases = [
            (&up, None, Goal::Running, Verdict::Reached(0)),
            (&half, None, Goal::Running, Verdict::NotYet),
            (&half, Some("a"), Goal::Running, Verdict::Reached(0)),
            (&done, None, Goal::Running, Verdict::Never),
            (&up, None, Goal::Ready, Verdict::Reached(0)),
            (&half, None, Goal::Ready, Verdict::NotYet),
            (&up, None, Goal::Exited, Verdict::NotYet),
            (&half, None, Goal::Exited, Verdict::NotYet),
            (&half, Some("b"), Goal::Exited, Verdict::Reached(4)),
            (&done, None, Goal::Exited, Verdict::Reached(4)),
            (&done, None, Goal::Removed, Verdict::NotYet),
        ];
        for (status, container, goal, wanted) in cases {
            assert_eq!(judge(status, container, goal, 2), wanted, "{goal:?} {container:?} {:?}", status.phase);
        }
    }
}
