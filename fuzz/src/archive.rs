//! Whatever an archive holds: it is loaded or refused, whole, and nothing outside the store is touched.

use crate::lab::Lab;

/// The archive as it is.
pub fn check(archive: &[u8]) {
    let lab = Lab::new();
    if lab.load(archive).is_ok() {
        // Again: everything is there already.
        assert!(lab.load(archive).is_ok(), "what was loaded once is refused");
        lab.empty();
    }
}
