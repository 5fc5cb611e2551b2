//! The embedded lab image's program, built by the build script from `bundles/toolbox`.

mod facts {
    include!(concat!(env!("OUT_DIR"), "/toolbox_facts.rs"));
}

/// The static multi-call program, compressed with zstd (one frame that tells its size).
pub static BYTES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/toolbox.zst"));
/// The names it answers to (`bundles/toolbox/applets.txt`); each becomes a link in the image.
pub const APPLETS: &[&str] = include!(concat!(env!("OUT_DIR"), "/toolbox_applets.rs"));
/// SHA-256 of the uncompressed program, in hex.
pub const DIGEST: &str = facts::DIGEST;
/// Size of the uncompressed program in bytes.
pub const SIZE: u64 = facts::SIZE;
