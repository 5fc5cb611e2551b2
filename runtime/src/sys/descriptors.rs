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
    if close_ranges(&all_but(keep)) < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The ranges from 3 on, first and last, that leave out those in `keep`.
pub(crate) fn all_but(keep: &[i32]) -> Vec<(u32, u32)> {
    let mut keep: Vec<u32> = keep.iter().map(|fd| fd.unsigned_abs()).collect();
    keep.sort_unstable();
    let mut ranges = Vec::new();
    let mut first = 3_u32;
    for kept in keep.into_iter().chain([u32::MAX]) {
        if kept > first {
            ranges.push((first, kept - 1));
        }
        first = kept.saturating_add(1);
    }
    ranges
}

/// Raw calls only, for children of a `clone3`; -1 when one failed.
pub(super) fn close_ranges(ranges: &[(u32, u32)]) -> libc::c_int {
    for (first, last) in ranges {
        // SAFETY: closes descriptors; the caller owns what is in the ranges, or never uses it again.
        if unsafe { libc::syscall(libc::SYS_close_range, *first, *last, 0) } < 0 {
            return -1;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_lies_between_the_ranges() {
        assert_eq!(all_but(&[]), [(3, u32::MAX - 1)]);
        assert_eq!(all_but(&[7, 3, 4]), [(5, 6), (8, u32::MAX - 1)]);
        assert_eq!(all_but(&[4]), [(3, 3), (5, u32::MAX - 1)]);
    }
}
