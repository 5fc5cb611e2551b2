//! What an unpacked layer looks like.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::support::{Item, Lab, Tar};

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = [0; 256];
    let length = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    Some(value[..length].to_vec())
}

fn is_whiteout(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == 0)
}

fn is_opaque(path: &Path) -> bool {
    xattr(path, "trusted.overlay.opaque").as_deref() == Some(b"y")
}

#[test]
fn metadata_is_kept() {
    let lab = Lab::new();
    // A version 2 capability set: cap_net_raw permitted and effective; it holds a newline to try the parser.
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\n\0\0\0\0\0\0\0";
    let root = lab.unpack(
        Tar::new()
            .item(&Item { kind: b'5', name: "./", mode: 0o711, mtime: 5, ..Item::default() })
            .item(&Item { kind: b'5', name: "tmp/", mode: 0o1777, mtime: 77, owner: (3, 4), ..Item::default() })
            .item(&Item { name: "tmp/su", mode: 0o4755, owner: (7, 8), mtime: 99, data: b"x", ..Item::default() })
            .pax(&[("SCHILY.xattr.security.capability", capability), ("SCHILY.xattr.user.note", b"a=\nb"), ("mtime", b"12.5")])
            .item(&Item { name: "ping", mode: 0o755, owner: (9, 9), ..Item::default() })
            .item(&Item { kind: b'2', name: "link", link: "/nowhere", owner: (5, 6), mtime: 55, ..Item::default() })
            .item(&Item { kind: b'6', name: "fifo", mode: 0o620, owner: (0, 5), ..Item::default() })
            .hard_link("tmp/same", "tmp/su")
            .item(&Item { kind: b'5', name: "var/mail", mode: 0o2775, owner: (0, 8), ..Item::default() })
            .file("var/mail/box", ""),
    );
    let meta = |name: &str| fs::symlink_metadata(root.join(name)).unwrap();
    let facts = |name: &str| {
        let m = meta(name);
        (m.mode() & 0o7777, m.uid(), m.gid(), m.mtime())
    };
    assert_eq!(facts("."), (0o711, 0, 0, 5));
    assert_eq!(facts("tmp"), (0o1777, 3, 4, 77));
    assert_eq!(facts("tmp/su"), (0o4755, 7, 8, 99));
    assert_eq!(facts("link"), (0o777, 5, 6, 55));
    assert_eq!(facts("fifo"), (0o620, 0, 5, 1_000_000_000));
    assert_eq!(facts("ping"), (0o755, 9, 9, 12));
    assert_eq!(meta("ping").mtime_nsec(), 500_000_000);
    assert_eq!(facts("var/mail/box").2, 0, "the group is the entry's, not the set-gid directory's");
    assert_eq!(facts("var").0, 0o755, "a parent without an entry");
    assert!(meta("fifo").file_type().is_fifo());
    assert_eq!(fs::read_link(root.join("link")).unwrap(), Path::new("/nowhere"));
    assert_eq!((meta("tmp/same").ino(), meta("tmp/su").nlink()), (meta("tmp/su").ino(), 2));
    assert_eq!(xattr(&root.join("ping"), "security.capability").as_deref(), Some(&capability[..]));
    assert_eq!(xattr(&root.join("ping"), "user.note").as_deref(), Some(&b"a=\nb"[..]));
}

#[test]
fn whiteouts_are_overlays_own() {
    let lab = Lab::new();
    let lower = Tar::new().file("a", "low").dir("d/").file("d/old", "").dir("e/").file("e/old", "").dir("f/").file("f/old", "");
    let upper = Tar::new()
        .file(".wh.a", "")
        .file("d/.wh..wh..opq", "")
        .file("d/new", "")
        .file(".wh..wh.plnk/1.2", "aufs")
        // Hidden below and made anew here, in both orders.
        .file(".wh.e", "")
        .file("e/new", "")
        .dir("f/")
        .file("f/new", "")
        .file(".wh.f", "")
        .file("kept", "")
        .file(".wh.kept", "");
    let image = lab.load_layers(&[&lower.done(), &upper.done()]).unwrap();
    let [upper, lower] = &image.layers[..] else { panic!() };
    assert!(is_whiteout(&upper.join("a")));
    for name in ["d", "e", "f"] {
        assert!(is_opaque(&upper.join(name)), "{name}");
        assert!(upper.join(name).join("new").exists());
    }
    assert!(upper.join("kept").is_file());
    assert!(!upper.join(".wh..wh.plnk").exists());
    assert!(!upper.join(".wh.a").exists());

    // The kernel's word on it.
    let merged = lab.dir.path().join("merged");
    fs::create_dir(&merged).unwrap();
    let options = format!("lowerdir={}:{}", upper.display(), lower.display());
    let options = std::ffi::CString::new(options).unwrap();
    rustix::mount::mount("overlay", &merged, "overlay", rustix::mount::MountFlags::RDONLY, Some(&*options)).unwrap();
    let mut seen: Vec<_> = crate::support::tree(&merged)
        .into_iter()
        .map(|p| p.strip_prefix(&merged).unwrap().to_str().unwrap().to_owned())
        .collect();
    rustix::mount::unmount(&merged, rustix::mount::UnmountFlags::empty()).unwrap();
    seen.sort();
    assert_eq!(seen, ["d", "d/new", "e", "e/new", "f", "f/new", "kept"]);
}

#[test]
fn long_names_and_large_numbers() {
    let lab = Lab::new();
    let deep = ["directory-with-a-long-name"; 12].join("/");
    let root = lab.unpack(
        Tar::new()
            .pax(&[("path", format!("{deep}/pax").as_bytes()), ("size", b"3"), ("uid", b"3000000")])
            .item(&Item { name: "short", data: b"abc", ..Item::default() })
            .item(&Item { kind: b'L', name: "././@LongLink", data: format!("{deep}/gnu\0").as_bytes(), ..Item::default() })
            .file("short", "x")
            .item(&Item { kind: b'K', name: "././@LongLink", data: format!("{deep}/gnu\0").as_bytes(), ..Item::default() })
            .hard_link("hard", "short")
            .item(&Item { kind: b'g', name: "pax_global_header", data: b"19 comment=123456789\n", ..Item::default() })
            .item(&Item { kind: 0, name: "v7dir/", ..Item::default() }),
    );
    assert_eq!(fs::read_to_string(root.join(&deep).join("pax")).unwrap(), "abc");
    assert_eq!(fs::metadata(root.join(&deep).join("pax")).unwrap().uid(), 3_000_000);
    assert_eq!(fs::metadata(root.join("hard")).unwrap().nlink(), 2);
    assert!(root.join("v7dir").is_dir());
}

#[test]
fn sparse_files_of_each_format() {
    let lab = Lab::new();
    let mut map = b"2\n1000\n3\n4094\n2\n".to_vec();
    map.resize(512, 0);
    map.extend(b"abcde");
    let numbers: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"one"),
        ("GNU.sparse.realsize", b"5000"),
    ];
    let mut gnu = tar::Header::new_gnu();
    gnu.as_old_mut().name[..3].copy_from_slice(b"gnu");
    gnu.set_entry_type(tar::EntryType::GNUSparse);
    gnu.set_mode(0o600);
    gnu.set_uid(0);
    gnu.set_gid(0);
    gnu.set_size(5);
    let fields = gnu.as_gnu_mut().unwrap();
    fields.set_real_size(5000);
    for (at, (offset, length)) in [(b"00000001750\0", b"00000000003\0"), (b"00000007776\0", b"00000000002\0")].iter().enumerate() {
        fields.sparse[at].offset = **offset;
        fields.sparse[at].numbytes = **length;
    }
    gnu.set_cksum();
    let mut data = b"abcde".to_vec();
    data.resize(512, 0);
    let root = lab.unpack(
        Tar::new()
            .pax(numbers)
            .file("GNUSparseFile.0/one", &map)
            .pax(&[("GNU.sparse.size", b"5000"), ("GNU.sparse.name", b"dot"), ("GNU.sparse.map", b"1000,3,4094,2")])
            .file("GNUSparseFile.0/dot", "abcde")
            .raw(gnu.as_bytes())
            .raw(&data)
            .file("after", "after"),
    );
    let mut wanted = vec![0; 5000];
    wanted[1000..1003].copy_from_slice(b"abc");
    wanted[4094..4096].copy_from_slice(b"de");
    for name in ["one", "dot", "gnu"] {
        assert!(fs::read(root.join(name)).unwrap() == wanted, "{name}");
    }
    assert_eq!(fs::read_to_string(root.join("after")).unwrap(), "after");
}

#[test]
fn a_repeated_layer_counts_where_it_is_topmost() {
    let lab = Lab::new();
    let a = Tar::new().file("x", "a").file("only-a", "a").done();
    let b = Tar::new().file("x", "b").file(".wh.only-a", "").done();
    let image = lab.load_layers(&[&a, &b, &a]).unwrap();
    assert_eq!(image.layers.len(), 2);
    assert_eq!(fs::read_to_string(image.layers[0].join("x")).unwrap(), "a");
    assert_eq!(fs::read_to_string(image.layers[1].join("x")).unwrap(), "b");
}
