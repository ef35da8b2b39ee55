//! Local rendezvous: a directory in which nodes of one user on this machine find each other.
//!
//! File operations run on a thread of the runtime's blocking pool, because the directory may be on
//! a slow file system.

mod directory;
mod place;
mod watch;

use std::collections::VecDeque;
use std::io;

use p2p_node_core::source::{SourceCommand, SourceEvent};
use tokio::task::JoinHandle;

pub use self::directory::{MAX_ENTRIES, MAX_FILE_BYTES};
pub use self::place::{Place, check_owner, runtime_directory};

use self::directory::Directory;
use self::watch::Watch;

/// Maximum number of requests that wait for the disk: as many as lookups can wait. Further lookups
/// are dropped; the core repeats them.
const MAX_QUEUED: usize = 1024;

/// What a batch of requests leaves behind.
type Batch = (Directory, Vec<SourceEvent>);

/// The rendezvous directory of a node.
#[derive(Debug)]
pub struct Rendezvous {
    /// Absent while a batch uses it.
    directory: Option<Directory>,
    batch: Option<JoinHandle<Batch>>,
    queued: Vec<SourceCommand>,
    reports: VecDeque<SourceEvent>,
    watch: Watch,
}

impl Rendezvous {
    /// Opens the directory of a network, and creates it if it is missing. Nodes with different lock
    /// scopes, which stand for different machines, have different directories. Must be called
    /// within a tokio runtime.
    ///
    /// # Errors
    /// Fails if the directory cannot be created, or other users can write to it.
    pub fn open(place: &Place, network: &str, lock_scope: &str) -> io::Result<Option<Self>> {
        let Some(path) = place.directory(network, lock_scope)? else { return Ok(None) };
        let watch = Watch::new(&path);
        Ok(Some(Rendezvous {
            directory: Some(Directory::new(path)),
            batch: None,
            queued: Vec::new(),
            reports: VecDeque::new(),
            watch,
        }))
    }

    /// Starts to execute a request.
    pub fn execute(&mut self, command: SourceCommand) {
        if self.queued.len() < MAX_QUEUED || matches!(command, SourceCommand::PublishLocalNode(_)) {
            self.queued.push(command);
        }
        self.start_batch();
    }

    /// Starts a batch of the queued requests, unless one runs.
    fn start_batch(&mut self) {
        if self.queued.is_empty() {
            return;
        }
        if let Some(mut directory) = self.directory.take() {
            let commands = std::mem::take(&mut self.queued);
            self.batch = Some(tokio::task::spawn_blocking(move || {
                let events = directory.execute(commands);
                (directory, events)
            }));
        }
    }

    /// Waits for the next report. Cancel-safe.
    pub async fn next(&mut self) -> SourceEvent {
        loop {
            if let Some(report) = self.reports.pop_front() {
                return report;
            }
            tokio::select! {
                events = finish(&mut self.batch, &mut self.directory) => {
                    self.reports.extend(events);
                    self.start_batch();
                }
                agents = self.watch.added() => return SourceEvent::LocalAgentsAdded(agents),
            }
        }
    }

    /// Removes the file of this node.
    pub async fn close(mut self) {
        if self.batch.is_some() {
            finish(&mut self.batch, &mut self.directory).await;
        }
        if let Some(mut directory) = self.directory {
            directory.withdraw();
        }
    }
}

/// Waits for the end of the batch. Cancel-safe.
async fn finish(
    batch: &mut Option<JoinHandle<Batch>>,
    directory: &mut Option<Directory>,
) -> Vec<SourceEvent> {
    let Some(running) = batch else { return std::future::pending().await };
    let ended = running.await;
    *batch = None;
    match ended {
        Ok((free, events)) => {
            *directory = Some(free);
            events
        }
        // A panic ends the process, so this is the end of the runtime.
        Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
