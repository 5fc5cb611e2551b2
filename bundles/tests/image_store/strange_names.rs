//! Names that no honest tool gives.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use bundles::image::{Force, Unused};

use crate::support::{Item, Lab, Tar, docker_archive};

#[test]
fn names_may_hold_every_byte_but_nul_and_slash() {
    let lab = Lab::new();
    let mut names: Vec<Vec<u8>> = (1..=255_u8).filter(|byte| !b"/.".contains(byte)).map(|byte| vec![byte]).collect();
    names.extend([b"new\nline".to_vec(), b"\xff\xfe".to_vec(), b"...".to_vec(), b"-rf".to_vec(), vec![b'x'; 255]]);
    let tar = names.iter().fold(Tar::new(), |tar, name| tar.pax(&[("path", name)]).file("x", name));
    let root = lab.unpack(tar);
    for name in &names {
        assert_eq!(&fs::read(root.join(OsStr::from_bytes(name))).unwrap(), name);
    }
    assert_eq!(fs::read_dir(&root).unwrap().count(), names.len());
}

#[test]
fn what_cannot_be_a_name_is_refused_and_said_on_one_line() {
    let lab = Lab::new();
    let long = "x".repeat(256);
    let deep = format!("{}x", "d/".repeat(2048));
    let cases: &[(&[u8], &str)] = &[
        (b"a\0b", "wrong value for path"),
        (b"", "wrong value for path"),
        (long.as_bytes(), "longer than 255 bytes"),
        (deep.as_bytes(), "more than 4095 bytes in a name (the limit)"),
        (b"a/../b", "`..`"),
        (b"evil\n\x1b[2Jimage loaded/..", "evil\\n\\u{1b}[2Jimage loaded/.."),
    ];
    for (name, words) in cases {
        let said = lab.refuses(Tar::new().pax(&[("path", name)]).file("x", ""));
        assert!(said.contains(words), "{said}");
        assert!(!said.contains(char::is_control), "{said:?}");
    }
    for link in [&b"a\0b"[..], b""] {
        let said = lab.refuses(Tar::new().pax(&[("linkpath", link)]).symlink("x", "y"));
        assert!(said.contains("wrong value for linkpath"), "{said}");
    }
    let said = lab.refuses(Tar::new().pax(&[("linkpath", deep.as_bytes())]).symlink("x", "y"));
    assert!(said.contains("more than 4095 bytes in a name (the limit)"), "{said}");
}

#[test]
fn trees_deeper_than_a_path_can_say_are_made_and_removed() {
    let lab = Lab::new();
    let deep = "d/".repeat(1000);
    // Each link leads a thousand directories down from where the one before led.
    let mut tar = Tar::new().pax(&[("path", deep.as_bytes())]).dir("x");
    let mut at = deep.clone();
    for n in 0..5 {
        let link = format!("l{n}");
        tar = tar.pax(&[("linkpath", at.as_bytes())]).symlink(&link, "x").pax(&[("path", format!("{link}/{deep}").as_bytes())]).dir("x");
        at = format!("{link}/{deep}");
    }
    let image = lab.load_layers(&[&tar.done()]).unwrap();
    let depth = {
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
        let mut dir = rustix::fs::open(&image.layers[0], flags, rustix::fs::Mode::empty()).unwrap();
        let mut depth = 0;
        while let Ok(next) = rustix::fs::openat(&dir, "d", flags, rustix::fs::Mode::empty()) {
            dir = next;
            depth += 1;
        }
        depth
    };
    assert_eq!(depth, 6000);
    let removed = lab.store.remove(&image.id, &Unused, Force::No).unwrap();
    assert_eq!(removed.layers, 1);
    let left = ["tmp", "layers/sha256"].map(|dir| fs::read_dir(lab.lib().join("images").join(dir)).unwrap().count());
    assert_eq!(left, [0, 0]);
}

#[test]
fn entries_of_unknown_kinds_are_refused() {
    let lab = Lab::new();
    // GNU's incremental dumps, multi-volume and volume labels; Solaris' ACLs and sockets of old cpio converters.
    for kind in [b'D', b'M', b'V', b'A', b's', b'9', 0xff] {
        let said = lab.refuses(Tar::new().item(&Item { kind, name: "x", ..Item::default() }));
        assert!(said.contains("unknown type"), "{said}");
    }
}

#[test]
fn a_hard_link_to_a_link_is_not_followed() {
    let lab = Lab::new();
    let canary = lab.dir.path().join("canary/file");
    let before = fs::metadata(&canary).unwrap();
    let root = lab.unpack(
        Tar::new()
            .symlink("out", canary.to_str().unwrap())
            .hard_link("same", "out")
            // What is written to the name replaces the link and goes nowhere.
            .hard_link("written", "out")
            .file("written", "inside")
            .symlink("dir", "sub")
            .dir("sub/")
            .file("sub/file", "x")
            .hard_link("through", "dir/file"),
    );
    lab.assert_unharmed();
    let after = fs::metadata(&canary).unwrap();
    assert_eq!((after.nlink(), after.mode(), after.uid(), after.mtime()), (before.nlink(), before.mode(), before.uid(), before.mtime()));
    let meta = |name: &str| fs::symlink_metadata(root.join(name)).unwrap();
    assert!(meta("same").is_symlink() && meta("same").ino() == meta("out").ino());
    assert!(meta("written").is_file());
    assert_eq!(meta("through").ino(), meta("sub/file").ino());
}

#[test]
fn what_is_no_file_can_be_linked_and_replaced_but_never_opened() {
    let lab = Lab::new();
    let root = lab.unpack(
        Tar::new()
            .item(&Item { kind: b'6', name: "fifo", mode: 0o600, ..Item::default() })
            .hard_link("again", "fifo")
            .file("fifo", "a file now")
            .item(&Item { kind: b'3', name: "null", device: (1, 3), mode: 0o666, ..Item::default() })
            .hard_link("zero", "null")
            .file("null", "not discarded"),
    );
    assert!(fs::symlink_metadata(root.join("again")).unwrap().file_type().is_fifo());
    assert_eq!(fs::read_to_string(root.join("fifo")).unwrap(), "a file now");
    assert!(fs::symlink_metadata(root.join("zero")).unwrap().file_type().is_char_device());
    assert_eq!(fs::read_to_string(root.join("null")).unwrap(), "not discarded");
}

#[test]
fn set_uid_programs_and_their_owners_are_kept_as_they_are() {
    let lab = Lab::new();
    let cap = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let root = lab.unpack(
        Tar::new()
            .item(&Item { name: "su", mode: 0o6755, owner: (1, 2), data: b"x", ..Item::default() })
            // A capability does not survive a change of owner or content: order matters.
            .pax(&[("SCHILY.xattr.security.capability", cap), ("uid", b"70000")])
            .item(&Item { name: "ping", mode: 0o4755, data: b"x", ..Item::default() })
            .hard_link("sudo", "su"),
    );
    let facts = |name: &str| fs::metadata(root.join(name)).map(|m| (m.mode() & 0o7777, m.uid(), m.gid())).unwrap();
    assert_eq!([facts("su"), facts("sudo"), facts("ping")], [(0o6755, 1, 2), (0o6755, 1, 2), (0o4755, 70000, 0)]);
    let mut value = [0; 64];
    let length = rustix::fs::lgetxattr(root.join("ping"), "security.capability", &mut value[..]).unwrap();
    assert_eq!(&value[..length], cap);
    // Only root comes near them: other users of the host must not find programs that make them root.
    for dir in ["", "layers", "layers/sha256"] {
        let mode = fs::metadata(lab.lib().join("images").join(dir)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700, "images/{dir}");
    }
}

#[test]
fn a_store_with_images_is_left_as_it_was() {
    let lab = Lab::new();
    let half = Tar::new().file("fine", "x").dir("d/").file("d/fine", "x").file("../evil", "x").done();
    let fine = Tar::new().file("fine", "other").done();
    // The first layer is unpacked already when the second is refused.
    let said = lab.refuses_beside(&docker_archive(&["bad:1", "good:1"], &[&fine, &half]));
    assert!(said.contains("../evil"), "{said}");
}
