//! `minipod gc`.

use clap::Args;
use runtime::gc::{Mode, collect};
use runtime::store::NetworkRecord;

use crate::args::Global;
use crate::error::{Error, print};
use crate::images;
use crate::output::{line, size};
use crate::tasks::block_on;

/// Remove what crashes left behind
///
/// Processes, namespaces, links, leases, nft elements, cgroups, mounts and files of pods whose shim died, and image content
/// that nothing refers to. Pods that run, and pods that stopped properly, are not touched.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  minipod gc --dry-run      say what would be removed
  minipod gc")]
pub(crate) struct Gc {
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
}

impl Gc {
    pub(crate) fn run(self, global: &Global) -> Result<u8, Error> {
        let store = global.store();
        let mode = if self.dry_run { Mode::DryRun } else { Mode::Remove };
        let network = NetworkRecord {
            bridge: global.bridge.clone(),
            subnet: global.pod_cidr,
            cluster: global.cluster_cidr(),
            address: None,
        };
        let found = block_on(async { Ok(collect(&store, &network, mode).await?) })?;
        let mut text = String::new();
        let done = if self.dry_run { "would remove" } else { "removed" };
        for item in found {
            line(&mut text, format_args!("{done} {item}"));
        }
        if !self.dry_run {
            let removed = images::store(&store.layout)?.gc(&images::Pods::of(&store))?;
            if removed.layers > 0 {
                line(&mut text, format_args!("removed {} image layers ({})", removed.layers, size(removed.bytes)));
            }
        }
        print(&text)?;
        Ok(0)
    }
}
