//! Reads the log files of one pod, merged by time, and goes on with what is appended.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, BufRead as _, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::inotify::WatchFlags;

use super::{Entry, LogFile, Stream, Tag, files, parse};
use crate::error::Error;
use crate::watch::Inotify;

/// Bytes asked of a file at a time.
const BLOCK: usize = 64 * 1024;

/// Which attempts of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempts {
    /// All there are, from the first on.
    All,
    /// The last one, and those that come after it.
    Latest,
    /// The one before the last.
    Previous,
}

/// What to read.
#[derive(Debug, Clone)]
pub struct Selection {
    /// These containers only; all of them without.
    pub containers: Option<Vec<String>>,
    /// Which attempts of each.
    pub attempts: Attempts,
    /// At most so many of the last lines of each container's first file read.
    pub tail: Option<usize>,
    /// Nothing older.
    pub since: Option<Timestamp>,
}

impl Default for Selection {
    fn default() -> Self {
        Self { containers: None, attempts: Attempts::All, tail: None, since: None }
    }
}

/// One record and where it comes from.
#[derive(Debug)]
pub struct Line<'a> {
    /// The container.
    pub container: &'a str,
    /// Its attempt.
    pub attempt: u32,
    /// The record.
    pub entry: Entry<'a>,
}

/// The logs of one pod. Memory is bounded by the number of containers, not by the files' sizes.
#[derive(Debug)]
pub struct Reader {
    directory: PathBuf,
    selection: Selection,
    sources: BTreeMap<String, Source>,
    watch: Option<Inotify>,
}

impl Reader {
    /// Reads what is there. A directory that does not exist has no logs.
    ///
    /// # Errors
    /// When a directory or file cannot be read.
    pub fn open(directory: &Path, selection: Selection) -> Result<Self, Error> {
        let (directory, sources) = (directory.to_owned(), BTreeMap::new());
        let mut reader = Self { directory, selection, sources, watch: None };
        reader.rescan()?;
        Ok(reader)
    }

    /// Like [`Reader::open`], ready for [`Reader::changed`]. Needs to be inside a tokio runtime.
    ///
    /// # Errors
    /// Also when the kernel refuses to watch.
    pub fn follow(directory: &Path, selection: Selection) -> Result<Self, Error> {
        let watch = Some(Inotify::new().map_err(|e| Error::System("watch files (inotify)", e))?);
        let (directory, sources) = (directory.to_owned(), BTreeMap::new());
        let mut reader = Self { directory, selection, sources, watch };
        reader.rescan()?;
        Ok(reader)
    }

    /// Looks for new containers and attempts. [`Reader::changed`] does so by itself once the pod's log directory exists;
    /// until then whoever knows of a change calls it.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn rescan(&mut self) -> Result<(), Error> {
        // Watch first, then look: nothing can come between.
        self.watch_directories()?;
        let mut found: BTreeMap<String, Vec<LogFile>> = BTreeMap::new();
        for file in files(&self.directory)? {
            if self.selection.containers.as_ref().is_none_or(|wanted| wanted.contains(&file.container)) {
                found.entry(file.container.clone()).or_default().push(file);
            }
        }
        for (container, files) in found {
            match self.sources.get_mut(&container) {
                // What came before the last one when we began stays what was asked for.
                Some(_) if self.selection.attempts == Attempts::Previous => {}
                Some(source) => source.add(files),
                None => {
                    let chosen = choose(files, self.selection.attempts);
                    self.sources.insert(container, Source::new(chosen, self.selection.tail));
                }
            }
        }
        Ok(())
    }

    fn watch_directories(&mut self) -> Result<(), Error> {
        let Some(watch) = &self.watch else { return Ok(()) };
        let what = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::MODIFY | WatchFlags::ONLYDIR;
        let add = |path: &Path| match watch.add(path, what) {
            Ok(_) => Ok(true),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
            Err(e) => Err(Error::file("watch", path)(e)),
        };
        if add(&self.directory)? {
            for container in super::names(&self.directory)? {
                if self.selection.containers.as_ref().is_none_or(|wanted| wanted.contains(&container)) {
                    add(&self.directory.join(container))?;
                }
            }
        }
        Ok(())
    }

    /// The oldest record not given yet; `None` when there is no further one now.
    ///
    /// Within one container records come in their own order; between containers, by time as far as it is known now.
    ///
    /// # Errors
    /// When a file cannot be read.
    #[allow(clippy::should_implement_trait)] // lends from itself, which Iterator cannot
    pub fn next(&mut self) -> Result<Option<Line<'_>>, Error> {
        let mut oldest: Option<(Timestamp, &String)> = None;
        for (container, source) in &mut self.sources {
            source.fill(self.selection.since)?;
            if let Some(head) = &source.head
                && oldest.is_none_or(|(time, _)| head.time < time)
            {
                oldest = Some((head.time, container));
            }
        }
        let Some(container) = oldest.map(|(_, container)| container.clone()) else { return Ok(None) };
        Ok(self.sources.get_mut(&container).and_then(Source::take))
    }

    /// Waits until there may be more to read.
    ///
    /// # Errors
    /// When a directory cannot be read or watched.
    pub async fn changed(&mut self) -> Result<(), Error> {
        let Some(watch) = &self.watch else { return std::future::pending().await };
        let events = watch.next().await.map_err(|e| Error::System("read inotify events", e))?;
        // A name means an entry of a directory; only new ones (or an overflow) ask for another look.
        let appended = rustix::fs::inotify::ReadFlags::MODIFY;
        if events.iter().any(|event| event.what != appended) {
            self.rescan()?;
        }
        Ok(())
    }

    /// Whether there is any file of the selection.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }
}

fn choose(mut files: Vec<LogFile>, attempts: Attempts) -> Vec<LogFile> {
    match attempts {
        Attempts::All => files,
        Attempts::Latest => files.split_off(files.len().saturating_sub(1)),
        Attempts::Previous => {
            files.pop();
            files.split_off(files.len().saturating_sub(1))
        }
    }
}

/// A record found in a source's buffer, taken apart once.
#[derive(Debug, Clone, Copy)]
struct Head {
    time: Timestamp,
    stream: Stream,
    tag: Tag,
    /// Where its message lies.
    message: (usize, usize),
}

/// The files of one container, one after the other.
#[derive(Debug)]
struct Source {
    container: String,
    open: Option<Open>,
    waiting: VecDeque<LogFile>,
    /// Highest attempt taken up so far.
    newest: Option<u32>,
    tail: Option<usize>,
    buffer: Vec<u8>,
    /// First byte of the buffer not given yet.
    start: usize,
    head: Option<Head>,
}

#[derive(Debug)]
struct Open {
    attempt: u32,
    path: PathBuf,
    file: File,
    /// Offset in the file behind what is in the buffer.
    position: u64,
}

impl Source {
    fn new(files: Vec<LogFile>, tail: Option<usize>) -> Self {
        let container = files.first().map(|file| file.container.clone()).unwrap_or_default();
        let mut source = Self {
            container,
            open: None,
            waiting: VecDeque::new(),
            newest: None,
            tail,
            buffer: Vec::new(),
            start: 0,
            head: None,
        };
        source.add(files);
        source
    }

    fn add(&mut self, files: Vec<LogFile>) {
        for file in files {
            if self.newest.is_none_or(|newest| file.attempt > newest) {
                self.newest = Some(file.attempt);
                self.waiting.push_back(file);
            }
        }
    }

    /// Gives the record that [`Source::fill`] found.
    fn take(&mut self) -> Option<Line<'_>> {
        let Head { time, stream, tag, message: (start, end) } = self.head.take()?;
        self.start = (end + 1).min(self.buffer.len());
        let attempt = self.open.as_ref().map_or(0, |open| open.attempt);
        let entry = Entry { time, stream, tag, message: &self.buffer[start..end] };
        Some(Line { container: &self.container, attempt, entry })
    }

    /// Finds the next record, unless the end of what is written is reached.
    fn fill(&mut self, since: Option<Timestamp>) -> Result<(), Error> {
        while self.head.is_none() {
            let Some(length) = end_of_line(&self.buffer[self.start..]) else {
                if !self.read()? && !self.next_file()? {
                    return Ok(());
                }
                continue;
            };
            let (start, end) = (self.start, self.start + length);
            match parse(&self.buffer[start..end]) {
                Some(entry) if since.is_none_or(|since| entry.time >= since) => {
                    let message = (end - entry.message.len(), end);
                    self.head = Some(Head { time: entry.time, stream: entry.stream, tag: entry.tag, message });
                }
                _ => self.start = end + 1,
            }
        }
        Ok(())
    }

    /// Appends a block to the buffer; false at the end of the file.
    fn read(&mut self) -> Result<bool, Error> {
        let Some(open) = &mut self.open else { return Ok(false) };
        self.buffer.drain(..self.start);
        self.start = 0;
        let held = self.buffer.len();
        self.buffer.resize(held + BLOCK, 0);
        let read = open.file.read(&mut self.buffer[held..]);
        self.buffer.truncate(held + *read.as_ref().unwrap_or(&0));
        let read = read.map_err(Error::file("read", &open.path))?;
        open.position += read as u64;
        if read == 0 && held > 0 {
            // The writer takes a torn record back by cutting the file: begin again where the whole records end.
            let length = open.file.metadata().map_err(Error::file("stat", &open.path))?.len();
            if length < open.position {
                let whole = open.position - held as u64;
                open.position = open.file.seek(SeekFrom::Start(whole.min(length))).map_err(Error::file("seek", &open.path))?;
                self.buffer.clear();
                return Ok(length > whole);
            }
        }
        Ok(read > 0)
    }

    /// Goes on to the next attempt; false when there is none.
    fn next_file(&mut self) -> Result<bool, Error> {
        while let Some(LogFile { attempt, path, .. }) = self.waiting.pop_front() {
            let mut file = match File::open(&path) {
                // Removed in the meantime.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(Error::file("open", &path))?,
            };
            let position = match self.tail.take() {
                None => 0,
                Some(lines) => tail_offset(&file, lines).map_err(Error::file("read", &path))?,
            };
            file.seek(SeekFrom::Start(position)).map_err(Error::file("seek", &path))?;
            self.buffer.clear();
            self.start = 0;
            self.open = Some(Open { attempt, path, file, position });
            return Ok(true);
        }
        Ok(false)
    }
}

/// Where the first end of line is. The standard library looks for it in words, not bytes.
fn end_of_line(mut bytes: &[u8]) -> Option<usize> {
    let all = bytes;
    let skipped = bytes.skip_until(b'\n').unwrap_or_default(); // a slice cannot fail to be read
    (all[..skipped].last() == Some(&b'\n')).then(|| skipped - 1)
}

/// Where the last `lines` lines begin: behind the end of the line before them. Reads from the end, in blocks.
fn tail_offset(file: &File, lines: usize) -> io::Result<u64> {
    let mut block_start = file.metadata()?.len();
    // Bytes from `block_start` on whose record begins before it.
    let mut carry: Vec<u8> = Vec::new();
    let mut seen = 0;
    while block_start > 0 {
        let size = block_start.min(BLOCK as u64);
        let mut block = vec![0; usize::try_from(size).unwrap_or(BLOCK)];
        block_start -= size;
        file.read_exact_at(&mut block, block_start)?;
        block.append(&mut carry);
        // Records end at `end`; each one but the first begins behind a newline inside the block.
        let mut end = block.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        while end > 0 {
            let record_start = block[..end - 1].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            if record_start == 0 && block_start > 0 {
                break; // begins in an earlier block
            }
            if parse(&block[record_start..end - 1]).is_some_and(|entry| entry.tag == Tag::Full) {
                if seen == lines {
                    return Ok(block_start + end as u64);
                }
                seen += 1;
            }
            end = record_start;
        }
        // Bytes behind the last newline are a record still being written: it was never whole, so it need not be carried.
        block.truncate(end);
        carry = block;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::super::LogWriter;
    use super::*;

    fn all(reader: &mut Reader) -> Vec<(String, u32, String)> {
        let mut lines = Vec::new();
        while let Some(line) = reader.next().unwrap() {
            let text = String::from_utf8_lossy(line.entry.message).into_owned();
            lines.push((line.container.to_owned(), line.attempt, text));
        }
        lines
    }

    fn texts(reader: &mut Reader) -> Vec<String> {
        all(reader).into_iter().map(|(_, _, text)| text).collect()
    }

    fn log(root: &Path, file: &str, records: &[(u32, &str)]) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut text = String::new();
        for (second, message) in records {
            text.push_str(&format!("2026-01-01T00:00:{second:02}.5Z stdout F {message}\n"));
        }
        fs::OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn pod() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        log(root.path(), "a/0.log", &[(1, "a0-1"), (4, "a0-4")]);
        log(root.path(), "a/1.log", &[(6, "a1-6"), (8, "a1-8")]);
        log(root.path(), "b/0.log", &[(2, "b0-2"), (7, "b0-7")]);
        root
    }

    #[test]
    fn containers_and_attempts_are_merged_by_time() {
        let root = pod();
        let mut reader = Reader::open(root.path(), Selection::default()).unwrap();
        assert_eq!(texts(&mut reader), ["a0-1", "b0-2", "a0-4", "a1-6", "b0-7", "a1-8"]);
    }

    #[test]
    fn latest_previous_since_tail_and_container_select() {
        let root = pod();
        let read = |selection| texts(&mut Reader::open(root.path(), selection).unwrap());
        let base = Selection::default;
        assert_eq!(read(Selection { attempts: Attempts::Latest, ..base() }), ["b0-2", "a1-6", "b0-7", "a1-8"]);
        assert_eq!(read(Selection { attempts: Attempts::Previous, ..base() }), ["a0-1", "a0-4"]);
        assert_eq!(read(Selection { attempts: Attempts::Latest, tail: Some(1), ..base() }), ["b0-7", "a1-8"]);
        assert_eq!(read(Selection { attempts: Attempts::Latest, tail: Some(0), ..base() }), [""; 0]);
        assert_eq!(read(Selection { containers: Some(vec!["b".into()]), ..base() }), ["b0-2", "b0-7"]);
        let since = Some("2026-01-01T00:00:06.5Z".parse().unwrap());
        assert_eq!(read(Selection { since, ..base() }), ["a1-6", "b0-7", "a1-8"]);
    }

    #[test]
    fn no_directory_is_no_logs() {
        let root = tempfile::tempdir().unwrap();
        let mut reader = Reader::open(&root.path().join("none"), Selection::default()).unwrap();
        assert!(reader.is_empty());
        assert!(reader.next().unwrap().is_none());
    }

    #[test]
    fn a_tail_is_found_across_blocks_and_partial_records() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/0.log");
        let mut writer = LogWriter::create(&path).unwrap();
        let lines: Vec<String> = (0..3000).map(|n| format!("{n} {}", "x".repeat(n % 300))).collect();
        for line in &lines {
            writer.write(Stream::Stdout, line.as_bytes()).unwrap();
            writer.write(Stream::Stdout, b"\n").unwrap();
        }
        for count in [0, 1, 2, 150, 2999, 3000, 5000] {
            let selection = Selection { tail: Some(count), ..Selection::default() };
            let mut reader = Reader::open(root.path(), selection).unwrap();
            let read: Vec<String> = texts(&mut reader).into_iter().filter(|text| !text.is_empty()).collect();
            assert_eq!(read, lines[lines.len().saturating_sub(count)..], "{count} lines");
        }
    }

    #[test]
    fn a_torn_record_taken_back_by_the_writer_is_not_read() {
        let root = tempfile::tempdir().unwrap();
        log(root.path(), "a/0.log", &[(1, "one")]);
        let path = root.path().join("a/0.log");
        let whole = fs::metadata(&path).unwrap().len();
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"2026-01-01T00:00:02Z stdout F to").unwrap();
        let mut reader = Reader::open(root.path(), Selection::default()).unwrap();
        assert_eq!(texts(&mut reader), ["one"]);
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(whole).unwrap();
        assert_eq!(texts(&mut reader), [""; 0]);
        log(root.path(), "a/0.log", &[(3, "three")]);
        assert_eq!(texts(&mut reader), ["three"]);
    }

    #[test]
    fn what_is_appended_created_and_restarted_is_followed() {
        let root = tempfile::tempdir().unwrap();
        log(root.path(), "a/0.log", &[(1, "one")]);
        let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        rt.block_on(async {
            let mut reader = Reader::follow(root.path(), Selection::default()).unwrap();
            let mut seen = texts(&mut reader);
            let steps: [(&str, &str); 3] = [("a/0.log", "two"), ("a/1.log", "three"), ("b/0.log", "four")];
            for (second, (file, text)) in (2..).zip(steps) {
                log(root.path(), file, &[(second, text)]);
                let wanted = seen.len() + 1;
                while seen.len() < wanted {
                    let waited = tokio::time::timeout(std::time::Duration::from_secs(10), reader.changed()).await;
                    waited.expect("a change is seen").unwrap();
                    seen.extend(texts(&mut reader));
                }
            }
            assert_eq!(seen, ["one", "two", "three", "four"]);
        });
    }
}
