//! Whiteouts in places where no honest tool puts them.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::support::{Item, Lab, Tar, tree};

/// What the kernel makes of layers, topmost first: names, and what is in files and links.
fn merged(lab: &Lab, layers: &[PathBuf]) -> BTreeMap<String, String> {
    let at = lab.lib().join("merged");
    fs::create_dir(&at).unwrap();
    let layers: Vec<&str> = layers.iter().map(|layer| layer.to_str().unwrap()).collect();
    let options = CString::new(format!("lowerdir={}", layers.join(":"))).unwrap();
    mount("overlay", &at, "overlay", MountFlags::RDONLY, Some(&*options)).unwrap();
    let shown = |path: &PathBuf| match fs::symlink_metadata(path).unwrap() {
        stat if stat.is_dir() => "/".to_owned(),
        stat if stat.is_symlink() => format!("-> {}", fs::read_link(path).unwrap().display()),
        _ => fs::read_to_string(path).unwrap(),
    };
    let seen = tree(&at).iter().map(|path| (path.strip_prefix(&at).unwrap().display().to_string(), shown(path))).collect();
    unmount(&at, UnmountFlags::empty()).unwrap();
    fs::remove_dir(&at).unwrap();
    seen
}

fn shows(found: &BTreeMap<String, String>, wanted: &[(&str, &str)]) {
    let found: Vec<(&str, &str)> = found.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    assert_eq!(found, wanted);
}

fn is_whiteout(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == 0)
}

#[test]
fn a_whiteout_of_nothing_or_of_what_is_above_is_refused() {
    let lab = Lab::new();
    for kind in [b'0', b'1', b'2', b'5', b'6', b'3'] {
        for name in [".wh.", ".wh..", ".wh...", "a/.wh..", "a/.wh...", "./.wh...", "/.wh..."] {
            let said = lab.refuses(Tar::new().item(&Item { kind, name, link: "x", ..Item::default() }));
            assert!(said.contains("whiteout of nothing"), "{name}: {said}");
        }
    }
    assert!(lab.refuses(Tar::new().file("../.wh.canary", "")).contains("`..`"));
    assert!(lab.refuses(Tar::new().file("../../../../.wh..wh..opq", "")).contains("`..`"));
}

#[test]
fn no_whiteout_goes_through_a_link_out() {
    for name in ["l/.wh.file", "l/.wh..wh..opq", "l/.wh..wh.aufs", "l/sub/.wh.x"] {
        let lab = Lab::new();
        let tar = Tar::new().symlink("l", lab.dir.path().join("canary").to_str().unwrap()).file(name, "");
        // aufs' own files make nothing, so nothing is looked up either.
        if name.contains("aufs") { drop(lab.unpack(tar)) } else { assert!(lab.refuses(tar).contains("link to nowhere"), "{name}") }
        lab.assert_unharmed();
    }
    // To the layer's own root, and over a name that is a link.
    let lab = Lab::new();
    let canary = lab.dir.path().join("canary");
    let root = lab.unpack(Tar::new().symlink("up", "../../..").file("up/.wh.x", "").symlink("f", canary.to_str().unwrap()).file(".wh.f", ""));
    lab.assert_unharmed();
    assert!(is_whiteout(&root.join("x")));
    assert!(fs::symlink_metadata(root.join("f")).unwrap().is_symlink());
}

#[test]
fn whiteouts_of_every_kind_are_the_same_and_their_data_is_nothing() {
    let lab = Lab::new();
    let lower = Tar::new().file("a", "").file("b", "").file("c", "").file("d", "").dir("e/").file("e/x", "").file("kept", "k");
    let kind = |kind, name| Item { kind, name, link: "kept", mode: 0o4777, data: if kind == b'0' { b"#!/bin/sh" } else { b"" }, ..Item::default() };
    let upper = Tar::new()
        .item(&kind(b'0', ".wh.a"))
        .item(&kind(b'1', ".wh.b"))
        .item(&kind(b'2', ".wh.c"))
        .item(&kind(b'5', ".wh.d"))
        .item(&kind(b'6', "e/.wh..wh..opq"))
        // Overlay's own form, brought as a device.
        .item(&Item { kind: b'3', name: "kept", device: (0, 0), ..Item::default() });
    let image = lab.load_layers(&[&lower.done(), &upper.done()]).unwrap();
    shows(&merged(&lab, &image.layers), &[("e", "/")]);
    let entries: Vec<PathBuf> = tree(&image.layers[0]);
    assert!(entries.iter().all(|path| !path.to_str().unwrap().contains(".wh.")), "{entries:?}");
}

#[test]
fn a_whiteout_and_an_entry_of_one_name_hide_what_is_below_in_both_orders() {
    let lower = Tar::new().file("f", "low").dir("d/").file("d/low", "low").symlink("l", "f").done();
    let entries: [&dyn Fn(Tar) -> Tar; 2] = [
        &|tar| tar.file("f", "high").dir("d/").file("d/high", "high").file("l", "high"),
        &|tar| tar.file(".wh.f", "").file(".wh.d", "").file(".wh.l", ""),
    ];
    for order in [[0, 1], [1, 0]] {
        let lab = Lab::new();
        let upper = order.into_iter().fold(Tar::new(), |tar, at| entries[at](tar)).done();
        let image = lab.load_layers(&[&lower, &upper]).unwrap();
        shows(&merged(&lab, &image.layers), &[("d", "/"), ("d/high", "high"), ("f", "high"), ("l", "high")]);
    }
}

#[test]
fn an_opaque_mark_at_the_root_or_on_a_link_of_a_lower_layer_stays_in_its_layer() {
    let lab = Lab::new();
    let canary = lab.dir.path().join("canary");
    let lower = Tar::new().symlink("l", canary.to_str().unwrap()).dir("real/").file("real/low", "low").symlink("m", "real").done();
    // `l` and `m` are links below, and directories here.
    let upper = Tar::new().file("l/.wh..wh..opq", "").file("l/file", "mine").file("m/.wh.low", "").file(".wh..wh..opq", "").file("top", "t").done();
    let image = lab.load_layers(&[&lower, &upper]).unwrap();
    lab.assert_unharmed();
    let seen = merged(&lab, &image.layers);
    assert_eq!(seen.get("l/file").map(String::as_str), Some("mine"));
    assert_eq!(seen.get("top").map(String::as_str), Some("t"));
    assert!(seen.iter().all(|(_, text)| text != "untouched"), "{seen:?}");
    assert_eq!(fs::read_to_string(image.layers[1].join("real/low")).unwrap(), "low");
}

#[test]
fn a_directory_that_became_a_link_is_not_written_through() {
    let lab = Lab::new();
    let canary = lab.dir.path().join("canary");
    let first = Tar::new().dir("d/").file("d/first", "1").done();
    let second = Tar::new().symlink("d", canary.to_str().unwrap()).done();
    let third = Tar::new().file("d/file", "3").file("d/.wh.file2", "").done();
    let fourth = Tar::new().file(".wh.d", "").symlink("e", "d").done();
    let image = lab.load_layers(&[&first, &second, &third]).unwrap();
    lab.assert_unharmed();
    // A directory over a link: the link and what was below it are hidden.
    shows(&merged(&lab, &image.layers), &[("d", "/"), ("d/file", "3")]);
    let image = lab.load_layers(&[&first, &second, &third, &fourth]).unwrap();
    shows(&merged(&lab, &image.layers), &[("e", "-> d")]);
    lab.assert_unharmed();
}

#[test]
fn a_whiteout_can_be_linked_to_but_shows_nothing() {
    let lab = Lab::new();
    let lower = Tar::new().file("a", "low").file("b", "low").done();
    let upper = Tar::new().file(".wh.a", "").hard_link("b", "a").file("c/.wh.x/y", "a directory called .wh.x").done();
    let image = lab.load_layers(&[&lower, &upper]).unwrap();
    shows(&merged(&lab, &image.layers), &[("c", "/"), ("c/.wh.x", "/"), ("c/.wh.x/y", "a directory called .wh.x")]);
}
