//! What a v1 Pod status says in one line, computed as kubectl does (kubernetes `pkg/printers/internalversion` `printPod`).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus};

use crate::duration::human;

/// The columns of `ps` that come from the status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Containers that are ready.
    pub(crate) ready: usize,
    /// Containers of the pod.
    pub(crate) total: usize,
    /// `Running`, `Completed`, `Init:0/1`, `CrashLoopBackOff`, ...
    pub(crate) status: String,
    /// How often containers were started again.
    pub(crate) restarts: i32,
    /// When a container ended last before such a start.
    pub(crate) last_restart: Option<Timestamp>,
}

impl Summary {
    /// `3 (5m ago)`.
    pub(crate) fn restarts_column(&self, now: Timestamp) -> String {
        match self.last_restart {
            Some(time) if self.restarts > 0 => format!("{} ({} ago)", self.restarts, human(now.duration_since(time))),
            _ => self.restarts.to_string(),
        }
    }
}

/// Whether somebody supervises the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shim {
    /// Its shim (or its creator) lives.
    Alive,
    /// Nobody does.
    Gone,
}

/// Summarises a pod's status.
pub(crate) fn summarise(pod: &Pod, shim: Shim) -> Summary {
    let empty = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&empty);
    let spec = pod.spec.as_ref();
    let phase = status.phase.clone().unwrap_or_else(|| "Pending".to_owned());
    let mut summary = Summary {
        ready: 0,
        total: spec.map_or(0, |spec| spec.containers.len()),
        status: status.reason.clone().filter(|reason| !reason.is_empty()).unwrap_or(phase),
        restarts: 0,
        last_restart: None,
    };
    let sidecars: Vec<&str> = spec
        .and_then(|spec| spec.init_containers.as_ref())
        .map(|all| all.iter().filter(|c| c.restart_policy.as_deref() == Some("Always")).map(|c| c.name.as_str()).collect())
        .unwrap_or_default();
    summary.total += sidecars.len();
    let initialising = init_containers(&mut summary, status, &sidecars, spec.map_or(0, |s| s.init_containers.as_ref().map_or(0, Vec::len)));
    if !initialising {
        app_containers(&mut summary, status);
    }
    if pod.metadata.deletion_timestamp.is_some() {
        summary.status = "Terminating".to_owned();
    }
    if shim == Shim::Gone && !is_finished(status) {
        summary.status = "Unknown".to_owned();
    }
    summary
}

/// Whether no container of the pod will run again.
pub(crate) fn is_finished(status: &PodStatus) -> bool {
    matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"))
}

/// Whether a condition such as `Ready` holds.
pub(crate) fn condition(status: &PodStatus, name: &str) -> bool {
    status.conditions.iter().flatten().any(|c| c.type_ == name && c.status == "True")
}

fn init_containers(summary: &mut Summary, status: &PodStatus, sidecars: &[&str], total: usize) -> bool {
    for (index, container) in status.init_container_statuses.iter().flatten().enumerate() {
        note_restarts(summary, container);
        let state = container.state.clone().unwrap_or_default();
        let sidecar = sidecars.contains(&container.name.as_str());
        summary.ready += usize::from(sidecar && container.ready && state.running.is_some());
        match state {
            ContainerState { terminated: Some(ended), .. } if ended.exit_code == 0 => continue,
            _ if sidecar && container.started == Some(true) => continue,
            ContainerState { terminated: Some(ended), .. } => summary.status = format!("Init:{}", end_reason(&ended)),
            ContainerState { waiting: Some(waiting), .. }
                if waiting.reason.as_deref().is_some_and(|r| !r.is_empty() && r != "PodInitializing") =>
            {
                summary.status = format!("Init:{}", waiting.reason.unwrap_or_default());
            }
            _ => summary.status = format!("Init:{index}/{total}"),
        }
        return !condition(status, "Initialized");
    }
    false
}

fn app_containers(summary: &mut Summary, status: &PodStatus) {
    let mut running = false;
    // From the last to the first, so that the first one with something to say is heard.
    for container in status.container_statuses.iter().flatten().rev() {
        note_restarts(summary, container);
        let state = container.state.clone().unwrap_or_default();
        if let Some(reason) = state.waiting.as_ref().and_then(|w| w.reason.clone()).filter(|r| !r.is_empty()) {
            summary.status = reason;
        } else if let Some(ended) = &state.terminated {
            summary.status = end_reason(ended);
        } else if container.ready && state.running.is_some() {
            running = true;
            summary.ready += 1;
        }
    }
    // One container is done, others work: kubectl shows what still goes on.
    if summary.status == "Completed" && running {
        summary.status = if condition(status, "Ready") { "Running" } else { "NotReady" }.to_owned();
    }
}

fn end_reason(ended: &ContainerStateTerminated) -> String {
    match (ended.reason.as_deref(), ended.signal) {
        (Some(reason), _) if !reason.is_empty() => reason.to_owned(),
        (_, Some(signal)) if signal != 0 => format!("Signal:{signal}"),
        _ => format!("ExitCode:{}", ended.exit_code),
    }
}

fn note_restarts(summary: &mut Summary, container: &ContainerStatus) {
    summary.restarts += container.restart_count;
    let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref()).and_then(|t| t.finished_at.as_ref());
    summary.last_restart = summary.last_restart.max(last.map(|time| time.0));
}

/// Exit code of one container's last end, seen now or before its present start.
pub(crate) fn container_exit(container: &ContainerStatus) -> Option<i32> {
    let ended = |state: &Option<ContainerState>| state.as_ref().and_then(|s| s.terminated.as_ref()).map(|t| t.exit_code);
    match container.state.as_ref() {
        Some(state) if state.running.is_some() => None,
        _ => ended(&container.state).or_else(|| ended(&container.last_state)),
    }
}

/// The exit code of a finished pod: the first that is not 0, init containers first when the pod failed there.
pub(crate) fn pod_exit(status: &PodStatus) -> u8 {
    let codes = |statuses: &Option<Vec<ContainerStatus>>| -> Vec<i32> {
        statuses.iter().flatten().filter_map(container_exit).collect()
    };
    let apps = codes(&status.container_statuses);
    let failed_before = apps.is_empty() && status.phase.as_deref() == Some("Failed");
    let inits = if failed_before { codes(&status.init_container_statuses) } else { Vec::new() };
    let first = inits.into_iter().chain(apps).find(|code| *code != 0);
    match first {
        Some(code) => u8::try_from(code).unwrap_or(crate::exit::OWN),
        // Failed without a container that says why: minipod's own failure (a sandbox that could not be made).
        None if status.phase.as_deref() == Some("Failed") => crate::exit::OWN,
        None => 0,
    }
}

/// One container's state in a word, for `ps --containers`.
pub(crate) fn container_state(container: Option<&ContainerStatus>) -> String {
    let state = container.and_then(|c| c.state.clone()).unwrap_or_default();
    match state {
        ContainerState { running: Some(_), .. } => "Running".to_owned(),
        ContainerState { terminated: Some(ended), .. } => end_reason(&ended),
        ContainerState { waiting: Some(waiting), .. } => waiting.reason.unwrap_or_else(|| "Waiting".to_owned()),
        _ => "Waiting".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value, status: Value) -> Pod {
        serde_json::from_value(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": spec, "status": status})).unwrap()
    }

    fn container(name: &str, state: Value, ready: bool, restarts: i32) -> Value {
        json!({"name": name, "state": state, "ready": ready, "restartCount": restarts, "image": "i", "imageID": "i"})
    }

    fn two() -> Value {
        json!({"containers": [{"name": "a"}, {"name": "b"}]})
    }

    fn shown(pod: &Pod) -> (String, String) {
        let s = summarise(pod, Shim::Alive);
        (format!("{}/{}", s.ready, s.total), s.status)
    }

    fn running() -> Value {
        json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}})
    }

    fn ended(code: i32, reason: &str) -> Value {
        json!({"terminated": {"exitCode": code, "reason": reason}})
    }

    fn waiting(reason: &str) -> Value {
        json!({"waiting": {"reason": reason}})
    }

    #[test]
    fn the_status_column_is_kubectls() {
        let of = |phase: &str, a: Value, b: Value| {
            let ready = |v: &Value| v.get("running").is_some();
            let statuses = json!([container("a", a.clone(), ready(&a), 0), container("b", b.clone(), ready(&b), 0)]);
            shown(&pod(two(), json!({"phase": phase, "containerStatuses": statuses})))
        };
        let pair = |ready: &str, status: &str| (ready.to_owned(), status.to_owned());
        assert_eq!(of("Running", running(), running()), pair("2/2", "Running"));
        assert_eq!(of("Running", running(), waiting("CrashLoopBackOff")), pair("1/2", "CrashLoopBackOff"));
        assert_eq!(of("Running", running(), ended(0, "Completed")), pair("1/2", "NotReady"));
        assert_eq!(of("Running", running(), ended(1, "Error")), pair("1/2", "Error"));
        assert_eq!(of("Succeeded", ended(0, "Completed"), ended(0, "Completed")), pair("0/2", "Completed"));
        assert_eq!(of("Failed", ended(137, "OOMKilled"), ended(0, "Completed")), pair("0/2", "OOMKilled"));
        assert_eq!(of("Failed", ended(7, ""), ended(0, "Completed")), pair("0/2", "ExitCode:7"));
        assert_eq!(of("Pending", waiting("ContainerCreating"), waiting("ContainerCreating")), pair("0/2", "ContainerCreating"));
    }

    #[test]
    fn init_containers_are_counted() {
        let spec = json!({"containers": [{"name": "a"}], "initContainers": [{"name": "x"}, {"name": "y"}]});
        let of = |x: Value, y: Value| {
            let statuses = json!([container("x", x, false, 0), container("y", y, false, 0)]);
            let app = json!([container("a", waiting("PodInitializing"), false, 0)]);
            shown(&pod(spec.clone(), json!({"phase": "Pending", "initContainerStatuses": statuses, "containerStatuses": app}))).1
        };
        assert_eq!(of(running(), waiting("PodInitializing")), "Init:0/2");
        assert_eq!(of(ended(0, "Completed"), running()), "Init:1/2");
        assert_eq!(of(ended(3, "Error"), waiting("PodInitializing")), "Init:Error");
        assert_eq!(of(ended(0, "Completed"), waiting("CrashLoopBackOff")), "Init:CrashLoopBackOff");
        assert_eq!(of(ended(0, "Completed"), ended(0, "Completed")), "PodInitializing");
    }

    #[test]
    fn a_pod_without_a_shim_is_unknown_unless_it_is_finished() {
        let alive = pod(two(), json!({"phase": "Running"}));
        assert_eq!(summarise(&alive, Shim::Gone).status, "Unknown");
        assert_eq!(summarise(&pod(two(), json!({"phase": "Succeeded"})), Shim::Gone).status, "Succeeded");
        assert_eq!(summarise(&pod(two(), json!({})), Shim::Alive).status, "Pending");
    }

    #[test]
    fn restarts_are_summed_and_the_last_one_dated() {
        let mut a = container("a", running(), true, 2);
        a["lastState"] = json!({"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:00:00Z"}});
        let status = json!({"phase": "Running", "containerStatuses": [a, container("b", running(), true, 1)]});
        let summary = summarise(&pod(two(), status), Shim::Alive);
        assert_eq!(summary.restarts_column("2026-01-01T00:05:00Z".parse().unwrap()), "3 (5m ago)");
    }

    #[test]
    fn the_exit_code_of_a_pod_is_the_first_that_is_not_zero() {
        let of = |phase: &str, codes: &[i32], inits: &[i32]| {
            let list = |codes: &[i32]| -> Vec<Value> { codes.iter().map(|c| container("c", ended(*c, ""), false, 0)).collect() };
            let status = json!({"phase": phase, "containerStatuses": list(codes), "initContainerStatuses": list(inits)});
            pod_exit(&serde_json::from_value(status).unwrap())
        };
        assert_eq!(of("Succeeded", &[0, 0], &[]), 0);
        assert_eq!(of("Failed", &[0, 3, 4], &[0]), 3);
        assert_eq!(of("Failed", &[], &[0, 9]), 9);
        assert_eq!(of("Succeeded", &[0], &[9]), 0, "an init container that failed once and then did its work");
        assert_eq!(of("Failed", &[], &[]), 125);
    }
}
