//! Fault points: where tests break a step. Debug builds only; in a release build there are none.
//!
//! `MINIPOD_FAULT=ACTION=STEP[/SUBJECT]` in the environment of a command, and so of the shim that it forks, does once,
//! before the step (of the subject; else of any) is taken:
//!
//! ```text
//! fail    it fails instead
//! kill    the process dies (SIGKILL)
//! stop    the process stops (SIGSTOP), until it is continued or killed
//! ```
//!
//! `MINIPOD_FAULT=list=FILE` breaks nothing: it appends `STEP/SUBJECT`, a line each, as they come.

use crate::error::Error;

#[cfg(not(debug_assertions))]
pub(super) fn before(_: &str, _: &str) -> Result<(), Error> {
    Ok(())
}

#[cfg(debug_assertions)]
pub(super) use armed::before;

#[cfg(debug_assertions)]
mod armed {
    use std::fs::OpenOptions;
    use std::io::Write as _;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    use super::Error;

    const VARIABLE: &str = "MINIPOD_FAULT";

    static FAULT: LazyLock<Option<(String, String)>> = LazyLock::new(|| {
        let text = std::env::var(VARIABLE).ok()?;
        let (action, at) = text.split_once('=').unwrap_or_else(|| panic!("{VARIABLE} is ACTION=STEP[/SUBJECT], not {text:?}"));
        Some((action.to_owned(), at.to_owned()))
    });

    /// What is broken is broken once, so that what follows can be seen.
    static DONE: AtomicBool = AtomicBool::new(false);

    pub(crate) fn before(step: &str, subject: &str) -> Result<(), Error> {
        let Some((action, at)) = &*FAULT else { return Ok(()) };
        let here = format!("{step}/{subject}");
        if action == "list" {
            list(at, &here);
            return Ok(());
        }
        if (*at != here && at != step) || DONE.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        match &**action {
            "fail" => Err(Error::Reported { message: format!("{here}: broken by {VARIABLE}"), exit_code: 125 }),
            "kill" => signal(Signal::KILL),
            "stop" => signal(Signal::STOP),
            other => panic!("{VARIABLE} knows no {other:?}"),
        }
    }

    fn signal(signal: Signal) -> Result<(), Error> {
        kill_process(getpid(), signal).map_err(|e| Error::System("send ourselves a signal", e.into()))
    }

    fn list(file: &str, here: &str) {
        let mut file = OpenOptions::new().append(true).create(true).open(file).expect("open the list of steps");
        // One write(2): command and shim write side by side.
        file.write_all(format!("{here}\n").as_bytes()).expect("write the list of steps");
    }
}
