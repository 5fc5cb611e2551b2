//! `minipod version`.

use clap::Args;
use serde::Serialize;

use crate::error::{Error, print};
use crate::output::{self, DocumentFormat};

/// Show the version of minipod and of what it speaks
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  minipod version
  minipod version -o json | jq -r .version")]
pub(crate) struct Version {
    /// Print a document instead
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<DocumentFormat>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Versions {
    version: &'static str,
    architecture: &'static str,
    os: &'static str,
    kubernetes_api: &'static str,
    oci_runtime_spec: &'static str,
    kernel: String,
}

impl Version {
    pub(crate) fn run(self) -> Result<u8, Error> {
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        let versions = Versions {
            version: env!("CARGO_PKG_VERSION"),
            architecture: std::env::consts::ARCH,
            os: std::env::consts::OS,
            // The feature of k8s-openapi that the workspace chooses.
            kubernetes_api: "v1.36",
            oci_runtime_spec: "1.3.0",
            kernel,
        };
        match self.output {
            Some(format) => output::document(&versions, format)?,
            None => print(&format!(
                "minipod {} ({}-{}, Kubernetes API {}, OCI runtime spec {}, kernel {})\n",
                versions.version, versions.os, versions.architecture, versions.kubernetes_api, versions.oci_runtime_spec, versions.kernel
            ))?,
        }
        Ok(0)
    }
}
