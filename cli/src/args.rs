//! The command line: global options and the verbs.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use ipnet::Ipv4Net;
use runtime::layout::Layout;
use runtime::store::Store;

use crate::commands as verbs;

/// Runs Kubernetes pods on this host, without a daemon.
#[derive(Debug, Parser)]
#[command(
    name = "minipod",
    version,
    max_term_width = 100,
    after_help = "Examples:
  minipod run pod.yaml             run a pod, see its logs; Ctrl-C ends and removes it
  minipod run -d pod.yaml          leave it running
  minipod ps                       what runs
  minipod exec -it web -- sh       a shell in it
  minipod down pod.yaml            stop and remove it

Exit codes: 125 minipod itself failed, 126 a command cannot be run, 127 it was not found, 124 a timeout; else the container's."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Options that every verb takes, before or behind it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Keep state, images and logs below DIR instead of /run, /var/lib and /var/log
    #[arg(long, global = true, env = "MINIPOD_ROOT", value_name = "DIR", hide_env_values = true)]
    pub(crate) root: Option<PathBuf>,
    /// Addresses for the pods of this node
    #[arg(long, global = true, env = "MINIPOD_POD_CIDR", value_name = "CIDR", default_value = "10.244.0.0/24", hide_env_values = true)]
    pub(crate) pod_cidr: Ipv4Net,
    /// Name of the pods' bridge
    #[arg(long, global = true, env = "MINIPOD_BRIDGE", value_name = "NAME", default_value = "minipod0", hide_env_values = true)]
    pub(crate) bridge: String,
    /// Say more on standard error; twice: also what libraries say
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// How messages look on standard error
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

/// How messages look on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One object a line: level, msg, time.
    Json,
}

/// The cluster's addresses when the pod CIDR is a slice of them (design.md, network of one host).
const CLUSTER: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 244, 0, 0), 16);

impl Global {
    /// The store that `--root` names.
    pub(crate) fn store(&self) -> Store {
        Store::new(Layout::new(self.root.as_deref()))
    }

    /// Inside which traffic is not masqueraded: the default cluster CIDR, or the pod CIDR itself when it is not a slice of that.
    pub(crate) fn cluster_cidr(&self) -> Ipv4Net {
        if CLUSTER.contains(&self.pod_cidr) { CLUSTER } else { self.pod_cidr.trunc() }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Run(verbs::run::Run),
    Ps(verbs::ps::Ps),
    Inspect(verbs::inspect::Inspect),
    Logs(verbs::logs::Logs),
    Exec(verbs::exec::Exec),
    Stop(verbs::stop::Stop),
    Start(verbs::start::Start),
    Restart(verbs::restart::Restart),
    Rm(verbs::rm::Rm),
    Kill(verbs::kill::Kill),
    Down(verbs::down::Down),
    Wait(verbs::wait::Wait),
    Gc(verbs::gc::Gc),
    Image(verbs::image::Image),
    System(verbs::system::System),
    Validate(verbs::validate::Validate),
    Bundle(verbs::bundle::Bundle),
    Completion(verbs::completion::Completion),
    Version(verbs::version::Version),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        fn check(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{} has no example", command.get_name());
            command.get_subcommands().filter(|c| c.get_name() != "help").for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn global_options_are_taken_before_and_behind_the_verb() {
        for line in ["minipod --root /x ps -v", "minipod -v ps --root /x"] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(cli.global.root.as_deref(), Some(std::path::Path::new("/x")));
            assert_eq!(cli.global.verbose, 1);
        }
    }

    #[test]
    fn the_cluster_holds_the_pods() {
        let cluster = |line: &str| Cli::try_parse_from(line.split(' ')).unwrap().global.cluster_cidr().to_string();
        assert_eq!(cluster("minipod --pod-cidr 10.244.7.0/24 ps"), "10.244.0.0/16");
        assert_eq!(cluster("minipod --pod-cidr 192.168.7.0/24 ps"), "192.168.7.0/24");
    }
}
