//! Persistent state except keys: highest seen values, access rules, bans, messages and checkpoints. A
//! thread writes the latest change of each key to an embedded database, many in one transaction.
//! After a failed write it reopens the database until a write succeeds.

pub mod bans;
pub mod catch_panic;
pub mod codec;
pub mod disk;
pub mod disk_reserve;
mod file;
pub mod mail;
mod owner;
mod pending_changes;
mod salvage;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy_primitives::Address;
use p2p_node_protocol::ErrorCode;
use tokio::sync::{mpsc, oneshot};

use crate::disk::{Cause, make_directory};
use disk_reserve::{RESERVE_FILE, Reserve};
use file::{Database, FileError, MAX_ROWS};
pub use owner::OWNER_FILE;
use owner::{Elsewhere, Owner};
use p2p_node_core::effect::ExitCode;
use p2p_node_core::gate::access_list::{AccessRule, Subject};
use p2p_node_core::gate::reputation::{MAX_BANS, Party, PersistedBan};
use p2p_node_core::highest_seen::HighestSeen;
use p2p_node_core::input::Input;
use p2p_node_core::mail::inbound::receive_window::StreamCheckpoint;
use p2p_node_core::mail::outbound::outbox::PersistedMessage;
use p2p_node_wire::message_id::StreamId;
use pending_changes::PendingChanges;
use salvage::replace_damaged;
use writer::Writer;

/// Name of the database file in the data directory.
pub const STORE_FILE: &str = "node.redb";

/// Maximum number of queued reports; further reports would repeat them.
const REPORTS: usize = 16;
/// Maximum time to write the last rows when the process exits.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Errors of [`Store::open`].
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process on this host uses the data directory.
    #[error("the data directory {0} is in use by another process: stop it, or set another P2P_NODE_DATA_DIR")]
    InUse(PathBuf),
    /// A process on another host uses the data directory. File locks are not visible across hosts.
    #[error(
        "the data directory {data_dir} is in use by a process on host {host}: stop that process, or use another directory (P2P_NODE_DATA_DIR); if that process has crashed, the directory is free 20 s after its last write"
    )]
    InUseElsewhere {
        /// Path of the directory.
        data_dir: PathBuf,
        /// Name of the host.
        host: String,
    },
    /// The data directory belongs to another agent.
    #[error(
        "the data directory {data_dir} belongs to agent {owner}, but this node is agent {account}: use the PRIVATE_KEY of {owner} (or unset PRIVATE_KEY if the directory contains the key), or use another data directory (P2P_NODE_DATA_DIR)"
    )]
    OfAnother {
        /// Path of the directory.
        data_dir: PathBuf,
        /// Agent for which the directory was created.
        owner: Address,
        /// Agent of this node.
        account: Address,
    },
    /// The database cannot be read or written. The node does not start without it, because it would
    /// forget blocked agents, revoked keys and accepted messages.
    #[error("opening the store {path} failed: {reason}")]
    Unavailable {
        /// Path of the database or its directory.
        path: PathBuf,
        /// Error message of the system.
        reason: String,
        /// Class of the error.
        cause: Cause,
    },
    /// The thread that writes the store could not be started.
    #[error("starting the thread of the store failed: {0}")]
    Thread(#[from] io::Error),
}

impl OpenError {
    /// Returns the stable error code.
    pub fn code(&self) -> ErrorCode {
        match self {
            OpenError::InUse(_) => ErrorCode::IdentityInUse,
            OpenError::InUseElsewhere { .. } => ErrorCode::DataDirInUse,
            OpenError::OfAnother { .. } => ErrorCode::DataDirMismatch,
            OpenError::Unavailable { cause: Cause::Passing, .. } => ErrorCode::StoreUnavailable,
            OpenError::Unavailable { .. } => ErrorCode::InvalidArgument,
            OpenError::Thread(_) => ErrorCode::StoreUnavailable,
        }
    }

    /// Returns the exit code for this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            OpenError::InUse(_) => ExitCode::InUse,
            // Temporary: the other process may exit without any notification.
            OpenError::InUseElsewhere { .. } => ExitCode::Io,
            OpenError::OfAnother { .. } => ExitCode::Config,
            OpenError::Unavailable { cause, .. } => cause.exit_code(),
            OpenError::Thread(_) => ExitCode::Io,
        }
    }
}

/// Opens the database; called once for each attempt.
type Open = Box<dyn FnMut() -> Result<(Database, Snapshot), FileError> + Send>;

/// Stored state of one network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Highest seen generations and sequence numbers, oldest first.
    pub highest_seen: Vec<HighestSeen>,
    /// Access rules set by the parent.
    pub access_rules: Vec<(Subject, AccessRule)>,
    /// Bans, also those that have ended since.
    pub bans: Vec<(Party, PersistedBan)>,
    /// Accepted messages that are not completed.
    pub messages: Vec<PersistedMessage>,
    /// Checkpoints of inbound streams.
    pub checkpoints: Vec<StreamCheckpoint>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<PendingChanges>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, PendingChanges> {
        // The maps are consistent after every step, so a poisoned lock is safe to use.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps for `time`, or until the store is closed or an urgent change arrives.
    fn pause(&self, time: Duration) {
        let waiting = self.changed.wait_timeout_while(self.lock(), time, |waiting| !waiting.is_urgent());
        drop(waiting);
    }
}

/// Open store. After a drop the thread still writes the queued changes, but only [`Store::close`]
/// waits for it.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    reports: mpsc::Receiver<Input>,
    ended: oneshot::Receiver<()>,
}

impl Store {
    /// Opens the database in an agent's data directory, which is created if missing, and reads the
    /// state of a network. Moves a damaged database aside, under a name with the time `now_ms` (ms
    /// since 1970), and creates a new one; [`Store::next`] reports this. `token` is random per process.
    ///
    /// # Errors
    /// Fails if another process uses the directory, if it belongs to another agent, if it cannot be
    /// read or written, or if the thread cannot be started. In these cases the database is not
    /// changed.
    pub fn open(
        data_dir: &Path,
        network: &str,
        account: Address,
        now_ms: u64,
        token: &[u8; 16],
    ) -> Result<(Self, Snapshot), OpenError> {
        let path = data_dir.join(STORE_FILE);
        let unavailable = |error: io::Error| OpenError::Unavailable {
            path: data_dir.to_owned(),
            reason: error.to_string(),
            cause: Cause::of(error.kind()),
        };
        make_directory(data_dir).map_err(unavailable)?;
        let owner = match Owner::of(data_dir, token).map_err(unavailable)? {
            Ok(owner) => owner,
            Err(Elsewhere(host)) => {
                return Err(OpenError::InUseElsewhere { data_dir: data_dir.to_owned(), host });
            }
        };
        let mut open: Open = Box::new({
            let (path, network) = (path.clone(), network.to_owned());
            move || Database::open(&path, &network, account)
        });
        let refused = |error| match error {
            FileError::InUse => OpenError::InUse(data_dir.to_owned()),
            FileError::OfAnother(owner) => {
                OpenError::OfAnother { data_dir: data_dir.to_owned(), owner, account }
            }
            FileError::Io { reason, cause } => OpenError::Unavailable { path: path.clone(), reason, cause },
            FileError::Damaged(reason) | FileError::DamagedPages { reason, .. } => {
                OpenError::Unavailable { path: path.clone(), reason, cause: Cause::Passing }
            }
        };
        let mut data_loss = None;
        let opened = open().or_else(|error| {
            let (reason, messages) = match error {
                FileError::Damaged(reason) => (reason, Vec::new()),
                FileError::DamagedPages { reason, messages } => (reason, messages),
                error => return Err(error),
            };
            let aside = data_dir.join(format!("{STORE_FILE}.corrupt-{now_ms}"));
            data_loss = Some(format!(
                "the store {} was damaged ({reason}) and was moved to {}; {} queued messages were recovered, others are lost; all block and allow rules and bans are lost: set them again; revocations of keys are learned again from peers",
                path.display(),
                aside.display(),
                messages.len(),
            ));
            replace_damaged(&path, &aside, messages, &mut open)
        });
        let (file, snapshot) = opened.map_err(refused)?;
        owner.claim().map_err(unavailable)?;
        let reserve = Reserve::new(data_dir.join(RESERVE_FILE));
        data_loss = data_loss.or_else(|| {
            Some(format!("{}: {}", path.display(), file.data_loss(reserve.read_commit_count())?))
        });
        reserve.write_commit_count(file.commits());
        Ok((Store::start(Some(file), open, reserve, owner, data_loss)?, snapshot))
    }

    fn start(
        file: Option<Database>,
        open: Open,
        reserve: Reserve,
        owner: Owner,
        data_loss: Option<String>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (report, reports) = mpsc::channel(REPORTS);
        let (end, ended) = oneshot::channel();
        let mut writer = Writer::new(Arc::clone(&shared), file, open, reserve, owner, report);
        if let Some(reason) = data_loss {
            writer.failed(reason);
        }
        std::thread::Builder::new().name("store".to_owned()).spawn(move || {
            writer.run();
            let _ = end.send(());
        })?;
        Ok(Store { shared, reports, ended })
    }

    /// Queues a ban, or its deletion. Returns `false` if the queue is full; it holds several times the
    /// bans that a core keeps.
    pub fn put_ban(&self, party: Party, ban: Option<PersistedBan>) -> bool {
        let mut waiting = self.shared.lock();
        let room = waiting.bans.len() < 4 * MAX_BANS || waiting.bans.contains_key(&party);
        if room {
            waiting.bans.insert(party, ban);
        }
        drop(waiting);
        self.shared.changed.notify_one();
        room
    }

    /// Queues a highest seen value. Returns `false` if the queue is full; it holds one value for
    /// each remembered agent.
    pub fn put_highest_seen(&self, row: HighestSeen) -> bool {
        let mut waiting = self.shared.lock();
        let room = waiting.highest_seen.len() < MAX_ROWS || waiting.highest_seen.contains_key(&row.address);
        if room {
            waiting.highest_seen.insert(row.address, row);
        }
        drop(waiting);
        self.shared.changed.notify_one();
        room
    }

    /// Queues a message for an immediate write. [`Store::next`] reports its number when it is on
    /// the disk. The outbox bounds the queue.
    pub fn put_message(&self, number: u64, mail: PersistedMessage) {
        self.put(number, |changes| changes.messages.push(mail));
    }

    /// Queues a checkpoint for an immediate write. [`Store::next`] reports its number when it is on
    /// the disk.
    pub fn put_checkpoint(&self, number: u64, row: StreamCheckpoint) {
        self.put(number, |changes| {
            changes.checkpoints.insert((row.sender, row.stream), Some(row));
        });
    }

    /// Queues an access rule, or its deletion, for an immediate write. [`Store::next`] reports its number when
    /// it is on the disk. The commands without an answer bound the queue.
    pub fn put_access_rule(&self, number: u64, subject: Subject, rule: Option<AccessRule>) {
        self.put(number, |changes| {
            changes.access_rules.insert(subject, rule);
        });
    }

    /// Queues a change that the core waits for.
    fn put(&self, number: u64, change: impl FnOnce(&mut PendingChanges)) {
        let mut changes = self.shared.lock();
        change(&mut changes);
        (changes.last_persisted, changes.is_awaited) = (number, true);
        drop(changes);
        self.shared.changed.notify_one();
    }

    /// Queues the deletion of an inbound stream's checkpoint.
    pub fn delete_checkpoint(&self, sender: Address, stream: StreamId) {
        self.shared.lock().checkpoints.insert((sender, stream), None);
        self.shared.changed.notify_one();
    }

    /// Queues the deletion of a message. The stored messages bound the queue.
    pub fn delete_message(&self, stream: StreamId, seq: u64) {
        self.shared.lock().deleted.push((stream, seq));
        self.shared.changed.notify_one();
    }

    /// Waits for the next report, for example `StoreFailed` after each failed attempt, or
    /// `StoreRecovered`. Cancel-safe.
    pub async fn next(&mut self) -> Input {
        match self.reports.recv().await {
            Some(input) => input,
            None => std::future::pending().await,
        }
    }

    /// Writes the queued changes and closes the store, at most for [`CLOSE_TIMEOUT`].
    pub async fn close(mut self) {
        // Unblocks the writer: nobody reads reports any more.
        self.reports.close();
        self.end();
        if tokio::time::timeout(CLOSE_TIMEOUT, &mut self.ended).await.is_err() {
            tracing::warn!("closing the store timed out: the last changes may be lost");
        }
    }

    /// Makes the thread write the queued changes and exit.
    fn end(&self) {
        self.shared.lock().closing = true;
        self.shared.changed.notify_one();
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests;
