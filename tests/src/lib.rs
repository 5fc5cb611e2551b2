//! What the end-to-end suites share: a private installation of minipod on a private network, commands with a time limit,
//! images made on the spot, and the comparison of the host before and after.
//!
//! ```text
//! the machine ── network namespace of the test: "the host" ── bridge ── pods
//!                   │ up0, default route
//!                   └── network namespace "outside", where packets that leave the host arrive
//! ```
//! Tests see the program from outside only: its command line, /proc, /sys/fs/cgroup, `ip`, `nft` and the files it leaves.
//! They run beside each other: every [`Minipod`] has a directory, a bridge, a pod CIDR and (usually) a network stack of its own.
#![deny(unsafe_code)]
#![allow(clippy::missing_panics_doc, reason = "in a test kit a panic is how a failure is told")]

mod binary;
mod command;
mod disk;
mod http;
mod images;
mod installation;
mod logs;
mod manifest;
mod network;
mod proxy;
mod registry;
mod require;
mod slice;
mod snapshot;
#[allow(unsafe_code)] // raw calls only, no decisions
pub mod sys;

pub mod guest;
pub mod process;
pub mod pty;

pub use binary::binary;
pub use command::{Cmd, LIMIT, Output, Running, eventually};
pub use disk::{SmallDisk, private_mounts};
pub use images::{Entry, Form, Image, Pressed, Written, architecture, docker_archive, oci_layout, oci_layout_as};
pub use installation::Minipod;
pub use logs::{CriLine, cri_lines};
pub use manifest::{FOREVER, container, pod, with};
pub use network::Outside;
pub use proxy::{Act, Proxy, Rule, Seen};
pub use registry::{Access, Authority, PASSWORD, Registry, USER};
pub use require::{installed, root};
pub use snapshot::{HostSnapshot, Scope, assert_same, contents, walk};
