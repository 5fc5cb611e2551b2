//! Loads beside each other and beside removals: what they share, what they leave when they fail, stop or die.
//!
//! Order comes from callbacks and channels. Where a test kills at some moment, any moment is right.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Barrier, Mutex};
use std::time::Duration;
use std::{env, fs, thread};

use bundles::cancel::Cancel;
use bundles::image::{Force, Image, ImageError, ImageStore, Progress, Pruned, Unused, Watch};

use crate::support::{Lab, Layers, Tar, chain, docker_archive, sha, tree};

const LIB: &str = "MINIPOD_TEST_LEASE_LIB";
const ARCHIVE: &str = "MINIPOD_TEST_LEASE_ARCHIVE";
/// Stop for good at this event, from 0.
const STOP_AT: &str = "MINIPOD_TEST_LEASE_STOP_AT";
/// Let the first layer be done before the second fails.
const FIRST_FIRST: &str = "MINIPOD_TEST_LEASE_FIRST_FIRST";

/// Longer than anything here takes; only who would wait for ever sees its end.
const EVER: Duration = Duration::from_secs(60);

/// This test program again, as a process that loads.
fn loader(lib: &Path, archive: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "leases::child", "--ignored", "--nocapture"]).env(LIB, lib).env(ARCHIVE, archive);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

#[test]
#[ignore = "the body of the processes that other tests start"]
fn child() {
    let (Some(lib), Some(archive)) = (env::var_os(LIB), env::var_os(ARCHIVE)) else { return };
    let store = ImageStore::open(Path::new(&lib)).unwrap();
    let stop_at: Option<usize> = env::var(STOP_AT).ok().map(|at| at.parse().unwrap());
    let first_first = env::var_os(FIRST_FIRST).is_some();
    let (done, first) = channel();
    let first = Mutex::new(first);
    let events = Mutex::new(0);
    let progress = |progress: Progress<'_>| {
        match progress {
            Progress::LayerDone { number: 1, .. } if first_first => done.send(()).unwrap(),
            Progress::Layer { number: 2, done: 0, .. } if first_first => first.lock().unwrap().recv().unwrap(),
            _ => {}
        }
        // Kept while we stop, so that the other threads stop at their next event.
        let mut count = events.lock().unwrap();
        if stop_at == Some(*count) {
            println!("\nstopped");
            // Until the parent kills us; if it is gone, not for ever.
            thread::sleep(EVER);
        }
        *count += 1;
    };
    println!("\nbegins");
    match store.load(Path::new(&archive), Watch { progress: &progress, cancel: &Cancel::new() }) {
        Ok(_) => println!("\nloaded"),
        Err(error) => println!("\nfailed: {}", chain(&error)),
    }
}

/// Reads what a child says until one of its own lines comes; that line. Nothing when it ended.
fn says(child: &mut BufReader<std::process::ChildStdout>) -> Option<String> {
    child.lines().map_while(Result::ok).find(|line| ["begins", "stopped", "loaded", "failed"].iter().any(|word| line.starts_with(word)))
}

fn start(command: &mut Command) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = command.spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    assert_eq!(says(&mut out).unwrap(), "begins");
    (child, out)
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A layer of one file `name`, larger than the steps in which progress is told.
fn layer(name: &str) -> Vec<u8> {
    Tar::new().file(name, vec![b'x'; 300_000]).done()
}

fn archive(lab: &Lab, name: &str, layers: &[&[u8]]) -> PathBuf {
    lab.write(&format!("{name}.tar"), docker_archive(&[&format!("{name}:1")], layers))
}

/// An archive whose second layer is not what its digest says, and the first is `good`.
fn bad_archive(lab: &Lab, name: &str, good: &[u8]) -> PathBuf {
    let claimed = layer(&format!("claimed-{name}"));
    let mut bytes = docker_archive(&[&format!("{name}:1")], &[good, &claimed]);
    let at = bytes.windows(2000).rposition(|part| part.iter().all(|byte| *byte == b'x')).unwrap();
    bytes[at] = b'y';
    lab.write(&format!("{name}.tar"), bytes)
}

/// The store, whose index may have been written anew.
fn state(lab: &Lab) -> BTreeMap<PathBuf, String> {
    let index = lab.lib().join("images/index.json");
    let mut state = lab.snapshot();
    state.insert(index.clone(), fs::read_to_string(index).unwrap());
    state
}

fn whole(image: &Image, names: &[&str]) {
    assert_eq!(image.layers.len(), names.len());
    for (files, name) in image.layers.iter().rev().zip(names) {
        assert_eq!(fs::read(files.join(name)).unwrap_or_default().len(), 300_000, "{name} of {files:?}");
    }
}

fn load(lab: &Lab, path: &Path, progress: &(dyn Fn(Progress<'_>) + Sync)) -> Result<Vec<Image>, ImageError> {
    ImageStore::open(&lab.lib()).unwrap().load(path, Watch { progress, cancel: &Cancel::new() })
}

/// A store that has an image, which shares a layer with those to come.
fn furnished() -> (Lab, Vec<u8>) {
    let (lab, shared) = (Lab::new(), layer("shared"));
    lab.store.load(&archive(&lab, "there", &[&shared]), Watch::nobody()).unwrap();
    (lab, shared)
}

#[test]
fn a_load_killed_at_any_event_leaves_nothing_that_matters() {
    let (lab, shared) = furnished();
    let names = ["shared", "a", "b", "c"];
    let (a, b, c) = (layer("a"), layer("b"), layer("c"));
    let path = archive(&lab, "image", &[&shared, &a, &b, &c]);
    let before = state(&lab);
    let mut stops = 0;
    loop {
        let killed = || {
            let (child, mut out) = start(loader(&lab.lib(), &path).env(STOP_AT, stops.to_string()));
            let said = says(&mut out).unwrap();
            end(child);
            said == "stopped"
        };
        if !killed() {
            break;
        }
        lab.store.gc(&Unused).unwrap();
        assert_eq!(state(&lab), before, "killed at event {stops}, then gc");
        assert!(killed());
        whole(&lab.store.load(&path, Watch::nobody()).unwrap()[0], &names);
        lab.store.remove("image:1", &Unused, Force::No).unwrap();
        assert_eq!(state(&lab), before, "killed at event {stops}, then loaded and removed");
        stops += 1;
    }
    assert!(stops > 8, "only {stops} events");
}

#[test]
fn a_load_killed_at_any_moment_leaves_nothing_that_matters() {
    let (lab, shared) = furnished();
    let (a, b) = (layer("a"), layer("b"));
    let path = archive(&lab, "image", &[&shared, &a, &b]);
    let before = state(&lab);
    for moment in 0..30 {
        let (child, _out) = start(&mut loader(&lab.lib(), &path));
        thread::sleep(Duration::from_micros(moment * 700));
        end(child);
        if moment % 2 == 0 {
            whole(&lab.store.load(&path, Watch::nobody()).unwrap()[0], &["shared", "a", "b"]);
        }
        if lab.store.resolve("image:1").unwrap().is_some() {
            lab.store.remove("image:1", &Unused, Force::No).unwrap();
        }
        lab.store.gc(&Unused).unwrap();
        assert_eq!(state(&lab), before, "moment {moment}");
    }
}

#[test]
fn a_failed_load_killed_while_it_tidies_leaves_no_half_layer() {
    const FILES: usize = 150;
    let lab = Lab::new();
    let many = (0..FILES).fold(Tar::new(), |tar, n| tar.file(&format!("f{n}"), "x")).done();
    let (bad, good) = (bad_archive(&lab, "bad", &many), archive(&lab, "good", &[&many]));
    let files = lab.lib().join("images/layers/sha256").join(&sha(&many)[7..]).join("fs");
    let count = || fs::read_dir(&files).map_or(0, Iterator::count);
    for moment in 0..8 {
        let (mut child, _out) = start(loader(&lab.lib(), &bad).env(FIRST_FIRST, "1"));
        // Until its first layer is there, and then until that begins to go.
        for there in [true, false] {
            while (count() == FILES) != there && child.try_wait().unwrap().is_none() {
                thread::yield_now();
            }
        }
        thread::sleep(Duration::from_micros(moment * 500));
        end(child);
        let image = lab.store.load(&good, Watch::nobody()).unwrap().remove(0);
        assert_eq!(fs::read_dir(&image.layers[0]).unwrap().count(), FILES, "moment {moment}");
        lab.store.remove("good:1", &Unused, Force::No).unwrap();
        lab.store.gc(&Unused).unwrap();
    }
}

#[test]
fn a_load_that_cannot_write_the_index_leaves_nothing() {
    let (lab, shared) = furnished();
    let index = lab.lib().join("images/index.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
    let digest = json["names"]["docker.io/library/there:1"].clone();
    for n in 0..8000 {
        json["names"][format!("docker.io/library/there:n{n}")] = digest.clone();
    }
    fs::write(&index, json.to_string()).unwrap();
    let before = lab.snapshot();
    let own = layer("own");
    let path = archive(&lab, "image", &[&shared, &own]);
    let child = loader(&lab.lib(), &path);
    // Files of at most 400 KiB: the layers are smaller, the index is larger.
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 800; exec \"$@\"", "sh"]).arg(child.get_program()).args(child.get_args());
    limited.envs(child.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdout(Stdio::piped()).stderr(Stdio::null());
    let (mut child, mut out) = start(&mut limited);
    let said = says(&mut out).unwrap();
    child.wait().unwrap();
    assert!(said.starts_with("failed: ") && said.contains("index.json"), "{said}");
    assert_eq!(lab.snapshot(), before);
}

/// A load in a thread that waits at events until it is told to go on.
struct Gate {
    reached: Sender<String>,
    go: Mutex<Receiver<()>>,
}

/// The other side of a gate.
struct Keeper {
    reached: Receiver<String>,
    go: Sender<()>,
}

fn gate() -> (Gate, Keeper) {
    let (reached, there) = channel();
    let (go, go_on) = channel();
    (Gate { reached, go: Mutex::new(go_on) }, Keeper { reached: there, go })
}

impl Gate {
    fn wait(&self, at: &str) {
        self.reached.send(at.to_owned()).unwrap();
        self.go.lock().unwrap().recv_timeout(EVER).unwrap();
    }
}

impl Keeper {
    fn expect(&self, at: &str) {
        assert_eq!(self.reached.recv_timeout(EVER).unwrap(), at);
    }

    fn open(&self) {
        self.go.send(()).unwrap();
    }
}

/// Waits before its second layer, once the first is there.
fn after_the_first(gate: &Gate) -> impl Fn(Progress<'_>) + Sync {
    let (tell, first) = channel();
    let first = Mutex::new(first);
    move |progress| match progress {
        Progress::LayerDone { number: 1, .. } | Progress::LayerExists { number: 1, .. } => tell.send(()).unwrap(),
        Progress::Layer { number: 2, done: 0, .. } => {
            first.lock().unwrap().recv_timeout(EVER).unwrap();
            gate.wait("second");
        }
        _ => {}
    }
}

#[test]
fn a_layer_of_a_failed_load_stays_for_who_has_found_it() {
    let lab = Lab::new();
    let (shared, own) = (layer("shared"), layer("own"));
    let (bad, good) = (bad_archive(&lab, "bad", &shared), archive(&lab, "good", &[&shared, &own]));
    for bad_is_first in [true, false] {
        let ((bad_gate, bad_keeper), (good_gate, good_keeper)) = (gate(), gate());
        thread::scope(|scope| {
            let (bad_gate, good_gate, lab, bad, good) = (&bad_gate, &good_gate, &lab, &bad, &good);
            let run_bad = || scope.spawn(move || load(lab, bad, &after_the_first(bad_gate)).unwrap_err());
            let run_good = || scope.spawn(move || load(lab, good, &after_the_first(good_gate)).unwrap());
            let (failing, working) = if bad_is_first {
                let failing = run_bad();
                bad_keeper.expect("second");
                let working = run_good();
                good_keeper.expect("second");
                (failing, working)
            } else {
                let working = run_good();
                good_keeper.expect("second");
                let failing = run_bad();
                bad_keeper.expect("second");
                (failing, working)
            };
            bad_keeper.open();
            assert!(matches!(failing.join().unwrap(), ImageError::Digest { .. }));
            lab.store.gc(&Unused).unwrap();
            good_keeper.open();
            whole(&working.join().unwrap()[0], &["shared", "own"]);
        });
        whole(&lab.store.find("good:1").unwrap(), &["shared", "own"]);
        lab.store.remove("good:1", &Unused, Force::No).unwrap();
        assert_bare(&lab);
    }
}

/// Nothing but an index of nothing.
fn assert_bare(lab: &Lab) {
    let left: Vec<_> = tree(&lab.lib()).into_iter().filter(|path| !path.is_dir() && path.extension().is_none_or(|e| e != "lock")).collect();
    assert!(left.iter().all(|path| path.ends_with("index.json")), "{left:?}");
    for dir in ["tmp", "fetching", "layers/sha256", "blobs/sha256"] {
        assert_eq!(fs::read_dir(lab.lib().join("images").join(dir)).unwrap().count(), 0, "{dir}");
    }
}

#[test]
fn the_last_of_several_failed_loads_removes_what_the_first_made() {
    let lab = Lab::new();
    let shared = layer("shared");
    let (one, two) = (bad_archive(&lab, "one", &shared), bad_archive(&lab, "two", &shared));
    let ((first_gate, first_keeper), (second_gate, second_keeper)) = (gate(), gate());
    thread::scope(|scope| {
        let first = scope.spawn(|| load(&lab, &one, &after_the_first(&first_gate)).unwrap_err());
        first_keeper.expect("second");
        let second = scope.spawn(|| load(&lab, &two, &after_the_first(&second_gate)).unwrap_err());
        second_keeper.expect("second");
        first_keeper.open();
        first.join().unwrap();
        assert_eq!(fs::read_dir(lab.lib().join("images/layers/sha256")).unwrap().count(), 1);
        second_keeper.open();
        second.join().unwrap();
    });
    assert_bare(&lab);
}

#[test]
fn a_failed_load_leaves_a_layer_that_a_pod_has_of_an_image_that_is_gone() {
    let lab = Lab::new();
    let shared = layer("shared");
    let (bad, good) = (bad_archive(&lab, "bad", &shared), archive(&lab, "good", &[&shared]));
    let (gate, keeper) = gate();
    let used = thread::scope(|scope| {
        let failing = scope.spawn(|| load(&lab, &bad, &after_the_first(&gate)).unwrap_err());
        keeper.expect("second");
        let used = lab.store.load(&good, Watch::nobody()).unwrap().remove(0).layers;
        lab.store.remove("good:1", &Layers(used.clone()), Force::Yes).unwrap();
        keeper.open();
        failing.join().unwrap();
        used
    });
    assert_eq!(fs::read(used[0].join("shared")).unwrap().len(), 300_000);
    assert_eq!(lab.store.gc(&Layers(used)).unwrap().kept, 1);
    lab.store.gc(&Unused).unwrap();
    assert_bare(&lab);
}

#[test]
fn a_failed_load_does_not_wait_for_the_layers_of_others() {
    let lab = Lab::new();
    let shared = layer("shared");
    let (bad, good) = (bad_archive(&lab, "bad", &shared), archive(&lab, "good", &[&shared]));
    let (gate, keeper) = gate();
    thread::scope(|scope| {
        let working = scope.spawn(|| {
            let once = AtomicBool::new(true);
            load(&lab, &good, &|progress| {
                if matches!(progress, Progress::Layer { .. }) && once.swap(false, Ordering::Relaxed) {
                    gate.wait("middle");
                }
            })
        });
        keeper.expect("middle");
        let (ended, end) = channel();
        let (lab, bad) = (&lab, &bad);
        scope.spawn(move || {
            let (tell, waits) = channel();
            let waits = Mutex::new(waits);
            let failed = load(lab, bad, &|progress| match progress {
                Progress::LayerWaits { number: 1, .. } => tell.send(()).unwrap(),
                Progress::Layer { number: 2, done: 0, .. } => waits.lock().unwrap().recv_timeout(EVER).unwrap(),
                _ => {}
            });
            ended.send(failed).unwrap();
        });
        let failed = end.recv_timeout(EVER / 2);
        keeper.open();
        assert!(matches!(failed.expect("it waits"), Err(ImageError::Digest { .. })));
        whole(&working.join().unwrap().unwrap()[0], &["shared"]);
    });
}

#[test]
fn a_load_cancelled_at_any_event_leaves_nothing() {
    let (lab, shared) = furnished();
    let (a, b) = (layer("a"), layer("b"));
    let path = archive(&lab, "image", &[&shared, &a, &b]);
    let before = lab.snapshot();
    let mut at = 0;
    loop {
        let (cancel, events) = (Cancel::new(), AtomicUsize::new(0));
        let progress = |_: Progress<'_>| {
            if events.fetch_add(1, Ordering::SeqCst) == at {
                cancel.cancel();
            }
        };
        match lab.store.load(&path, Watch { progress: &progress, cancel: &cancel }) {
            Err(ImageError::Cancelled) => assert_eq!(lab.snapshot(), before, "event {at}"),
            Ok(_) if !cancel.is_cancelled() => break,
            other => panic!("event {at}: {other:?}"),
        }
        at += 1;
    }
    assert!(at > 5, "only {at} events");
}

#[test]
fn removals_of_all_kinds_beside_loads_take_nothing_that_is_needed() {
    let lab = Lab::new();
    let all = ["a", "b", "c", "d"];
    let sets: [&[&str]; 4] = [&["a", "b"], &["a", "b", "c"], &["b", "a", "d"], &["a", "d"]];
    let archives: Vec<PathBuf> = sets
        .iter()
        .enumerate()
        .map(|(n, set)| {
            let layers: Vec<Vec<u8>> = set.iter().map(|name| layer(name)).collect();
            archive(&lab, &format!("image{n}"), &layers.iter().map(|layer| &layer[..]).collect::<Vec<_>>())
        })
        .collect();
    let victim_layers: Vec<Vec<u8>> = all.iter().map(|name| layer(name)).collect();
    let victim = archive(&lab, "victim", &victim_layers.iter().map(|layer| &layer[..]).collect::<Vec<_>>());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let loaders: Vec<_> = (0..sets.len())
            .map(|n| {
                let (lab, archives, sets) = (&lab, &archives, &sets);
                scope.spawn(move || {
                    let store = ImageStore::open(&lab.lib()).unwrap();
                    let name = format!("image{n}:1");
                    for _ in 0..15 {
                        let loaded = store.load(&archives[n], Watch::nobody()).unwrap().remove(0);
                        let hold = store.hold().unwrap();
                        whole(&loaded, sets[n]);
                        assert_eq!(store.find(&name).unwrap(), loaded);
                        drop(hold);
                        store.remove(&name, &Unused, Force::No).unwrap();
                    }
                })
            })
            .collect();
        // Its names come and go while it is loaded.
        let victims = scope.spawn(|| {
            for _ in 0..15 {
                lab.store.load(&victim, Watch::nobody()).unwrap();
            }
        });
        let others: [&(dyn Fn(&ImageStore) + Sync); 4] = [
            &|store| drop(store.gc(&Unused).unwrap()),
            &|store| drop(store.prune(&Unused, Pruned::Nameless).unwrap()),
            &|store| match store.remove("victim:1", &Unused, Force::No) {
                Ok(_) | Err(ImageError::NotFound { .. }) => {}
                Err(error) => panic!("{}", chain(&error)),
            },
            &|store| {
                store.list().unwrap();
                store.resolve("victim:1").unwrap();
            },
        ];
        for other in others {
            let (lab, done) = (&lab, &done);
            scope.spawn(move || {
                let store = ImageStore::open(&lab.lib()).unwrap();
                while !done.load(Ordering::Relaxed) {
                    other(&store);
                }
            });
        }
        let ended: Vec<_> = loaders.into_iter().chain([victims]).map(thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok));
    });
    lab.store.prune(&Unused, Pruned::All).unwrap();
    assert_bare(&lab);
}

#[test]
fn a_layer_that_may_not_be_on_disk_is_not_trusted() {
    let lab = Lab::new();
    let low = layer("low");
    let path = archive(&lab, "image", &[&low]);
    let files = lab.store.load(&path, Watch::nobody()).unwrap().remove(0).layers.remove(0);
    let (dir, mark) = (files.parent().unwrap(), files.join("mark"));
    let (sealed, fresh) = (dir.join("layer.json"), dir.join("fresh.json"));
    let load = || {
        fs::write(&mark, "x").unwrap();
        let found = AtomicBool::new(false);
        let tell = |progress: Progress<'_>| {
            found.fetch_or(matches!(progress, Progress::LayerExists { .. }), Ordering::Relaxed);
        };
        lab.store.load(&path, Watch { progress: &tell, cancel: &Cancel::new() }).unwrap();
        assert!(sealed.exists() && !fresh.exists(), "an image of the index has it");
        (mark.exists(), found.into_inner())
    };
    let unseal = |boot: &str| {
        let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&sealed).unwrap()).unwrap();
        record["boot"] = boot.into();
        fs::write(&fresh, record.to_string()).unwrap();
        fs::remove_file(&sealed).unwrap();
    };
    assert_eq!(load(), (true, true), "a sealed one is trusted");
    unseal(&fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap());
    assert_eq!(load(), (true, true), "one of this boot is trusted");
    unseal("11111111-2222-3333-4444-555555555555\n");
    assert_eq!(load(), (false, false), "one of another boot is replaced");
    unseal("of this boot, but its text was not on disk");
    fs::write(&fresh, "").unwrap();
    assert_eq!(load(), (false, false), "one whose record was cut short is replaced");
    fs::remove_file(&sealed).unwrap();
    assert_eq!(load(), (false, false), "one without a record is replaced");
}

#[test]
fn a_crowd_unpacks_each_layer_once() {
    let lab = Lab::new();
    let layers: Vec<Vec<u8>> = (0..6).map(|n| layer(&format!("f{n}"))).collect();
    let path = archive(&lab, "image", &layers.iter().map(|layer| &layer[..]).collect::<Vec<_>>());
    let (barrier, done) = (Barrier::new(8), Mutex::new(BTreeMap::new()));
    let images: Vec<Image> = thread::scope(|scope| {
        let one = || {
            barrier.wait();
            load(&lab, &path, &|progress| {
                if let Progress::LayerDone { diff_id, .. } = progress {
                    *done.lock().unwrap().entry(diff_id.to_owned()).or_insert(0) += 1;
                }
            })
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap().unwrap().remove(0)).collect()
    });
    assert!(images.iter().all(|image| *image == images[0]));
    whole(&images[0], &["f0", "f1", "f2", "f3", "f4", "f5"]);
    let expected: BTreeMap<String, i32> = layers.iter().map(|layer| (sha(layer), 1)).collect();
    assert_eq!(done.into_inner().unwrap(), expected);
}
