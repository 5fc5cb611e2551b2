//! Layers that try to get out, or to exhaust the machine.

use std::fs;
use std::os::unix::fs::FileTypeExt;

use bundles::image::{Limits, Watch};

use crate::support::{Item, Lab, Tar, chain, docker_archive, gzip, zstd};

#[test]
fn names_that_climb_are_refused() {
    let lab = Lab::new();
    for name in ["../evil", "a/../../evil", "..", "a/..", "/../evil", "./../canary/file"] {
        let error = lab.refuses(Tar::new().file(name, "evil"));
        assert!(error.contains(name) && error.contains("`..`"), "{error}");
    }
    for kind in [b'1', b'2', b'5', b'6', b'3'] {
        lab.refuses(Tar::new().item(&Item { kind, name: "../canary/new", link: "x", ..Item::default() }));
    }
    for link in ["../canary/file", "../../../../etc/passwd", "/../x"] {
        assert!(lab.refuses(Tar::new().hard_link("stolen", link)).contains("`..`"));
    }
    lab.refuses(Tar::new().file(".wh...", ""));
    lab.refuses(Tar::new().file(".wh..", ""));
    lab.refuses(Tar::new().file("a/.wh.", ""));
}

#[test]
fn absolute_names_and_links_stay_inside() {
    let lab = Lab::new();
    let canary = lab.dir.path().join("canary");
    let canary = canary.to_str().unwrap();
    let outside = format!("{canary}/new");
    let root = lab.unpack(
        Tar::new()
            .file(&outside, "absolute")
            .symlink("escape", canary)
            .file("escape/through", "through a link")
            .symlink("up", "../../../../../../../../../../..")
            .file("up/climbed", "to the layer's own root")
            .symlink("magic", "/proc/self/root")
            .dir("proc/self/root")
            .file("magic/file", ""),
    );
    lab.assert_unharmed();
    let inside = root.join(outside.strip_prefix('/').unwrap());
    assert_eq!(fs::read_to_string(&inside).unwrap(), "absolute");
    assert!(inside.with_file_name("through").is_file());
    assert!(root.join("climbed").is_file());
    assert!(root.join("proc/self/root/file").is_file());
}

#[test]
fn hard_links_to_what_is_not_in_the_layer_are_refused() {
    let lab = Lab::new();
    let canary = lab.dir.path().join("canary/file");
    for link in ["/etc/passwd", "absent", "", ".", canary.to_str().unwrap()] {
        let error = lab.refuses(Tar::new().hard_link("stolen", link));
        assert!(error.contains("not in this layer"), "{link}: {error}");
    }
    assert!(lab.refuses(Tar::new().dir("d/").hard_link("x", "d")).contains("directory"));
    // Through a link that leads out of the layer.
    lab.refuses(Tar::new().symlink("out", lab.dir.path().join("canary").to_str().unwrap()).hard_link("stolen", "out/file"));
}

#[test]
fn later_entries_replace_earlier_ones_without_following_them() {
    let lab = Lab::new();
    let canary = lab.dir.path().join("canary");
    let (dir, file) = (canary.to_str().unwrap(), canary.join("file"));
    let file = file.to_str().unwrap();
    let root = lab.unpack(
        Tar::new()
            // A directory becomes a link out.
            .dir("d/")
            .file("d/inner", "")
            .symlink("d", dir)
            // A link to a file is replaced, not written through.
            .symlink("f", file)
            .file("f", "new")
            // A link to a directory is replaced by a directory.
            .symlink("g", dir)
            .item(&Item { kind: b'5', name: "g/", mode: 0o700, owner: (1, 1), ..Item::default() })
            .symlink("h", file)
            .item(&Item { kind: b'6', name: "h", mode: 0o666, owner: (1, 1), ..Item::default() })
            .file("i", "first")
            .hard_link("j", "i")
            .file("j", "second")
            .hard_link("i", "./i")
            .file("k/l", "")
            .file("k", "a file now"),
    );
    lab.assert_unharmed();
    assert!(fs::symlink_metadata(root.join("d")).unwrap().is_symlink());
    assert!(fs::symlink_metadata(root.join("f")).unwrap().is_file());
    assert!(fs::symlink_metadata(root.join("g")).unwrap().is_dir());
    assert!(fs::symlink_metadata(root.join("h")).unwrap().file_type().is_fifo());
    assert_eq!(fs::read_to_string(root.join("i")).unwrap(), "first", "a hard link's file is not overwritten");
    assert_eq!(fs::read_to_string(root.join("j")).unwrap(), "second");
    assert_eq!(fs::read_to_string(root.join("k")).unwrap(), "a file now");
}

#[test]
fn impossible_directories_are_refused() {
    let lab = Lab::new();
    assert!(lab.refuses(Tar::new().file("f", "").file("f/g", "")).contains("not a directory"));
    assert!(lab.refuses(Tar::new().symlink("l", "/absent").file("l/f", "")).contains("nowhere"));
    assert!(lab.refuses(Tar::new().symlink("l", "l").file("l/f", "")).contains("l/f"));
    assert!(!lab.refuses(Tar::new().file("./", "the root as a file")).is_empty());
    assert!(lab.refuses(Tar::new().symlink(".", "/")).contains("root"));
}

#[test]
fn only_harmless_devices_are_made() {
    let lab = Lab::new();
    let device = |kind, name, device| Item { kind, name, device, mode: 0o666, ..Item::default() };
    let root = lab.unpack(
        Tar::new()
            .item(&device(b'3', "null", (1, 3)))
            .item(&device(b'3', "mem", (1, 1)))
            .item(&device(b'3', "kmsg", (1, 11)))
            .item(&device(b'4', "sda", (8, 0)))
            .item(&device(b'4', "zero-like", (1, 5))),
    );
    assert!(fs::symlink_metadata(root.join("null")).unwrap().file_type().is_char_device());
    for name in ["mem", "kmsg", "sda", "zero-like"] {
        assert!(fs::symlink_metadata(root.join(name)).is_err(), "{name}");
    }
}

#[test]
fn overlay_marks_and_host_labels_are_left_out() {
    let lab = Lab::new();
    let root = lab.unpack(
        Tar::new()
            .pax(&[
                ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
                ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
                ("SCHILY.xattr.trusted.other", b"x"),
                ("SCHILY.xattr.user.overlay.opaque", b"y"),
                ("SCHILY.xattr.security.selinux", b"system_u"),
                ("SCHILY.xattr.user.fine", b"x"),
            ])
            .dir("d/"),
    );
    let mut names = [0; 1024];
    let length = rustix::fs::llistxattr(root.join("d"), &mut names[..]).unwrap();
    assert_eq!(&names[..length], b"user.fine\0");
}

#[test]
fn an_entry_through_a_link_out_is_refused() {
    let lab = Lab::new();
    let canary = lab.dir.path().join("canary");
    let layer = Tar::new().symlink("d", canary.to_str().unwrap()).file("d/file", "evil").done();
    let error = lab.load(&docker_archive(&[], &[&layer])).unwrap_err();
    lab.assert_unharmed();
    lab.assert_clean();
    assert!(chain(&error).contains("`d` is a symbolic link"), "{}", chain(&error));
}

#[test]
fn limits_end_bombs() {
    let small = |limits: Limits, layer: Tar| {
        let mut lab = Lab::new();
        lab.store = bundles::image::ImageStore::open(&lab.lib()).unwrap().with_limits(limits.clone());
        let layer = layer.done();
        for archive in [docker_archive(&[], &[&layer]), gzip(&docker_archive(&[], &[&layer]))] {
            let error = lab.load(&archive).unwrap_err();
            lab.assert_clean();
            assert!(chain(&error).contains("(the limit)"), "{limits:?}: {}", chain(&error));
        }
    };
    let many = || (0..20).fold(Tar::new(), |tar, n| tar.dir(&format!("d{n}/")));
    small(Limits { layer_entries: 19, ..Limits::default() }, many());
    small(Limits { directory_name_bytes: 30, ..Limits::default() }, many());
    small(Limits { layer_bytes: 9, ..Limits::default() }, Tar::new().file("a", "12345").file("b", "12345"));
    let hole = Tar::new().pax(&[("GNU.sparse.realsize", b"1000000"), ("GNU.sparse.map", b"0,1")]).file("hole", "x");
    small(Limits { layer_bytes: 999_999, ..Limits::default() }, hole);
    let long = Tar::new().pax(&[("path", &[b'a'; 200])]).file("x", "");
    small(Limits { path_bytes: 150, ..Limits::default() }, long.clone());
    small(Limits { header_bytes: 150, ..Limits::default() }, long);
    small(Limits { document_bytes: 100, ..Limits::default() }, Tar::new());
    small(Limits { archive_entries: 2, ..Limits::default() }, Tar::new());
}

#[test]
fn a_compressed_archive_that_never_ends_is_cut() {
    let mut lab = Lab::new();
    let limits = Limits { archive_bytes: 1 << 20, ..Limits::default() };
    lab.store = bundles::image::ImageStore::open(&lab.lib()).unwrap().with_limits(limits);
    assert!(lab.refuses_archive(&zstd(&vec![0; 2 << 20])).contains("(the limit)"));
}

#[test]
fn a_document_may_not_be_a_fifo_or_lead_out_of_the_layout() {
    let lab = Lab::new();
    let layout = lab.dir.path().join("lib/layout");
    fs::create_dir_all(&layout).unwrap();
    let dir = fs::File::open(&layout).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(&dir, "index.json", fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    assert!(lab.store.load(&layout, Watch::nobody()).is_err());
    fs::remove_file(layout.join("index.json")).unwrap();
    let secret = lab.write("archive.tar", r#"{"manifests":[]}"#);
    std::os::unix::fs::symlink(secret, layout.join("index.json")).unwrap();
    let error = lab.store.load(&layout, Watch::nobody()).unwrap_err();
    assert!(error.to_string().contains("neither"), "{error}");
}
