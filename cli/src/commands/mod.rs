//! One module a verb: its options, and what it does.

pub(crate) mod bundle;
pub(crate) mod completion;
pub(crate) mod down;
pub(crate) mod exec;
pub(crate) mod gc;
pub(crate) mod image;
pub(crate) mod inspect;
pub(crate) mod kill;
pub(crate) mod logs;
pub(crate) mod ps;
pub(crate) mod restart;
pub(crate) mod rm;
pub(crate) mod run;
pub(crate) mod start;
pub(crate) mod stop;
pub(crate) mod system;
pub(crate) mod validate;
pub(crate) mod version;
pub(crate) mod wait;

use crate::args::{Cli, Global, Verb};
use crate::error::Error;
use crate::tasks::require_root;

/// Does what the command line asks for; the exit code.
pub(crate) fn run(cli: Cli) -> Result<u8, Error> {
    let global = cli.global;
    match cli.verb {
        Verb::Validate(verb) => verb.run(&global),
        Verb::Completion(verb) => verb.run(),
        Verb::Version(verb) => verb.run(),
        others => require_root().and_then(|()| as_root(others, &global)),
    }
}

/// State is readable for root only, and most verbs change what root alone may.
fn as_root(verb: Verb, global: &Global) -> Result<u8, Error> {
    match verb {
        Verb::Run(verb) => verb.run(global),
        Verb::Ps(verb) => verb.run(global),
        Verb::Inspect(verb) => verb.run(global),
        Verb::Logs(verb) => verb.run(global),
        Verb::Exec(verb) => verb.run(global),
        Verb::Stop(verb) => verb.run(global),
        Verb::Start(verb) => verb.run(global),
        Verb::Restart(verb) => verb.run(global),
        Verb::Rm(verb) => verb.run(global),
        Verb::Kill(verb) => verb.run(global),
        Verb::Down(verb) => verb.run(global),
        Verb::Wait(verb) => verb.run(global),
        Verb::Gc(verb) => verb.run(global),
        Verb::Image(verb) => verb.run(global),
        Verb::System(verb) => verb.run(global),
        Verb::Bundle(verb) => verb.run(global),
        Verb::Validate(verb) => verb.run(global),
        Verb::Completion(verb) => verb.run(),
        Verb::Version(verb) => verb.run(),
    }
}
