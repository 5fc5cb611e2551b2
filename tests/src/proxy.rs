//! A proxy in front of a registry that spoils what it is told to, and writes down what was asked for.
//!
//! ```text
//! minipod --> Proxy (threads of the test, on its loopback) --> docker-registry
//!               rules: the first that fits a request and is not used up is applied
//! ```
//! One connection a request: whatever breaks it breaks no other.

use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::http::{self, Head};
use crate::{LIMIT, eventually};

/// What happens to an answer. The first five let the head of the answer through as it is.
#[derive(Debug, Clone)]
pub enum Act {
    /// Ends the connection in good order after so many bytes of the body.
    Truncate(u64),
    /// Resets the connection after so many bytes of the body.
    Reset(u64),
    /// Sends so many bytes of the body, and the rest when [`Proxy::release`] is called.
    Stall(u64),
    /// Changes the byte at this place of the body.
    Damage(u64),
    /// Waits before each answer, as a slow network does.
    Delay(Duration),
    /// Answers itself: status, headers, body.
    Answer(u16, Vec<(&'static str, String)>, Vec<u8>),
}

impl Act {
    /// An error without headers of its own.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Answer(status, Vec::new(), Vec::new())
    }

    /// 429 with `Retry-After`, in seconds.
    #[must_use]
    pub fn too_many(seconds: u32) -> Self {
        Self::Answer(429, vec![("Retry-After", seconds.to_string())], Vec::new())
    }

    /// Whether it is about the body, which the answer to HEAD has not.
    fn of_body(&self) -> bool {
        matches!(self, Self::Truncate(_) | Self::Reset(_) | Self::Stall(_) | Self::Damage(_))
    }
}

/// When to do what.
#[derive(Debug, Clone)]
pub struct Rule {
    path: String,
    left: usize,
    unless: Option<String>,
    act: Act,
}

impl Rule {
    /// For every request whose path contains `path`; what spoils a body leaves HEAD alone.
    #[must_use]
    pub fn on(path: &str, act: Act) -> Self {
        Self { path: path.to_owned(), left: usize::MAX, unless: None, act }
    }

    /// So many times only.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.left = times;
        self
    }

    /// Not for requests whose `Authorization` is this.
    #[must_use]
    pub fn unless_authorized(mut self, authorization: &str) -> Self {
        self.unless = Some(authorization.to_owned());
        self
    }

    fn fits(&self, request: &Head) -> bool {
        let authorized = self.unless.is_some() && self.unless.as_deref() == request.get("authorization");
        let spared = self.act.of_body() && request.word(0) != "GET";
        self.left > 0 && request.word(1).contains(&self.path) && !authorized && !spared
    }
}

/// One request.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `GET`, `HEAD`, ...
    pub method: String,
    /// With the query.
    pub path: String,
    /// The header `Range`.
    pub range: Option<String>,
    /// The header `Authorization`.
    pub authorization: Option<String>,
    /// Bytes of the body that were sent.
    pub sent: u64,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    seen: Vec<Seen>,
    released: bool,
    ended: bool,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A proxy, until dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepts: Option<JoinHandle<()>>,
}

impl Proxy {
    /// On a free port of the calling thread's loopback.
    #[must_use]
    pub fn before(upstream: SocketAddr, rules: Vec<Rule>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen on the loopback");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Mutex::new(State { rules, ..State::default() });
        let shared = Arc::new(Shared { upstream, state, changed: Condvar::new() });
        let of_thread = Arc::clone(&shared);
        let accepts = thread::spawn(move || {
            for stream in listener.incoming() {
                if of_thread.state().ended {
                    return;
                }
                let (stream, shared) = (stream.expect("accept a connection"), Arc::clone(&of_thread));
                // The other side may hang up whenever it likes; that is what these tests are about.
                thread::spawn(move || shared.serve(stream).ok());
            }
        });
        Self { address, shared, accepts: Some(accepts) }
    }

    /// `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Other rules from now on.
    pub fn rules(&self, rules: Vec<Rule>) {
        self.shared.state().rules = rules;
    }

    /// Every request so far, in the order in which they came.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.state().seen.clone()
    }

    /// How many requests of that method had `path` in theirs.
    #[must_use]
    pub fn count(&self, method: &str, path: &str) -> usize {
        self.seen().iter().filter(|seen| seen.method == method && seen.path.contains(path)).count()
    }

    /// Bytes of bodies sent for such paths.
    #[must_use]
    pub fn sent(&self, path: &str) -> u64 {
        self.seen().iter().filter(|seen| seen.path.contains(path)).map(|seen| seen.sent).sum()
    }

    /// Forgets what it has seen.
    pub fn forget(&self) {
        self.shared.state().seen.clear();
    }

    /// Returns once so many bytes of such bodies have been sent.
    pub fn wait_for(&self, path: &str, bytes: u64) {
        let what = format!("{bytes} bytes of {path} are asked for and sent");
        eventually(LIMIT, &what, || (self.sent(path) >= bytes).then_some(()));
    }

    /// Lets go on what stalls, now and later.
    pub fn release(&self) {
        self.shared.state().released = true;
        self.shared.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.state().ended = true;
        self.release();
        let woken = TcpStream::connect(self.address);
        if let (Ok(_), Some(accepts)) = (woken, self.accepts.take()) {
            drop(accepts.join());
        }
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut from = BufReader::new(stream.try_clone()?);
        let request = match Head::read(&mut from) {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            Err(_) => return refuse(&stream, from), // most likely TLS
        };
        let mut body = vec![0; usize::try_from(request.length().unwrap_or(0)).map_err(io::Error::other)?];
        from.read_exact(&mut body)?;
        let (act, number) = self.note(&request);
        if let Some(Act::Delay(time)) = act {
            thread::sleep(time);
        }
        if let Some(Act::Answer(status, headers, body)) = &act {
            let head = Head { first: format!("HTTP/1.1 {status} {}", reason(*status)), headers: Vec::new() };
            let own = headers.iter().map(|(name, value)| (*name, value.clone()));
            write_head(&stream, &head, own.chain([("Content-Length", body.len().to_string())]))?;
            let rest = if request.word(0) == "HEAD" { &[][..] } else { &body[..] };
            return self.pass(number, &mut &*rest, &stream, None, u64::MAX).map(drop);
        }
        let skipped = ["host", "content-length", "connection"];
        let kept = request.headers.iter().filter(|(name, _)| !skipped.contains(&&*name.to_ascii_lowercase()));
        let headers: Vec<(&str, &str)> = kept.map(|(name, value)| (&**name, &**value)).collect();
        let (mut head, mut answer) = http::open(self.upstream, request.word(0), request.word(1), &headers, &body)?;
        head.first = head.first.replacen("HTTP/1.0", "HTTP/1.1", 1);
        head.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("connection"));
        write_head(&stream, &head, [])?;
        self.body(number, act.as_ref(), &mut answer, &stream)
    }

    fn body(&self, number: usize, act: Option<&Act>, from: &mut impl Read, stream: &TcpStream) -> io::Result<()> {
        match act {
            Some(Act::Truncate(bytes)) => self.pass(number, from, stream, None, *bytes).map(drop),
            Some(Act::Reset(bytes)) => {
                self.pass(number, from, stream, None, *bytes)?;
                rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO))?;
                Ok(())
            }
            Some(Act::Stall(bytes)) => {
                self.pass(number, from, stream, None, *bytes)?;
                let held = self.changed.wait_while(self.state(), |state| !state.released);
                drop(held.unwrap_or_else(PoisonError::into_inner));
                self.pass(number, from, stream, None, u64::MAX)
            }
            Some(Act::Damage(place)) => self.pass(number, from, stream, Some(*place), u64::MAX),
            _ => self.pass(number, from, stream, None, u64::MAX),
        }
    }

    /// Writes the request down and finds what to do with it.
    fn note(&self, request: &Head) -> (Option<Act>, usize) {
        let mut state = self.state();
        let text = |name: &str| request.get(name).map(ToOwned::to_owned);
        state.seen.push(Seen {
            method: request.word(0).to_owned(), path: request.word(1).to_owned(),
            range: text("range"), authorization: text("authorization"), sent: 0,
        });
        let number = state.seen.len() - 1;
        let rule = state.rules.iter_mut().find(|rule| rule.fits(request));
        let act = rule.map(|rule| {
            rule.left -= 1;
            rule.act.clone()
        });
        (act, number)
    }

    /// Sends at most so many bytes on, one of them changed.
    fn pass(&self, number: usize, from: &mut impl Read, mut to: &TcpStream, damage: Option<u64>, limit: u64) -> io::Result<()> {
        let mut from = from.take(limit);
        let (mut buffer, mut at) = ([0; 16384], 0);
        loop {
            let read = from.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            let place = damage.and_then(|place| usize::try_from(place.checked_sub(at)?).ok());
            if let Some(byte) = place.and_then(|place| buffer[..read].get_mut(place)) {
                *byte ^= 1;
            }
            to.write_all(&buffer[..read])?;
            at += read as u64;
            // None when it was forgotten meanwhile.
            if let Some(seen) = self.state().seen.get_mut(number) {
                seen.sent += read as u64;
            }
        }
    }
}

fn write_head<'a>(mut to: &TcpStream, head: &Head, more: impl IntoIterator<Item = (&'a str, String)>) -> io::Result<()> {
    let mut text = format!("{}\r\n", head.first);
    for (name, value) in &head.headers {
        text += &format!("{name}: {value}\r\n");
    }
    for (name, value) in more {
        text += &format!("{name}: {value}\r\n");
    }
    to.write_all((text + "Connection: close\r\n\r\n").as_bytes())
}

/// What a server of plain HTTP says to a client that begins with something else. The rest is read, lest the kernel reset
/// the connection before the client has the answer.
fn refuse(mut to: &TcpStream, mut from: impl Read) -> io::Result<()> {
    to.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n400 Bad Request")?;
    to.shutdown(Shutdown::Write)?;
    io::copy(&mut from, &mut io::sink()).map(drop)
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        429 => "Too Many Requests",
        _ => "Of The Test",
    }
}
