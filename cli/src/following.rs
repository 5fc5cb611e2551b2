//! Follows one pod: its log lines as they come, and its end.

use k8s_openapi::api::core::v1::PodStatus;
use runtime::logs::{Reader, Selection};
use runtime::store::{PodDir, Record, Store};
use runtime::watch::{Change, PodWatch};

use crate::error::Error;
use crate::pods;
use crate::status::is_finished;
use crate::streaming::Printer;

/// Bytes gathered before they are shown.
const BATCH: usize = 64 * 1024;

/// How a pod's life ended for a follower.
#[derive(Debug)]
pub(crate) enum End {
    /// No container will run again; the last status.
    Finished(PodStatus),
    /// Somebody removed the pod; the last status seen.
    Removed(PodStatus),
    /// The shim died.
    ShimDied,
}

/// One pod that is followed.
#[derive(Debug)]
pub(crate) struct Follower {
    dir: PodDir,
    watch: PodWatch,
    reader: Reader,
    printer: Printer,
    last: PodStatus,
}

impl Follower {
    /// Begins to follow.
    pub(crate) fn new(store: &Store, dir: &PodDir, record: &Record, selection: Selection, printer: Printer) -> Result<Self, Error> {
        let watch = PodWatch::new(dir)?;
        let logs = store.layout.pod_logs(&record.namespace, &record.name, &record.uid);
        let reader = Reader::follow(&logs, selection)?;
        Ok(Self { dir: dir.clone(), watch, reader, printer, last: PodStatus::default() })
    }

    /// Shows what comes until the pod's end. May be dropped and called again.
    pub(crate) async fn until_end(&mut self) -> Result<End, Error> {
        loop {
            // Whether anybody is at work is looked at before the logs are read to their end: nothing is written after that.
            let busy = self.is_busy()?;
            self.reader.rescan()?;
            self.drain()?;
            if !busy {
                return self.ended();
            }
            self.next_change().await?;
        }
    }

    fn is_busy(&self) -> Result<bool, Error> {
        // Asking makes the lock file when the pod is gone, so its directory is asked first.
        if !self.dir.path.join("record.json").exists() {
            return Ok(false);
        }
        match self.dir.is_busy().map_err(Error::from) {
            Err(e) if pods::is_gone(&e) => Ok(false),
            other => other,
        }
    }

    /// Shows log lines until the pod itself may have changed.
    async fn next_change(&mut self) -> Result<(), Error> {
        loop {
            self.note_status();
            tokio::select! {
                change = self.watch.changed(&self.dir) => {
                    match change? {
                        Change::Changed | Change::Removed | Change::ShimExited => return Ok(()),
                    }
                }
                more = self.reader.changed() => {
                    more?;
                    self.drain()?;
                }
            }
        }
    }

    /// Keeps the last status that can be read: there is none any more when the pod is removed.
    fn note_status(&mut self) {
        if let Ok(status) = self.dir.status()
            && status.phase.is_some()
        {
            self.last = status;
        }
    }

    fn ended(&mut self) -> Result<End, Error> {
        self.note_status();
        self.printer.finish()?;
        let last = self.last.clone();
        Ok(match self.dir.path.join("record.json").exists() {
            false => End::Removed(last),
            true if is_finished(&last) => End::Finished(last),
            true => End::ShimDied,
        })
    }

    fn drain(&mut self) -> Result<(), Error> {
        while let Some(line) = self.reader.next()? {
            self.printer.take(&line);
            if self.printer.pending() >= BATCH {
                self.printer.flush()?;
            }
        }
        self.printer.flush()
    }
}
