//! A blob's stream that goes on where it broke off.

use std::io::{self, Read};
use std::sync::Arc;

use ureq::http::header;
use url::Url;

use super::endpoint::Endpoint;
use super::error::{Problem, RegistryError};
use super::repository::{Inner, blob_question, blob_tail};
use super::retry;
use super::wire::{Answer, io_problem};
use crate::image::digest::Digest;

/// The bytes of a blob.
///
/// Reconnects after an error, a silence or an early end, and asks for what is left. Gives up after
/// [`Patience::tries`](super::Patience) in a row without progress. An error is final: further reads fail.
pub struct Blob {
    repository: Arc<Inner>,
    /// For messages.
    what: String,
    digest: Digest,
    size: u64,
    /// Which endpoint it comes from.
    endpoint: usize,
    offset: u64,
    stream: Option<Stream>,
    /// Tries in a row that brought nothing to speak of.
    failed: u32,
    /// Where the last progress ended.
    settled: u64,
    given_up: bool,
}

/// One connection's part of it.
pub(super) struct Stream {
    reader: Box<dyn Read + Send>,
    url: Url,
    /// Whether the end is known, so that reading it waits for nobody.
    length: Length,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Announced,
    Open,
}

impl Blob {
    pub(super) fn new(repository: Arc<Inner>, what: String, digest: Digest, size: u64, endpoint: usize, first: Stream) -> Self {
        Self { repository, what, digest, size, endpoint, offset: 0, stream: Some(first), failed: 0, settled: 0, given_up: false }
    }

    /// Asks for what is left from `offset` on.
    pub(super) fn connect(inner: &Inner, endpoint: &Endpoint, digest: &Digest, size: u64, offset: u64) -> Result<Stream, Problem> {
        let answer = inner.ask(endpoint, &blob_question(&blob_tail(digest), offset))?;
        let host = answer.host();
        let wrong = |why: String| Problem::Protocol { host: host.clone(), why };
        // 200: it does not know ranges and begins anew.
        let begins = match answer.status.as_u16() {
            200 => 0,
            206 if offset > 0 => {
                let range = answer.header(header::CONTENT_RANGE).unwrap_or_default();
                let right = content_range(range).is_some_and(|(first, total)| first == offset && total.is_none_or(|total| total == size));
                if !right {
                    return Err(wrong(format!("asked for bytes from {offset} of {size} on, it sends `{range}`")));
                }
                offset
            }
            other => return Err(wrong(format!("status {other} to a request for a blob"))),
        };
        let length = answer.content_length();
        if let Some(length) = length.filter(|length| *length != size - begins) {
            return Err(Problem::Size { host: answer.host(), expected: size, announced: length.saturating_add(begins) });
        }
        let url = answer.url.clone();
        let mut reader = Answer::into_reader(answer);
        let length = if length.is_some() { Length::Announced } else { Length::Open };
        let skipped = io::copy(&mut reader.by_ref().take(offset - begins), &mut io::sink()).map_err(|error| io_problem(&url, error))?;
        if skipped < offset - begins {
            return Err(Problem::Truncated { host, expected: size, got: skipped });
        }
        Ok(Stream { reader, url, length })
    }

    /// Some bytes; none at the end of this connection.
    fn step(&mut self, buffer: &mut [u8]) -> Result<usize, Problem> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            empty => {
                let endpoint = &self.repository.endpoints[self.endpoint];
                empty.insert(Self::connect(&self.repository, endpoint, &self.digest, self.size, self.offset)?)
            }
        };
        let left = usize::try_from(self.size - self.offset).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let count = stream.reader.read(&mut buffer[..wanted]).map_err(|error| io_problem(&stream.url, error))?;
        if count == 0 {
            let host = super::wire::authority(&stream.url);
            return Err(Problem::Truncated { host, expected: self.size, got: self.offset });
        }
        Ok(count)
    }

    /// Reads the end of the stream, so that its connection can be used again.
    fn end(&mut self) {
        if let Some(mut stream) = self.stream.take()
            && stream.length == Length::Announced
        {
            // All bytes are here: what fails now concerns only the connection, which is then not used again.
            drop(stream.reader.read(&mut [0]));
        }
    }

    fn fail(&mut self, problem: Problem) -> io::Error {
        self.given_up = true;
        self.stream = None;
        let host = &self.repository.endpoints[self.endpoint].host;
        RegistryError::new(format!("{} from {host}", self.what), problem).into()
    }
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.given_up {
            return Err(io::Error::other("this blob was given up before"));
        }
        if self.offset == self.size {
            self.end();
            return Ok(0);
        }
        loop {
            if self.repository.shared.cancel.is_cancelled() {
                return Err(self.fail(Problem::Cancelled));
            }
            match self.step(buffer) {
                Ok(count) => {
                    self.offset += count as u64;
                    if self.offset - self.settled >= self.repository.shared.patience.progress {
                        (self.failed, self.settled) = (0, self.offset);
                    }
                    if self.offset == self.size {
                        self.end();
                    }
                    return Ok(count);
                }
                Err(problem) => {
                    self.stream = None;
                    self.failed += 1;
                    let host = &self.repository.endpoints[self.endpoint].host;
                    let from = format!("{} from {host}", self.what);
                    retry::rest(&self.repository.shared, &from, problem, self.failed).map_err(|problem| self.fail(problem))?;
                }
            }
        }
    }
}

/// First byte and size of `bytes FIRST-LAST/SIZE`. Spec: RFC 9110, 14.4.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, size) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let first = range.split_once('-')?.0.trim().parse().ok()?;
    let size = size.trim();
    Some((first, if size == "*" { None } else { Some(size.parse().ok()?) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        for (text, wanted) in [
            ("bytes 5-9/10", Some((5, Some(10)))),
            ("bytes 5-9/*", Some((5, None))),
            ("bytes */10", None),
            ("items 5-9/10", None),
            ("bytes 5-9/x", None),
            ("", None),
        ] {
            assert_eq!(content_range(text), wanted, "{text}");
        }
    }
}
