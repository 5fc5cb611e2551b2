//! The pages of our own program.

use std::io;

/// Takes from this process, not from memory, what it has touched of its program so far. What it needs again is mapped again from the
/// page cache.
///
/// # Errors
/// Those of madvise(2).
pub(crate) fn forget_pages() -> io::Result<()> {
    let mut result = 0;
    // SAFETY: the callback is given valid program headers and our pointer, during the call only.
    unsafe { libc::dl_iterate_phdr(Some(forget_segments), (&raw mut result).cast()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Called for the program first; ends there.
unsafe extern "C" fn forget_segments(info: *mut libc::dl_phdr_info, _: libc::size_t, result: *mut libc::c_void) -> libc::c_int {
    // SAFETY: dl_iterate_phdr(3) passes a valid structure, and `result` is our caller's.
    let (info, result) = unsafe { (&*info, &mut *result.cast::<libc::c_int>()) };
    // SAFETY: as many headers as it says, for as long as the program lives.
    let segments = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    // SAFETY: asks for a constant of the kernel's.
    let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    for segment in segments.iter().filter(|segment| segment.p_type == libc::PT_LOAD && segment.p_flags & libc::PF_W == 0) {
        let start = info.dlpi_addr + segment.p_vaddr;
        // Linkers put segments on pages of their own.
        let begin = start - start % page;
        let length = usize::try_from(start + segment.p_memsz - begin).unwrap_or_default();
        // SAFETY: the range is a mapping of the program's file that was never written to (no PF_W): reading it again gives the same.
        *result = unsafe { libc::madvise(begin as *mut libc::c_void, length, libc::MADV_DONTNEED) };
        if *result < 0 {
            break;
        }
    }
    1
}

/// Gives the allocator's free memory back to the kernel: what the command that forked us used, to pull an image for one.
///
/// man: malloc_trim(3)
pub(crate) fn forget_free_memory() {
    // SAFETY: takes a number and touches only memory that is free.
    unsafe { libc::malloc_trim(0) };
}
