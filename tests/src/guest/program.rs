//! Programs of the host that are taken along.

use std::path::{Path, PathBuf};

use crate::Cmd;

/// Whether a program needs shared libraries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linkage {
    /// It stands alone.
    Static,
    /// It does not.
    Dynamic,
}

/// The shared libraries of a program and its dynamic linker.
pub(super) fn libraries(program: &Path) -> Vec<PathBuf> {
    let text = Cmd::new("ldd").arg(program).run().ok();
    // `libc.so.6 => /lib/libc.so.6 (0x7f...)` and `/lib64/ld-linux-x86-64.so.2 (0x7f...)`; linux-vdso.so.1 has no path.
    text.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/'))).map(PathBuf::from).collect()
}

/// A program's file without symbols and debug information: a third of its size.
pub(super) fn stripped(program: &Path) -> Vec<u8> {
    let copy = tempfile::NamedTempFile::new().expect("make a file");
    let _said = Cmd::new("strip").arg("-o").args([copy.path(), program]).run().ok();
    std::fs::read(copy.path()).expect("read a stripped program")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_needs_the_c_library() {
        let found = libraries(Path::new("/bin/sh"));
        assert!(found.iter().any(|path| path.ends_with("libc.so.6")), "{found:?}");
        assert!(found.iter().all(|path| path.is_file()), "{found:?}");
    }
}
