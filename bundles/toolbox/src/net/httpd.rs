//! `httpd`: serves the files of a directory over HTTP/1.0 and 1.1, one thread a connection, one request a connection.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::unistd::getpid;

use crate::sys::{self, Disposition};
use crate::tool::{Outcome, Usage, arguments, complain, plain};

const HELP: &str = "usage: httpd [-f] [-v] [-p [ADDRESS:]PORT] [-h DIRECTORY]\n";
/// A request line and its headers are no longer than this.
const MAX_HEAD: u64 = 16 * 1024;
/// A client that says or takes nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(30);
const FORBIDDEN: &str = "403 Forbidden";
const NOT_FOUND: &str = "404 Not Found";

struct Options {
    listen: SocketAddr,
    root: PathBuf,
    foreground: bool,
    verbose: bool,
}

/// Runs `httpd`.
pub(crate) fn main(args: &[std::ffi::OsString]) -> i32 {
    match options(arguments(args)).and_then(serve) {
        Ok(()) => 0,
        Err(error) => complain("httpd", &error.to_string()),
    }
}

fn options(args: Vec<String>) -> Outcome<Options> {
    let mut options =
        Options { listen: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 80), root: PathBuf::from("."), foreground: false, verbose: false };
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let (flag, attached) = arg.split_at_checked(2).unwrap_or((&arg, ""));
        match flag {
            "-f" | "-v" => {
                for letter in arg[1..].chars() {
                    match letter {
                        'f' => options.foreground = true,
                        'v' => options.verbose = true,
                        _ => return Err(Usage(format!("{arg}: unknown option\n{HELP}")).into()),
                    }
                }
            }
            "-p" | "-h" => {
                let value = if attached.is_empty() { args.next().unwrap_or_default() } else { attached.to_owned() };
                match flag {
                    "-p" => options.listen = listen_address(&value)?,
                    _ => options.root = PathBuf::from(value),
                }
            }
            _ => return Err(Usage(format!("{arg}: unknown option\n{HELP}")).into()),
        }
    }
    if !options.root.is_dir() {
        return Err(Usage(format!("{}: not a directory", options.root.display())).into());
    }
    // What `inside` compares with.
    options.root = fs::canonicalize(&options.root)?;
    Ok(options)
}

/// `8080`, `127.0.0.1:8080`, `[::1]:8080`.
fn listen_address(text: &str) -> Outcome<SocketAddr> {
    if let Ok(port) = text.parse() {
        return Ok(SocketAddr::new(IpAddr::from(Ipv4Addr::UNSPECIFIED), port));
    }
    text.parse().map_err(|_| Usage(format!("\"{text}\": not a port or ADDRESS:PORT")).into())
}

fn serve(options: Options) -> Outcome<()> {
    // In the background the process that started it, PID 1 or not, is gone at once.
    if options.foreground && getpid().as_raw() == 1 {
        end_when_told()?;
    }
    let listener = TcpListener::bind(options.listen).map_err(|error| Usage(format!("bind: {}", plain(&error))))?;
    // sendfile(2), which io::copy uses, knows no MSG_NOSIGNAL: a client that goes away must not end the server.
    sys::on_signal(Signal::SIGPIPE, Disposition::Ignore)?;
    // Bound, so who started it may connect as soon as it returns.
    if !options.foreground && sys::fork()?.is_some() {
        return Ok(());
    }
    if !options.foreground {
        nix::unistd::setsid()?;
    }
    let options = Arc::new(options);
    for stream in listener.incoming() {
        // A connection that is gone before it is accepted, or no descriptors for now: others may fare better.
        let Ok(stream) = stream else { continue };
        let options = Arc::clone(&options);
        let started = thread::Builder::new().spawn(move || {
            // The client is gone or silent: nothing is left to be said to it.
            answer(&stream, &options).ok();
        });
        if let Err(error) = started {
            complain("httpd", &format!("start a thread: {}", plain(&error)));
        }
    }
    Ok(())
}

/// Ends the process at SIGTERM or SIGINT. For PID 1, to which the kernel gives no signal that it has not asked for
/// (pid_namespaces(7)); blocked and waited for, they end it at any point. The status is a shell's word for the same.
fn end_when_told() -> Outcome<()> {
    let told = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    // Threads started from here on inherit the mask, so only the waiting one gets them.
    told.thread_block()?;
    thread::Builder::new().spawn(move || {
        if let Ok(signal) = told.wait() {
            sys::exit_now(128 + signal as i32);
        }
    })?;
    Ok(())
}

fn answer(stream: &TcpStream, options: &Options) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream.take(MAX_HEAD));
    let mut request = String::new();
    if reader.read_line(&mut request)? == 0 {
        return Ok(());
    }
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return refuse(stream, "400 Bad Request");
        }
        if line.trim_end().is_empty() {
            break;
        }
    }
    let mut words = request.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if options.verbose {
        let peer = stream.peer_addr().map(|peer| peer.to_string()).unwrap_or_default();
        complain("httpd", &format!("{peer} {method} {target}"));
    }
    let with_body = match method {
        "GET" => true,
        "HEAD" => false,
        "" => return refuse(stream, "400 Bad Request"),
        _ => return refuse(stream, "405 Method Not Allowed"),
    };
    let Some(relative) = path_of(target) else { return refuse(stream, "400 Bad Request") };
    match inside(&options.root, &options.root.join(&relative)) {
        Ok(path) if path.is_dir() => directory(stream, &options.root, &path, target, with_body),
        Ok(path) => send_file(stream, &path, kind_of(&relative), with_body),
        Err(status) => refuse(stream, status),
    }
}

/// Where `path` leads when that is in `root`, else the status to refuse it with: a link may point anywhere.
fn inside(root: &Path, path: &Path) -> Result<PathBuf, &'static str> {
    match fs::canonicalize(path) {
        Ok(real) if real.starts_with(root) => Ok(real),
        Ok(_) => Err(FORBIDDEN),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(FORBIDDEN),
        Err(_) => Err(NOT_FOUND),
    }
}

fn directory(stream: &TcpStream, root: &Path, path: &Path, target: &str, with_body: bool) -> io::Result<()> {
    let asked = target.split(['?', '#']).next().unwrap_or_default();
    if !asked.ends_with('/') {
        // One slash at the start: two would make the name that follows a host.
        let location = format!("Location: /{}/\r\n", asked.trim_start_matches('/'));
        return head(stream, "301 Moved Permanently", &location, "text/plain", 0);
    }
    match inside(root, &path.join("index.html")) {
        Ok(index) => send_file(stream, &index, "text/html", with_body),
        Err(NOT_FOUND) => listing(stream, path, target, with_body),
        Err(status) => refuse(stream, status),
    }
}

/// Sends a regular file; opening a FIFO would wait for its writer.
fn send_file(stream: &TcpStream, path: &Path, kind: &str, with_body: bool) -> io::Result<()> {
    if !path.is_file() {
        return refuse(stream, FORBIDDEN);
    }
    match File::open(path) {
        Ok(file) => send(stream, file, kind, with_body),
        Err(_) => refuse(stream, FORBIDDEN),
    }
}

/// The path below the root that a request is for; `None` for one that leads out of it or makes no sense.
fn path_of(target: &str) -> Option<PathBuf> {
    let encoded = target.split(['?', '#']).next()?;
    if !encoded.starts_with('/') {
        return None;
    }
    let decoded = String::from_utf8(percent_decoded(encoded)?).ok()?;
    if decoded.contains('\0') {
        return None;
    }
    let mut path = PathBuf::new();
    for component in Path::new(&decoded).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let value = digit(bytes.next()?)? * 16 + digit(bytes.next()?)?;
        out.push(u8::try_from(value).ok()?);
    }
    Some(out)
}

fn kind_of(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("html" | "htm") => "text/html",
        Some("txt" | "log" | "md" | "yaml" | "yml" | "conf") => "text/plain",
        Some("css") => "text/css",
        Some("js") => "text/javascript",
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("gif") => "image/gif",
        _ => "application/octet-stream",
    }
}

fn head(mut stream: &TcpStream, status: &str, more: &str, kind: &str, length: u64) -> io::Result<()> {
    write!(stream, "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{more}Connection: close\r\n\r\n")
}

fn refuse(mut stream: &TcpStream, status: &str) -> io::Result<()> {
    let body = format!("{status}\n");
    head(stream, status, "", "text/plain", body.len() as u64)?;
    stream.write_all(body.as_bytes())
}

fn send(mut stream: &TcpStream, file: File, kind: &str, with_body: bool) -> io::Result<()> {
    let length = file.metadata()?.len();
    head(stream, "200 OK", "", kind, length)?;
    if with_body {
        // No more than was announced, should the file grow meanwhile.
        io::copy(&mut file.take(length), &mut stream)?;
    }
    Ok(())
}

fn listing(mut stream: &TcpStream, directory: &Path, target: &str, with_body: bool) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(directory) else { return refuse(stream, FORBIDDEN) };
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| {
            let slash = if entry.path().is_dir() { "/" } else { "" };
            format!("{}{slash}", entry.file_name().to_string_lossy())
        })
        .collect();
    names.sort();
    let title = escaped(target);
    let links: String = names.iter().map(|name| format!("<li><a href=\"{}\">{}</a></li>\n", percent_encoded(name), escaped(name))).collect();
    let body = format!("<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>{title}</title></head>\n<body><h1>{title}</h1>\n<ul>\n{links}</ul></body></html>\n");
    head(stream, "200 OK", "", "text/html; charset=utf-8", body.len() as u64)?;
    if with_body { stream.write_all(body.as_bytes()) } else { Ok(()) }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn percent_encoded(name: &str) -> String {
    name.bytes().map(|byte| if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
