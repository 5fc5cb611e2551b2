//! Runs sandboxes and containers: the pause process, launchers, the pod's shim, what is on disk, and clean-up.

#![deny(unsafe_code)]

pub mod cgroup;
#[cfg(feature = "pods")]
pub mod client;
pub mod engine;
#[cfg(feature = "pods")]
pub mod error;
#[cfg(feature = "pods")]
pub mod gc;
#[cfg(feature = "pods")]
pub mod layout;
#[cfg(feature = "pods")]
pub mod logs;
#[cfg(feature = "pods")]
pub mod pods;
pub mod process;
#[cfg(feature = "pods")]
pub mod shim;
#[cfg(feature = "pods")]
pub mod store;
#[cfg(feature = "pods")]
pub mod watch;
#[cfg(feature = "pods")]
mod etc;
#[cfg(feature = "pods")]
mod rootfs;
#[cfg(feature = "pods")]
mod sandbox;
#[cfg(feature = "pods")]
mod status;
#[allow(unsafe_code)] // raw calls only, no decisions
mod sys;
#[cfg(feature = "pods")]
mod teardown;
