//! Runs sandboxes and containers: the pause process, launchers, the pod's shim, what is on disk, and clean-up.

#![deny(unsafe_code)]

pub mod cgroup;
pub mod engine;
pub mod process;
#[allow(unsafe_code)] // raw calls only, no decisions
mod sys;
