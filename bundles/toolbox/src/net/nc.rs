//! `nc`: standard input and output joined to a TCP or UDP socket, both ways at once; each direction ends by itself.

use std::io::{self, ErrorKind, PipeReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::resolve::address;
use crate::sys;
use crate::tool::{Outcome, Usage, arguments, complain, plain};

const HELP: &str = "usage: nc [-46uvz] [-w SECONDS] [-p PORT] HOST PORT     connect
       nc -l [-46kuv] [-w SECONDS] [-p] [ADDRESS] PORT  listen
";

#[derive(Default)]
struct Options {
    listen: bool,
    udp: bool,
    scan: bool,
    verbose: bool,
    keep: bool,
    wait: Option<Duration>,
    port: Option<u16>,
    v6: Option<bool>,
    words: Vec<String>,
}

/// Runs `nc`.
pub(crate) fn main(args: &[std::ffi::OsString]) -> i32 {
    let outcome = options(arguments(args)).and_then(|options| match (options.listen, options.udp) {
        (true, true) => listen_udp(&options),
        (true, false) => listen_tcp(&options),
        (false, true) => connect_udp(&options),
        (false, false) => connect_tcp(&options),
    });
    match outcome {
        Ok(()) => 0,
        Err(error) => complain("nc", &error.to_string()),
    }
}

fn options(args: Vec<String>) -> Outcome<Options> {
    let mut options = Options::default();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let Some(letters) = arg.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
            options.words.push(arg);
            continue;
        };
        let mut letters = letters.chars();
        while let Some(letter) = letters.next() {
            match letter {
                'l' => options.listen = true,
                'u' => options.udp = true,
                'z' => options.scan = true,
                'v' => options.verbose = true,
                'k' => options.keep = true,
                'n' | 'N' => {}
                '4' => options.v6 = Some(false),
                '6' => options.v6 = Some(true),
                'h' => return Err(Usage(HELP.to_owned()).into()),
                'p' | 'w' | 'q' => {
                    let rest: String = letters.by_ref().collect();
                    let value = if rest.is_empty() { args.next().unwrap_or_default() } else { rest };
                    let bad = || Usage(format!("-{letter}: \"{value}\": not a number"));
                    match letter {
                        'p' => options.port = Some(value.parse().map_err(|_| bad())?),
                        'w' => options.wait = Some(Duration::from_secs_f64(value.parse::<f64>().ok().filter(|s| (0.001..1e9).contains(s)).ok_or_else(bad)?)),
                        // Others' "wait after end of input": this nc waits for the peer's end.
                        _ => {}
                    }
                }
                _ => return Err(Usage(format!("-{letter}: unknown option\n{HELP}")).into()),
            }
        }
    }
    Ok(options)
}

impl Options {
    /// Where to listen: `-l PORT`, `-l -p PORT` and `-l ADDRESS PORT` are all in use.
    fn local(&self) -> Outcome<SocketAddr> {
        let (host, port) = match (self.port, self.words.as_slice()) {
            (Some(port), []) => (None, port),
            (Some(port), [host]) => (Some(host), port),
            (None, [port]) => (None, number(port)?),
            (None, [host, port]) => (Some(host), number(port)?),
            _ => return Err(Usage(HELP.to_owned()).into()),
        };
        let ip = match host {
            Some(host) => address(host, self.v6)?,
            None if self.v6 == Some(true) => Ipv6Addr::UNSPECIFIED.into(),
            None => Ipv4Addr::UNSPECIFIED.into(),
        };
        Ok(SocketAddr::new(ip, port))
    }

    fn remote(&self) -> Outcome<SocketAddr> {
        match self.words.as_slice() {
            [host, port] => Ok(SocketAddr::new(address(host, self.v6)?, number(port)?)),
            _ => Err(Usage(HELP.to_owned()).into()),
        }
    }

    fn say(&self, text: &str) {
        if self.verbose {
            complain("nc", text);
        }
    }
}

fn number(text: &str) -> Result<u16, Usage> {
    text.parse().map_err(|_| Usage(format!("\"{text}\": not a port")))
}

fn connect_tcp(options: &Options) -> Outcome<()> {
    let remote = options.remote()?;
    if options.port.is_some() {
        return Err(Usage("-p: the source port can be chosen for UDP only".to_owned()).into());
    }
    let connected = match options.wait {
        Some(wait) => TcpStream::connect_timeout(&remote, wait),
        None => TcpStream::connect(remote),
    };
    let stream = connected.map_err(|error| Usage(format!("connect to {remote}: {}", plain(&error))))?;
    options.say(&format!("{remote} open"));
    if options.scan { Ok(()) } else { Ok(join(&stream, options.wait)?) }
}

fn listen_tcp(options: &Options) -> Outcome<()> {
    let local = options.local()?;
    let listener = TcpListener::bind(local).map_err(|error| Usage(format!("listen on {local}: {}", plain(&error))))?;
    options.say(&format!("listening on {local}"));
    loop {
        let (stream, peer) = listener.accept()?;
        options.say(&format!("connection from {peer}"));
        let joined = join(&stream, options.wait);
        if !options.keep {
            return Ok(joined?);
        }
        if let Err(error) = joined {
            complain("nc", &plain(&error));
        }
    }
}

/// Copies both ways until the peer ends its; our input's end is passed on at once. When the peer has ended, what is
/// there of our input is still sent, but no more is waited for.
fn join(stream: &TcpStream, wait: Option<Duration>) -> io::Result<()> {
    stream.set_read_timeout(wait)?;
    let sender = stream.try_clone()?;
    let (ended, end) = io::pipe()?;
    let sending = thread::spawn(move || send_input(&sender, &ended));
    let received = receive(stream);
    // The sender's poll sees the other end close.
    drop(end);
    match sending.join() {
        Ok(()) => received,
        Err(_) => Err(io::Error::other("the sending thread panicked")),
    }
}

fn receive(mut stream: &TcpStream) -> io::Result<()> {
    let mut buffer = [0; 16_384];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(got) => sys::write_all(1, &buffer[..got])?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // -w: nothing came for so long.
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn send_input(mut stream: &TcpStream, ended: &PipeReader) {
    let input = io::stdin();
    let mut buffer = [0; 16_384];
    loop {
        let mut fds = [PollFd::new(input.as_fd(), PollFlags::POLLIN), PollFd::new(ended.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::NONE).is_err() {
            continue; // EINTR: the descriptors are valid
        }
        if !fds[0].any().unwrap_or(false) {
            return;
        }
        match sys::read(0, &mut buffer) {
            Ok(0) => break,
            // A peer that is gone is found so by the reading side as well, which says it.
            Ok(got) if stream.write_all(&buffer[..got]).is_err() => return,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    // A peer that is gone already needs no telling.
    stream.shutdown(Shutdown::Write).ok();
}

fn connect_udp(options: &Options) -> Outcome<()> {
    let remote = options.remote()?;
    let any: IpAddr = if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, options.port.unwrap_or(0)))?;
    socket.connect(remote)?;
    if options.scan {
        // What is refused comes back as an ICMP error, after which receiving fails; silence may be either.
        socket.send(&[])?;
        socket.set_read_timeout(Some(options.wait.unwrap_or(Duration::from_secs(1))))?;
        return match socket.recv(&mut [0; 1]) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Err(error.into()),
            _ => {
                options.say(&format!("{remote} open or filtered"));
                Ok(())
            }
        };
    }
    Ok(join_udp(&socket, options.wait, None)?)
}

fn listen_udp(options: &Options) -> Outcome<()> {
    let local = options.local()?;
    let socket = UdpSocket::bind(local).map_err(|error| Usage(format!("listen on {local}: {}", plain(&error))))?;
    options.say(&format!("listening on {local}"));
    let mut buffer = [0; 65_536];
    let (got, peer) = socket.recv_from(&mut buffer)?;
    options.say(&format!("datagram from {peer}"));
    socket.connect(peer)?;
    Ok(join_udp(&socket, options.wait, Some(&buffer[..got]))?)
}

/// Copies both ways. UDP has no end: it goes on until nothing comes for `wait`, or for ever.
fn join_udp(socket: &UdpSocket, wait: Option<Duration>, first: Option<&[u8]>) -> io::Result<()> {
    if let Some(first) = first {
        sys::write_all(1, first)?;
    }
    socket.set_read_timeout(wait)?;
    let sender = socket.try_clone()?;
    thread::spawn(move || {
        let mut buffer = [0; 16_384];
        while let Ok(got) = sys::read(0, &mut buffer) {
            if got == 0 || sender.send(&buffer[..got]).is_err() {
                break;
            }
        }
    });
    let mut buffer = [0; 65_536];
    loop {
        match socket.recv(&mut buffer) {
            Ok(got) => sys::write_all(1, &buffer[..got])?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
