//! Descriptors of a forked child.

use std::io;

/// Makes `input` standard input and `output` standard output and error.
///
/// # Errors
/// Those of dup2(2).
pub(crate) fn replace_streams(input: std::os::fd::BorrowedFd<'_>, output: std::os::fd::BorrowedFd<'_>) -> io::Result<()> {
    rustix::stdio::dup2_stdin(input)?;
    rustix::stdio::dup2_stdout(output)?;
    Ok(rustix::stdio::dup2_stderr(output)?)
}

/// Closes every descriptor from 3 on but those in `keep`. What a forked child inherited and will never use; whoever
/// owned one of them in the parent's code is not reached any more.
///
/// # Errors
/// Those of close_range(2).
pub(crate) fn close_all_but(keep: &[i32]) -> io::Result<()> {
    let mut keep: Vec<u32> = keep.iter().map(|fd| fd.unsigned_abs()).collect();
    keep.sort_unstable();
    let mut first = 3_u32;
    for kept in keep.into_iter().chain([u32::MAX]) {
        if kept > first {
            // SAFETY: closes descriptors only; the kept ones are outside the range.
            let rc = unsafe { libc::syscall(libc::SYS_close_range, first, kept - 1, 0) };
            if rc < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        first = kept.saturating_add(1);
    }
    Ok(())
}
