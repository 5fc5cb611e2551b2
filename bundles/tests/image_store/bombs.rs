//! Small archives that would become large: each ends at a limit that is named, and the store is as it was.

use std::fs::File;
use std::io::{Seek, Write};

use std::sync::atomic::{AtomicU64, Ordering};

use bundles::cancel::Cancel;
use bundles::image::{Limits, Progress, Watch};
use serde_json::json;

use crate::support::{Item, Lab, Layout, Tar, chain, config, gzip, sha, zstd};

const TIB: u64 = 1 << 40;

/// An OCI layout whose one layer is stored so.
fn layout(stored: &[u8]) -> Vec<u8> {
    let mut layout = Layout::default();
    let manifest = layout.manifest(&[stored], &config(&[b"what it is uncompressed"], "run"));
    layout.with(Some("bomb:1"), manifest).tar()
}

/// Frames of zstd, one behind the other, are one stream.
fn repeated(data: &[u8], times: usize) -> Vec<u8> {
    zstd(data).repeat(times)
}

#[test]
fn ten_million_entries() {
    let lab = Lab::limited(Limits { layer_entries: 20_000, ..Limits::default() });
    let block = |tar: Tar| tar.done()[..512].to_vec();
    // Entries that make something, that make nothing, and that make the same again and again.
    for entry in [Tar::new().dir("d/"), Tar::new().file(".wh..wh.x", ""), Tar::new().file("f", ""), Tar::new().symlink("l", "x")] {
        let layer = repeated(&block(entry).repeat(10_000), 1000);
        assert!(layer.len() < 2 << 20, "it is small: {}", layer.len());
        let said = lab.refuses_beside(&layout(&layer));
        assert!(said.contains("more than 20000 entries in a layer (the limit)"), "{said}");
    }
}

#[test]
fn directories_that_names_imply_are_entries_too() {
    let lab = Lab::limited(Limits { layer_entries: 5000, ..Limits::default() });
    let deep = |n: u32| format!("{n}/{}x", "d/".repeat(1000));
    let tar = (0..10).fold(Tar::new(), |tar, n| tar.pax(&[("path", deep(n).as_bytes())]).file("x", ""));
    assert!(lab.refuses(tar).contains("more than 5000 entries in a layer (the limit)"));
}

#[test]
fn headers_without_end() {
    let lab = Lab::new();
    let headers = |tar: Tar| repeated(&tar.done()[..1024].repeat(1000), 1000);
    for tar in [Tar::new().pax(&[("path", b"a")]), Tar::new().item(&Item { kind: b'g', data: b"19 comment=123456789\n", ..Item::default() })] {
        let said = lab.refuses_beside(&layout(&headers(tar)));
        assert!(said.contains("more than 64 extended headers in front of an entry (the limit)"), "{said}");
    }
    for kind in [b'x', b'g', b'L', b'K'] {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().linkflag[0] = kind;
        header.set_size(TIB);
        header.set_cksum();
        let said = lab.refuses_beside(&layout(&repeated(header.as_bytes(), 1)));
        assert!(said.contains("more than 1048576 bytes in an extended header (the limit)"), "{said}");
    }
}

#[test]
fn a_tebibyte_of_zeros_in_one_file() {
    let lab = Lab::new();
    // A real one, as far as the archive goes: its file is a hole.
    let path = lab.dir.path().join("archive.tar");
    let mut file = File::create(&path).unwrap();
    let header = |name: &str, size: u64| {
        let mut header = tar::Header::new_gnu();
        header.set_path(name).unwrap();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        header
    };
    let config = config(&[b"never reached"], "run");
    let manifest = json!([{"Config": "config.json", "RepoTags": ["bomb:1"], "Layers": ["layer.tar"]}]).to_string();
    for (name, data) in [("config.json", &config[..]), ("manifest.json", manifest.as_bytes())] {
        file.write_all(header(name, data.len() as u64).as_bytes()).unwrap();
        file.write_all(data).unwrap();
        file.write_all(&vec![0; data.len().next_multiple_of(512) - data.len()]).unwrap();
    }
    file.write_all(header("layer.tar", TIB + 1536).as_bytes()).unwrap();
    file.write_all(header("zeros", TIB).as_bytes()).unwrap();
    let end = file.stream_position().unwrap();
    file.set_len(end + TIB + 2048).unwrap();
    let error = lab.store.load(&path, Watch::nobody()).unwrap_err();
    lab.assert_clean();
    assert!(chain(&error).contains("more than 137438953472 bytes in a layer (the limit)"), "{}", chain(&error));
    // The same said in a few bytes; and the data of what makes no file.
    let hole = Tar::new().pax(&[("GNU.sparse.realsize", b"1099511627776"), ("GNU.sparse.map", b"0,1")]).file("hole", "x");
    assert!(lab.refuses(hole).contains("more than 137438953472 bytes in a layer (the limit)"));
    let whiteout = Tar::new().pax(&[("size", b"1099511627776")]).file(".wh.x", "");
    assert!(lab.refuses(whiteout).contains("more than 137438953472 bytes in a layer (the limit)"));
}

#[test]
fn layers_that_decompress_without_end() {
    let lab = Lab::limited(Limits { layer_bytes: 4 << 20, ..Limits::default() });
    let zeros = vec![0; 1 << 20];
    let file = |data: &[u8]| Tar::new().file("f", data).done();
    let end = file(b"")[512..].to_vec();
    // Behind the end of the tar nobody looks for entries, but the digest needs every byte.
    for bomb in [repeated(&zeros, 1000), [zstd(&file(b"x")), repeated(&zeros, 1000)].concat(), gzip(&vec![0; 64 << 20])] {
        let said = lab.refuses_beside(&layout(&bomb));
        assert!(said.contains("more than 9437184 bytes once decompressed (the limit)"), "{said}");
    }
    let large = [zstd(&file(&zeros)[..512]), repeated(&zeros, 1), zstd(&file(&zeros)[..512]), repeated(&zeros, 1)].concat();
    let many = [large.repeat(3), zstd(&end)].concat();
    assert!(lab.refuses_beside(&layout(&many)).contains("more than 4194304 bytes in a layer (the limit)"));
    // A window that would take gigabytes of memory.
    let mut greedy = zstd::Encoder::new(Vec::new(), 1).unwrap();
    greedy.window_log(31).unwrap();
    greedy.include_contentsize(false).unwrap();
    greedy.write_all(b"x").unwrap();
    assert!(lab.refuses_beside(&layout(&greedy.finish().unwrap())).contains("memory"));
}

#[test]
fn archives_that_decompress_without_end_are_cut_before_anything_is_unpacked() {
    let lab = Lab::limited(Limits { archive_bytes: 8 << 20, ..Limits::default() });
    for bomb in [repeated(&vec![0; 1 << 20], 1000), gzip(&vec![0; 64 << 20])] {
        lab.refuses_beside(&bomb);
        let (most, never) = (AtomicU64::new(0), Cancel::new());
        let path = lab.write("archive.tar", &bomb);
        let progress = |p: Progress<'_>| if let Progress::Decompressing { bytes } = p { most.store(bytes, Ordering::Relaxed) };
        let error = lab.store.load(&path, Watch { progress: &progress, cancel: &never }).unwrap_err();
        assert!(chain(&error).contains("decompresses to more than 8388608 bytes (the limit)"), "{}", chain(&error));
        let most = most.into_inner();
        assert!(most <= (8 << 20) + (128 << 10), "{most} bytes were written");
    }
}

#[test]
fn documents_larger_and_deeper_than_any_image_has() {
    let lab = Lab::new();
    let huge = format!("[{}]", "0,".repeat(5 << 20));
    let layer = Tar::new().done();
    let named = |manifest: &str, config: &[u8]| Tar::new().file("c.json", config).file("l.tar", &layer).file("manifest.json", manifest).done();
    let manifest = json!([{"Config": "c.json", "RepoTags": ["x:1"], "Layers": ["l.tar"]}]).to_string();
    assert!(lab.refuses_archive(&named(&huge, b"{}")).contains("manifest.json has 10485762 bytes, more than 8388608 (the limit)"));
    assert!(lab.refuses_archive(&named(&manifest, huge.as_bytes())).contains("c.json has 10485762 bytes, more than 8388608 (the limit)"));
    assert!(lab.refuses_archive(&Tar::new().file("index.json", &huge).done()).contains("index.json has 10485762 bytes"));
    for open in ["[", "{\"a\":"] {
        let deep = open.repeat(100_000);
        assert!(lab.refuses_archive(&named(&deep, b"{}")).contains("manifest.json is not what it should be"));
        let said = lab.refuses_archive(&named(&manifest, format!("{{\"config\":{{\"Labels\":{deep}").as_bytes()));
        assert!(said.contains("c.json is not what it should be"), "{said}");
    }
}

#[test]
fn more_layers_images_and_names_than_any_archive_has() {
    let lab = Lab::new();
    let layer = Tar::new().file("f", "").done();
    let archive = |items: serde_json::Value, layers: usize| {
        let config = json!({"os": "linux", "rootfs": {"diff_ids": vec![sha(&layer); layers]}}).to_string();
        Tar::new().file("c.json", config).file("l.tar", &layer).file("manifest.json", items.to_string()).done()
    };
    let item = |layers: usize, tags: &[String]| json!({"Config": "c.json", "RepoTags": tags, "Layers": vec!["l.tar"; layers]});
    assert!(lab.refuses_archive(&archive(json!([item(5000, &[])]), 5000)).contains("more than 500 layers (the limit)"));
    assert!(lab.refuses_archive(&archive(json!(vec![item(1, &[]); 100_000]), 1)).contains("more than 1000 images (the limit)"));
    let tags: Vec<String> = (0..50_000).map(|n| format!("a/b{n}:1")).collect();
    assert!(lab.refuses_archive(&archive(json!([item(1, &tags)]), 1)).contains("more than 1000 names (the limit)"));
    // As many as are allowed are fine.
    let image = lab.load(&archive(json!([item(500, &tags[..1000])]), 500)).unwrap().remove(0);
    assert_eq!((image.layers.len(), image.names.len()), (1, 1000));
}

#[test]
fn indexes_that_refer_to_each_other_a_billion_times() {
    let lab = Lab::limited(Limits { documents_bytes: 8 << 20, ..Limits::default() });
    // The innermost lists nothing, so that no image is ever counted.
    let mut layout = Layout::default();
    let mut inner = layout.index(&[]);
    for _ in 0..3 {
        inner = layout.index(&vec![inner; 1000]);
    }
    let mut wide = layout.clone();
    layout.manifests = vec![inner; 1000];
    let said = lab.refuses_archive(&layout.tar());
    assert!(said.contains("as often as they refer to each other, have more than 8388608 bytes (the limit)"), "{said}");
    wide.manifests = vec![wide.index(&[]); 10_001];
    assert!(lab.refuses_archive(&wide.tar()).contains("index.json lists more than 10000 manifests (the limit)"));
    // Many images, each with documents of its own that are large.
    let mut large = Layout::default();
    for n in 0..10 {
        let layer = Tar::new().file("f", "").done();
        let config = json!({"os": "linux", "n": n, "padding": "x".repeat(1 << 20), "rootfs": {"diff_ids": [sha(&layer)]}}).to_string();
        let manifest = large.manifest(&[&layer], config.as_bytes());
        large = large.with(Some(&format!("x:{n}")), manifest);
    }
    assert!(lab.refuses_archive(&large.tar()).contains("have more than 8388608 bytes (the limit)"));
}

#[test]
fn many_entries_in_the_outer_archive() {
    let lab = Lab::new();
    let entry = &Tar::new().file("x", "").done()[..512];
    let said = lab.refuses_archive(&[zstd(&entry.repeat(10_000)).repeat(11), zstd(&Tar::new().done())].concat());
    assert!(said.contains("more than 100000 entries (the limit)"), "{said}");
    assert!(lab.refuses_archive(&gzip(&[])).contains("empty"));
}
