//! `minipod inspect`.

use clap::Args;

use crate::args::Global;
use crate::error::Error;
use crate::output::{self, DocumentFormat};
use crate::pods;

/// Show one pod whole: a v1 Pod with status
///
/// Annotations say where it is on this host: minipod.dev/pause-pid, netns, host-veth, bridge, shim-pid and pid.<container>.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  minipod inspect web
  minipod inspect web -o json | jq .status.containerStatuses
  nsenter -n -t \"$(minipod inspect web -o json | jq -r '.metadata.annotations[\"minipod.dev/pause-pid\"]')\" ip addr")]
pub(crate) struct Inspect {
    /// How to print
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = DocumentFormat::Yaml)]
    output: DocumentFormat,
    /// Name, namespace/name, uid or a unique prefix
    #[arg(value_name = "POD")]
    pod: String,
}

impl Inspect {
    pub(crate) fn run(self, global: &Global) -> Result<u8, Error> {
        let view = pods::one(&global.store(), &self.pod)?;
        output::document(&view.pod, self.output)?;
        Ok(0)
    }
}
