//! How much an archive may ask of us.

/// Upper bounds on what an archive may hold, against decompression bombs and the like.
///
/// The defaults are far above what images in use hold (the largest machine-learning images have about half a million
/// files and 40 GiB) and low enough that a hostile archive cannot exhaust memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Entries in one layer, with the directories that names imply.
    pub layer_entries: u64,
    /// Bytes of file content in one layer, holes included; its whole tar stream may have twice as many.
    pub layer_bytes: u64,
    /// Bytes of all directory names of one layer: their times are kept in memory until its end.
    pub directory_name_bytes: u64,
    /// Bytes of one file name or link target (Linux: `PATH_MAX` with its NUL is 4096).
    pub path_bytes: usize,
    /// Bytes of one extended tar header (Go's archive/tar: 1 MiB).
    pub header_bytes: u64,
    /// Extended headers in front of one entry (writers make one or two).
    pub headers: usize,
    /// Segments of one sparse file.
    pub sparse_segments: usize,
    /// Bytes of one JSON document (distribution-spec: registries accept manifests of at least 4 MiB).
    pub document_bytes: u64,
    /// Bytes of all JSON documents of one archive, each counted as often as it is referred to and as 4 KiB at least.
    pub documents_bytes: u64,
    /// Manifests that one index lists.
    pub descriptors: usize,
    /// Entries in the outer archive.
    pub archive_entries: u64,
    /// Bytes of a compressed outer archive once decompressed.
    pub archive_bytes: u64,
    /// Images in one archive.
    pub images: usize,
    /// Names of one image.
    pub names: usize,
    /// Layers of one image (the kernel's overlay takes 500 lower directories).
    pub layers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            layer_entries: 2_000_000,
            layer_bytes: 128 << 30,
            directory_name_bytes: 64 << 20,
            path_bytes: 4095,
            header_bytes: 1 << 20,
            headers: 64,
            sparse_segments: 1 << 16,
            document_bytes: 8 << 20,
            documents_bytes: 64 << 20,
            descriptors: 10_000,
            archive_entries: 100_000,
            archive_bytes: 256 << 30,
            images: 1000,
            names: 1000,
            layers: 500,
        }
    }
}
