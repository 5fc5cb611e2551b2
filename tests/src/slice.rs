//! Numbers that no two tests have at the same time, also of different processes: bridges and CIDRs are named after them.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Where the locks lie; gone with the last of them.
const DIR: &str = "/tmp/minipod-tests";
/// 10.128.0.0/10 holds so many /24.
const COUNT: u32 = 1 << 14;

/// One number, held until dropped or until the process ends.
#[derive(Debug)]
pub(crate) struct Slice {
    number: u32,
    path: PathBuf,
    _lock: File,
}

impl Slice {
    /// The first that is free, beginning at a place of this process's own.
    pub(crate) fn take() -> Self {
        let start = std::process::id() % COUNT;
        let found = (0..COUNT).find_map(|step| Self::try_take((start + step) % COUNT).expect("lock a slice of addresses"));
        found.expect("all slices of 10.128.0.0/10 are taken")
    }

    fn try_take(number: u32) -> io::Result<Option<Self>> {
        let path = Path::new(DIR).join(number.to_string());
        loop {
            fs::create_dir_all(DIR)?;
            let lock = match File::options().write(true).create(true).truncate(false).open(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue, // another test has just removed the directory
                other => other?,
            };
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                other => other?,
            }
            // Whoever held it may have removed the file between our open and our lock: then ours locks nothing.
            if fs::metadata(&path).is_ok_and(|there| there.ino() == lock.metadata().map_or(0, |ours| ours.ino())) {
                return Ok(Some(Self { number, path, _lock: lock }));
            }
        }
    }

    /// A name for a bridge, at most 15 bytes.
    pub(crate) fn bridge(&self) -> String {
        format!("mpt{}", self.number)
    }

    /// 254 addresses.
    pub(crate) fn cidr(&self) -> String {
        format!("10.{}.{}.0/24", 128 + self.number / 256, self.number % 256)
    }
}

impl Drop for Slice {
    fn drop(&mut self) {
        fs::remove_file(&self.path).expect("remove the lock of a slice");
        match fs::remove_dir(DIR) {
            Ok(()) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound) => {}
            Err(e) => panic!("remove {DIR}: {e}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::thread;

    #[test]
    fn slices_taken_side_by_side_differ_and_come_back() {
        let slices: Vec<Slice> = thread::scope(|scope| {
            let takers: Vec<_> = (0..16).map(|_| scope.spawn(Slice::take)).collect();
            takers.into_iter().map(|t| t.join().expect("a taker")).collect()
        });
        let numbers: HashSet<u32> = slices.iter().map(|s| s.number).collect();
        assert_eq!(numbers.len(), slices.len());
        assert!(slices.iter().all(|s| s.bridge().len() <= 15));
        let path = slices[0].path.clone();
        drop(slices);
        assert!(!path.exists());
    }

    #[test]
    fn the_last_slice_is_inside_the_range() {
        let lock = File::open("/dev/null").expect("open /dev/null");
        let last = std::mem::ManuallyDrop::new(Slice { number: COUNT - 1, path: PathBuf::new(), _lock: lock });
        assert_eq!(last.cidr(), "10.191.255.0/24");
    }
}
