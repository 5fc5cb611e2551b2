//! What the fuzz targets check. The tests `corpus` of `bundles` and `runtime` take the same files in and run them over the
//! corpus that is kept, so each file names only crates that both have, and `crate::logs`.

pub mod archive;
pub mod cri_log;
pub mod lab;
pub mod layer;
pub mod manifest;
pub mod tar_sums;

// The crate `runtime` needs libcontainer and more, none of which reads a log. Its log files are taken in alone.
mod error;
#[path = "../../runtime/src/logs/mod.rs"]
pub mod logs;
mod watch;
