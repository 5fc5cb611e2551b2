//! Several loaders at once, and loaders that die.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs, thread};

use bundles::cancel::Cancel;
use bundles::image::{Force, ImageStore, Progress, Unused, Watch};

use crate::support::{Lab, Tar, docker_archive};

const LIB: &str = "MINIPOD_TEST_LIB";
const ARCHIVE: &str = "MINIPOD_TEST_ARCHIVE";
const STOP: &str = "MINIPOD_TEST_STOP";

/// This test program again, as a process that loads.
fn loader(lib: &Path, archive: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "concurrency::child", "--ignored", "--nocapture"]).env(LIB, lib).env(ARCHIVE, archive);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

#[test]
#[ignore = "the body of the processes that other tests start"]
fn child() {
    let (Some(lib), Some(archive)) = (env::var_os(LIB), env::var_os(ARCHIVE)) else { return };
    let store = ImageStore::open(Path::new(&lib)).unwrap();
    let stop = env::var_os(STOP).is_some();
    let progress = |progress: Progress<'_>| {
        if stop && matches!(progress, Progress::Layer { number: 2, .. }) {
            println!("in the middle");
            // Until the parent kills us; if it is gone, not for ever.
            thread::sleep(Duration::from_secs(60));
        }
    };
    store.load(Path::new(&archive), Watch { progress: &progress, cancel: &Cancel::new() }).unwrap();
}

fn layers(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|n| Tar::new().file(&format!("f{n}"), vec![b'x'; 100_000]).done()).collect()
}

fn archive(lab: &Lab, name: &str, layers: &[Vec<u8>]) -> std::path::PathBuf {
    let layers: Vec<&[u8]> = layers.iter().map(|l| &l[..]).collect();
    lab.write(&format!("{name}.tar"), docker_archive(&[&format!("{name}:1")], &layers))
}

#[test]
fn threads_and_processes_load_side_by_side() {
    let lab = Lab::new();
    let layers = layers(6);
    let archives: Vec<_> = (1..=4).map(|n| archive(&lab, &format!("image{n}"), &layers[..n + 2])).collect();
    thread::scope(|scope| {
        for path in archives.iter().chain(&archives) {
            let lib = lab.lib();
            scope.spawn(move || ImageStore::open(&lib).unwrap().load(path, Watch::nobody()).unwrap());
            scope.spawn(|| ImageStore::open(&lab.lib()).unwrap().find("toolbox").unwrap());
        }
        let children: Vec<_> = archives.iter().map(|path| loader(&lab.lib(), path).spawn().unwrap()).collect();
        for mut child in children {
            assert!(child.wait().unwrap().success());
        }
    });
    for n in 1..=4 {
        let image = lab.store.find(&format!("image{n}:1")).unwrap();
        assert_eq!(image.layers.len(), n + 2);
        assert!(image.layers.iter().all(|layer| layer.is_dir()));
    }
    let images = lab.lib().join("images");
    assert_eq!(fs::read_dir(images.join("tmp")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(images.join("layers/sha256")).unwrap().count(), 6);
}

#[test]
fn a_killed_loader_leaves_only_work_that_the_next_one_sweeps() {
    let lab = Lab::new();
    let path = archive(&lab, "image", &layers(3));
    let mut child = loader(&lab.lib(), &path).env(STOP, "1").spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("in the middle")));
    child.kill().unwrap();
    child.wait().unwrap();
    let images = lab.lib().join("images");
    assert_eq!(fs::read_dir(images.join("tmp")).unwrap().count(), 1);
    assert_eq!(lab.store.resolve("image:1").unwrap(), None, "the image has no name yet");
    lab.store.load(&path, Watch::nobody()).unwrap();
    assert_eq!(fs::read_dir(images.join("tmp")).unwrap().count(), 0);
    assert_eq!(lab.store.find("image:1").unwrap().layers.len(), 3);
}

#[test]
fn a_hold_keeps_content_until_it_is_dropped() {
    let lab = Lab::new();
    let path = archive(&lab, "image", &layers(1));
    let image = lab.store.load(&path, Watch::nobody()).unwrap().remove(0);
    let hold = lab.store.hold().unwrap();
    let lib = lab.lib();
    let remover = thread::spawn(move || ImageStore::open(&lib).unwrap().remove("image:1", &Unused, Force::No).unwrap());
    // Long enough for an unhindered removal, which takes a millisecond.
    thread::sleep(Duration::from_millis(200));
    assert!(image.layers[0].exists() && !remover.is_finished());
    drop(hold);
    assert_eq!(remover.join().unwrap().layers, 1);
    assert!(!image.layers[0].exists());
}
