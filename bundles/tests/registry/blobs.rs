//! Streams that break off, and servers that lie about them.

use std::io::Read as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bundles::registry::{Problem, RegistryError};

use crate::support::{Bench, Ending, Reply, Server, content, digest, read, says};

/// Serves `body` for blobs; the first answers end as told.
fn breaking(body: Vec<u8>, endings: Vec<Ending>) -> Server {
    let next = AtomicUsize::new(0);
    Server::plain(move |request| {
        if !request.path.contains("/blobs/") {
            return Reply::new(200);
        }
        let ending = endings.get(next.fetch_add(1, Ordering::SeqCst)).copied().unwrap_or(Ending::Whole);
        Reply::part(request, &body).ending(ending)
    })
}

#[test]
fn what_breaks_off_goes_on_where_it_was() {
    let body = content(300_000);
    for ending in [Ending::Cut(100_000), Ending::Cut(0), Ending::Reset(100_000), Ending::Reset(0)] {
        let server = breaking(body.clone(), vec![ending, ending]);
        let bench = Bench::insecure(&server);
        assert!(read(&bench.repository(&server), &body).unwrap() == body, "{ending:?}");
        assert_eq!(server.count("/blobs/"), 3, "{ending:?}");
        assert_eq!(bench.retries(), 2);
    }
    let server = breaking(body.clone(), vec![Ending::Cut(100_000)]);
    assert!(read(&Bench::insecure(&server).repository(&server), &body).unwrap() == body);
    let asked: Vec<_> = server.seen().iter().filter(|request| request.path.contains("/blobs/")).map(|r| r.from()).collect();
    assert_eq!(asked, [0, 100_000]);
    assert!(server.seen().iter().all(|request| request.header("accept-encoding") == Some("identity")));
}

#[test]
fn silence_is_an_end_too() {
    let body = content(300_000);
    let server = breaking(body.clone(), vec![Ending::Stall(100_000), Ending::Stall(0)]);
    let mut bench = Bench::insecure(&server);
    bench.options.patience.idle = Duration::from_millis(300);
    bench.options.patience.tries = 50;
    assert!(read(&bench.repository(&server), &body).unwrap() == body);

    let server = breaking(body.clone(), vec![Ending::Stall(0); 10]);
    let mut bench = Bench::insecure(&server);
    bench.options.patience.idle = Duration::from_millis(50);
    let error = read(&bench.repository(&server), &body).unwrap_err();
    assert!(matches!(error.problem(), Problem::Stalled { .. }), "{error:?}");
    says(&error, &["fetch sha256:", "/a/b:1 from 127.0.0.1:", "sent nothing for 50 ms"]);
}

#[test]
fn progress_renews_the_patience() {
    let body = content(10_000);
    let server = breaking(body.clone(), vec![Ending::Cut(1); 50]);
    assert!(read(&Bench::insecure(&server).repository(&server), &body).unwrap() == body);
    assert_eq!(server.count("/blobs/"), 51);
}

#[test]
fn a_trickle_is_no_progress() {
    let body = content(10_000);
    let server = breaking(body.clone(), vec![Ending::Cut(100); 50]);
    let mut bench = Bench::insecure(&server);
    bench.options.patience.progress = 1000;
    let error = read(&bench.repository(&server), &body).unwrap_err();
    assert!(matches!(error.problem(), Problem::Interrupted { .. } | Problem::Truncated { .. }), "{error:?}");
    assert_eq!(server.count("/blobs/"), 3);
}

#[test]
fn no_progress_ends_it() {
    let body = content(10_000);
    let server = breaking(body.clone(), vec![Ending::Cut(5000), Ending::Cut(0), Ending::Cut(0), Ending::Cut(0)]);
    let repository = Bench::insecure(&server).repository(&server);
    let mut blob = repository.blob(&digest(&body), body.len() as u64).unwrap();
    let mut bytes = Vec::new();
    let error = RegistryError::from_io(blob.read_to_end(&mut bytes).unwrap_err()).unwrap();
    assert_eq!(bytes, body[..5000]);
    assert_eq!(server.count("/blobs/"), 3, "three tries in a row: the one that gave bytes counts as the first");
    assert!(matches!(error.problem(), Problem::Interrupted { .. } | Problem::Truncated { .. }), "{error:?}");
    assert!(blob.read(&mut [0]).is_err(), "an error is final");
}

#[test]
fn a_server_without_ranges_begins_anew() {
    let body = content(300_000);
    let (served, first) = (body.clone(), AtomicUsize::new(0));
    let server = Server::plain(move |request| match first.fetch_add(usize::from(request.path.contains("/blobs/")), Ordering::SeqCst) {
        0 if request.path.contains("/blobs/") => Reply::ok(&*served).ending(Ending::Cut(123_456)),
        _ => Reply::ok(&*served),
    });
    assert!(read(&Bench::insecure(&server).repository(&server), &body).unwrap() == body);
    assert_eq!(server.count("/blobs/"), 2);
}

/// The first answer breaks off; `then` answers what follows.
fn then(body: &[u8], then: impl Fn(usize) -> Reply + Send + Sync + 'static) -> RegistryError {
    let served = body.to_vec();
    let server = Server::plain(move |request| match request.from() {
        0 => Reply::ok(&*served).ending(Ending::Cut(100)),
        from => then(from),
    });
    read(&Bench::insecure(&server).repository(&server), body).unwrap_err()
}

#[test]
fn ranges_that_lie() {
    let body = content(1000);
    let error = then(&body, |_| Reply { body: content(900), ..Reply::new(206) }.with("Content-Range", "bytes 50-949/1000"));
    assert!(matches!(error.problem(), Problem::Protocol { .. }), "{error:?}");
    says(&error, &["asked for bytes from 100 of 1000 on", "bytes 50-949/1000"]);
    let error = then(&body, |_| Reply { body: content(900), ..Reply::new(206) });
    assert!(matches!(error.problem(), Problem::Protocol { .. }), "{error:?}");
    let error = then(&body, |from| Reply { body: content(900), ..Reply::new(206) }.with("Content-Range", format!("bytes {from}-999/2000")));
    assert!(matches!(error.problem(), Problem::Protocol { .. }), "{error:?}");
    let error = then(&body, |_| Reply::new(416));
    assert!(matches!(error.problem(), Problem::Status { status: 416, .. }), "{error:?}");
}

#[test]
fn lengths_that_lie() {
    let body = content(1000);
    for announced in [999, 1001, u64::MAX] {
        let served = body.clone();
        let server = Server::plain(move |_| Reply::ok(&*served).with("Content-Length", announced).ending(Ending::Cut(999)));
        let repository = Bench::insecure(&server).repository(&server);
        let error = read(&repository, &body).unwrap_err();
        assert!(matches!(error.problem(), Problem::Size { .. }), "{error:?}");
        says(&error, &[&format!("{announced} bytes"), "1000"]);
        let error = repository.document(&digest(&body), 1000).unwrap_err();
        assert!(matches!(error.problem(), Problem::Size { .. }), "{error:?}");
    }
}

#[test]
fn never_more_than_its_size() {
    let body = content(1000);
    let served = body.clone();
    let server = Server::plain(move |_| Reply::ok(&*served).ending(Ending::Endless));
    let repository = Bench::insecure(&server).repository(&server);
    assert_eq!(read(&repository, &body).unwrap(), body);
    let error = repository.document(&digest(&body), 1000).unwrap_err();
    assert!(matches!(error.problem(), Problem::TooLarge { .. }), "{error:?}");
}

#[test]
fn chunked_and_empty_blobs() {
    let served = b"5\r\nhello\r\n0\r\n\r\n".to_vec();
    let server = Server::plain(move |_| Reply::ok(&*served).with("Transfer-Encoding", "chunked"));
    assert_eq!(read(&Bench::insecure(&server).repository(&server), b"hello").unwrap(), b"hello");
    let server = Server::plain(|_| Reply::new(200));
    assert_eq!(read(&Bench::insecure(&server).repository(&server), b"").unwrap(), b"");
}

#[test]
fn documents_are_verified() {
    let body = content(1000);
    let served = body.clone();
    let server = Server::plain(move |_| Reply::ok(&*served));
    let repository = Bench::insecure(&server).repository(&server);
    assert_eq!(repository.document(&digest(&body), 1000).unwrap(), body);
    let error = repository.document(&digest(b"other"), 1000).unwrap_err();
    assert!(matches!(error.problem(), Problem::Digest { .. }), "{error:?}");
    says(&error, &[&digest(b"other").to_string(), &digest(&body).to_string()]);
}

#[test]
fn several_threads_at_once() {
    let body = content(200_000);
    let server = breaking(body.clone(), vec![Ending::Cut(1000); 4]);
    let repository = Bench::insecure(&server).repository(&server);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert!(read(&repository, &body).unwrap() == body));
        }
    });
}
