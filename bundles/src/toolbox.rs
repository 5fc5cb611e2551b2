//! The embedded lab image's program, built by the build script from `bundles/toolbox`.

/// The static multi-call program, compressed with zstd.
pub static BYTES: &[u8] = &[];
/// The names it answers to; each becomes a link in the image.
pub const APPLETS: &[&str] = &["sh"];
/// SHA-256 of the uncompressed program, in hex.
pub const DIGEST: &str = "";
/// Size of the uncompressed program in bytes.
pub const SIZE: u64 = 0;
