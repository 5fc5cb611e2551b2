//! minipod's own exit codes.

use std::process::ExitCode;

/// minipod itself failed: a manifest, an image, the network, a name that is taken.
pub(crate) const OWN: u8 = 125;
/// A time limit passed.
pub(crate) const TIMEOUT: u8 = 124;
/// What a shell reports for a program that its reader left (128 + SIGPIPE).
pub(crate) const BROKEN_PIPE: u8 = 141;

/// What a shell reports for a program that a signal ended.
pub(crate) fn by_signal(number: u8) -> u8 {
    number.saturating_add(128)
}

/// Shows what clap has to say: help and version are success, anything else is our own failure.
pub(crate) fn usage(answer: &clap::Error) -> ExitCode {
    let code = if answer.use_stderr() { OWN } else { 0 };
    match answer.print() {
        Ok(()) => ExitCode::from(code),
        Err(_) => ExitCode::from(BROKEN_PIPE),
    }
}
