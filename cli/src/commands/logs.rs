//! `minipod logs`.

use clap::Args;
use jiff::Timestamp;
use runtime::logs::{Attempts, Reader, Selection};

use crate::args::Global;
use crate::duration;
use crate::error::Error;
use crate::following::{End, Follower};
use crate::output;
use crate::pods::{self, View};
use crate::streaming::{Prefix, Printer, Times};
use crate::tasks::block_on;

/// Show what a pod's containers wrote
///
/// All containers, merged by time and prefixed `[container] `, coloured on a terminal; with -c one container's own output.
/// Of each container the present (or last) attempt is shown. Works for finished pods too, until they are removed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  minipod logs web
  minipod logs -f -c app web
  minipod logs --since 10m --tail 100 -t web
  minipod logs --previous -c app web      what it wrote before its last restart")]
pub(crate) struct Logs {
    /// Go on until the pod is finished, restarts included
    #[arg(short, long)]
    follow: bool,
    /// Only this container, without prefix
    #[arg(short, long, value_name = "CTR")]
    container: Option<String>,
    /// Only the last N lines of each container
    #[arg(long, value_name = "N")]
    tail: Option<usize>,
    /// Only what is newer than a duration such as 10m, or than a time (RFC 3339)
    #[arg(long, value_name = "D", value_parser = duration::parse_since)]
    since: Option<Timestamp>,
    /// Show times
    #[arg(short, long)]
    timestamps: bool,
    /// The attempt before the present one
    #[arg(short, long, conflicts_with = "follow")]
    previous: bool,
    /// Name, namespace/name, uid or a unique prefix; /CTR means -c
    #[arg(value_name = "POD")]
    pod: String,
}

impl Logs {
    pub(crate) fn run(self, global: &Global) -> Result<u8, Error> {
        let store = global.store();
        let (view, named) = pods::target(&store, &self.pod)?;
        let container = self.container.clone().or(named);
        if let Some(container) = &container
            && !view.container_names().contains(container)
        {
            return Err(pods::no_container(&view, container));
        }
        let prefix = if container.is_some() { Prefix::None } else { Prefix::Container };
        let times = if self.timestamps { Times::Shown } else { Times::Hidden };
        let mut printer = Printer::new(prefix, times);
        let selection = Selection {
            containers: container.clone().map(|name| vec![name]),
            attempts: if self.previous { Attempts::Previous } else { Attempts::Latest },
            tail: self.tail,
            since: self.since,
        };
        for (name, gap) in view.log_gaps()?.into_iter().filter(|(name, _)| container.as_ref().is_none_or(|wanted| wanted == name)) {
            output::note(&format!("note: log of container {name}: {gap}"));
        }
        if self.follow {
            return block_on(async {
                let mut follower = Follower::new(&store, &view.dir, &view.record, selection, printer)?;
                match follower.until_end().await? {
                    End::Finished(_) | End::Removed(_) | End::ShimDied => Ok(0),
                }
            });
        }
        let directory = store.layout.pod_logs(&view.record.namespace, &view.record.name, &view.record.uid);
        let mut reader = Reader::open(&directory, selection)?;
        if self.previous && reader.is_empty() {
            return Err(none_before(&view, container.as_deref()));
        }
        while let Some(line) = reader.next()? {
            printer.take(&line);
            if printer.pending() >= 64 * 1024 {
                printer.flush()?;
            }
        }
        printer.finish()?;
        Ok(0)
    }
}

fn none_before(view: &View, container: Option<&str>) -> Error {
    let who = container.map_or_else(|| "no container".to_owned(), |name| format!("container {name} is not one that"));
    Error::Usage(format!("pod {}: {who} was started more than once, so there is no previous attempt", view.record.label()))
}
