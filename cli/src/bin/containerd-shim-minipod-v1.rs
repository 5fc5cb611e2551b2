//! minipod as a containerd shim. Not built yet.

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::not_built_yet("containerd-shim-minipod-v1", "containerd's own io.containerd.runc.v2 serves until then")
}
