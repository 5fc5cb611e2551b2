//! A second machine: an emulated one with another kernel and nothing in it but what the test puts there.
//!
//! ```text
//! test ── JSON lines ── qemu's stdio ── ttyS1 ── agent (tests/guest), child of the machine's init
//!         console.log ◄──────────────── ttyS0    kernel, init, what the agent's commands say to nobody
//! ```
//! The root file system is an initramfs packed here; the kernel is a Debian package, unpacked by scripts/setup and never installed.

mod archive;
mod kernel;
mod machine;
mod program;
pub mod protocol;
mod suite;

pub use archive::Archive;
pub use kernel::Kernel;
pub use machine::Guest;
pub use program::Linkage;
pub use suite::{Suites, packed};
