//! The image inside this program: the toolbox and a small root file system around it.

use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use super::digest::{Digest, Hashing};
use super::error::{ImageError, sys};
use super::lock::{Hold, Lock, Share};
use super::manifest;
use super::platform::host_architecture;
use super::work::{WorkDir, remove_dir};
use super::{Image, ImageConfig};
use crate::toolbox;

/// The registry that exists only in this program.
pub(super) const EMBEDDED_REGISTRY: &str = "minipod.local";
/// Full name of the embedded image; `toolbox` is short for it.
pub const EMBEDDED_NAME: &str = "minipod.local/toolbox:latest";

/// A static multi-call program to make an image of.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// Compressed with zstd; empty when there is none.
    pub bytes: &'static [u8],
    /// The names it answers to.
    pub applets: &'static [&'static str],
    /// SHA-256 of it uncompressed, in hex.
    pub digest: &'static str,
    /// Bytes uncompressed.
    pub size: u64,
}

impl Program {
    /// The toolbox this program was built with.
    pub const EMBEDDED: Self =
        Self { bytes: toolbox::BYTES, applets: toolbox::APPLETS, digest: toolbox::DIGEST, size: toolbox::SIZE };
}

/// Directories: path, mode, owner and group.
const DIRECTORIES: &[(&str, u32, u32)] = &[
    ("bin", 0o755, 0),
    ("dev", 0o755, 0),
    ("etc", 0o755, 0),
    ("home", 0o755, 0),
    ("home/user", 0o755, 1000),
    ("mnt", 0o755, 0),
    ("proc", 0o555, 0),
    ("root", 0o700, 0),
    ("run", 0o755, 0),
    ("srv", 0o755, 0),
    ("sys", 0o555, 0),
    ("tmp", 0o1777, 0),
    ("usr", 0o755, 0),
    ("var", 0o755, 0),
    ("var/log", 0o755, 0),
    ("var/tmp", 0o1777, 0),
];

/// Links: path and target. Scripts may name any of the usual directories.
const LINKS: &[(&str, &str)] =
    &[("sbin", "bin"), ("usr/bin", "../bin"), ("usr/sbin", "../bin"), ("var/run", "../run")];

const FILES: &[(&str, &str)] = &[
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
    ),
    ("etc/group", "root:x:0:\ntty:x:5:\nuser:x:1000:\nnogroup:x:65534:\n"),
];

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where the program is in the image.
const PROGRAM: &str = "bin/toolbox";

/// The image of `program`, unpacked or not. Hashes a few KiB of names, not the program.
pub(super) fn image(root: &Path, program: &Program) -> Result<Image, ImageError> {
    if program.bytes.is_empty() {
        return Err(ImageError::NoToolbox);
    }
    let key = key(program);
    let config = ImageConfig {
        cmd: vec!["sh".to_owned()],
        env: vec![PATH.to_owned()],
        working_dir: "/".to_owned(),
        ..ImageConfig::default()
    };
    let document = configuration(&config, &key);
    let id = Digest::of(&document);
    let manifest = manifest::plain(id, document.len(), std::iter::once((key, program.size)));
    Ok(Image {
        reference: EMBEDDED_NAME.to_owned(),
        names: vec![EMBEDDED_NAME.to_owned()],
        id: id.to_string(),
        digest: Digest::of(&manifest).to_string(),
        digests: Vec::new(),
        layers: vec![directory(root, &key).join("fs")],
        config,
        size: program.size,
        created: None,
        architecture: host_architecture().to_owned(),
    })
}

/// The OCI image configuration it would have.
pub(super) fn configuration_of(image: &Image, program: &Program) -> Vec<u8> {
    configuration(&image.config, &key(program))
}

fn configuration(config: &ImageConfig, key: &Digest) -> Vec<u8> {
    let document = serde_json::json!({
        "architecture": host_architecture(),
        "os": "linux",
        "config": {"Cmd": config.cmd, "Env": config.env, "WorkingDir": config.working_dir},
        "rootfs": {"type": "layers", "diff_ids": [key]},
    });
    document.to_string().into_bytes()
}

/// Changes with everything the image is made of.
fn key(program: &Program) -> Digest {
    let parts = (program.digest, program.applets, DIRECTORIES, LINKS, FILES, PROGRAM);
    Digest::of(format!("{parts:?}").as_bytes())
}

/// All versions; only this program's own is current.
pub(super) fn base(root: &Path) -> PathBuf {
    root.join("embedded")
}

fn directory(root: &Path, key: &Digest) -> PathBuf {
    base(root).join(key.hex())
}

/// The directory name of the current version.
pub(super) fn current(program: &Program) -> String {
    key(program).hex()
}

/// The image, unpacked if it is not yet. One stat when it is.
pub(super) fn unpacked(root: &Path, program: &Program) -> Result<Image, ImageError> {
    let image = image(root, program)?;
    let to = directory(root, &key(program));
    if is_whole(&to, program) {
        return Ok(image);
    }
    let _hold = Hold::new(root)?;
    let _lock = Lock::wait(root, "embedded.lock", Share::Exclusive)?;
    if !is_whole(&to, program) {
        let work = WorkDir::new(root, "embedded-")?;
        let made = work.path.join("layer");
        fs::create_dir(&made).map_err(sys("create", &made))?;
        write(&made.join("fs"), program)?;
        remove_dir(&to);
        fs::rename(&made, &to).map_err(sys("rename the embedded image to", to))?;
    }
    Ok(image)
}

/// Not synced to disk, so after a power cut the program may be cut short: its size tells.
fn is_whole(dir: &Path, program: &Program) -> bool {
    fs::symlink_metadata(dir.join("fs").join(PROGRAM)).is_ok_and(|found| found.len() == program.size)
}

fn write(fs_dir: &Path, program: &Program) -> Result<(), ImageError> {
    make_dir(fs_dir, 0o755, 0)?;
    for (name, mode, owner) in DIRECTORIES {
        make_dir(&fs_dir.join(name), *mode, *owner)?;
    }
    for (name, target) in LINKS {
        let path = fs_dir.join(name);
        symlink(target, &path).map_err(sys("link", path))?;
    }
    for (name, content) in FILES {
        let path = fs_dir.join(name);
        fs::write(&path, content).map_err(sys("write", &path))?;
        set_mode(&path, 0o644)?;
    }
    for applet in program.applets.iter().filter(|name| **name != "toolbox") {
        let path = fs_dir.join("bin").join(applet);
        symlink("toolbox", &path).map_err(sys("link", path))?;
    }
    write_program(&fs_dir.join(PROGRAM), program)
}

fn make_dir(path: &Path, mode: u32, owner: u32) -> Result<(), ImageError> {
    fs::create_dir(path).map_err(sys("create", path))?;
    chown(path, Some(owner), Some(owner)).map_err(sys("set the owner of", path))?;
    set_mode(path, mode)
}

fn set_mode(path: &Path, mode: u32) -> Result<(), ImageError> {
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(sys("set the mode of", path))
}

fn write_program(path: &Path, program: &Program) -> Result<(), ImageError> {
    let damaged = |why: String| ImageError::Toolbox { why };
    let decoder = zstd::Decoder::with_buffer(program.bytes).map_err(|e| damaged(e.to_string()))?;
    let mut reader = Hashing::new(decoder.take(program.size + 1));
    let mut file = File::create_new(path).map_err(sys("create", path))?;
    io::copy(&mut reader, &mut file).map_err(sys("write", path))?;
    let (found, size) = reader.finish().map_err(|e| damaged(e.to_string()))?;
    if found.hex() != program.digest || size != program.size {
        return Err(damaged(format!("expected sha256:{} and {} bytes, found {found} and {size}", program.digest, program.size)));
    }
    set_mode(path, 0o755)
}
