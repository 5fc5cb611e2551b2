//! Commands on the system itself: processes, memory, mounts, names, System V IPC.

pub(crate) mod facts;
pub(crate) mod ipc;
pub(crate) mod ps;
