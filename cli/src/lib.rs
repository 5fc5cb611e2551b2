//! The command lines. Asks the runtime for everything; knows how to ask and how to show.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;

mod args;
mod attached;
mod commands;
#[cfg_attr(not(test), allow(dead_code, reason = "`image login` and pulls will pass it to bundles::registry"))]
mod credential_helper;
mod duration;
mod error;
mod exit;
mod following;
mod images;
mod layers;
mod manifests;
mod output;
mod pods;
mod selector;
mod signals;
mod starting;
mod status;
mod stopping;
mod streaming;
mod tasks;
mod terminal;

/// The program of `minipod`: reads the command line, does it, reports a failure once.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(answer) => return exit::usage(&answer),
    };
    let format = cli.global.log_format;
    output::init_log(&cli.global);
    match commands::run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let code = error.exit_code();
            error.report(format);
            ExitCode::from(code)
        }
    }
}

/// The program of a front door that is not built yet: answers `--version`, else says so and fails.
#[must_use]
pub fn not_built_yet(program: &str, instead: &str) -> ExitCode {
    use std::io::Write as _;
    let version = std::env::args_os().nth(1).is_some_and(|arg| arg == "--version" || arg == "-v");
    let written = if version {
        writeln!(std::io::stdout(), "{program} {}", env!("CARGO_PKG_VERSION"))
    } else {
        writeln!(std::io::stderr(), "{program}: this front door is not built yet; {instead}")
    };
    ExitCode::from(u8::from(!version || written.is_err()))
}
