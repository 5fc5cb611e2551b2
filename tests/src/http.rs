//! As much HTTP as a fixture needs: one request, one answer, one connection (HTTP/1.0, so that no body comes in chunks).

use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A server of the test that says nothing for so long is broken.
const SILENCE: Duration = Duration::from_secs(20);

/// The first line and the headers of a message.
#[derive(Debug, Clone, Default)]
pub(crate) struct Head {
    /// `GET /v2/ HTTP/1.1`, or `HTTP/1.0 200 OK`.
    pub(crate) first: String,
    /// Names as they came.
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    /// Reads one; `None` when the other side has closed instead.
    pub(crate) fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut head = Self::default();
        loop {
            let mut line = String::new();
            if from.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            match (line.trim_end(), head.first.is_empty()) {
                ("", true) => {}
                ("", false) => return Ok(Some(head)),
                (line, true) => line.clone_into(&mut head.first),
                (line, false) => {
                    let (name, value) = line.split_once(':').ok_or_else(|| io::Error::other(format!("not a header: {line:?}")))?;
                    head.headers.push((name.to_owned(), value.trim().to_owned()));
                }
            }
        }
    }

    /// A header's value.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    /// A word of the first line.
    pub(crate) fn word(&self, n: usize) -> &str {
        self.first.split(' ').nth(n).unwrap_or_default()
    }

    /// How many bytes follow, when it says so.
    pub(crate) fn length(&self) -> Option<u64> {
        self.get("content-length")?.parse().ok()
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
}

/// Sends a request and returns the head of the answer, with the stream that its body is still in.
pub(crate) fn open(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<(Head, BufReader<TcpStream>)> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(SILENCE))?;
    let mut request = format!("{method} {path} HTTP/1.0\r\nHost: {to}\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    stream.write_all((request + "\r\n").as_bytes())?;
    stream.write_all(body)?;
    let mut stream = BufReader::new(stream);
    let head = Head::read(&mut stream)?.ok_or_else(|| io::Error::other("closed without an answer"))?;
    Ok((head, stream))
}

/// Sends a request and reads the whole answer.
pub(crate) fn request(to: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
    let (head, mut stream) = open(to, method, path, headers, body)?;
    let mut body = Vec::new();
    stream.read_to_end(&mut body)?;
    let status = head.word(1).parse().map_err(|e| io::Error::other(format!("{:?}: {e}", head.first)))?;
    Ok(Answer { status, head, body })
}
