//! The embedded pause program, built by the build script from `bundles/pause`.

/// The static executable.
pub static PAUSE: &[u8] = &[];
/// Every system call it makes, by name, for its seccomp filter.
pub const SYSCALLS: &[&str] = &[];
