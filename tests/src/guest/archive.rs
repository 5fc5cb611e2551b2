//! An initramfs: a cpio archive ("newc", the kernel's Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use cpio::newc::{Builder, trailer};

use super::program::{Linkage, libraries};

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const LINK: u32 = 0o120_777;

/// What the guest's root holds. Everything is root's; parents are made as needed.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    paths: BTreeSet<String>,
}

impl Archive {
    /// Adds a file that can be executed; one that is there already stays.
    pub fn file(&mut self, path: &str, data: &[u8]) {
        self.entry(path, PROGRAM, data);
    }

    /// Adds a copy of a file.
    pub fn copy(&mut self, path: &str, from: &Path) {
        let data = fs::read(from).unwrap_or_else(|e| panic!("read {}: {e}", from.display()));
        self.file(path, &data);
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.entry(path, LINK, target.as_bytes());
    }

    /// Adds a program of the host at the same place, with the shared libraries it is linked to.
    pub fn program(&mut self, program: &Path, linkage: Linkage) {
        let path = program.to_str().expect("a path in UTF-8");
        self.copy(path, program);
        if linkage == Linkage::Dynamic {
            for library in libraries(program) {
                self.copy(library.to_str().expect("a path in UTF-8"), &library);
            }
        }
    }

    fn entry(&mut self, path: &str, mode: u32, data: &[u8]) {
        let path = path.trim_start_matches('/');
        if !self.paths.insert(path.to_owned()) {
            return;
        }
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.entry(parent, DIRECTORY, &[]);
        }
        let inode = u32::try_from(self.paths.len()).expect("few files");
        let size = u32::try_from(data.len()).expect("a file of less than 4 GiB");
        let mut writer = Builder::new(path).ino(inode).mode(mode).write(&mut self.bytes, size);
        writer.write_all(data).and_then(|()| writer.finish()).expect("write to memory");
    }

    /// The archive with its end.
    #[must_use]
    pub(crate) fn finish(self) -> Vec<u8> {
        trailer(self.bytes).expect("write to memory")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cmd;

    /// busybox' cpio, which shares no code with ours, finds what was put in.
    #[test]
    fn another_cpio_reads_it() {
        let Some(busybox) = crate::installed("busybox") else { return };
        let mut archive = Archive::default();
        archive.file("/a/b/file", b"12345");
        archive.file("/a/b/file", b"not again");
        archive.link("/a/link", "b/file");
        let listed = Cmd::new(busybox).args(["cpio", "-t", "-v"]).stdin(archive.finish()).run().ok();
        let lines: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
        let found: BTreeSet<(&str, &str)> = lines.iter().map(|words| (words[0], *words.last().expect("a name"))).collect();
        assert_eq!(
            found,
            BTreeSet::from([("drwxr-xr-x", "a"), ("drwxr-xr-x", "a/b"), ("-rwxr-xr-x", "a/b/file"), ("lrwxrwxrwx", "b/file")]),
            "{listed}"
        );
        assert!(lines.iter().any(|words| words.contains(&"5")), "{listed}");
    }
}
