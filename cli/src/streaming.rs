//! Shows container output: prefixed and coloured by container, whole lines at a time.

use std::collections::HashMap;
use std::io::{self, IsTerminal as _, Write};

use jiff::Timestamp;
use runtime::logs::{Line, Stream, Tag};

use crate::error::Error;
use crate::starting::Display;

/// Longest line held back until it ends, in bytes; a longer one is shown in pieces.
const MAX_LINE: usize = 256 * 1024;

/// SGR colours that can be read on dark and light grounds: cyan, yellow, green, magenta, blue and their bright forms.
const COLOURS: [u8; 10] = [36, 33, 32, 35, 34, 96, 93, 92, 95, 94];

/// What stands before each line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Prefix {
    /// Nothing: lines, also unfinished ones, come as they were written.
    None,
    /// `[container] `.
    Container,
    /// `[pod/container] `.
    Pod(String),
}

/// Whether times are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Times {
    /// No.
    Hidden,
    /// As RFC 3339 before each line.
    Shown,
}

/// Writes the log lines of one pod to standard output.
#[derive(Debug)]
pub(crate) struct Printer {
    prefix: Prefix,
    times: Times,
    coloured: bool,
    /// Lines that have not ended yet, by container and stream.
    unfinished: HashMap<(String, Stream), Unfinished>,
    /// Colours by container, in order of appearance.
    colours: HashMap<String, u8>,
    first_colour: usize,
    /// What stands on the terminal until there is output.
    display: Option<Display>,
    out: Vec<u8>,
}

#[derive(Debug)]
struct Unfinished {
    since: Timestamp,
    bytes: Vec<u8>,
}

impl Printer {
    /// Colours on a terminal, unless NO_COLOR is set (no-color.org).
    pub(crate) fn new(prefix: Prefix, times: Times) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let coloured = wanted && io::stdout().is_terminal() && prefix != Prefix::None;
        Self {
            prefix,
            times,
            coloured,
            unfinished: HashMap::new(),
            colours: HashMap::new(),
            first_colour: 0,
            display: None,
            out: Vec::new(),
        }
    }

    /// Begins with another colour, so that several pods differ.
    pub(crate) fn starting_at(mut self, colour: usize) -> Self {
        self.first_colour = colour;
        self
    }

    /// Takes the display off the terminal before anything is shown.
    pub(crate) fn above(mut self, display: Display) -> Self {
        self.display = Some(display);
        self
    }

    /// Takes one record; [`Printer::flush`] shows what is whole.
    pub(crate) fn take(&mut self, line: &Line<'_>) {
        if self.prefix == Prefix::None {
            return self.raw(line);
        }
        let key = (line.container.to_owned(), line.entry.stream);
        let held = self.unfinished.remove(&key);
        let mut held = held.unwrap_or_else(|| Unfinished { since: line.entry.time, bytes: Vec::new() });
        held.bytes.extend_from_slice(line.entry.message);
        if line.entry.tag == Tag::Full || held.bytes.len() >= MAX_LINE {
            self.whole(line.container, &held);
        } else {
            self.unfinished.insert(key, held);
        }
    }

    fn raw(&mut self, line: &Line<'_>) {
        let begins = self.out.last().is_none_or(|byte| *byte == b'\n') && self.unfinished.is_empty();
        if self.times == Times::Shown && begins {
            self.time(line.entry.time);
        }
        self.out.extend_from_slice(line.entry.message);
        // Remembers only that a line is open, for the time of the next piece.
        let key = (line.container.to_owned(), line.entry.stream);
        self.unfinished.remove(&key);
        match line.entry.tag {
            Tag::Full => self.out.push(b'\n'),
            Tag::Partial => drop(self.unfinished.insert(key, Unfinished { since: line.entry.time, bytes: Vec::new() })),
        }
    }

    fn whole(&mut self, container: &str, line: &Unfinished) {
        let colour = self.coloured.then(|| self.colour(container));
        if let Some(colour) = colour {
            self.out.extend_from_slice(format!("\x1b[{colour}m").as_bytes());
        }
        match &self.prefix {
            Prefix::Pod(pod) => self.out.extend_from_slice(format!("[{pod}/{container}] ").as_bytes()),
            _ => self.out.extend_from_slice(format!("[{container}] ").as_bytes()),
        }
        if colour.is_some() {
            self.out.extend_from_slice(b"\x1b[0m");
        }
        if self.times == Times::Shown {
            self.time(line.since);
        }
        self.out.extend_from_slice(&line.bytes);
        self.out.push(b'\n');
    }

    fn time(&mut self, time: Timestamp) {
        self.out.extend_from_slice(format!("{time:.9} ").as_bytes());
    }

    fn colour(&mut self, container: &str) -> u8 {
        let next = COLOURS[(self.first_colour + self.colours.len()) % COLOURS.len()];
        *self.colours.entry(container.to_owned()).or_insert(next)
    }

    /// Bytes ready to be shown.
    pub(crate) fn pending(&self) -> usize {
        self.out.len()
    }

    /// Shows what is ready, in one write of whole lines, so that several pods do not mix theirs.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        if let Some(display) = self.display.take_if(|_| !self.out.is_empty()) {
            display.clear();
        }
        self.flush_to(&mut io::stdout().lock()).map_err(Error::Output)
    }

    fn flush_to(&mut self, to: &mut impl Write) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let written = to.write_all(&self.out).and_then(|()| to.flush());
        self.out.clear();
        written
    }

    /// Shows also what never ended its line; for the end.
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        if self.prefix != Prefix::None {
            let mut open: Vec<_> = self.unfinished.drain().collect();
            open.sort_by_key(|(_, line)| line.since);
            for ((container, _), line) in open {
                self.whole(&container, &line);
            }
        }
        self.flush()
    }
}

#[cfg(test)]
mod tests {
    use runtime::logs::parse;

    use super::*;

    fn show(prefix: Prefix, times: Times, coloured: bool, records: &[(&str, &str)]) -> String {
        let mut printer = Printer { coloured, ..Printer::new(prefix, times) };
        let mut shown = Vec::new();
        for (container, record) in records {
            let entry = parse(record.as_bytes()).unwrap();
            printer.take(&Line { container, attempt: 0, entry });
        }
        printer.flush_to(&mut shown).unwrap();
        String::from_utf8(shown).unwrap()
    }

    const RECORDS: [(&str, &str); 4] = [
        ("a", "2026-01-01T00:00:00Z stdout P be"),
        ("b", "2026-01-01T00:00:01Z stdout F whole"),
        ("a", "2026-01-01T00:00:02Z stderr F other"),
        ("a", "2026-01-01T00:00:03Z stdout F gin"),
    ];

    #[test]
    fn prefixed_lines_are_whole_whatever_comes_between() {
        assert_eq!(show(Prefix::Container, Times::Hidden, false, &RECORDS), "[b] whole\n[a] other\n[a] begin\n");
        assert_eq!(show(Prefix::Pod("web".into()), Times::Hidden, false, &RECORDS[1..2]), "[web/b] whole\n");
    }

    #[test]
    fn unprefixed_output_is_what_was_written() {
        let a = [RECORDS[0], RECORDS[3]];
        assert_eq!(show(Prefix::None, Times::Hidden, false, &a[..1]), "be");
        assert_eq!(show(Prefix::None, Times::Hidden, false, &a), "begin\n");
        assert_eq!(show(Prefix::None, Times::Shown, false, &a), "2026-01-01T00:00:00.000000000Z begin\n");
    }

    #[test]
    fn times_are_those_of_the_lines_begin_and_colours_differ() {
        assert_eq!(show(Prefix::Container, Times::Shown, false, &[RECORDS[0], RECORDS[3]]), "[a] 2026-01-01T00:00:00.000000000Z begin\n");
        let shown = show(Prefix::Container, Times::Hidden, true, &RECORDS[1..3]);
        assert_eq!(shown, "\x1b[36m[b] \x1b[0mwhole\n\x1b[33m[a] \x1b[0mother\n");
    }
}
