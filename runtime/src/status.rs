//! What the shim has seen of a pod, and how Kubernetes says it (v1 `PodStatus`). Knows nothing of how it came about.

use bundles::plan::RestartPolicy;
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as k8s;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// What a container is doing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ContainerState {
    /// Not running, but will be.
    Waiting {
        /// `PodInitializing`, `ContainerCreating`, `CrashLoopBackOff`.
        reason: &'static str,
        /// For people.
        message: Option<String>,
    },
    /// Executed its entry point.
    Running {
        /// When.
        since: Timestamp,
    },
    /// Ended.
    Terminated(Termination),
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Termination {
    /// As a shell has it: 128 + n for signal n.
    pub(crate) exit_code: i32,
    /// The signal that ended it.
    pub(crate) signal: Option<i32>,
    /// `Completed`, `Error`, `OOMKilled`, `ContainerCannotRun`.
    pub(crate) reason: &'static str,
    /// For people.
    pub(crate) message: Option<String>,
    /// When it had executed its entry point; when it was tried, if it never did.
    pub(crate) started: Timestamp,
    /// When its end was seen.
    pub(crate) finished: Timestamp,
}

/// One container, as seen.
#[derive(Debug, Clone)]
pub(crate) struct ContainerSeen {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) image_id: String,
    /// `minipod://<uid>/<name>/<attempt>` once it was created.
    pub(crate) id: Option<String>,
    pub(crate) state: ContainerState,
    pub(crate) last: Option<Termination>,
    pub(crate) restarts: u32,
}

impl ContainerSeen {
    /// Whether it ended with success and will not be needed again.
    pub(crate) fn succeeded(&self) -> bool {
        matches!(&self.state, ContainerState::Terminated(t) if t.exit_code == 0)
    }

    fn terminated(&self) -> Option<&Termination> {
        match &self.state {
            ContainerState::Terminated(t) => Some(t),
            _ => None,
        }
    }

    fn is_running(&self) -> bool {
        matches!(self.state, ContainerState::Running { .. })
    }

    fn to_v1(&self, ready: bool) -> k8s::ContainerStatus {
        let started = self.is_running();
        k8s::ContainerStatus {
            name: self.name.clone(),
            image: self.image.clone(),
            image_id: self.image_id.clone(),
            container_id: self.id.clone(),
            ready,
            started: Some(started),
            restart_count: i32::try_from(self.restarts).unwrap_or(i32::MAX),
            state: Some(self.state.to_v1(self.id.as_deref())),
            last_state: self.last.as_ref().map(|t| k8s::ContainerState { terminated: Some(t.to_v1(None)), ..Default::default() }),
            ..Default::default()
        }
    }
}

impl ContainerState {
    fn to_v1(&self, id: Option<&str>) -> k8s::ContainerState {
        let mut state = k8s::ContainerState::default();
        match self {
            Self::Waiting { reason, message } => {
                state.waiting = Some(k8s::ContainerStateWaiting { reason: Some((*reason).to_owned()), message: message.clone() });
            }
            Self::Running { since } => state.running = Some(k8s::ContainerStateRunning { started_at: Some(Time(*since)) }),
            Self::Terminated(t) => state.terminated = Some(t.to_v1(id)),
        }
        state
    }
}

impl Termination {
    fn to_v1(&self, id: Option<&str>) -> k8s::ContainerStateTerminated {
        k8s::ContainerStateTerminated {
            container_id: id.map(str::to_owned),
            exit_code: self.exit_code,
            signal: self.signal,
            reason: Some(self.reason.to_owned()),
            message: self.message.clone(),
            started_at: Some(Time(self.started)),
            finished_at: Some(Time(self.finished)),
        }
    }
}

/// A pod, as seen.
#[derive(Debug)]
pub(crate) struct PodSeen<'a> {
    pub(crate) started: Timestamp,
    pub(crate) host_ip: Option<String>,
    pub(crate) pod_ip: Option<String>,
    pub(crate) sandbox: bool,
    pub(crate) init: &'a [ContainerSeen],
    pub(crate) app: &'a [ContainerSeen],
    /// Nothing will run again.
    pub(crate) finished: bool,
    /// Why the pod as a whole failed.
    pub(crate) failure: Option<(&'static str, String)>,
}

impl PodSeen<'_> {
    fn initialized(&self) -> bool {
        self.init.iter().all(ContainerSeen::succeeded)
    }

    /// `status.phase` (Kubernetes, Pod Lifecycle).
    pub(crate) fn phase(&self) -> &'static str {
        if self.failure.is_some() {
            return "Failed";
        }
        if self.finished {
            let all_well = self.initialized() && self.app.iter().all(ContainerSeen::succeeded);
            return if all_well { "Succeeded" } else { "Failed" };
        }
        let begun = |c: &ContainerSeen| c.is_running() || c.terminated().is_some() || c.last.is_some();
        if self.initialized() && !self.app.is_empty() && self.app.iter().all(begun) { "Running" } else { "Pending" }
    }

    /// The whole v1 status.
    pub(crate) fn to_v1(&self) -> k8s::PodStatus {
        let ready = !self.finished && !self.app.is_empty() && self.app.iter().all(ContainerSeen::is_running);
        let condition = |kind: &str, on: bool| k8s::PodCondition {
            type_: kind.to_owned(),
            status: if on { "True" } else { "False" }.to_owned(),
            ..Default::default()
        };
        k8s::PodStatus {
            phase: Some(self.phase().to_owned()),
            reason: self.failure.as_ref().map(|(reason, _)| (*reason).to_owned()),
            message: self.failure.as_ref().map(|(_, message)| message.clone()),
            start_time: Some(Time(self.started)),
            host_ip: self.host_ip.clone(),
            host_ips: self.host_ip.clone().map(|ip| vec![k8s::HostIP { ip }]),
            pod_ip: self.pod_ip.clone(),
            pod_ips: self.pod_ip.clone().map(|ip| vec![k8s::PodIP { ip }]),
            conditions: Some(vec![
                condition("PodReadyToStartContainers", self.sandbox),
                condition("Initialized", self.initialized()),
                condition("Ready", ready),
                condition("ContainersReady", ready),
            ]),
            init_container_statuses: (!self.init.is_empty()).then(|| self.init.iter().map(|c| c.to_v1(c.succeeded())).collect()),
            container_statuses: Some(self.app.iter().map(|c| c.to_v1(c.is_running())).collect()),
            qos_class: None,
            ..Default::default()
        }
    }
}

/// Whether a container that ended so is to run again.
pub(crate) fn restarts(policy: RestartPolicy, exit_code: i32) -> bool {
    match policy {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => exit_code != 0,
        RestartPolicy::Never => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(state: ContainerState) -> ContainerSeen {
        ContainerSeen { name: "c".into(), image: "i".into(), image_id: String::new(), id: None, state, last: None, restarts: 0 }
    }

    fn ended(exit_code: i32) -> ContainerState {
        let now = Timestamp::UNIX_EPOCH;
        ContainerState::Terminated(Termination { exit_code, signal: None, reason: "Error", message: None, started: now, finished: now })
    }

    fn waiting() -> ContainerState {
        ContainerState::Waiting { reason: "ContainerCreating", message: None }
    }

    fn phase(init: Vec<ContainerState>, app: Vec<ContainerState>, finished: bool) -> &'static str {
        let (init, app): (Vec<_>, Vec<_>) = (init.into_iter().map(seen).collect(), app.into_iter().map(seen).collect());
        PodSeen {
            started: Timestamp::UNIX_EPOCH,
            host_ip: None,
            pod_ip: None,
            sandbox: true,
            init: &init,
            app: &app,
            finished,
            failure: None,
        }
        .phase()
    }

    #[test]
    fn phases_are_kubernetes() {
        let running = || ContainerState::Running { since: Timestamp::UNIX_EPOCH };
        assert_eq!(phase(vec![], vec![waiting()], false), "Pending");
        assert_eq!(phase(vec![running()], vec![waiting()], false), "Pending");
        assert_eq!(phase(vec![ended(0)], vec![running(), waiting()], false), "Pending");
        assert_eq!(phase(vec![ended(0)], vec![running(), ended(1)], false), "Running");
        assert_eq!(phase(vec![], vec![ended(0), ended(0)], true), "Succeeded");
        assert_eq!(phase(vec![], vec![ended(0), ended(3)], true), "Failed");
        assert_eq!(phase(vec![ended(1)], vec![waiting()], true), "Failed");
    }

    #[test]
    fn restart_policies() {
        for (policy, on_success, on_failure) in
            [(RestartPolicy::Always, true, true), (RestartPolicy::OnFailure, false, true), (RestartPolicy::Never, false, false)]
        {
            assert_eq!(restarts(policy, 0), on_success);
            assert_eq!(restarts(policy, 137), on_failure);
        }
    }
}
