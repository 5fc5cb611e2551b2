//! Images of all kinds, and roots and bundles without one.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testkit::{Cmd, Entry, FOREVER, Image, Minipod, container, contents, docker_archive, installed, oci_layout, pod, with};

/// A static program that is not ours.
fn busybox() -> Option<Vec<u8>> {
    Some(fs::read(installed("busybox")?).expect("read busybox"))
}

fn image(reference: &str, busybox: &[u8]) -> Image {
    Image {
        reference: reference.to_owned(),
        layers: vec![
            vec![
                Entry::Dir("bin".into()), Entry::Dir("data".into()), Entry::Dir("gone".into()),
                Entry::File("bin/busybox".into(), busybox.to_vec(), 0o755),
                Entry::Link("bin/sh".into(), "busybox".into()),
                Entry::Link("bin/cat".into(), "busybox".into()),
                Entry::text("data/kept", "kept"), Entry::text("data/removed", "x"), Entry::text("gone/below", "x"),
                Entry::text("etc/passwd", "root:x:0:0::/root:/bin/sh\nworker:x:1234:1235::/home:/bin/sh\n"),
                Entry::text("etc/group", "root:x:0:\nworker:x:1235:\n"),
            ],
            // Whiteouts: one file, and everything that was in a directory (image-spec, layer.md).
            vec![Entry::text("data/.wh.removed", ""), Entry::text("gone/.wh..wh..opq", ""), Entry::text("gone/above", "above")],
        ],
        config: json!({
            "Entrypoint": ["/bin/sh", "-c"], "Cmd": ["pwd; echo $FROM_IMAGE; busybox id -u; busybox id -g; busybox ls /data /gone"],
            "Env": ["PATH=/bin", "FROM_IMAGE=yes"], "WorkingDir": "/work", "User": "worker",
        }),
    }
}

fn once(image: &str) -> Value {
    let never = json!({ "spec": { "restartPolicy": "Never" } });
    with(pod("p", &[json!({ "name": "c", "image": image, "imagePullPolicy": "Never" })]), never)
}

const PRINTED: &str = "[c] /work\n[c] yes\n[c] 1234\n[c] 1235\n[c] /data:\n[c] kept\n[c] \n[c] /gone:\n[c] above\n";

#[test]
fn a_docker_archive_runs_as_its_configuration_says() {
    let Some(mp) = Minipod::new() else { return };
    let Some(busybox) = busybox() else { return };
    let archive = mp.file("image.tar");
    docker_archive(&image("example.test/app:1", &busybox), &archive);
    mp.ok(&["image", "load", archive.to_str().expect("UTF-8")]);
    assert!(mp.ok(&["image", "ls"]).contains("example.test/app"));
    let output = mp.foreground(&once("example.test/app:1"));
    assert_eq!(output.stdout, PRINTED, "{output}");
    let inspected = mp.ok(&["image", "inspect", "example.test/app:1"]);
    assert!(inspected.contains("sha256:"), "{inspected}");
    mp.ok(&["image", "rm", "example.test/app:1"]);
    let path = mp.manifest("p.json", &once("example.test/app:1").to_string());
    mp.fails(125, &["run", "-d", &path]);
}

#[test]
fn an_oci_layout_and_its_archive_are_the_same_image() {
    let Some(mp) = Minipod::new() else { return };
    let Some(busybox) = busybox() else { return };
    let dir = mp.file("layout");
    oci_layout(&image("example.test/oci:1", &busybox), &dir);
    mp.ok(&["image", "load", dir.to_str().expect("UTF-8")]);
    assert_eq!(mp.foreground(&once("example.test/oci:1")).stdout, PRINTED);
    mp.ok(&["image", "rm", "example.test/oci:1"]);
    let archive = mp.file("oci.tar");
    drop(Cmd::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&dir).arg(".").run().ok());
    mp.ok(&["image", "load", archive.to_str().expect("UTF-8")]);
    assert_eq!(mp.foreground(&once("example.test/oci:1")).stdout, PRINTED);
}

#[test]
fn damaged_and_hostile_images_are_refused() {
    let Some(mp) = Minipod::new() else { return };
    let tiny = |entries: Vec<Entry>| Image { reference: "bad:1".to_owned(), layers: vec![entries], config: json!({ "Cmd": ["/x"] }) };
    let dir = mp.file("damaged");
    oci_layout(&tiny(vec![Entry::text("file", "as it was")]), &dir);
    for blob in fs::read_dir(dir.join("blobs/sha256")).expect("blobs") {
        let path = blob.expect("a blob").path();
        let mut bytes = fs::read(&path).expect("read");
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&path, bytes).expect("damage it");
    }
    let said = mp.fails(125, &["image", "load", dir.to_str().expect("UTF-8")]);
    assert!(said.contains("digest") || said.contains("sha256"), "{said}");

    let victim = mp.file("victim");
    fs::create_dir(&victim).expect("make a directory");
    let outside = victim.to_str().expect("UTF-8");
    let up = "../".repeat(12);
    for (n, entries) in [
        vec![Entry::text(&format!("{up}tmp/minipod-escaped"), "x")],
        vec![Entry::Link("out".into(), outside.to_owned()), Entry::text("out/escaped", "x")],
    ].into_iter().enumerate() {
        let archive = mp.file(&format!("hostile{n}.tar"));
        docker_archive(&tiny(entries), &archive);
        let loaded = mp.run(&["image", "load", archive.to_str().expect("UTF-8")]);
        let ran = (loaded.code() == 0).then(|| mp.foreground(&once("bad:1")));
        assert!(!Path::new("/tmp/minipod-escaped").exists());
        assert_eq!(fs::read_dir(&victim).expect("look").count(), 0, "case {n} wrote outside: {loaded} {ran:?}");
    }
    mp.assert_clean();
}

#[test]
fn a_hostile_archive_leaves_the_store_as_it_was() {
    let Some(mp) = Minipod::new() else { return };
    let tiny = |entries: Vec<Entry>| Image { reference: "bad:1".to_owned(), layers: vec![vec![Entry::text("fine", "x")], entries], config: json!({ "Cmd": ["/x"] }) };
    let archive = mp.file("image.tar");
    docker_archive(&Image { reference: "good:1".to_owned(), ..tiny(vec![Entry::text("file", "good"), Entry::text(".wh.fine", "")]) }, &archive);
    mp.ok(&["image", "load", archive.to_str().expect("UTF-8")]);
    let store = mp.root().join("lib/images");
    let (before, listed) = (contents(&store), mp.ok(&["image", "ls"]));
    assert!(before.len() > 8, "{:?}", before.keys());
    let unchanged = |what: &str, words: &str| {
        let said = mp.fails(125, &["image", "load", archive.to_str().expect("UTF-8")]);
        assert!(said.contains(words), "{what}: {said}");
        assert!(said.lines().count() == 1 && !said.trim_end().contains(char::is_control), "{what}: {said:?}");
        assert!(contents(&store) == before, "{what}: the store is not what it was");
        assert_eq!(mp.ok(&["image", "ls"]), listed, "{what}");
    };
    for (words, entries) in [
        ("`..` in a name could lead out of the image", vec![Entry::text("../../../../../evil", "x")]),
        ("`..`", vec![Entry::text("a/\x1b[2J\n/..", "x")]),
        ("a whiteout of nothing", vec![Entry::text("d/.wh...", "")]),
        ("a symbolic link to nowhere", vec![Entry::Link("l".into(), "/etc".into()), Entry::text("l/evil", "x")]),
    ] {
        docker_archive(&tiny(entries), &archive);
        unchanged(words, words);
    }
    docker_archive(&Image { layers: vec![Vec::new(); 501], ..tiny(Vec::new()) }, &archive);
    unchanged("501 layers", "more than 500 layers (the limit)");
    tebibyte(&archive);
    unchanged("a tebibyte", "more than 137438953472 bytes in a layer (the limit)");
    fs::write(&archive, entry_bomb()).expect("write a bomb");
    unchanged("a hundred thousand entries", "more than 100000 entries (the limit)");
    mp.assert_clean();
}

/// An archive whose layer is one file of 1 TiB; all of it is there, as a hole.
fn tebibyte(path: &Path) {
    const SIZE: u64 = 1 << 40;
    let header = |name: &str, size: u64| {
        let mut header = tar::Header::new_gnu();
        header.set_path(name).expect("a name");
        header.set_size(size);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    let config = json!({ "os": "linux", "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", "0".repeat(64))] } }).to_string();
    let manifest = json!([{ "Config": "c.json", "RepoTags": ["bad:1"], "Layers": ["layer.tar"] }]).to_string();
    let mut start = Vec::new();
    for (name, text) in [("c.json", config), ("manifest.json", manifest)] {
        start.extend(header(name, text.len() as u64));
        start.extend(text.as_bytes());
        start.resize(start.len().next_multiple_of(512), 0);
    }
    start.extend(header("layer.tar", SIZE + 1536));
    start.extend(header("zeros", SIZE));
    fs::write(path, &start).expect("write an archive");
    let file = fs::OpenOptions::new().write(true).open(path).expect("open the archive");
    file.set_len(start.len() as u64 + SIZE + 2048).expect("make it a tebibyte");
}

/// A hundred and ten thousand entries in a few kilobytes: members of gzip, one behind the other, are one stream.
fn entry_bomb() -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_path("x").expect("a name");
    header.set_size(0);
    header.set_cksum();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&header.as_bytes().repeat(10_000)).expect("press");
    gzip.finish().expect("press").repeat(11)
}

/// An unpacked root of busybox.
fn rootfs(mp: &Minipod, busybox: &[u8]) -> PathBuf {
    let dir = mp.file("rootfs");
    fs::create_dir_all(dir.join("bin")).expect("make a root");
    fs::write(dir.join("bin/busybox"), busybox).expect("write busybox");
    fs::set_permissions(dir.join("bin/busybox"), fs::Permissions::from_mode(0o755)).expect("make it executable");
    std::os::unix::fs::symlink("busybox", dir.join("bin/sh")).expect("link");
    dir
}

#[test]
fn a_directory_may_be_the_root() {
    let Some(mp) = Minipod::new() else { return };
    let Some(busybox) = busybox() else { return };
    let dir = rootfs(&mp, &busybox);
    let never = json!({ "metadata": { "annotations": { "minipod.dev/rootfs.c": dir } }, "spec": { "restartPolicy": "Never" } });
    let manifest = with(pod("p", &[json!({ "name": "c", "command": ["/bin/sh", "-c", "echo from a directory; echo x > /written"] })]), never);
    let output = mp.foreground(&manifest);
    assert_eq!(output.stdout, "[c] from a directory\n", "{output}");
    assert!(!dir.join("written").exists(), "the directory is a lower layer");
}

#[test]
fn a_bundle_may_be_a_container() {
    let Some(mp) = Minipod::new() else { return };
    let Some(busybox) = busybox() else { return };
    let bundle = mp.file("bundle");
    fs::create_dir(&bundle).expect("make a bundle");
    let root = rootfs(&mp, &busybox);
    drop(Cmd::new("runc").args(["spec", "-b"]).arg(&bundle).run().ok());
    let path = bundle.join("config.json");
    let mut spec: Value = serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
    spec["root"]["path"] = json!(root);
    spec["process"]["terminal"] = json!(false);
    spec["process"]["args"] = json!(["/bin/sh", "-c", "echo from a bundle; busybox hostname"]);
    fs::write(&path, spec.to_string()).expect("write");
    let never = json!({ "metadata": { "annotations": { "minipod.dev/bundle.c": bundle } }, "spec": { "restartPolicy": "Never" } });
    let output = mp.foreground(&with(pod("bundled", &[json!({ "name": "c" })]), never));
    assert_eq!(output.stdout, "[c] from a bundle\n[c] bundled\n", "{output}");
}

#[test]
fn written_bundles_run_under_runc() {
    let Some(mp) = Minipod::new() else { return };
    let Some(runc) = installed("runc") else { return };
    let path = mp.manifest("p.json", &pod("p", &[container("c", "echo run by another; hostname")]).to_string());
    let out = mp.file("out");
    mp.ok(&["bundle", &path, "-o", out.to_str().expect("UTF-8")]);
    let mut bundles = Vec::new();
    find_bundles(&out, &mut bundles);
    assert_eq!(bundles.len(), 1, "{bundles:?}");
    let state = mp.file("runc");
    let id = format!("{}-c", mp.instance());
    let output = Cmd::new(runc).arg("--root").arg(&state).args(["run", "-b"]).arg(&bundles[0]).arg(&id).run();
    assert!(output.stdout.starts_with("run by another\n"), "{output}");
    assert_eq!(output.code(), 0, "{output}");
    mp.assert_clean();
}

fn find_bundles(dir: &Path, found: &mut Vec<PathBuf>) {
    if dir.join("config.json").is_file() {
        found.push(dir.to_owned());
        return;
    }
    for entry in fs::read_dir(dir).expect("read").map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir() && !path.is_symlink()) {
        find_bundles(&entry, found);
    }
}

#[test]
fn an_image_in_use_is_not_lost() {
    let Some(mp) = Minipod::new() else { return };
    let Some(busybox) = busybox() else { return };
    let archive = mp.file("image.tar");
    docker_archive(&image("held:1", &busybox), &archive);
    mp.ok(&["image", "load", archive.to_str().expect("UTF-8")]);
    mp.up(&pod("holds", &[json!({ "name": "c", "image": "held:1", "imagePullPolicy": "Never", "command": ["/bin/sh", "-c", FOREVER.replace("sleep", "busybox sleep")] })]));
    assert!(mp.fails(125, &["image", "rm", "held:1"]).contains("default/holds"));
    mp.ok(&["image", "rm", "-f", "held:1"]);
    mp.ok(&["gc"]);
    assert_eq!(mp.sh("holds", "cat /data/kept"), "kept");
}

/// The paths of so many layers are more than the page of options that mount(2) takes; Linux before 6.5 knows no other way.
#[test]
fn an_image_of_many_layers_runs() {
    let Some(mp) = Minipod::new() else { return };
    let Some(busybox) = busybox() else { return };
    let mut many = image("example.test/many:1", &busybox);
    many.layers.extend((0..60).map(|n| vec![Entry::text(&format!("data/{n}"), "of a layer")]));
    many.config = json!({ "Cmd": ["/bin/sh", "-c", "busybox ls /data | busybox wc -l; busybox cat /data/59"], "Env": ["PATH=/bin"] });
    let archive = mp.file("many.tar");
    docker_archive(&many, &archive);
    mp.ok(&["image", "load", archive.to_str().expect("UTF-8")]);
    let output = mp.foreground(&once("example.test/many:1"));
    assert_eq!(output.stdout, "[c] 61\n[c] of a layer\n", "{output}");
}
