//! Whatever a layer holds: it is unpacked or refused, whole, and nothing outside the store is touched.

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::lab::Lab;

/// The layer, in an archive that is in order.
pub fn check(layer: &[u8]) {
    let lab = Lab::new();
    if lab.load(&archive(layer)).is_ok() {
        lab.empty();
    }
}

/// What `docker save` would make of an image with this one layer, uncompressed.
fn archive(layer: &[u8]) -> Vec<u8> {
    let diff_id: String = Sha256::digest(layer).iter().map(|byte| format!("{byte:02x}")).collect();
    let config = json!({"os": "linux", "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{diff_id}")]}}).to_string();
    let manifest = json!([{"Config": "config.json", "RepoTags": ["fuzz:1"], "Layers": ["layer.tar"]}]).to_string();
    let mut tar = tar::Builder::new(Vec::new());
    for (name, data) in [("layer.tar", layer), ("config.json", config.as_bytes()), ("manifest.json", manifest.as_bytes())] {
        let mut header = tar::Header::new_ustar();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, data).expect("write to memory");
    }
    tar.into_inner().expect("write to memory")
}
