//! `minipod validate`.

use clap::Args;

use crate::args::Global;
use crate::error::{Error, print};
use crate::manifests;
use crate::output;

/// Check manifests without running anything
///
/// Reports every problem with its file, line, column and field path: bad YAML, wrong types, values that cannot be, unknown
/// fields (with the nearest known name), and what minipod does not honour. Needs no root.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  minipod validate pod.yaml
  minipod validate --strict manifests/    unknown fields fail too; a directory means its .yaml, .yml and .json files
  kubectl get pod web -o yaml | minipod validate -

Exit codes: 0 valid (warnings included), 125 not.")]
pub(crate) struct Validate {
    /// Unknown fields, and names that Kubernetes would refuse, are errors
    #[arg(long)]
    strict: bool,
    /// Manifests; `-` is standard input
    #[arg(required = true, value_name = "FILE|-")]
    files: Vec<String>,
}

impl Validate {
    pub(crate) fn run(self, global: &Global) -> Result<u8, Error> {
        let sources = manifests::read(&self.files)?;
        let manifest = manifests::parse(&sources, self.strict.into(), global.log_format)?;
        let mut text = String::new();
        for pod in &manifest.pods {
            let containers = pod.plan.containers.len() + pod.plan.init_containers.len();
            let plural = if containers == 1 { "" } else { "s" };
            output::line(&mut text, format_args!("pod/{} valid ({containers} container{plural})", pod.plan.name));
        }
        print(&text)?;
        Ok(0)
    }
}
