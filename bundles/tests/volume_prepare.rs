//! emptyDir, hostPath and sub paths on a real file system; staging in a mount namespace of the test's own thread.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use bundles::image::{Image, ImageConfig};
use bundles::plan::{HostPathKind, PullPolicy, VolumeSource};
use bundles::volume::{Missing, PodMount, Prepared, Tmpfs, VolumeError, prepare, remove, sub_path};

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("metadata").permissions().mode() & 0o7777
}

fn host(path: PathBuf, kind: HostPathKind) -> VolumeSource {
    VolumeSource::HostPath { path, kind }
}

#[test]
fn an_empty_dir_is_open_to_all_below_a_closed_directory_and_stays() {
    let dir = tempfile::tempdir().expect("a directory");
    let volumes = dir.path().join("uid/volumes");
    let source = VolumeSource::EmptyDir { memory: false, size_limit: None };
    let prepared = prepare(&source, &volumes, "scratch").expect("prepared");
    assert_eq!((prepared.path.as_path(), &prepared.mount), (volumes.join("scratch").as_path(), &None));
    assert_eq!((mode(&prepared.path), mode(&volumes)), (0o777, 0o700));
    fs::write(prepared.path.join("kept"), "x").expect("a file");
    prepare(&source, &volumes, "scratch").expect("again");
    assert!(prepared.path.join("kept").exists());
    let memory = VolumeSource::EmptyDir { memory: true, size_limit: Some(65536) };
    let prepared = prepare(&memory, &volumes, "mem").expect("prepared");
    let Some(PodMount::Tmpfs(tmpfs)) = prepared.mount else { panic!("{prepared:?}") };
    assert_eq!(tmpfs, Tmpfs { size: Some(65536), mode: 0o777 });
    assert_eq!(tmpfs.options(), "mode=777,size=65536");
}

#[test]
fn remove_takes_the_tree_and_follows_no_link() {
    let dir = tempfile::tempdir().expect("a directory");
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).expect("outside");
    fs::write(outside.join("file"), "x").expect("file");
    let volumes = dir.path().join("volumes");
    let prepared = prepare(&VolumeSource::EmptyDir { memory: false, size_limit: None }, &volumes, "v").expect("prepared");
    fs::create_dir_all(prepared.path.join("a/b")).expect("dirs");
    fs::set_permissions(prepared.path.join("a"), fs::Permissions::from_mode(0o500)).expect("mode");
    symlink(&outside, prepared.path.join("link")).expect("link");
    remove(&volumes).expect("removed");
    assert!(!volumes.exists() && outside.join("file").exists());
    remove(&volumes).expect("what is gone is no error");
}

#[test]
fn a_place_taken_by_a_link_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    symlink("/etc", dir.path().join("v")).expect("link");
    let error = prepare(&VolumeSource::EmptyDir { memory: false, size_limit: None }, dir.path(), "v").expect_err("a link");
    assert!(matches!(error, VolumeError::Io { .. }), "{error}");
}

#[test]
fn a_host_path_is_checked_by_its_type() {
    use HostPathKind::{BlockDevice, CharDevice, Directory, DirectoryOrCreate, File, FileOrCreate, Socket, Unchecked};
    let dir = tempfile::tempdir().expect("a directory");
    let (directory, file, socket) = (dir.path().join("d"), dir.path().join("f"), dir.path().join("s"));
    fs::create_dir(&directory).expect("directory");
    fs::write(&file, "").expect("file");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("socket");
    let null = PathBuf::from("/dev/null");
    for (path, kinds, name) in [
        (&directory, vec![Directory, DirectoryOrCreate], "a directory"),
        (&file, vec![File, FileOrCreate], "a regular file"),
        (&socket, vec![Socket], "a unix socket"),
        (&null, vec![CharDevice], "a character device"),
    ] {
        for kind in [Unchecked, Directory, DirectoryOrCreate, File, FileOrCreate, Socket, CharDevice, BlockDevice] {
            let result = prepare(&host(path.clone(), kind), dir.path(), "v");
            if kind == Unchecked || kinds.contains(&kind) {
                assert_eq!(result.expect("fits").path, *path);
            } else {
                let error = result.expect_err("does not fit").to_string();
                assert!(error.contains(&format!("{path:?} is {name}, but its type asks for")), "{error}");
            }
        }
    }
}

#[test]
fn a_missing_host_path_is_created_where_its_type_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    for (name, kind, expected) in [
        ("a/b", HostPathKind::DirectoryOrCreate, 0o755),
        ("c", HostPathKind::Unchecked, 0o755),
        ("d", HostPathKind::FileOrCreate, 0o644),
    ] {
        prepare(&host(at(name), kind), dir.path(), "v").expect("created");
        assert_eq!((mode(&at(name)), at(name).is_file()), (expected, name == "d"));
    }
    for kind in [HostPathKind::Directory, HostPathKind::File, HostPathKind::Socket, HostPathKind::CharDevice, HostPathKind::BlockDevice] {
        let error = prepare(&host(at("missing"), kind), dir.path(), "v").expect_err("missing");
        assert!(matches!(error, VolumeError::Missing { .. }), "{error}");
        assert!(!at("missing").exists());
    }
    let error = prepare(&host(at("no/parent"), HostPathKind::FileOrCreate), dir.path(), "v").expect_err("no parent");
    assert!(error.to_string().contains("create hostPath file"), "{error}");
}

#[test]
fn a_sub_path_stays_in_its_volume() {
    let dir = tempfile::tempdir().expect("a directory");
    let volume = dir.path().join("volume");
    fs::create_dir_all(volume.join("a")).expect("volume");
    fs::create_dir(dir.path().join("outside")).expect("outside");
    fs::write(volume.join("a/file"), "inside").expect("file");
    symlink("/", volume.join("absolute")).expect("link");
    symlink("../outside", volume.join("up")).expect("link");
    symlink("../../../../../../etc", volume.join("a/far")).expect("link");
    let inode = |sub: &str| {
        let opened = sub_path(&volume, Path::new(sub), Missing::Create).expect(sub);
        rustix::fs::fstat(opened.as_fd()).expect("fstat").st_ino
    };
    let of = |path: PathBuf| fs::symlink_metadata(path).expect("metadata").ino();
    assert_eq!(inode("a"), of(volume.join("a")));
    assert_eq!(inode("./a/file"), of(volume.join("a/file")));
    // A link is resolved as if the volume were the root.
    assert_eq!(inode("absolute"), of(volume.clone()));
    assert_eq!(inode("absolute/a"), of(volume.join("a")));
    // Missing: made inside, with kubelet's mode; a dangling link's target is not made outside.
    let made = sub_path(&volume, Path::new("new/deep/er"), Missing::Create).expect("made");
    assert!(made.is_directory());
    assert_eq!(mode(&volume.join("new/deep")), 0o750);
    for hostile in ["up", "a/far", "up/x", "a/far/x"] {
        if let Ok(opened) = sub_path(&volume, Path::new(hostile), Missing::Create) {
            let path = fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&opened.as_fd()))).expect("path");
            assert!(path.starts_with(&volume), "{hostile} led to {path:?}");
        }
    }
    assert_eq!(fs::read_dir(dir.path().join("outside")).expect("outside").count(), 0);
    assert!(!Path::new("/etc/x").exists());
    for bad in ["..", "a/../..", "/etc", "a/file/x"] {
        let error = sub_path(&volume, Path::new(bad), Missing::Create).expect_err(bad);
        assert!(matches!(error, VolumeError::SubPath { .. }), "{error}");
    }
}

#[test]
fn a_sub_path_of_an_image_is_there_or_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let volume = dir.path().join("volume");
    fs::create_dir_all(volume.join("a")).expect("volume");
    symlink("/nowhere", volume.join("dangling")).expect("link");
    assert!(sub_path(&volume, Path::new("a"), Missing::Refuse).expect("it is there").is_directory());
    for missing in ["b", "a/b/c", "dangling"] {
        let error = sub_path(&volume, Path::new(missing), Missing::Refuse).expect_err(missing);
        assert_eq!(error.to_string(), format!("subPath {missing:?} does not exist; the volume is an image, and nothing can be made in it"));
    }
    assert_eq!(fs::read_dir(&volume).expect("the volume").count(), 2);
}

#[test]
fn an_image_volume_is_a_directory_to_mount_its_layers_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let source = |image| VolumeSource::Image { reference: "x:1".to_owned(), pull_policy: PullPolicy::Never, image };
    let layers = vec![PathBuf::from("/layers/b"), PathBuf::from("/layers/a")];
    let image = Image {
        reference: "x:1".to_owned(), names: Vec::new(), id: String::new(), digest: String::new(), digests: Vec::new(),
        layers: layers.clone(), config: ImageConfig::default(), size: 0, created: None, architecture: String::new(),
    };
    let prepared = prepare(&source(Some(Box::new(image))), dir.path(), "v").expect("prepared");
    assert_eq!(prepared, Prepared { path: dir.path().join("v"), mount: Some(PodMount::Layers(layers)) });
    assert_eq!(fs::read_dir(&prepared.path).expect("a directory").count(), 0);
    let error = prepare(&source(None), dir.path(), "w").expect_err("no image");
    assert!(error.to_string().contains("x:1"), "{error}");
}

#[test]
fn a_staged_sub_path_is_the_inode_that_was_opened() {
    // Mounts belong to this thread's own namespace and go with it.
    std::thread::spawn(|| {
        rustix_unshare();
        let dir = tempfile::tempdir().expect("a directory");
        let volume = dir.path().join("volume");
        fs::create_dir_all(volume.join("a")).expect("volume");
        fs::write(volume.join("a/mark"), "the one").expect("file");
        fs::write(volume.join("f"), "file").expect("file");
        let opened = sub_path(&volume, Path::new("a"), Missing::Create).expect("a");
        let file = sub_path(&volume, Path::new("f"), Missing::Create).expect("f");
        // A container swaps the directory for a link out of the volume.
        fs::rename(volume.join("a"), volume.join("b")).expect("rename");
        symlink("/etc", volume.join("a")).expect("link");
        let target = dir.path().join("staged/v");
        opened.stage(&target).expect("staged");
        assert_eq!(fs::read_to_string(target.join("mark")).expect("mark"), "the one");
        let file_target = dir.path().join("staged/f");
        assert!(!file.is_directory());
        file.stage(&file_target).expect("staged");
        assert_eq!(fs::read_to_string(&file_target).expect("f"), "file");
        for target in [target, file_target] {
            rustix::mount::unmount(&target, rustix::mount::UnmountFlags::DETACH).expect("unmount");
        }
    })
    .join()
    .expect("the test's thread");
}

/// A private mount namespace for this thread.
fn rustix_unshare() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS | nix::sched::CloneFlags::CLONE_FS).expect("unshare: run as root");
    rustix::mount::mount_change("/", rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC)
        .expect("private mounts");
}
