//! One container's log in its shim: written off the event loop, and its gaps told to whoever looks at the pod.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::events::EventLog;
use crate::error::{Error, chain};
use crate::logs::{Gap, LogWriter, Stream, Written};
use crate::store::PodDir;

/// How often the number of lost bytes is put on disk while the log is stopped.
const TELL: Duration = Duration::from_secs(1);

/// Where one attempt's output is written; its pumps share it.
///
/// The file is written by a thread of its own: a slow disk makes write(2) wait (the kernel holds up who dirties pages faster than
/// they can be written back), and then only the container that writes so much is to wait, by a full pipe.
#[derive(Clone)]
pub(crate) struct SharedLog(Arc<Mutex<ContainerLog>>);

impl SharedLog {
    /// Opens the log. A full disk is told, and is no failure.
    pub(crate) fn open(dir: &PodDir, container: &str, path: &Path) -> Result<Self, Error> {
        let writer = LogWriter::create(path)?;
        let mut log = ContainerLog { dir: dir.clone(), container: container.to_owned(), missing: None, told: Instant::now(), writer };
        // What the last attempt's log lacked is in that log.
        log.dir.remove_log_gap(container)?;
        if let Some(gap) = log.writer.gap().cloned() {
            log.stopped(&gap);
        }
        Ok(Self(Arc::new(Mutex::new(log))))
    }

    /// Writes the first `length` bytes of `buffer`, and gives it back.
    pub(crate) async fn write(&self, stream: Stream, buffer: Vec<u8>, length: usize) -> std::io::Result<Vec<u8>> {
        self.aside(move |log| {
            log.write(stream, &buffer[..length]);
            buffer
        })
        .await
    }

    /// No more of one stream will come.
    pub(crate) async fn finish(&self) -> std::io::Result<()> {
        self.aside(ContainerLog::finish).await
    }

    async fn aside<T: Send + 'static>(&self, work: impl FnOnce(&mut ContainerLog) -> T + Send + 'static) -> std::io::Result<T> {
        let log = Arc::clone(&self.0);
        let locked = move || work(&mut log.lock().unwrap_or_else(PoisonError::into_inner));
        tokio::task::spawn_blocking(locked).await.map_err(std::io::Error::other)
    }
}

struct ContainerLog {
    dir: PodDir,
    container: String,
    writer: LogWriter,
    /// All that this log lacks: from the first gap on.
    missing: Option<Gap>,
    /// When that was put on disk.
    told: Instant,
}

impl ContainerLog {
    fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let before = self.writer.gap().map_or(0, |gap| gap.lost);
        match self.writer.write(stream, bytes) {
            Ok(Written::Whole) => {}
            Ok(Written::Resumed(gap)) => self.resumed(&gap),
            Ok(Written::Lost) => self.lost(before),
            Err(_) => {
                if let Some(gap) = self.writer.gap().cloned() {
                    self.stopped(&gap);
                }
            }
        }
    }

    fn finish(&mut self) {
        match self.writer.finish() {
            Written::Whole => {}
            Written::Resumed(gap) => self.resumed(&gap),
            Written::Lost => self.tell(),
        }
    }

    /// A log that stops is news; the pod goes on.
    fn stopped(&mut self, gap: &Gap) {
        let missing = self.missing.get_or_insert_with(|| Gap { lost: 0, ..gap.clone() });
        missing.lost += gap.lost;
        missing.until = None;
        missing.cause.clone_from(&gap.cause);
        self.event("LogStopped", &format!("The log of container {} stopped: {}", self.container, gap.cause));
        self.tell();
    }

    fn lost(&mut self, before: u64) {
        let now = self.writer.gap().map_or(before, |gap| gap.lost);
        if let Some(missing) = &mut self.missing {
            missing.lost += now - before;
        }
        if self.told.elapsed() >= TELL {
            self.tell();
        }
    }

    fn resumed(&mut self, gap: &Gap) {
        if let Some(missing) = &mut self.missing {
            missing.until = gap.until;
        }
        self.event("LogResumed", &format!("The log of container {} goes on: {gap}", self.container));
        self.tell();
    }

    fn event(&self, reason: &str, message: &str) {
        match EventLog::open(&self.dir.events()) {
            Ok(events) => events.warning(reason, Some(&self.container), message),
            Err(e) => tracing::warn!(error = chain(&e), reason, "event not written"),
        }
    }

    fn tell(&mut self) {
        let Some(missing) = &self.missing else { return };
        if let Err(e) = self.dir.write_log_gap(&self.container, missing) {
            tracing::warn!(error = chain(&e), "gap of a log not told");
        }
        self.told = Instant::now();
    }
}
