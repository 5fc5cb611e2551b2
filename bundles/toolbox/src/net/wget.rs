//! `wget`: fetches over HTTP/1.1, to a file or standard output. No TLS: `https` is refused, not faked.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::resolve::resolve;
use crate::tool::{Failure, Outcome, Usage, arguments, complain, plain, print};

const HELP: &str = "usage: wget [-q] [-S] [--spider] [-O FILE|-] [-T SECONDS] [--header 'NAME: VALUE'] [--post-data TEXT] URL\n";
const MAX_REDIRECTS: u32 = 10;
/// A header line is no longer than this.
const MAX_LINE: u64 = 64 * 1024;

struct Options {
    url: String,
    output: Option<String>,
    quiet: bool,
    show_headers: bool,
    spider: bool,
    timeout: Duration,
    headers: Vec<String>,
    post: Option<String>,
}

/// Runs `wget`: 0 when the server answered with success, else 1.
pub(crate) fn main(args: &[std::ffi::OsString]) -> i32 {
    let args = arguments(args);
    if args.iter().any(|arg| arg == "--help") {
        return print(HELP);
    }
    match options(args).and_then(|options| fetch(&options)) {
        Ok(()) => 0,
        Err(error) => complain("wget", &error.to_string()),
    }
}

fn options(args: Vec<String>) -> Outcome<Options> {
    let mut options = Options {
        url: String::new(),
        output: None,
        quiet: false,
        show_headers: false,
        spider: false,
        timeout: Duration::from_secs(900),
        headers: Vec::new(),
        post: None,
    };
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        if !arg.starts_with('-') || arg == "-" {
            options.url = arg;
            continue;
        }
        if let Some(long) = arg.strip_prefix("--") {
            let (name, attached) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value.to_owned())));
            match name {
                "quiet" => options.quiet = true,
                "spider" => options.spider = true,
                "server-response" => options.show_headers = true,
                _ => {
                    let value = attached.or_else(|| args.next()).unwrap_or_default();
                    options.set(name, value)?;
                }
            }
            continue;
        }
        let mut letters = arg[1..].chars();
        while let Some(letter) = letters.next() {
            match letter {
                'q' => options.quiet = true,
                'S' => options.show_headers = true,
                'O' | 'T' | 't' | 'Y' | 'U' => {
                    let rest: String = letters.by_ref().collect();
                    let value = if rest.is_empty() { args.next().unwrap_or_default() } else { rest };
                    options.set(&letter.to_string(), value)?;
                }
                'c' | 'n' => return Err(Usage(format!("-{letter}: not in this wget")).into()),
                _ => return Err(Usage(format!("-{letter}: unknown option\n{HELP}")).into()),
            }
        }
    }
    if options.url.is_empty() { Err(Usage(HELP.to_owned()).into()) } else { Ok(options) }
}

impl Options {
    fn set(&mut self, name: &str, value: String) -> Result<(), Usage> {
        match name {
            "O" | "output-document" => self.output = Some(value),
            "T" | "timeout" => {
                let seconds = value.parse::<f64>().ok().filter(|seconds| (0.001..1e9).contains(seconds));
                self.timeout = Duration::from_secs_f64(seconds.ok_or_else(|| Usage(format!("-T: \"{value}\": not a number of seconds")))?);
            }
            "header" => self.headers.push(value),
            "U" | "user-agent" => self.headers.push(format!("User-Agent: {value}")),
            "post-data" => self.post = Some(value),
            // Tries and proxies: this wget tries once and knows no proxy, which is what -t 1 and -Y off ask for.
            "t" | "tries" | "Y" | "no-proxy" => {}
            _ => return Err(Usage(format!("--{name}: unknown option\n{HELP}"))),
        }
        Ok(())
    }
}

/// `http://host[:port]/path`.
struct Url {
    host: String,
    port: u16,
    path: String,
}

impl Url {
    fn parse(text: &str) -> Result<Self, Usage> {
        let rest = match text.split_once("://") {
            Some(("http", rest)) => rest,
            Some((scheme, _)) => return Err(Usage(format!("{scheme}: this wget speaks http only"))),
            None => text,
        };
        let rest = rest.split('#').next().unwrap_or(rest);
        let (authority, path) = rest.find(['/', '?']).map_or((rest, "/"), |at| rest.split_at(at));
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let authority = authority.rsplit('@').next().unwrap_or(authority);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().map_err(|_| Usage(format!("\"{port}\": not a port")))?),
            _ => (authority, 80),
        };
        if host.is_empty() {
            return Err(Usage(format!("\"{text}\": no host")));
        }
        Ok(Self { host: host.to_owned(), port, path })
    }

    /// Where a redirection leads.
    fn joined(&self, location: &str) -> Result<Self, Usage> {
        if location.contains("://") {
            return Self::parse(location);
        }
        let path = match location.strip_prefix('/') {
            Some(_) => location.to_owned(),
            None => format!("{}/{location}", self.path.rsplit_once('/').map_or("", |(directory, _)| directory)),
        };
        Ok(Self { host: self.host.clone(), port: self.port, path })
    }

    /// The file a download goes to when nobody says.
    fn file_name(&self) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        let name = path.rsplit('/').next().unwrap_or_default();
        if name.is_empty() { "index.html".to_owned() } else { name.to_owned() }
    }
}

fn connect(url: &Url, timeout: Duration) -> Outcome<TcpStream> {
    let mut last = None;
    for address in resolve(&url.host)? {
        let address = SocketAddr::new(address, url.port);
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(format!("can't connect to {address}: {}", plain(&error))),
        }
    }
    Err(Usage(last.unwrap_or_else(|| format!("{}: no address", url.host))).into())
}

fn fetch(options: &Options) -> Outcome<()> {
    let mut url = Url::parse(&options.url)?;
    let name = url.file_name();
    for _ in 0..=MAX_REDIRECTS {
        let mut answer = Answer::ask(&url, options)?;
        if options.show_headers {
            complain(" ", &answer.head.join("\n  "));
        }
        if matches!(answer.status, 301 | 302 | 303 | 307 | 308)
            && let Some(location) = answer.header("location")
        {
            url = url.joined(location)?;
            continue;
        }
        if !(200..300).contains(&answer.status) {
            return Err(Usage(format!("server returned error: {}", answer.head[0])).into());
        }
        if options.spider {
            return Ok(());
        }
        return save(&mut answer, options, &name);
    }
    Err(Usage("too many redirections".to_owned()).into())
}

fn save(answer: &mut Answer, options: &Options, name: &str) -> Outcome<()> {
    let target = options.output.as_deref().unwrap_or(name);
    let mut output: Box<dyn Write> = if target == "-" {
        Box::new(io::stdout().lock())
    } else {
        Box::new(File::create(target).map_err(|error| Usage(format!("can't open '{target}': {}", plain(&error))))?)
    };
    let length = answer.copy_body(&mut output).map_err(timed_out)?;
    output.flush()?;
    if !options.quiet && target != "-" {
        complain("wget", &format!("{length} bytes saved to '{target}'"));
    }
    Ok(())
}

fn timed_out(error: io::Error) -> Failure {
    if error.kind() == ErrorKind::WouldBlock { Usage("download timed out".to_owned()).into() } else { error.into() }
}

/// A server's answer, its body yet to be read.
struct Answer {
    /// The status line and the headers, as they came.
    head: Vec<String>,
    status: u16,
    reader: BufReader<TcpStream>,
}

impl Answer {
    fn ask(url: &Url, options: &Options) -> Outcome<Self> {
        let mut stream = connect(url, options.timeout)?;
        stream.set_read_timeout(Some(options.timeout))?;
        stream.set_write_timeout(Some(options.timeout))?;
        let port = if url.port == 80 { String::new() } else { format!(":{}", url.port) };
        let method = match (&options.post, options.spider) {
            (Some(_), _) => "POST",
            (None, true) => "HEAD",
            (None, false) => "GET",
        };
        let mut request = format!("{method} {} HTTP/1.1\r\nHost: {}{port}\r\nConnection: close\r\n", url.path, url.host);
        if !options.headers.iter().any(|header| header.to_ascii_lowercase().starts_with("user-agent:")) {
            request.push_str("User-Agent: Wget\r\n");
        }
        for header in &options.headers {
            request.push_str(&format!("{header}\r\n"));
        }
        if let Some(post) = &options.post {
            request.push_str(&format!("Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{post}", post.len()));
        } else {
            request.push_str("\r\n");
        }
        stream.write_all(request.as_bytes()).map_err(timed_out)?;
        let mut reader = BufReader::new(stream);
        let mut head = Vec::new();
        loop {
            let line = line(&mut reader).map_err(timed_out)?;
            if line.is_empty() {
                break;
            }
            head.push(line);
        }
        let status = head.first().and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        match status {
            Some(status) => Ok(Self { head, status, reader }),
            None => Err(Usage("the server's answer is not HTTP".to_owned()).into()),
        }
    }

    fn header(&self, wanted: &str) -> Option<&str> {
        self.head[1..].iter().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then_some(value.trim())
        })
    }

    /// Copies the body: chunked, of a known length, or up to the end (RFC 9112, 6.3).
    fn copy_body(&mut self, output: &mut dyn Write) -> io::Result<u64> {
        if self.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            return self.copy_chunks(output);
        }
        let length = self.header("content-length").and_then(|text| text.parse::<u64>().ok());
        match length {
            Some(length) => self.copy_exactly(length, output),
            None => io::copy(&mut self.reader, output),
        }
    }

    fn copy_chunks(&mut self, output: &mut dyn Write) -> io::Result<u64> {
        let mut total = 0;
        loop {
            let size = line(&mut self.reader)?;
            let size = u64::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16).map_err(io::Error::other)?;
            if size == 0 {
                return Ok(total);
            }
            total += self.copy_exactly(size, output)?;
            line(&mut self.reader)?;
        }
    }

    fn copy_exactly(&mut self, length: u64, output: &mut dyn Write) -> io::Result<u64> {
        match io::copy(&mut (&mut self.reader).take(length), output)? {
            copied if copied == length => Ok(copied),
            copied => Err(io::Error::other(format!("the connection ended after {copied} of {length} bytes"))),
        }
    }
}

fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut bytes = Vec::new();
    if reader.take(MAX_LINE).read_until(b'\n', &mut bytes)? == 0 {
        return Err(io::Error::new(ErrorKind::UnexpectedEof, "the server closed the connection"));
    }
    Ok(String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned())
}
