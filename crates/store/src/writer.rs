//! Thread that writes the store.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::disk_reserve::Reserve;
use super::file::{Changes, Database, FileError};
use super::owner::{BEAT, Elsewhere, Owner};
use super::{Open, PendingChanges, Shared};
use p2p_node_core::input::Input;
use p2p_node_core::mail::outbound::outbox::OUTBOX_MAILS;

/// Time for which changes are collected before a write. The disk syncs at most five times per
/// second, and a killed process loses at most 200 ms of changes that the core does not wait for.
const FLUSH_INTERVAL: Duration = Duration::from_millis(200);
/// First pause after a failed write: short, because many errors are temporary. The pause then
/// grows.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Maximum pause after a failed write, for errors that last, such as a full disk.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// State of the writer thread.
pub(super) struct Writer {
    shared: Arc<Shared>,
    file: Option<Database>,
    open: Open,
    reserve: Reserve,
    owner: Owner,
    report: mpsc::Sender<Input>,
    failing: bool,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        file: Option<Database>,
        open: Open,
        reserve: Reserve,
        owner: Owner,
        report: mpsc::Sender<Input>,
    ) -> Self {
        Writer { shared, file, open, reserve, owner, report, failing: false }
    }

    pub(super) fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let shared = Arc::clone(&self.shared);
            let idle = |waiting: &mut PendingChanges| waiting.is_empty() && !waiting.closing;
            let is_idle = match shared.changed.wait_timeout_while(shared.lock(), BEAT, idle) {
                Ok((_, waited)) => waited.timed_out(),
                Err(_) => false,
            };
            if !is_idle {
                shared.pause(FLUSH_INTERVAL);
            }
            // Must come before every write: another process may have taken over the directory.
            if let Err(Elsewhere(host)) = self.owner.beat() {
                return self.lost(&host);
            }
            if is_idle {
                continue;
            }
            let (mut changes, last_persisted, is_awaited, closing) = {
                let mut waiting = shared.lock();
                let is_awaited = std::mem::take(&mut waiting.is_awaited);
                (waiting.take(), waiting.last_persisted, is_awaited, waiting.closing)
            };
            let written = self.write(&mut changes);
            if is_awaited {
                self.report_persisted(last_persisted, written.as_ref().err());
            }
            match written {
                Ok(()) if std::mem::take(&mut self.failing) => {
                    pause = FIRST_PAUSE;
                    // Fails only while the process exits.
                    let _ = self.report.blocking_send(Input::StoreRecovered);
                }
                Ok(()) => {}
                Err(error) => {
                    // Some of the queued changes free disk space that others need.
                    self.reserve.release();
                    self.failed(format!("writing the store failed and will be tried again: {error}"));
                    // Changes queued meanwhile are newer and take precedence.
                    shared.lock().requeue(changes);
                    shared.pause(pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
            if closing {
                self.file = None;
                return self.owner.release();
            }
        }
    }

    /// Handles the loss of the directory to another process. This process must not touch the
    /// directory again, not even to close the database.
    fn lost(&mut self, host: &str) {
        std::mem::forget(self.file.take());
        let host = host.to_owned();
        // Fails only while the process exits.
        let _ = self.report.blocking_send(Input::StoreLost { host });
    }

    fn write(&mut self, changes: &mut Changes) -> Result<(), FileError> {
        if changes.is_empty() {
            return Ok(());
        }
        let prepared = self.prepare(changes);
        let was_begun = prepared.is_ok();
        let written = prepared.and_then(|file| self.commit(file, changes));
        if written.is_err() && !changes.messages.is_empty() {
            // Rejects changes that need disk space. Writes those that free space into the reserve.
            let refused = std::mem::take(&mut changes.messages);
            if was_begun && changes.deleted.len() < OUTBOX_MAILS {
                // The failed write may still have reached the disk.
                // A message with `sent_as` was accepted earlier and only changed its stream.
                let unaccepted = refused.into_iter().filter(|mail| mail.sent_as.is_none());
                changes.deleted.extend(unaccepted.map(|mail| (mail.stream, mail.seq)));
            }
            self.reserve.release();
            if changes.is_empty() || self.prepare(changes).and_then(|file| self.commit(file, changes)).is_ok()
            {
                *changes = Changes::default();
            }
        }
        written
    }

    /// Opens the file. Fails if the disk is full.
    fn prepare(&mut self, changes: &Changes) -> Result<Database, FileError> {
        if !changes.messages.is_empty() {
            // Accepts no messages while the disk has no space for the reserve.
            self.reserve.allocate()?;
        }
        self.file.take().map_or_else(|| Ok((self.open)()?.0), Ok)
    }

    /// Writes the changes. Keeps the file open only after success, because a handle may stay broken
    /// after an I/O error.
    fn commit(&mut self, mut file: Database, changes: &Changes) -> Result<(), FileError> {
        file.write(changes)?;
        self.reserve.write_commit_count(file.commits());
        if !changes.deleted.is_empty() && !self.reserve.is_allocated() {
            // Returns the freed space to the disk, so that the reserve can be allocated again.
            file.compact()?;
        }
        self.file = Some(file);
        Ok(())
    }

    /// Reports the result of a write to the core, which waits for it. Fails only while the process
    /// exits.
    fn report_persisted(&self, through: u64, error: Option<&FileError>) {
        let report = match error {
            None => Input::Persisted { through },
            Some(error) => Input::PersistFailed { through, reason: error.to_string() },
        };
        let _ = self.report.blocking_send(report);
    }

    pub(super) fn failed(&mut self, reason: String) {
        self.failing = true;
        // A full queue already contains such a report.
        let _ = self.report.try_send(Input::StoreFailed { reason });
    }
}
