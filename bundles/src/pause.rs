//! The embedded pause program, built by the build script from `bundles/pause/pause.rs`.
//!
//! About a KiB, static, with no libc, no relocation and no writable data. It is executed from a memfd with the single
//! argument `/pause`; it calls itself `pause` (`ps -o comm`), waits, reaps orphans when it is PID 1 and leaves with
//! status 0 on SIGTERM or SIGINT. Who starts it blocks SIGTERM, SIGINT and SIGCHLD first, so that none is lost between exec
//! and its own blocking of them (the mask survives execve(2)).

/// The static executable.
pub static PAUSE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pause"));

/// Every system call it makes, by name, for its seccomp filter. The `execveat` that starts it is made under the filter as well,
/// but by the caller: allow it besides.
pub const SYSCALLS: &[&str] = &["prctl", "rt_sigprocmask", "wait4", "rt_sigtimedwait", "exit_group"];
