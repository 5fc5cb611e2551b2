//! `minipod completion`.

use clap::{Args, CommandFactory as _, ValueEnum};
use clap_complete::{Shell, generate};

use crate::args::Cli;
use crate::error::Error;

/// Print the completion script of a shell
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  minipod completion bash > /etc/bash_completion.d/minipod
  minipod completion zsh > \"${fpath[1]}/_minipod\"
  minipod completion fish > ~/.config/fish/completions/minipod.fish")]
pub(crate) struct Completion {
    /// Which shell
    #[arg(value_enum)]
    shell: Kind,
}

/// The shells there are scripts for.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Bash,
    Zsh,
    Fish,
}

impl Completion {
    pub(crate) fn run(self) -> Result<u8, Error> {
        let shell = match self.shell {
            Kind::Bash => Shell::Bash,
            Kind::Zsh => Shell::Zsh,
            Kind::Fish => Shell::Fish,
        };
        let mut script = Vec::new();
        generate(shell, &mut Cli::command(), "minipod", &mut script);
        crate::error::print(&String::from_utf8_lossy(&script))?;
        Ok(0)
    }
}
