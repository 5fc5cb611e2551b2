//! Archives that the store writes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use bundles::image::{Image, ImageError, Watch};
use rustix::fs::{lgetxattr, llistxattr};

use crate::support::{Item, Lab, Tar, docker_archive, tree};

/// All that an image says of every file: kind, mode, owner, time, device, links, attributes, content.
fn facts(layer: &Path) -> BTreeMap<PathBuf, String> {
    let fact = |path: &PathBuf| {
        let stat = fs::symlink_metadata(path).unwrap();
        let mut names = vec![0; 4096];
        let length = llistxattr(path, &mut names[..]).unwrap();
        let mut xattrs: Vec<_> = names[..length].split(|b| *b == 0).filter(|n| !n.is_empty()).map(|name| {
            let mut value = vec![0; 4096];
            let length = lgetxattr(path, name, &mut value[..]).unwrap();
            (String::from_utf8_lossy(name).into_owned(), value[..length].to_vec())
        }).collect();
        xattrs.sort();
        let content = if stat.is_file() { fs::read(path).unwrap() } else { Vec::new() };
        let link = fs::read_link(path).ok();
        // A whiteout only hides; it has no time of its own.
        let whiteout = stat.rdev() == 0 && stat.file_type().is_char_device();
        let time = if whiteout { (0, 0) } else { (stat.mtime(), stat.mtime_nsec()) };
        let links = if stat.is_dir() { 0 } else { stat.nlink() };
        format!("{:o} {}:{} {time:?} {} {links} {xattrs:?} {content:?} {link:?}", stat.mode(), stat.uid(), stat.gid(), stat.rdev())
    };
    tree(layer).iter().map(|path| (path.strip_prefix(layer).unwrap().to_owned(), fact(path))).collect()
}

/// Saves an image, removes all, loads the archive: the same files in every layer, and the same words in the configuration.
fn there_and_back(lab: &Lab, before: &Image) -> Image {
    let seen: Vec<_> = before.layers.iter().map(|layer| facts(layer)).collect();
    let mut archive = Vec::new();
    lab.store.save(std::slice::from_ref(&before.id), &mut archive).unwrap();
    let mut again = Vec::new();
    lab.store.save(std::slice::from_ref(&before.id), &mut again).unwrap();
    assert!(archive == again, "the same image gives the same bytes");
    let other = Lab::new();
    let after = other.store.load(&other.write("archive.tar", &archive), Watch::nobody()).unwrap().remove(0);
    assert_eq!(after.names, before.names);
    assert_eq!(after.config, before.config);
    assert_eq!((&after.created, &after.architecture), (&before.created, &before.architecture));
    assert_eq!(after.layers.len(), before.layers.len());
    for (layer, seen) in after.layers.iter().zip(&seen) {
        assert_eq!(&facts(layer), seen);
    }
    after
}

#[test]
fn what_is_saved_and_loaded_is_the_same() {
    let lab = Lab::new();
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(200));
    let low = Tar::new()
        .item(&Item { kind: b'5', name: "dir/", mode: 0o1777, owner: (7, 8), mtime: 5, ..Item::default() })
        .item(&Item { name: "dir/set-uid", mode: 0o4755, owner: (1000, 3_000_000_000), data: b"program", ..Item::default() })
        .hard_link("dir/other", "dir/set-uid")
        .symlink("link", &"t".repeat(99))
        .pax(&[("path", long.as_bytes())])
        .file("x", "long")
        .pax(&[("mtime", b"-1.25")])
        .file("early", "")
        .pax(&[("SCHILY.xattr.user.note", b"line\n=\0"), ("SCHILY.xattr.security.capability", b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0")])
        .file("ping", vec![b'x'; 5000])
        .item(&Item { kind: b'6', name: "fifo", ..Item::default() })
        .item(&Item { kind: b'3', name: "null", device: (1, 3), ..Item::default() })
        .done();
    let high = Tar::new().file(".wh.link", "").file("dir/.wh..wh..opq", "").file("dir/new", "new").done();
    let image = lab.load(&docker_archive(&["a:1", "localhost/b:2"], &[&low, &high])).unwrap().remove(0);
    let names: Vec<_> = fs::read_dir(&image.layers[1]).unwrap().map(|e| e.unwrap().file_name().as_bytes().len()).collect();
    assert!(names.contains(&150) && names.len() == 7, "{names:?}");
    there_and_back(&lab, &image);
}

#[test]
fn an_image_that_repeats_a_layer_can_be_saved() {
    let lab = Lab::new();
    let (one, two) = (Tar::new().file("one", "1").done(), Tar::new().file("two", "2").done());
    let image = lab.load(&docker_archive(&["a:1"], &[&one, &two, &one])).unwrap().remove(0);
    there_and_back(&lab, &image);
}

#[test]
fn several_images_share_their_layers_and_keep_the_names_that_were_asked_for() {
    let lab = Lab::new();
    let (low, one, two) = (Tar::new().file("low", vec![b'l'; 100_000]).done(), Tar::new().file("one", "1").done(), Tar::new().file("two", "2").done());
    lab.load(&docker_archive(&["a:1", "b:1"], &[&low, &one])).unwrap();
    lab.load(&docker_archive(&["c:1"], &[&low, &two])).unwrap();
    let mut archive = Vec::new();
    lab.store.save(&["a:1".into(), "c:1".into()], &mut archive).unwrap();
    assert!(archive.len() < 150_000, "the shared layer is there once: {}", archive.len());
    let other = Lab::new();
    let mut names: Vec<_> = other.load(&archive).unwrap().into_iter().map(|image| image.names).collect();
    names.sort();
    assert_eq!(names, [["docker.io/library/a:1"], ["docker.io/library/c:1"]]);
    let error = lab.store.save(&["d:1".into()], &mut Vec::new()).unwrap_err();
    assert!(matches!(error, ImageError::NotFound { .. }));
}

#[test]
fn the_embedded_image_can_be_saved() {
    let lab = Lab::new();
    let image = lab.store.find("toolbox").unwrap();
    let mut archive = Vec::new();
    lab.store.save(&["toolbox".into()], &mut archive).unwrap();
    // Its name belongs to this program: whoever loads it here has to give it another.
    let error = Lab::new().load(&archive).unwrap_err().to_string();
    assert!(error.contains("belongs to an image inside minipod"), "{error}");
    assert!(archive.len() as u64 > image.size);
}
