//! The directories that an image wants: where they may be, and what is in them.

use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use bundles::image::{Image, ImageConfig};
use bundles::manifest::{ParseOptions, Source, parse};
use bundles::plan::{ContainerPlan, RootSource};
use bundles::volume::{fill, of_image};
use rustix::fs::{CWD, FileType, Mode, XattrFlags};

/// A container of an image that wants volumes, with mounts of the pod's.
fn container(wanted: &[&str], mounts: &str) -> ContainerPlan {
    let text = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  volumes: [{{name: v}}]\n  containers: [{{name: a, image: \"x:1\", volumeMounts: [{mounts}]}}]\n");
    let mut manifest = parse(&[Source { name: "m".to_owned(), text }], &ParseOptions::default()).expect("a manifest");
    let mut container = manifest.pods.remove(0).plan.containers.remove(0);
    let volumes = wanted.iter().map(|place| (*place).to_owned()).collect();
    container.root = RootSource::Image(Box::new(Image {
        reference: "docker.io/library/x:1".to_owned(), names: Vec::new(), id: String::new(), digest: String::new(), digests: Vec::new(),
        layers: Vec::new(), config: ImageConfig { volumes, ..ImageConfig::default() }, size: 0, created: None, architecture: String::new(),
    }));
    container
}

fn places(wanted: &[&str], mounts: &str) -> Vec<String> {
    let places = of_image(&container(wanted, mounts)).unwrap_or_else(|error| panic!("{error}"));
    places.into_iter().map(|place| place.display().to_string()).collect()
}

#[test]
fn places_are_clean_and_the_manifest_comes_first() {
    assert_eq!(places(&["/data", "relative", "/a/../b/./c//", "/b/c", "../../up", "/var/lib"], ""), ["/data", "/relative", "/up", "/b/c", "/var/lib"]);
    assert_eq!(places(&["/data", "/data/sub", "/other/"], "{name: v, mountPath: /data/}, {name: v, mountPath: /other}"), ["/data/sub"]);
    assert_eq!(places(&["/etc", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"], ""), ["/etc"], "the pod has its own");
    assert_eq!(places(&["/process", "/device", "/system"], ""), ["/device", "/process", "/system"]);
    let mut bundle = container(&[], "");
    bundle.root = RootSource::Directory("/".into());
    assert_eq!(of_image(&bundle).expect("no image, no volumes"), Vec::<PathBuf>::new());
}

#[test]
fn places_where_nothing_may_be_are_refused() {
    for wrong in ["", "/", ".", "..", "/a/..", "//", "/proc", "proc/1", "/dev", "/dev/shm", "/x/../dev", "/sys/fs/cgroup", "/a\0b"] {
        let said = of_image(&container(&["/fine", wrong], "")).expect_err(wrong).to_string();
        assert_eq!(said, format!("image docker.io/library/x:1: its configuration asks for a volume at {wrong:?}, where none can be"));
    }
    let said = of_image(&container(&[&format!("/proc/\u{1b}[2J\n{}", "x".repeat(10_000))], "")).expect_err("hostile").to_string();
    assert!(said.len() < 300 && !said.contains(char::is_control), "{said}");
    let many: Vec<String> = (0..101).map(|n| format!("/{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(of_image(&container(&many[..100], "")).expect("a hundred").len(), 100);
    assert!(of_image(&container(&many, "")).expect_err("one more").to_string().contains("101 volumes, more than 100 (the limit)"));
}

/// A root, an outside, and where volumes go.
struct Lab {
    _dir: tempfile::TempDir,
    root: PathBuf,
    outside: PathBuf,
    to: PathBuf,
}

impl Lab {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir(&path).expect("a directory");
            path
        };
        let (root, outside, to) = (at("root"), at("outside"), at("to"));
        fs::write(outside.join("precious"), "precious").expect("a file");
        Self { root, outside, to: to.join("0"), _dir: dir }
    }

    fn fill(&self, place: &str) -> Result<(), String> {
        fill(&self.root, Path::new(place), &self.to).map_err(|error| {
            let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            format!("{error}: {source}")
        })
    }
}

#[test]
fn everything_is_as_in_the_image() {
    let lab = Lab::new();
    let data = lab.root.join("data");
    fs::create_dir_all(data.join("deep/er")).expect("directories");
    fs::write(data.join("file"), "content").expect("a file");
    fs::write(data.join("deep/er/run"), "x").expect("a file");
    fs::hard_link(data.join("file"), data.join("deep/again")).expect("a link");
    symlink("/etc/passwd", data.join("deep/link")).expect("a link");
    rustix::fs::mknodat(CWD, data.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).expect("a fifo");
    rustix::fs::mknodat(CWD, data.join("null"), FileType::CharacterDevice, Mode::from_raw_mode(0o644), rustix::fs::makedev(1, 3)).expect("a device");
    rustix::fs::mknodat(CWD, data.join("whiteout"), FileType::CharacterDevice, Mode::empty(), 0).expect("a device");
    let _socket = std::os::unix::net::UnixListener::bind(data.join("socket")).expect("a socket");
    chown(data.join("deep/er/run"), Some(7), Some(8)).expect("an owner");
    fs::set_permissions(data.join("deep/er/run"), Permissions::from_mode(0o4751)).expect("a mode");
    lchown(data.join("deep/link"), Some(9), Some(10)).expect("an owner");
    rustix::fs::setxattr(data.join("file"), "user.mark", b"here", XattrFlags::empty()).expect("an attribute");
    // An empty capability set of revision 2 (capabilities(7)).
    let capability = [[1, 0, 0, 2], [0, 4, 0, 0], [0; 4], [0; 4], [0; 4]].concat();
    rustix::fs::setxattr(data.join("deep/er/run"), "security.capability", &capability, XattrFlags::empty()).expect("an attribute");
    chown(&data, Some(999), Some(998)).expect("an owner");
    fs::set_permissions(&data, Permissions::from_mode(0o1770)).expect("a mode");

    lab.fill("/data").expect("filled");
    let at = |path: &str| lab.to.join(path);
    let meta = |path: &str| fs::symlink_metadata(at(path)).expect("metadata");
    assert_eq!((meta("").mode() & 0o7777, meta("").uid(), meta("").gid()), (0o1770, 999, 998));
    assert_eq!(fs::read_to_string(at("file")).expect("a file"), "content");
    assert_eq!(meta("file").ino(), meta("deep/again").ino(), "still one file");
    assert_eq!((meta("deep/er/run").mode() & 0o7777, meta("deep/er/run").uid(), meta("deep/er/run").gid()), (0o4751, 7, 8));
    assert_eq!((fs::read_link(at("deep/link")).expect("a link"), meta("deep/link").uid()), (PathBuf::from("/etc/passwd"), 9));
    assert_eq!((meta("fifo").mode() & 0o7777, meta("null").mode() & 0o7777, meta("null").rdev()), (0o640, 0o644, rustix::fs::makedev(1, 3)));
    let mut value = [0; 64];
    assert_eq!(rustix::fs::getxattr(at("file"), "user.mark", &mut value).expect("an attribute"), 4);
    assert_eq!(rustix::fs::getxattr(at("deep/er/run"), "security.capability", &mut value).expect("an attribute"), 20);
    assert!(fs::symlink_metadata(at("whiteout")).is_err() && fs::symlink_metadata(at("socket")).is_err());
    assert_eq!(meta("deep").mtime(), fs::symlink_metadata(data.join("deep")).expect("metadata").mtime());

    // Once: what a container has written stays.
    fs::write(at("file"), "written").expect("write");
    lab.fill("/data").expect("there already");
    assert_eq!(fs::read_to_string(at("file")).expect("a file"), "written");
    assert_eq!(fs::read_to_string(data.join("file")).expect("a file"), "content");
}

#[test]
fn without_anything_in_the_image_it_is_empty() {
    let lab = Lab::new();
    symlink("/nowhere", lab.root.join("dangling")).expect("a link");
    for place in ["/none/at/all", "/dangling", "/dangling/below"] {
        lab.fill(place).expect(place);
        let meta = fs::metadata(&lab.to).expect("metadata");
        assert_eq!((meta.mode() & 0o7777, meta.uid(), fs::read_dir(&lab.to).expect("a directory").count()), (0o755, 0, 0));
        fs::remove_dir(&lab.to).expect("once more");
    }
}

#[test]
fn no_link_leads_out_of_the_root() {
    let lab = Lab::new();
    let out = lab.outside.to_str().expect("UTF-8").to_owned();
    symlink(&out, lab.root.join("absolute")).expect("a link");
    symlink("../outside", lab.root.join("up")).expect("a link");
    symlink("/proc/self/root", lab.root.join("magic")).expect("a link");
    symlink("loop", lab.root.join("loop")).expect("a link");
    for place in ["/absolute", "/up", "/magic/etc", "/../outside"] {
        if lab.fill(place).is_ok() {
            assert_eq!(fs::read_dir(&lab.to).expect("a directory").count(), 0, "{place}");
            fs::remove_dir(&lab.to).expect("once more");
        }
    }
    lab.fill("/loop").expect_err("a loop");
    // Inside, a link is followed.
    fs::create_dir_all(lab.root.join("srv/data")).expect("directories");
    fs::write(lab.root.join("srv/data/file"), "x").expect("a file");
    symlink("/srv/data", lab.root.join("data")).expect("a link");
    lab.fill("/data").expect("filled");
    assert!(lab.to.join("file").exists());
}

#[test]
fn what_cannot_be_copied_leaves_nothing() {
    let lab = Lab::new();
    fs::write(lab.root.join("file"), "x").expect("a file");
    let said = lab.fill("/file").expect_err("a file");
    assert_eq!(said, "fill the image's volume \"/file\": the image has a file there");
    let mut deep = lab.root.join("data");
    for _ in 0..130 {
        deep.push("d");
    }
    fs::create_dir_all(&deep).expect("deep");
    let said = lab.fill("/data").expect_err("too deep");
    assert!(said.contains("more than 128 directories deep") && said.len() < 400, "{said}");
    assert_eq!(fs::read_dir(lab.to.parent().expect("a parent")).expect("a directory").count(), 0);
    // What a crash left is no hindrance.
    fs::create_dir_all(lab.to.with_extension("new").join("old")).expect("a leftover");
    fs::remove_dir_all(lab.root.join("data")).expect("removed");
    lab.fill("/data").expect("filled");
    assert_eq!(fs::read_dir(&lab.to).expect("a directory").count(), 0);
}

#[test]
fn holes_stay_holes_and_names_are_any_bytes() {
    let lab = Lab::new();
    fs::create_dir(lab.root.join("data")).expect("a directory");
    let file = fs::File::create(lab.root.join("data/sparse")).expect("a file");
    file.set_len(1 << 40).expect("a tebibyte");
    std::os::unix::fs::FileExt::write_all_at(&file, b"middle", 1 << 30).expect("data");
    let odd = std::ffi::OsStr::from_bytes(b"\xff\n\x1b");
    fs::write(lab.root.join("data").join(odd), "odd").expect("a file");
    lab.fill("/data").expect("filled");
    let copy = fs::File::open(lab.to.join("sparse")).expect("a file");
    let meta = copy.metadata().expect("metadata");
    assert_eq!(meta.len(), 1 << 40);
    assert!(meta.blocks() < 2048, "{} blocks", meta.blocks());
    let mut middle = [0; 8];
    std::os::unix::fs::FileExt::read_exact_at(&copy, &mut middle, 1 << 30).expect("data");
    assert_eq!(&middle, b"middle\0\0");
    assert_eq!(fs::read_to_string(lab.to.join(odd)).expect("a file"), "odd");
}
