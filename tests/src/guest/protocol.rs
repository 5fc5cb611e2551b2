//! What a test asks of the agent in the guest, and what that answers: one JSON value a line.
//!
//! ```text
//! test                         agent
//!                     <--        Done             as soon as it listens
//!   Request           -->
//!                     <--        Reply            one for each
//!   PowerOff          -->        (the machine stops)
//! ```

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What is to be done in the guest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Request {
    /// Run a program to its end; more than `seconds` is a failure.
    Run {
        /// Program and arguments.
        argv: Vec<String>,
        /// Added to the agent's own environment.
        env: Vec<(String, String)>,
        /// How long it may take.
        seconds: u64,
    },
    /// Read a file.
    Read(PathBuf),
    /// Write a file.
    Write(PathBuf, String),
    /// The names in a directory, in order.
    Names(PathBuf),
    /// All files below, in order, without directories; crosses no mount and follows no link.
    Walk(PathBuf),
    /// `GET` this path by HTTP/1.0 from the guest's own network.
    Fetch(SocketAddr, String),
    /// Send SIGKILL to a process.
    Kill(u32),
    /// End the machine.
    PowerOff,
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Reply {
    /// How a program ended.
    Ended {
        /// As wait(2) has it.
        status: i32,
        /// Its standard output.
        stdout: String,
        /// Its standard error.
        stderr: String,
        /// From start to end.
        milliseconds: u64,
    },
    /// A file's contents or a server's answer.
    Text(String),
    /// Names or paths.
    Names(Vec<String>),
    /// Nothing to tell.
    Done,
    /// Why it could not be done.
    Failed(String),
}
