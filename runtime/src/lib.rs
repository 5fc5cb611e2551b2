//! Runs sandboxes and containers: the pause process, launchers, the pod's shim, what is on disk, and clean-up.

#![deny(unsafe_code)]

pub mod cgroup;
pub mod client;
pub mod engine;
pub mod error;
pub mod gc;
pub mod layout;
pub mod logs;
pub mod pods;
pub mod process;
pub mod signal;
pub mod shim;
pub mod step;
pub mod store;
pub mod watch;
mod etc;
mod rootfs;
mod sandbox;
mod status;
#[allow(unsafe_code)] // raw calls only, no decisions
mod sys;
mod teardown;
