//! Database file of the store.

mod access;

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use alloy_primitives::Address;
use redb::{
    Builder, DatabaseError, Key, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageBackend,
    StorageError, TableDefinition, TableError, Value, WriteTransaction, backends::FileBackend,
};

use super::Snapshot;
use super::bans::decode_ban;
use super::catch_panic::catch_panic;
use super::codec::{self, KEY_BYTES, RowError};
use super::mail;
use super::salvage::recover_messages;
use crate::disk::{Cause, sync_name};
use p2p_node_core::directory::record_table::{MAX_AGENTS, MAX_HIGHEST_SEEN};
use p2p_node_core::gate::access_list::{AccessRule, Subject};
use p2p_node_core::gate::reputation::{Party, PersistedBan};
use p2p_node_core::highest_seen::HighestSeen;
use p2p_node_core::mail::inbound::receive_window::StreamCheckpoint;
use p2p_node_core::mail::outbound::outbox::PersistedMessage;
use p2p_node_wire::message_id::StreamId;

/// Maximum number of highest seen values per network: as many as the directory remembers.
pub(super) const MAX_ROWS: usize = MAX_AGENTS + MAX_HIGHEST_SEEN;

/// Size of the page cache, in bytes. 4 MiB hold the maximum number of rows, so a commit reads no
/// pages from the disk.
const CACHE_BYTES: usize = 4 << 20;

/// Errors of the database.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// Another process has the database open.
    #[error("another process has the database open")]
    InUse,
    /// The contents are damaged.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// Some of its pages are damaged.
    #[error("the database is damaged: {reason}")]
    DamagedPages {
        /// Error message of the library.
        reason: String,
        /// Messages that are still readable.
        messages: Vec<PersistedMessage>,
    },
    /// The database belongs to another agent.
    #[error("the database belongs to agent {0}")]
    OfAnother(Address),
    /// The operating system returned an error.
    #[error("{reason}")]
    Io {
        /// Error message of the system.
        reason: String,
        /// Class of the error.
        cause: Cause,
    },
}

impl From<redb::Error> for FileError {
    fn from(error: redb::Error) -> Self {
        use io::ErrorKind::{InvalidData, UnexpectedEof};
        match error {
            redb::Error::DatabaseAlreadyOpen => FileError::InUse,
            // The library uses these kinds for a foreign or truncated file.
            redb::Error::Io(error) if !matches!(error.kind(), InvalidData | UnexpectedEof) => error.into(),
            redb::Error::PreviousIo => FileError::Io { reason: error.to_string(), cause: Cause::Passing },
            error => FileError::Damaged(error.to_string()),
        }
    }
}

impl From<RowError> for FileError {
    fn from(error: RowError) -> Self {
        FileError::Damaged(error.to_string())
    }
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        FileError::Io { reason: error.to_string(), cause: Cause::of(error.kind()) }
    }
}

macro_rules! through_the_common_error {
    ($($error:ty),*) => {$(
        impl From<$error> for FileError {
            fn from(error: $error) -> Self {
                redb::Error::from(error).into()
            }
        }
    )*};
}

through_the_common_error!(DatabaseError, StorageError, TableError, redb::TransactionError, redb::CommitError);

type Floors<'a> = TableDefinition<'a, &'static [u8; KEY_BYTES], &'static [u8]>;
pub(super) type Messages<'a> = TableDefinition<'a, &'static [u8; mail::KEY_BYTES], &'static [u8]>;
type Checkpoints<'a> = TableDefinition<'a, &'static [u8; codec::CHECKPOINT_KEY_BYTES], &'static [u8]>;
type Standings<'a> = TableDefinition<'a, &'static [u8], u8>;
type Bans<'a> = TableDefinition<'a, &'static [u8], &'static [u8]>;
/// Table with the agent that owns the file.
pub(super) const ACCOUNT: TableDefinition<'static, (), &'static [u8; KEY_BYTES]> =
    TableDefinition::new("account");
/// Table with the number of commits, under one key.
const COMMITS: TableDefinition<'static, (), u64> = TableDefinition::new("commits");

/// Open database with the tables of one network.
#[derive(Debug)]
pub(super) struct Database {
    database: redb::Database,
    highest_seen: String,
    access_rules: String,
    bans: String,
    messages: String,
    checkpoints: String,
    commits: u64,
    /// `true` if the database was damaged and the library repaired it.
    repaired: bool,
}

/// Changes to write. A highest seen value never decreases; an access rule replaces the old one.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) highest_seen: Vec<HighestSeen>,
    pub(super) access_rules: Vec<(Subject, Option<AccessRule>)>,
    pub(super) bans: Vec<(Party, Option<PersistedBan>)>,
    /// Messages to persist. They are written before the deletions.
    pub(super) messages: Vec<PersistedMessage>,
    /// Checkpoints to write; `None` deletes the stream's checkpoint.
    pub(super) checkpoints: Vec<((Address, StreamId), Option<StreamCheckpoint>)>,
    pub(super) deleted: Vec<(StreamId, u64)>,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        let Changes { highest_seen, access_rules, bans, messages, checkpoints, deleted } = self;
        highest_seen.is_empty()
            && access_rules.is_empty()
            && bans.is_empty()
            && messages.is_empty()
            && checkpoints.is_empty()
            && deleted.is_empty()
    }
}

impl Database {
    /// Opens or creates the file of an agent, readable only by its owner, and reads the state of a
    /// network, highest seen values oldest first.
    pub(super) fn open(path: &Path, network: &str, account: Address) -> Result<(Self, Snapshot), FileError> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        if file.metadata()?.len() == 0 {
            // Without a synced directory entry a loss of power would remove the new file.
            sync_name(path)?;
        }
        Database::on(FileBackend::new(file)?, network, account)
    }

    /// Opens the database on any storage, like [`Database::open`].
    pub(super) fn on(
        storage: impl StorageBackend,
        network: &str,
        account: Address,
    ) -> Result<(Self, Snapshot), FileError> {
        // A damaged file must not prevent the start, even if the library panics on it.
        let opened = catch_panic(|| Database::checked(storage, network, account));
        opened.unwrap_or_else(|| Err(FileError::Damaged("reading it failed".to_owned())))
    }

    fn checked(
        storage: impl StorageBackend,
        network: &str,
        account: Address,
    ) -> Result<(Self, Snapshot), FileError> {
        let mut database = Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(storage)?;
        // The library trusts a file that was closed normally, so check it: a corrupted highest seen
        // value could lock out an agent for ever.
        let repaired = !check(&mut database, network, account)?;
        claim(&database, account)?;
        let commits = match existing(database.begin_read()?.open_table(COMMITS))? {
            Some(table) => table.get(())?.map_or(0, |number| number.value()),
            None => 0,
        };
        let file = Database {
            database,
            commits,
            repaired,
            highest_seen: format!("floors/{network}"),
            access_rules: format!("standings/{network}"),
            bans: format!("bans/{network}"),
            messages: format!("messages/{network}"),
            checkpoints: format!("checkpoints/{network}"),
        };
        let mut snapshot = Snapshot {
            highest_seen: file
                .read(Floors::new(&file.highest_seen), |key, value| codec::decode(key, value))?,
            access_rules: file.read(Standings::new(&file.access_rules), codec::decode_access_rule)?,
            bans: file.read(Bans::new(&file.bans), decode_ban)?,
            checkpoints: file.read(Checkpoints::new(&file.checkpoints), codec::decode_checkpoint)?,
            messages: file.read(Messages::new(&file.messages), |key, value| mail::decode(key, value))?,
        };
        snapshot.highest_seen.sort_by_key(|row| row.seq);
        Ok((file, snapshot))
    }

    /// Reads all rows of a table; none if the table does not exist.
    fn read<K: Key + 'static, V: Value + 'static, R>(
        &self,
        table: TableDefinition<'_, K, V>,
        decode: impl Fn(K::SelfType<'_>, V::SelfType<'_>) -> Result<R, RowError>,
    ) -> Result<Vec<R>, FileError> {
        let Some(table) = existing(self.database.begin_read()?.open_table(table))? else {
            return Ok(Vec::new());
        };
        let rows = table.iter()?.map(|entry| {
            let (key, value) = entry?;
            Ok(decode(key.value(), value.value())?)
        });
        rows.collect()
    }

    /// Writes the changes in one transaction.
    pub(super) fn write(&mut self, changes: &Changes) -> Result<(), FileError> {
        let written = catch_panic(|| {
            let write = self.database.begin_write()?;
            let highest_seen = self.merge_floors(&write, &changes.highest_seen)?;
            let access_rules = self.set_access_rules(&write, &changes.access_rules)?;
            let bans = self.set_bans(&write, &changes.bans)?;
            let messages = self.set_messages(&write, changes)?;
            let checkpoints = self.set_checkpoints(&write, &changes.checkpoints)?;
            // Avoids a commit if the database already contains the changes.
            if !(highest_seen || access_rules || bans || messages || checkpoints) {
                write.abort()?;
                return Ok(0);
            }
            write.open_table(COMMITS)?.insert((), self.commits + 1)?;
            write.commit()?;
            Ok(1)
        });
        self.commits += written.unwrap_or_else(|| Err(FileError::Damaged("writing it failed".to_owned())))?;
        Ok(())
    }

    /// Returns the number of commits.
    pub(super) fn commits(&self) -> u64 {
        self.commits
    }

    /// Returns a warning if fewer than `written` commits are in the database: the library falls
    /// back to an earlier state if the latest one is damaged.
    pub(super) fn data_loss(&self, written: u64) -> Option<String> {
        let missing = written.saturating_sub(self.commits);
        (missing > 0 || self.repaired).then(|| {
            format!("the store was damaged: the last {missing} commits are missing, and messages accepted then may be lost")
        })
    }

    /// Returns unused space to the disk.
    pub(super) fn compact(&mut self) -> Result<(), FileError> {
        let done = catch_panic(|| self.database.compact());
        let done = done.unwrap_or(Err(redb::CompactionError::Storage(StorageError::PreviousIo)));
        done.map(drop).map_err(|error| redb::Error::from(error).into())
    }

    /// Returns `true` if anything changed.
    fn set_messages(&self, write: &WriteTransaction, changes: &Changes) -> Result<bool, FileError> {
        if changes.messages.is_empty() && changes.deleted.is_empty() {
            return Ok(false);
        }
        let mut table = write.open_table(Messages::new(&self.messages))?;
        for mail in &changes.messages {
            table.insert(&mail::key(&mail.stream, mail.seq), mail::encode(mail).as_slice())?;
        }
        for (stream, seq) in &changes.deleted {
            table.remove(&mail::key(stream, *seq))?;
        }
        Ok(true)
    }

    /// Returns `true` if anything changed.
    fn set_checkpoints(
        &self,
        write: &WriteTransaction,
        checkpoints: &[((Address, StreamId), Option<StreamCheckpoint>)],
    ) -> Result<bool, FileError> {
        if checkpoints.is_empty() {
            return Ok(false);
        }
        let mut table = write.open_table(Checkpoints::new(&self.checkpoints))?;
        for ((sender, stream), row) in checkpoints {
            let key = codec::checkpoint_key(sender, stream);
            match row {
                Some(row) => drop(table.insert(&key, codec::encode_checkpoint(row).as_slice())?),
                None => drop(table.remove(&key)?),
            }
        }
        Ok(true)
    }

    /// Returns `true` if anything changed.
    fn merge_floors(&self, write: &WriteTransaction, rows: &[HighestSeen]) -> Result<bool, FileError> {
        let mut changed = false;
        let mut table = write.open_table(Floors::new(&self.highest_seen))?;
        for row in rows {
            let key: &[u8; KEY_BYTES] = &row.address;
            let known = table.get(key)?.map(|value| codec::decode(key, value.value())).transpose()?;
            if known.is_none_or(|known| known.order() < row.order()) {
                table.insert(key, codec::encode(row).as_slice())?;
                changed = true;
            }
        }
        let Some(excess) = (table.len()? as usize).checked_sub(MAX_ROWS).filter(|excess| *excess > 0) else {
            return Ok(changed);
        };
        // Rows that revoke no key go first. The agent with the lowest `seq` has been silent for the
        // longest time.
        let mut by_age = Vec::with_capacity(MAX_ROWS + excess);
        for entry in table.iter()? {
            let (key, value) = entry?;
            let row = codec::decode(key.value(), value.value())?;
            by_age.push((row.generation > 0, row.seq, row.address));
        }
        by_age.sort_unstable();
        for (_, _, address) in &by_age[..excess] {
            let key: &[u8; KEY_BYTES] = address;
            table.remove(key)?;
        }
        Ok(true)
    }
}

/// Returns whether all pages are as they were written, or could be mended. Reads the mails that can
/// be read if they could not.
fn check(database: &mut redb::Database, network: &str, account: Address) -> Result<bool, FileError> {
    let failed = || Err(FileError::Damaged("checking it failed".to_owned()));
    let checked = catch_panic(|| Ok(database.check_integrity()?)).unwrap_or_else(failed);
    checked.map_err(|error| match error {
        FileError::Damaged(reason) => {
            FileError::DamagedPages { reason, messages: recover_messages(database, network, account) }
        }
        error => error,
    })
}

/// Stores the owning agent in a new file; fails if the file belongs to another agent.
fn claim(database: &redb::Database, account: Address) -> Result<(), FileError> {
    let owner = match existing(database.begin_read()?.open_table(ACCOUNT))? {
        Some(table) => table.get(())?.map(|owner| Address::from(owner.value())),
        None => None,
    };
    match owner {
        Some(owner) if owner == account => Ok(()),
        Some(owner) => Err(FileError::OfAnother(owner)),
        None => {
            let write = database.begin_write()?;
            write.open_table(ACCOUNT)?.insert((), &account.into_array())?;
            Ok(write.commit()?)
        }
    }
}

/// Returns a table, or `None` if it does not exist.
fn existing<T>(opened: Result<T, TableError>) -> Result<Option<T>, FileError> {
    match opened {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
