//! `minipod ps`.

use std::collections::BTreeMap;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use crate::args::Global;
use crate::duration::human;
use crate::error::{Error, print};
use crate::output::{self, DocumentFormat, ListFormat, Table};
use crate::pods::{self, Detail, View};
use crate::selector::Selector;
use crate::status::{container_state, is_finished};

/// List pods
///
/// Columns as kubectl shows them; names outside namespace `default` are `namespace/name`. Finished and stopped pods are
/// shown with -a. JSON and YAML are a v1 List of Pods with status, which feeds jq and kubectl habits.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  minipod ps
  minipod ps -a -o wide
  minipod ps -l app=web,tier!=db -q
  minipod ps -o json | jq -r '.items[].status.podIP'
  minipod ps --containers                every container on this host, pause included")]
pub(crate) struct Ps {
    /// Also pods that are finished or stopped
    #[arg(short, long)]
    all: bool,
    /// How to print
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = ListFormat::Table)]
    output: ListFormat,
    /// Uids only
    #[arg(short, long, conflicts_with = "output")]
    quiet: bool,
    /// Only pods with these labels, such as app=web,tier!=db
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<Selector>,
    /// One line a container, pause included
    #[arg(long)]
    containers: bool,
}

/// A v1 List.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List<T> {
    api_version: &'static str,
    kind: &'static str,
    items: Vec<T>,
}

/// One line of `ps --containers`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    pod: String,
    container: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    image: String,
    status: String,
    restarts: i32,
}

impl Ps {
    pub(crate) fn run(self, global: &Global) -> Result<u8, Error> {
        let mut views = pods::all(&global.store(), self.detail())?;
        views.retain(|view| self.shows(view));
        if self.containers {
            self.list_containers(&views)?;
        } else {
            self.list_pods(views)?;
        }
        Ok(0)
    }

    /// Hundreds of pods are to be listed at once, so only what is shown is looked up.
    fn detail(&self) -> Detail {
        let brief = self.quiet || matches!(self.output, ListFormat::Table | ListFormat::Name);
        if brief && !self.containers { Detail::Status } else { Detail::Whole }
    }

    fn shows(&self, view: &View) -> bool {
        let labels = view.pod.metadata.labels.as_ref();
        let chosen = self.selector.as_ref().is_none_or(|selector| selector.matches(labels.unwrap_or(&BTreeMap::new())));
        let finished = view.pod.status.as_ref().is_some_and(is_finished) || view.is_stopped();
        chosen && (self.all || !finished)
    }

    fn list_pods(&self, views: Vec<View>) -> Result<(), Error> {
        if self.quiet {
            return print(&lines(views.iter().map(|view| view.record.uid.clone())));
        }
        let list = |views: Vec<View>| List {
            api_version: "v1",
            kind: "List",
            items: views.into_iter().map(|view| view.pod).collect(),
        };
        match self.output {
            ListFormat::Table => print(&table(&views).render()),
            ListFormat::Wide => print(&wide(&views).render()),
            ListFormat::Name => print(&lines(views.iter().map(|view| format!("pod/{}", view.short_name())))),
            ListFormat::Json => output::document(&list(views), DocumentFormat::Json),
            ListFormat::Yaml => output::document(&list(views), DocumentFormat::Yaml),
        }
    }

    fn list_containers(&self, views: &[View]) -> Result<(), Error> {
        let items: Vec<Container> = views.iter().flat_map(containers).collect();
        if self.quiet {
            return print(&lines(items.iter().filter_map(|c| c.pid).map(|pid| pid.to_string())));
        }
        let list = |items| List { api_version: "minipod.dev/v1", kind: "ContainerList", items };
        match self.output {
            ListFormat::Table | ListFormat::Wide => {
                let mut table = Table::new(["POD", "CONTAINER", "PID", "IMAGE", "STATUS", "RESTARTS"]);
                for c in items {
                    let pid = c.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
                    table.row([c.pod, c.container, pid, c.image, c.status, c.restarts.to_string()]);
                }
                print(&table.render())
            }
            ListFormat::Name => print(&lines(items.iter().map(|c| format!("{}/{}", c.pod, c.container)))),
            ListFormat::Json => output::document(&list(items), DocumentFormat::Json),
            ListFormat::Yaml => output::document(&list(items), DocumentFormat::Yaml),
        }
    }
}

fn lines(lines: impl Iterator<Item = String>) -> String {
    lines.map(|line| line + "\n").collect()
}

/// NAME to IP, the columns both tables have.
fn columns(view: &View, now: Timestamp) -> [String; 6] {
    let summary = view.summary();
    let age = view.record.created.parse::<Timestamp>().map_or_else(|_| "<unknown>".to_owned(), |t| human(now.duration_since(t)));
    let ready = format!("{}/{}", summary.ready, summary.total);
    let restarts = summary.restarts_column(now);
    [view.short_name(), ready, summary.status, restarts, age, view.ip()]
}

fn table(views: &[View]) -> Table {
    let now = Timestamp::now();
    let mut table = Table::new(["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP"]);
    for view in views {
        table.row(columns(view, now));
    }
    table
}

fn wide(views: &[View]) -> Table {
    let now = Timestamp::now();
    let mut table = Table::new([
        "NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "UID", "PAUSE PID", "BRIDGE", "HOST VETH",
    ]);
    for view in views {
        let [_, rest @ ..] = columns(view, now);
        let names = [view.record.namespace.clone(), view.record.name.clone()];
        let place = [view.record.uid.clone(), view.annotation("pause-pid"), view.annotation("bridge"), view.annotation("host-veth")];
        table.row(names.into_iter().chain(rest).chain(place));
    }
    table
}

fn containers(view: &View) -> Vec<Container> {
    let pod = view.short_name();
    let pause = view.annotation("pause-pid").parse().ok();
    let mut all = vec![Container {
        pod: pod.clone(),
        container: "pause".to_owned(),
        pid: pause,
        image: "(built in)".to_owned(),
        status: if pause.is_some() { "Running" } else { "Stopped" }.to_owned(),
        restarts: 0,
    }];
    let status = view.status();
    let spec = view.pod.spec.iter();
    for container in spec.flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers)) {
        let seen = View::container(&status, &container.name);
        all.push(Container {
            pod: pod.clone(),
            container: container.name.clone(),
            pid: view.process(&container.name).map(|process| process.pid),
            image: container.image.clone().unwrap_or_default(),
            status: container_state(seen),
            restarts: seen.map_or(0, |c| c.restart_count),
        });
    }
    all
}
