//! The thread that writes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::file::{Changes, File, FileError};
use super::owner::{BEAT, Elsewhere, Owner};
use super::reserve::Reserve;
use super::{Open, Shared, Waiting};
use p2p_node_core::input::Input;
use p2p_node_core::mail::outbound::outbox::OUTBOX_MAILS;

/// Rows are gathered for so long before they are written. Ours: at most five times a second a disk has to sync, and a process
/// that is killed loses what it learned in a fifth of a second and the time of one write.
const GATHER: Duration = Duration::from_millis(200);
/// First and longest pause after a failed write. Ours: soon enough for a hiccup, and rare enough for a full disk.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The thread's side.
pub(super) struct Writer {
    shared: Arc<Shared>,
    file: Option<File>,
    open: Open,
    reserve: Reserve,
    owner: Owner,
    report: mpsc::Sender<Input>,
    failing: bool,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        file: Option<File>,
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
            let idle = |waiting: &mut Waiting| waiting.is_empty() && !waiting.closing;
            let is_idle = match shared.changed.wait_timeout_while(shared.lock(), BEAT, idle) {
                Ok((_, waited)) => waited.timed_out(),
                Err(_) => false,
            };
            if !is_idle {
                shared.pause(GATHER);
            }
            // Before anything is written: another process may have taken this one for dead, and changed what it would write to.
            if let Err(Elsewhere(host)) = self.owner.beat() {
                return self.lost(&host);
            }
            if is_idle {
                continue;
            }
            let (mut changes, last_kept, is_awaited, closing) = {
                let mut waiting = shared.lock();
                let is_awaited = std::mem::take(&mut waiting.is_awaited);
                (waiting.take(), waiting.last_kept, is_awaited, waiting.closing)
            };
            let written = self.write(&mut changes);
            if is_awaited {
                self.tell_kept(last_kept, written.as_ref().err());
            }
            match written {
                Ok(()) if std::mem::take(&mut self.failing) => {
                    pause = FIRST_PAUSE;
                    // When nobody listens any more the process ends.
                    let _ = self.report.blocking_send(Input::StoreRecovered);
                }
                Ok(()) => {}
                Err(error) => {
                    // Of what there is to write now something frees what others take.
                    self.reserve.release();
                    self.failed(format!(
                        "what must outlive the process cannot be written at present: {error}"
                    ));
                    // What came meanwhile is newer.
                    shared.lock().put_back(changes);
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

    /// The directory is another process's now: this one must not touch it again, not even to close the database.
    fn lost(&mut self, host: &str) {
        std::mem::forget(self.file.take());
        let host = host.to_owned();
        // When nobody listens any more the process ends.
        let _ = self.report.blocking_send(Input::StoreLost { host });
    }

    fn write(&mut self, changes: &mut Changes) -> Result<(), FileError> {
        if changes.is_empty() {
            return Ok(());
        }
        let prepared = self.prepare(changes);
        let was_begun = prepared.is_ok();
        let written = prepared.and_then(|file| self.commit(file, changes));
        if written.is_err() && !changes.kept.is_empty() {
            // What takes room is refused; what frees some goes alone, into the room that was kept for it.
            let refused = std::mem::take(&mut changes.kept);
            if was_begun && changes.forgotten.len() < OUTBOX_MAILS {
                // It failed, and may be on the disk all the same.
                // Mail that only got another name was accepted before.
                let unaccepted = refused.into_iter().filter(|mail| mail.sent_as.is_none());
                changes.forgotten.extend(unaccepted.map(|mail| (mail.stream, mail.seq)));
            }
            self.reserve.release();
            if changes.is_empty() || self.prepare(changes).and_then(|file| self.commit(file, changes)).is_ok()
            {
                *changes = Changes::default();
            }
        }
        written
    }

    /// The file, if there is room.
    fn prepare(&mut self, changes: &Changes) -> Result<File, FileError> {
        if !changes.kept.is_empty() {
            // As long as there is no room to forget mail again, none is kept.
            self.reserve.hold()?;
        }
        self.file.take().map_or_else(|| Ok((self.open)()?.0), Ok)
    }

    /// Writes, and keeps the file open if that went well: only a new handle is sure to write again.
    fn commit(&mut self, mut file: File, changes: &Changes) -> Result<(), FileError> {
        file.write(changes)?;
        self.reserve.note(file.commits());
        if !changes.forgotten.is_empty() && !self.reserve.is_held() {
            // What has been freed goes back to the disk, so that the reserve finds its room again.
            file.compact()?;
        }
        self.file = Some(file);
        Ok(())
    }

    /// Whoever waits has to be told. When nobody listens any more the process ends.
    fn tell_kept(&self, upto: u64, error: Option<&FileError>) {
        let report = match error {
            None => Input::Persisted { upto },
            Some(error) => Input::PersistFailed { upto, reason: error.to_string() },
        };
        let _ = self.report.blocking_send(report);
    }

    pub(super) fn failed(&mut self, reason: String) {
        self.failing = true;
        // When nobody takes them, enough has been reported.
        let _ = self.report.try_send(Input::StoreFailed { reason });
    }
}
