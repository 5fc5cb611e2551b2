//! Whoever waits is woken: each of these would wait for an hour.

use std::io::Read as _;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use bundles::registry::{Notice, RegistryError};

use crate::support::{Bench, Ending, Reply, Server, content, digest};

const LONG: Duration = Duration::from_secs(3600);

#[test]
fn a_silent_body() {
    let server = Server::plain(|request| match request.path.contains("/blobs/") {
        true => Reply::ok(content(10)).ending(Ending::Stall(5)),
        false => Reply::new(200),
    });
    let mut bench = Bench::insecure(&server);
    bench.options.patience.idle = LONG;
    let mut blob = bench.repository(&server).blob(&digest(&content(10)), 10).unwrap();
    let mut half = [0; 5];
    blob.read_exact(&mut half).unwrap();
    let thread = std::thread::spawn(move || RegistryError::from_io(blob.read(&mut [0]).unwrap_err()).unwrap());
    bench.options.cancel.cancel();
    assert!(thread.join().unwrap().is_cancelled());
}

#[test]
fn an_answer_that_does_not_come() {
    let (send, receive) = channel();
    let (send, wait) = (std::sync::Mutex::new(send), std::sync::Mutex::new(()));
    let (release, hold) = channel::<()>();
    let hold = std::sync::Mutex::new(hold);
    let server = Server::plain(move |request| {
        if request.path.contains("/manifests/") {
            let _one = wait.lock().unwrap();
            send.lock().unwrap().send(()).unwrap();
            hold.lock().unwrap().recv().ok();
        }
        Reply::new(200)
    });
    let mut bench = Bench::insecure(&server);
    bench.options.patience.idle = LONG;
    bench.options.patience.document = LONG;
    let repository = bench.repository(&server);
    let thread = std::thread::spawn(move || repository.digest().unwrap_err());
    receive.recv().unwrap();
    bench.options.cancel.cancel();
    assert!(thread.join().unwrap().is_cancelled());
    drop(release);
}

#[test]
fn a_pause_before_the_next_try() {
    let server = Server::plain(|request| Reply::new(if request.path.contains("/manifests/") { 503 } else { 200 }));
    let mut bench = Bench::insecure(&server);
    bench.options.patience.first_pause = LONG;
    bench.options.patience.longest_pause = LONG;
    let cancel = bench.options.cancel.clone();
    bench.options.notify = Arc::new(move |notice| {
        assert!(matches!(notice, Notice::Retry { .. }));
        cancel.cancel();
    });
    assert!(bench.repository(&server).digest().unwrap_err().is_cancelled());
    assert_eq!(server.count("/manifests/"), 1);
}

#[test]
fn before_anything_is_asked() {
    let server = Server::plain(|_| Reply::new(200));
    let bench = Bench::insecure(&server);
    bench.options.cancel.cancel();
    assert!(bench.repository(&server).manifest(None, 10).unwrap_err().is_cancelled());
    assert!(server.seen().is_empty());
}
