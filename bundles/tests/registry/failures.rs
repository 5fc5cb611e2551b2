//! Each thing that may go wrong has its own message, and is tried again only if that may help.

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bundles::registry::{Notice, Problem, RegistryError};

use crate::support::{Bench, Ending, Reply, Server, content, message, read, says};

/// Fetches a blob from a server that gives these replies to it, one after the other; the last again and again.
fn fetch(replies: Vec<Reply>) -> (Result<Vec<u8>, RegistryError>, usize, Bench) {
    let next = AtomicUsize::new(0);
    let server = Server::plain(move |request| {
        if !request.path.contains("/blobs/") {
            return Reply::new(200);
        }
        let index = next.fetch_add(1, Ordering::SeqCst);
        replies[index.min(replies.len() - 1)].clone()
    });
    let bench = Bench::insecure(&server);
    let result = read(&bench.repository(&server), &content(10));
    (result, server.count("/blobs/"), bench)
}

#[test]
fn not_found_and_denied() {
    let body = br#"{"errors":[{"code":"BLOB_UNKNOWN","message":"blob \u001b[31munknown"}]}"#.to_vec();
    let (result, count, _) = fetch(vec![Reply { body, ..Reply::new(404) }]);
    let error = result.unwrap_err();
    assert!(error.is_not_found() && count == 1, "{error:?}");
    says(&error, &["no such blob (404)", "minipod image login", "BLOB_UNKNOWN"]);
    assert!(!message(&error).contains('\x1b'));
    let (result, count, _) = fetch(vec![Reply::new(403)]);
    assert!(matches!(result.unwrap_err().problem(), Problem::Denied { .. }) && count == 1);
}

#[test]
fn what_passes_is_tried_again() {
    for status in [408, 429, 500, 502, 503, 504] {
        let (result, count, bench) = fetch(vec![Reply::new(status), Reply::ok(content(10))]);
        assert_eq!((result.unwrap(), count, bench.retries()), (content(10), 2, 1), "{status}");
    }
    for status in [400, 402, 405, 410, 451, 501, 505, 204, 206, 302] {
        let (result, count, _) = fetch(vec![Reply::new(status)]);
        result.unwrap_err();
        assert_eq!(count, 1, "{status}");
    }
    let (result, count, bench) = fetch(vec![Reply::new(503)]);
    assert!(matches!(result.unwrap_err().problem(), Problem::Server { status: 503, .. }));
    assert_eq!((count, bench.retries()), (3, 2));
}

#[test]
fn too_many_requests() {
    let soon = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&jiff::Timestamp::now()).unwrap();
    for wish in ["0", "1", &soon] {
        let (result, count, bench) = fetch(vec![Reply::new(429).with("Retry-After", wish), Reply::ok(content(10))]);
        assert_eq!((result.unwrap(), count), (content(10), 2), "{wish}");
        let notices = bench.notices.lock().unwrap();
        assert!(matches!(&notices[..], [Notice::Retry { after, .. }] if *after <= Duration::from_secs(1)), "{notices:?}");
    }
    let (result, count, _) = fetch(vec![Reply::new(429).with("Retry-After", "3600"), Reply::ok(content(10))]);
    let error = result.unwrap_err();
    assert!(matches!(error.problem(), Problem::TooManyRequests { after: Some(_), .. }) && count == 1, "{error:?}");
    says(&error, &["limits how often it is asked (429): try again in 60 min"]);
}

#[test]
fn a_complaint_is_read_only_so_far() {
    let (result, _, _) = fetch(vec![Reply { body: vec![b'x'; 4096], ..Reply::new(418) }.ending(Ending::Endless)]);
    let text = message(&result.unwrap_err());
    assert!(text.contains("status 418") && text.contains("xxx") && text.len() < 1000, "{text}");
}

#[test]
fn headers_without_end() {
    let (result, _, _) = fetch(vec![Reply::new(200).with("X", "x".repeat(100_000))]);
    let error = result.unwrap_err();
    assert!(matches!(error.problem(), Problem::Protocol { .. }), "{error:?}");
}

#[test]
fn what_is_not_http() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut socket, _) = listener.accept().unwrap();
            std::io::Write::write_all(&mut socket, b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n").unwrap();
            std::io::copy(&mut socket, &mut std::io::sink()).ok();
        }
    });
    let bench = Bench::new(&format!("[[registry]]\nlocation = \"{address}\"\ninsecure = true"));
    let error = bench.named(&format!("{address}/a"), &[]).unwrap().digest().unwrap_err();
    assert!(matches!(error.problem(), Problem::Protocol { .. }), "{error:?}");
    thread.join().unwrap();
}

#[test]
fn nobody_there() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let bench = Bench::new("");
    let error = bench.named(&format!("{address}/a"), &[]).unwrap().digest().unwrap_err();
    assert!(matches!(error.problem(), Problem::Refused { .. }) && error.is_unreachable(), "{error:?}");
    assert_eq!(bench.retries(), 0);
    says(&error, &[&format!("look up {address}/a:latest from {address}"), "refuses the connection"]);
}

#[test]
fn blocked() {
    let bench = Bench::new("[[registry]]\nprefix = \"127.0.0.1:1/bad\"\nblocked = true");
    let error = bench.named("127.0.0.1:1/bad/x", &[]).err().unwrap();
    assert!(matches!(error.problem(), Problem::Blocked { .. }), "{error:?}");
    says(&error, &["127.0.0.1:1/bad/x:latest", "`127.0.0.1:1/bad` is blocked by test.conf"]);
    assert!(bench.named("127.0.0.1:1/badly/x", &[]).is_ok());
}

#[test]
fn nobody_takes_the_connection() {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, getsockname, listen, socket, socket_with};
    // Room for one connection that nobody accepts: what comes after it gets no answer.
    let listener = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&listener, &std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    listen(&listener, 0).unwrap();
    let address = std::net::SocketAddr::try_from(getsockname(&listener).unwrap()).unwrap();
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::NONBLOCK, None).unwrap();
        connect(&socket, &address).unwrap_err();
        waiting.push(socket);
    }
    let mut bench = Bench::new("");
    bench.options.patience.connect = Duration::from_millis(50);
    let error = bench.named(&format!("{address}/a"), &[]).unwrap().digest().unwrap_err();
    assert!(matches!(error.problem(), Problem::TimedOut { .. }) && error.is_unreachable(), "{error:?}");
    assert_eq!(bench.retries(), 2);
    says(&error, &["did not take the connection in time"]);

    bench.options.patience.connect = Duration::from_secs(3600);
    let repository = bench.named(&format!("{address}/a"), &[]).unwrap();
    let thread = std::thread::spawn(move || repository.digest().unwrap_err());
    bench.options.cancel.cancel();
    assert!(thread.join().unwrap().is_cancelled());
}
