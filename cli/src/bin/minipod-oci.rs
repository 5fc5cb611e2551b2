//! The OCI runtime command line of minipod, for podman, docker, CRI-O and containerd. Not built yet.

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::not_built_yet("minipod-oci", "use `minipod run` for a manifest, or runc or crun where an OCI runtime is asked for")
}
