//! The archives that tools write.

use std::fs;

use std::sync::Mutex;

use bundles::cancel::Cancel;
use bundles::image::{ImageError, Progress, Watch};
use serde_json::json;

use crate::support::{ARCH, Lab, Layout, Tar, chain, config, config_of, docker_archive, gzip, hex, sha, zstd};

fn layer(name: &str) -> Vec<u8> {
    Tar::new().dir("etc/").file(name, name).done()
}

#[test]
fn podman_docker_archive() {
    let lab = Lab::new();
    let (low, high) = (layer("etc/low"), layer("etc/high"));
    let archive = docker_archive(&["docker.io/library/web:1", "localhost/web:2"], &[&low, &high]);
    let (seen, never) = (Mutex::new(Vec::new()), Cancel::new());
    let path = lab.write("a.tar", &archive);
    let progress = |p: Progress<'_>| {
        if let Progress::Layer { number, count, done, total, .. } = p {
            seen.lock().unwrap().push((number, count, done, total));
        }
    };
    let images = lab.store.load(&path, Watch { progress: &progress, cancel: &never }).unwrap();
    let [image] = &images[..] else { panic!("{images:?}") };
    assert_eq!(image.id, sha(&config(&[&low, &high], "run")));
    assert_eq!(image.names, ["docker.io/library/web:1", "localhost/web:2"]);
    assert_eq!(image.architecture, ARCH);
    assert_eq!(image.created.as_deref(), Some("2024-01-02T03:04:05Z"));
    assert_eq!(image.size, ("etc/low".len() + "etc/high".len()) as u64);
    assert_eq!(fs::read_to_string(image.layers[0].join("etc/high")).unwrap(), "etc/high", "topmost first");
    assert_eq!(fs::read_to_string(image.layers[1].join("etc/low")).unwrap(), "etc/low");
    let c = &image.config;
    assert_eq!((&*c.cmd, &*c.entrypoint, &*c.env), (&["run".to_owned()][..], &[][..], &["A=b".to_owned()][..]));
    assert_eq!((&*c.working_dir, &*c.user, c.stop_signal.as_deref()), ("/w", "u:g", Some("SIGUSR1")));
    assert_eq!((&*c.volumes, c.labels["l"].as_str()), (&["/v".to_owned()][..], "m"));
    let seen = seen.into_inner().unwrap();
    assert!(seen.contains(&(1, 2, low.len() as u64, low.len() as u64)), "{seen:?}");
    assert!(seen.contains(&(2, 2, high.len() as u64, high.len() as u64)), "{seen:?}");
    // Again: nothing to unpack.
    let exist = Mutex::new(0);
    let progress = |p: Progress<'_>| *exist.lock().unwrap() += usize::from(matches!(p, Progress::LayerExists { .. }));
    lab.store.load(&path, Watch { progress: &progress, cancel: &never }).unwrap();
    assert_eq!(exist.into_inner().unwrap(), 2);
}

#[test]
fn old_docker_save_with_linked_layers_and_compressed_outside() {
    let low = layer("etc/low");
    let config = config(&[&low, &low], "run");
    let name = format!("{}.json", hex(&config));
    let manifest = json!([{"Config": name, "RepoTags": null, "Layers": ["1/layer.tar", "2/layer.tar"]}]).to_string();
    let tar = Tar::new()
        .dir("1/")
        .file("1/VERSION", "1.0")
        .symlink("2/layer.tar", "../1/layer.tar")
        .file("1/layer.tar", &low)
        .file(&name, &config)
        .file("manifest.json", manifest)
        .file("repositories", "{}")
        .done();
    for archive in [tar.clone(), gzip(&tar), zstd(&tar)] {
        let lab = Lab::new();
        let image = lab.load(&archive).unwrap().remove(0);
        assert_eq!((image.names.len(), image.reference == image.id), (0, true));
        assert_eq!(image.layers.len(), 1, "overlay refuses the same layer twice");
        assert_eq!(lab.store.find(&image.id).unwrap(), image);
        assert_eq!(lab.store.find(&image.id[7..19]).unwrap().id, image.id);
    }
}

#[test]
fn new_docker_save_is_both_and_all_names_count() {
    let low = layer("etc/low");
    let config = config(&[&low], "run");
    let mut layout = Layout::default();
    let mut descriptor = layout.manifest(&[&low], &config);
    let digest = descriptor["digest"].clone();
    descriptor["annotations"] =
        json!({"io.containerd.image.name": "docker.io/library/a:1", "org.opencontainers.image.ref.name": "1"});
    layout.manifests.push(descriptor);
    let blob = |data: &[u8]| format!("blobs/sha256/{}", hex(data));
    let manifest = json!([{"Config": blob(&config), "RepoTags": ["a:1", "b:2"], "Layers": [blob(&low)]}]);
    layout.files.push(("manifest.json".into(), manifest.to_string().into_bytes()));
    let lab = Lab::new();
    let image = lab.load(&layout.tar()).unwrap().remove(0);
    assert_eq!(image.names, ["docker.io/library/a:1", "docker.io/library/b:2"]);
    assert_eq!(image.digest, digest.as_str().unwrap());
}

#[test]
fn oci_layouts_with_each_compression() {
    let layers = [layer("a"), layer("b"), layer("c")];
    let plain: Vec<&[u8]> = layers.iter().map(|l| &l[..]).collect();
    let stored = [layers[0].clone(), gzip(&layers[1]), zstd(&layers[2])];
    let stored: Vec<&[u8]> = stored.iter().map(|l| &l[..]).collect();
    let mut layout = Layout::default();
    let manifest = layout.manifest(&stored, &config(&plain, "run"));
    let layout = layout.with(Some("quay.io/team/app:3"), manifest);
    let lab = Lab::new();
    let from_tar = lab.load(&gzip(&layout.tar())).unwrap();
    assert_eq!(from_tar[0].names, ["quay.io/team/app:3"]);
    for (at, name) in ["c", "b", "a"].iter().enumerate() {
        assert!(from_tar[0].layers[at].join(name).exists(), "{name}");
    }
    let other = Lab::new();
    let dir = other.dir.path().join("layout");
    layout.write(&dir);
    let from_dir = other.store.load(&dir, Watch::nobody()).unwrap();
    assert_eq!((&from_dir[0].id, &from_dir[0].digest), (&from_tar[0].id, &from_tar[0].digest));
}

#[test]
fn names_that_tools_put_into_layouts() {
    for (given, wanted) in [("1.25", "localhost/archive:1.25"), ("app:2", "localhost/app:2"), ("x.io/a:1", "x.io/a:1")] {
        let low = layer("a");
        let mut layout = Layout::default();
        let manifest = layout.manifest(&[&low], &config(&[&low], "run"));
        let lab = Lab::new();
        assert_eq!(lab.load(&layout.with(Some(given), manifest).tar()).unwrap()[0].names, [wanted]);
    }
}

#[test]
fn several_images_share_layers() {
    let (low, one, two) = (layer("low"), layer("one"), layer("two"));
    let mut layout = Layout::default();
    let first = layout.manifest(&[&low, &one], &config(&[&low, &one], "1"));
    let second = layout.manifest(&[&low, &two], &config(&[&low, &two], "2"));
    let layout = layout.with(Some("localhost/one:1"), first).with(Some("localhost/two:1"), second);
    let lab = Lab::new();
    let images = lab.load(&layout.tar()).unwrap();
    assert_eq!(images.len(), 2);
    assert_eq!(images[0].layers[1], images[1].layers[1]);
    assert_eq!(lab.store.find("two:1").unwrap().config.cmd, ["2"]);
}

#[test]
fn an_index_is_one_image_for_this_machine() {
    let low = layer("low");
    let mut layout = Layout::default();
    let mut platforms = Vec::new();
    for architecture in ["s390x", ARCH, "riscv64"] {
        let mut manifest = layout.manifest(&[&low], &config_of(&[&low], architecture, architecture));
        manifest["platform"] = json!({"os": "linux", "architecture": architecture});
        platforms.push(manifest);
    }
    // Not in the archive: other platforms were not saved. An attestation is no image.
    platforms.push(json!({"digest": sha(b"absent"), "size": 6, "platform": {"os": "windows", "architecture": ARCH}}));
    let mut attestation = layout.manifest(&[&low], &config_of(&[&low], "x", "unknown"));
    attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    platforms.push(attestation);
    let nested = layout.index(&platforms);
    let outer = layout.index(&[nested]);
    let lab = Lab::new();
    let images = lab.load(&layout.clone().with(Some("localhost/m:1"), outer).tar()).unwrap();
    assert_eq!((images.len(), &*images[0].config.cmd[0]), (1, ARCH));

    let foreign = layout.index(&[platforms[0].clone(), platforms[2].clone()]);
    let error = Lab::new().load(&layout.with(None, foreign).tar()).unwrap_err();
    assert!(matches!(&error, ImageError::Platform { available, .. } if available == &["linux/s390x", "linux/riscv64"]));
}

#[test]
fn what_is_no_image_is_told_apart() {
    let lab = Lab::new();
    assert!(lab.refuses_archive(&Tar::new().file("x", "y").done()).contains("docker save"));
    assert!(lab.refuses_archive(b"").contains("empty"));
    assert!(lab.refuses_archive(b"hello").contains("truncated"));
    assert!(lab.refuses_archive(&[b'x'; 4096]).contains("not a tar archive"));
    assert!(lab.refuses_archive(b"\xfd7zXZ\0\0\0").contains("xz"));
    assert!(lab.refuses_archive(&Tar::new().file("manifest.json", "[").done()).contains("manifest.json"));
    assert!(lab.refuses_archive(&Tar::new().file("manifest.json", "[]").done()).contains("no image"));
    let missing = lab.store.load(&lab.dir.path().join("absent.tar"), Watch::nobody()).unwrap_err();
    assert!(chain(&missing).contains("absent.tar") && chain(&missing).contains("No such file"), "{missing}");

    let artifact = |media_type: &str| {
        let low = layer("low");
        let mut layout = Layout::default();
        let config = layout.blob(&config(&[&low], "run"), media_type);
        let layer = layout.blob(&low, "");
        let manifest = json!({"config": config, "layers": [layer]}).to_string();
        let manifest = layout.blob(manifest.as_bytes(), "");
        layout.with(None, manifest).tar()
    };
    assert!(lab.refuses_archive(&artifact("application/vnd.cncf.helm.config.v1+json")).contains("helm"));
    assert!(lab.load(&artifact("application/vnd.docker.container.image.v1+json")).is_ok());
}

#[test]
fn damage_is_found_and_named() {
    let lab = Lab::new();
    let low = layer("etc/low");
    let archive = docker_archive(&["x:1"], &[&low]);
    // A flipped bit in the content of the layer's file.
    let at = archive.windows(7).rposition(|w| w == b"etc/low").unwrap();
    let mut flipped = archive.clone();
    flipped[at] ^= 1;
    let error = lab.load(&flipped).unwrap_err();
    let ImageError::Digest { expected, found, .. } = &error else { panic!("{error}") };
    assert_eq!(expected.to_string(), sha(&low));
    assert_ne!(expected, found);
    lab.assert_clean();
    for end in [600, archive.len() / 2, archive.len() - 1500] {
        lab.refuses_archive(&archive[..end]);
    }
    // As stored: the compressed blob is not what its name says.
    let other = gzip(&layer("etc/other"));
    let mut layout = Layout::default();
    let stored = gzip(&low);
    let manifest = layout.manifest(&[&stored], &config(&[&low], "run"));
    let name = format!("blobs/sha256/{}", hex(&stored));
    let mut wrong = layout.clone().with(None, manifest.clone());
    wrong.files.iter_mut().find(|(n, _)| *n == name).unwrap().1 = other.clone();
    let error = lab.refuses_archive(&wrong.tar());
    assert!(error.contains(&sha(&stored)) && error.contains(&sha(&other)), "{error}");
    // The manifest and the configuration disagree about the content.
    let mut layout = Layout::default();
    let manifest = layout.manifest(&[&other], &config(&[&low], "run"));
    let error = lab.refuses_archive(&layout.with(None, manifest).tar());
    assert!(error.contains(&sha(&low)) && error.contains("uncompressed"), "{error}");
    // A manifest whose blob was changed.
    let mut layout = Layout::default();
    let manifest = layout.manifest(&[&low], &config(&[&low], "run"));
    layout.files.last_mut().unwrap().1.push(b' ');
    assert!(lab.refuses_archive(&layout.with(None, manifest).tar()).contains("damaged"));
}
