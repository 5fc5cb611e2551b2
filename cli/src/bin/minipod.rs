//! Runs Kubernetes pods on this host: `minipod run pod.yaml`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else: the launcher is this binary, executed again to make one container.
    if std::env::args_os().next().is_some_and(|name| name == runtime::engine::LAUNCHER_ARGV0) {
        runtime::engine::launcher_main();
    }
    cli::main()
}
