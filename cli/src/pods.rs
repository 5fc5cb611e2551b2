//! Pods as the commands see them: what is on disk, put together.

use std::collections::BTreeMap;
use std::io;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use runtime::logs::Gap;
use runtime::process::ProcessId;
use runtime::store::{PodDir, Record, Stage, Store};

use crate::error::Error;
use crate::status::{Shim, Summary, summarise};

/// What comes before the names of our annotations.
const DOMAIN: &str = "minipod.dev";

/// One pod.
#[derive(Debug)]
pub(crate) struct View {
    /// Its directory.
    pub(crate) dir: PodDir,
    /// What it has on the host.
    pub(crate) record: Record,
    /// The manifest with status and our annotations.
    pub(crate) pod: Pod,
    /// Whether anybody supervises it.
    pub(crate) shim: Shim,
}

/// How much of a pod is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Everything.
    Whole,
    /// What its manifest, record and status say: not where it is on the host, which is asked of /proc, process by process.
    Status,
}

impl View {
    /// Reads a pod whole; `None` when it was removed meanwhile.
    pub(crate) fn load(dir: PodDir, record: Record) -> Result<Option<Self>, Error> {
        Self::load_as(dir, record, Detail::Whole)
    }

    fn load_as(dir: PodDir, record: Record, detail: Detail) -> Result<Option<Self>, Error> {
        match Self::read(dir.clone(), record, detail) {
            Err(_) if !dir.path.join("record.json").exists() => Ok(None),
            other => other.map(Some),
        }
    }

    fn read(dir: PodDir, record: Record, detail: Detail) -> Result<Self, Error> {
        let shim = if record.stage == Stage::Stopped || dir.is_busy()? { Shim::Alive } else { Shim::Gone };
        let mut pod = dir.manifest()?;
        pod.status = Some(dir.status()?);
        pod.metadata.uid = Some(record.uid.clone());
        pod.metadata.creation_timestamp = record.created.parse().ok().map(Time);
        let mut view = Self { dir, record, pod, shim };
        if detail == Detail::Status {
            return Ok(view);
        }
        let annotations = view.annotations();
        view.pod.metadata.annotations.get_or_insert_default().extend(annotations);
        if let Some(condition) = logs_condition(&view.log_gaps()?)
            && let Some(status) = &mut view.pod.status
        {
            status.conditions.get_or_insert_default().push(condition);
        }
        Ok(view)
    }

    /// The containers whose log lacks something, and what.
    pub(crate) fn log_gaps(&self) -> Result<Vec<(String, Gap)>, Error> {
        let gaps = self.container_names().into_iter().map(|name| Ok(self.dir.log_gap(&name)?.map(|gap| (name, gap))));
        gaps.filter_map(Result::transpose).collect()
    }

    /// Where to look on the host: processes, namespace, interface.
    fn annotations(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let mut put = |name: &str, value: String| found.insert(format!("{DOMAIN}/{name}"), value);
        if let Some(pause) = alive(self.record.pause) {
            put("pause-pid", pause.pid.to_string());
            // No link for a pod on the host's network.
            let link = &self.record.netns_link;
            let netns = if link.exists() { link.display().to_string() } else { format!("/proc/{}/ns/net", pause.pid) };
            put("netns", netns);
            if let Some(network) = &self.record.network {
                put("bridge", network.bridge.clone());
                put("host-veth", self.host_veth());
            }
        }
        if let Some(shim) = alive(self.record.shim) {
            put("shim-pid", shim.pid.to_string());
        }
        for name in self.container_names() {
            if let Some(process) = self.process(&name) {
                put(&format!("pid.{name}"), process.pid.to_string());
            }
        }
        found
    }

    /// Host end of the pod's veth pair, as netsetup names it.
    fn host_veth(&self) -> String {
        let hex = self.record.uid.chars().filter(|c| *c != '-').take(8).collect::<String>();
        format!("mp-{hex}")
    }

    /// Names of the pod's containers, init containers first.
    pub(crate) fn container_names(&self) -> Vec<String> {
        let Some(spec) = &self.pod.spec else { return Vec::new() };
        spec.init_containers.iter().flatten().chain(&spec.containers).map(|c| c.name.clone()).collect()
    }

    /// The status.
    pub(crate) fn status(&self) -> PodStatus {
        self.pod.status.clone().unwrap_or_default()
    }

    /// One container's status.
    pub(crate) fn container<'a>(status: &'a PodStatus, name: &str) -> Option<&'a ContainerStatus> {
        let all = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
        all.into_iter().find(|c| c.name == name)
    }

    /// The first process of a container that runs.
    pub(crate) fn process(&self, container: &str) -> Option<ProcessId> {
        let text = std::fs::read(self.dir.container(container).join("state.json")).ok()?;
        alive(serde_json::from_slice(&text).ok())
    }

    /// Whether nothing of it is left but its directory and logs.
    pub(crate) fn is_stopped(&self) -> bool {
        self.record.stage == Stage::Stopped
    }

    /// The columns of `ps`.
    pub(crate) fn summary(&self) -> Summary {
        summarise(&self.pod, self.shim)
    }

    /// An annotation of ours, empty when there is none.
    pub(crate) fn annotation(&self, name: &str) -> String {
        let all = self.pod.metadata.annotations.as_ref();
        all.and_then(|all| all.get(&format!("{DOMAIN}/{name}"))).cloned().unwrap_or_default()
    }

    /// The pod's address.
    pub(crate) fn ip(&self) -> String {
        self.pod.status.as_ref().and_then(|status| status.pod_ip.clone()).unwrap_or_default()
    }

    /// `name`, or `namespace/name` outside namespace `default`.
    pub(crate) fn short_name(&self) -> String {
        short_name(&self.record)
    }
}

/// `name`, or `namespace/name` outside namespace `default`.
pub(crate) fn short_name(record: &Record) -> String {
    if record.namespace == "default" { record.name.clone() } else { record.label() }
}

/// What the pod's status says of logs with gaps; nothing when all are whole.
fn logs_condition(gaps: &[(String, Gap)]) -> Option<PodCondition> {
    let since = gaps.iter().map(|(_, gap)| gap.since).min()?;
    let stopped = gaps.iter().any(|(_, gap)| gap.until.is_none());
    let messages: Vec<String> = gaps.iter().map(|(name, gap)| format!("log of container {name}: {gap}")).collect();
    Some(PodCondition {
        type_: format!("{DOMAIN}/LogsComplete"),
        status: "False".to_owned(),
        reason: Some(if stopped { "LogStopped" } else { "LogIncomplete" }.to_owned()),
        message: Some(messages.join("; ")),
        last_transition_time: Some(Time(since)),
        ..Default::default()
    })
}

fn alive(process: Option<ProcessId>) -> Option<ProcessId> {
    process.filter(ProcessId::is_alive)
}

/// Every pod, oldest first.
pub(crate) fn all(store: &Store, detail: Detail) -> Result<Vec<View>, Error> {
    let mut views = Vec::new();
    for (dir, record) in store.list()? {
        views.extend(View::load_as(dir, record, detail)?);
    }
    Ok(views)
}

/// The one pod that a query names.
pub(crate) fn one(store: &Store, query: &str) -> Result<View, Error> {
    let (dir, record) = store.find(query)?;
    View::load(dir, record)?.ok_or_else(|| runtime::error::Error::NotFound(query.to_owned()).into())
}

/// The pod and perhaps the container that `POD[/CTR]` names. `a/b` is container b of pod a, or pod b of namespace a: the
/// latter when there is such a pod and no such container; `namespace/pod/container` leaves no doubt.
pub(crate) fn target(store: &Store, query: &str) -> Result<(View, Option<String>), Error> {
    if let Some((pod, container)) = query.rsplit_once('/') {
        match one(store, pod) {
            Ok(view) if view.container_names().iter().any(|name| name == container) => {
                return Ok((view, Some(container.to_owned())));
            }
            Ok(view) => return one(store, query).map(|view| (view, None)).map_err(|_| no_container(&view, container)),
            Err(Error::Runtime(runtime::error::Error::NotFound(_))) => {}
            Err(e) => return Err(e),
        }
    }
    Ok((one(store, query)?, None))
}

/// There is no such container in the pod.
pub(crate) fn no_container(view: &View, container: &str) -> Error {
    let names = view.container_names().join(", ");
    Error::Usage(format!("pod {} has no container {container}; it has {names}", view.record.label()))
}

/// The container that a command means when it may name none: the first app container, as kubectl does.
pub(crate) fn default_container(view: &View) -> Result<String, Error> {
    let first = view.pod.spec.as_ref().and_then(|spec| spec.containers.first());
    first.map(|c| c.name.clone()).ok_or_else(|| Error::Usage(format!("pod {} has no containers", view.record.label())))
}

/// What a failed look at a pod means when the pod may be removed at any time.
pub(crate) fn is_gone(error: &Error) -> bool {
    match error {
        Error::Runtime(runtime::error::Error::NotFound(_)) => true,
        Error::Runtime(runtime::error::Error::File { source, .. }) => source.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}
