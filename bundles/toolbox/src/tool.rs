//! What the commands written here have in common: arguments, output, complaints.

use std::ffi::OsString;
use std::fmt;
use std::io;

use crate::sys;

/// A command line that makes no sense, and why.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    Usage(Usage),
    System(io::Error),
}

/// How a command's work went.
pub(crate) type Outcome<T> = Result<T, Failure>;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(usage) => f.write_str(&usage.0),
            Self::System(error) => f.write_str(&plain(error)),
        }
    }
}

impl From<Usage> for Failure {
    fn from(usage: Usage) -> Self {
        Self::Usage(usage)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl From<nix::Error> for Failure {
    fn from(error: nix::Error) -> Self {
        Self::System(error.into())
    }
}

/// The error's text without Rust's "(os error 2)".
pub(crate) fn plain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    }
}

/// The arguments after the command's name.
pub(crate) fn arguments(args: &[OsString]) -> Vec<String> {
    args.iter().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect()
}

/// Writes to standard output; the exit status.
pub(crate) fn print(text: &str) -> i32 {
    match sys::write_all(1, text.as_bytes()) {
        Ok(()) => 0,
        Err(error) => complain("write", &plain(&error)),
    }
}

/// Says why `command` failed; the exit status 1.
pub(crate) fn complain(command: &str, why: &str) -> i32 {
    // When standard error is gone there is nobody left to tell.
    drop(sys::write_all(2, format!("{command}: {}\n", why.trim_end()).as_bytes()));
    1
}

/// The name of a user by /etc/passwd, else the number. Not getpwuid(3): see [`crate::net::resolve`].
pub(crate) fn user_name(uid: u32) -> String {
    let wanted = uid.to_string();
    let table = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let found = table.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == wanted).then(|| name.to_owned())
    });
    found.unwrap_or(wanted)
}

/// The home directory of a user, by /etc/passwd.
pub(crate) fn home_of(user: &str) -> Option<String> {
    let table = std::fs::read_to_string("/etc/passwd").ok()?;
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.first() == Some(&user)).then(|| fields.get(5).map(|home| (*home).to_owned()))?
    })
}
