//! `minipod kill`.

use std::str::FromStr as _;

use clap::Args;
use runtime::client::Client;
use rustix::process::Signal;

use crate::args::Global;
use crate::error::Error;
use crate::pods::{self, View};
use crate::tasks::block_on;

/// Send a signal to a pod's containers
///
/// To the first process of the container named, or of every container that runs. What follows an end is up to the pod's
/// restartPolicy.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  minipod kill web/app           SIGKILL to one container
  minipod kill -s HUP web        SIGHUP to all of them")]
pub(crate) struct Kill {
    /// Name (with or without SIG) or number
    #[arg(short, long, value_name = "SIG", default_value = "KILL", value_parser = signal)]
    signal: Signal,
    /// Name, namespace/name, uid or a unique prefix; with /CTR one container of it
    #[arg(value_name = "POD[/CTR]")]
    target: String,
}

impl Kill {
    pub(crate) fn run(self, global: &Global) -> Result<u8, Error> {
        let (view, container) = pods::target(&global.store(), &self.target)?;
        block_on(async {
            let client = Client::connect(&view.dir, &view.record).await?;
            for name in container.map_or_else(|| running(&view), |name| vec![name]) {
                client.kill(&name, self.signal).await?;
            }
            Ok(0)
        })
    }
}

fn running(view: &View) -> Vec<String> {
    view.container_names().into_iter().filter(|name| view.process(name).is_some()).collect()
}

/// Reads `KILL`, `SIGKILL`, `kill` or `9`.
fn signal(text: &str) -> Result<Signal, String> {
    let upper = text.to_ascii_uppercase();
    let number = match upper.parse::<i32>() {
        Ok(number) => Some(number),
        Err(_) => {
            let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
            nix::sys::signal::Signal::from_str(&name).ok().map(|signal| signal as i32)
        }
    };
    number.and_then(Signal::from_named_raw).ok_or_else(|| format!("`{text}` is no signal such as TERM, SIGHUP or 9"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for text in ["KILL", "SIGKILL", "sigkill", "kill", "9"] {
            assert_eq!(signal(text), Ok(Signal::KILL), "{text}");
        }
        for text in ["", "SIG", "0", "-9", "999", "NOPE"] {
            assert!(signal(text).is_err(), "{text}");
        }
    }
}
