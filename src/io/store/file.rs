//! The database file.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use alloy::primitives::Address;
use redb::{
    Builder, Database, DatabaseError, Key, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    StorageBackend, StorageError, TableDefinition, TableError, Value, WriteTransaction,
    backends::FileBackend,
};

use super::Contents;
use super::caught::caught;
use super::mail;
use super::row::{self, KEY_BYTES, RowError};
use super::salvage::readable_mails;
use crate::io::disk::{Cause, sync_name};
use p2p_node_core::directory::record_table::{MAX_AGENTS, MAX_FLOORS};
use p2p_node_core::directory::rollback_guard::HighestSeen;
use p2p_node_core::gate::access_list::{AccessRule, Subject};
use p2p_node_core::mail::inbound::receive_window::StreamCheckpoint;
use p2p_node_core::mail::outbound::outbox::PersistedMessage;
use p2p_node_wire::message_id::StreamId;

/// Floors kept of one network: as many as the directory remembers.
pub(super) const MAX_ROWS: usize = MAX_AGENTS + MAX_FLOORS;

/// Memory for pages of the file, in bytes. Ours: all that the bound above takes, so that a commit reads nothing.
const CACHE_BYTES: usize = 4 << 20;

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// Another process has it.
    #[error("another process has it open")]
    InUse,
    /// What is in it cannot be trusted.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// Some of its pages are damaged.
    #[error("it is damaged: {reason}")]
    DamagedPages {
        /// What the library says.
        reason: String,
        /// Mails that can be read all the same.
        mails: Vec<PersistedMessage>,
    },
    /// It was made for another agent.
    #[error("it belongs to {0}")]
    OfAnother(Address),
    /// The system said no.
    #[error("{reason}")]
    Io {
        /// What it said.
        reason: String,
        /// Whether it may say something else later.
        cause: Cause,
    },
}

impl From<redb::Error> for FileError {
    fn from(error: redb::Error) -> Self {
        use io::ErrorKind::{InvalidData, UnexpectedEof};
        match error {
            redb::Error::DatabaseAlreadyOpen => FileError::InUse,
            // That is how the library says that the file is none of its own, or is cut short.
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
pub(super) type Mails<'a> = TableDefinition<'a, &'static [u8; mail::KEY_BYTES], &'static [u8]>;
type Taken<'a> = TableDefinition<'a, &'static [u8; row::TAKEN_KEY_BYTES], &'static [u8]>;
type Standings<'a> = TableDefinition<'a, &'static [u8], u8>;
/// For whom the file was made.
pub(super) const ACCOUNT: TableDefinition<'static, (), &'static [u8; KEY_BYTES]> =
    TableDefinition::new("account");
/// How often the database was written, under one key.
const COMMITS: TableDefinition<'static, (), u64> = TableDefinition::new("commits");

/// An open database, and the tables of one network in it.
#[derive(Debug)]
pub(super) struct File {
    database: Database,
    floors: String,
    standings: String,
    mails: String,
    taken: String,
    commits: u64,
    /// Whether it was damaged and could be mended.
    mended: bool,
}

/// What is to be written. A floor never lowers what is there; a standing takes its place.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) floors: Vec<HighestSeen>,
    pub(super) standings: Vec<(Subject, Option<AccessRule>)>,
    /// Mail to be kept; after it is there, mail to be forgotten.
    pub(super) kept: Vec<PersistedMessage>,
    /// How far mail was handed on; nothing: the stream is forgotten.
    pub(super) taken: Vec<((Address, StreamId), Option<StreamCheckpoint>)>,
    pub(super) forgotten: Vec<(StreamId, u64)>,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        let Changes { floors, standings, kept, taken, forgotten } = self;
        floors.is_empty()
            && standings.is_empty()
            && kept.is_empty()
            && taken.is_empty()
            && forgotten.is_empty()
    }
}

impl File {
    /// Opens the file of an agent, or makes it, for the user of this process alone, and reads what is kept of a network, floors
    /// oldest first.
    pub(super) fn open(path: &Path, network: &str, account: Address) -> Result<(Self, Contents), FileError> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        if file.metadata()?.len() == 0 {
            // What is written to a file that has no name is lost with the power.
            sync_name(path)?;
        }
        File::on(FileBackend::new(file)?, network, account)
    }

    /// As [`File::open`], on any storage.
    pub(super) fn on(
        storage: impl StorageBackend,
        network: &str,
        account: Address,
    ) -> Result<(Self, Contents), FileError> {
        // Whatever is in a file must not keep the node from starting, also where the library did not expect it.
        let opened = caught(|| File::checked(storage, network, account));
        opened.unwrap_or_else(|| Err(FileError::Damaged("reading it failed".to_owned())))
    }

    fn checked(
        storage: impl StorageBackend,
        network: &str,
        account: Address,
    ) -> Result<(Self, Contents), FileError> {
        let mut database = Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(storage)?;
        // Opening believes what was closed in good order; a floor that was bent would bar an agent for ever.
        let mended = !check(&mut database, network, account)?;
        claim(&database, account)?;
        let commits = match existing(database.begin_read()?.open_table(COMMITS))? {
            Some(table) => table.get(())?.map_or(0, |number| number.value()),
            None => 0,
        };
        let file = File {
            database,
            commits,
            mended,
            floors: format!("floors/{network}"),
            standings: format!("standings/{network}"),
            mails: format!("mails/{network}"),
            taken: format!("taken/{network}"),
        };
        let mut contents = Contents {
            floors: file.read(Floors::new(&file.floors), |key, value| row::decode(key, value))?,
            standings: file.read(Standings::new(&file.standings), row::decode_standing)?,
            taken: file.read(Taken::new(&file.taken), row::decode_taken)?,
            mails: file.read(Mails::new(&file.mails), |key, value| mail::decode(key, value))?,
        };
        contents.floors.sort_by_key(|row| row.seq);
        Ok((file, contents))
    }

    /// Every row of a table; none if it has never been written.
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

    /// Brings changes to the disk, all or none.
    pub(super) fn write(&mut self, changes: &Changes) -> Result<(), FileError> {
        let written = caught(|| {
            let write = self.database.begin_write()?;
            let floors = self.merge_floors(&write, &changes.floors)?;
            let standings = self.set_standings(&write, &changes.standings)?;
            let mails = self.set_mails(&write, changes)?;
            let taken = self.set_taken(&write, &changes.taken)?;
            // What is known already costs the disk nothing.
            if !(floors || standings || mails || taken) {
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

    /// How often the database was written.
    pub(super) fn commits(&self) -> u64 {
        self.commits
    }

    /// What is missing, if it was written at least so often: a database whose latest state is damaged takes up an earlier one.
    pub(super) fn trouble(&self, written: u64) -> Option<String> {
        let missing = written.saturating_sub(self.commits);
        (missing > 0 || self.mended).then(|| {
            format!("the store was damaged; what was written last ({missing} times) is missing, and with it mail that was accepted then may be lost")
        })
    }

    /// Gives the room that nothing takes any more back to the disk.
    pub(super) fn compact(&mut self) -> Result<(), FileError> {
        let done = caught(|| self.database.compact());
        let done = done.unwrap_or(Err(redb::CompactionError::Storage(StorageError::PreviousIo)));
        done.map(drop).map_err(|error| redb::Error::from(error).into())
    }

    /// Whether anything changed.
    fn set_mails(&self, write: &WriteTransaction, changes: &Changes) -> Result<bool, FileError> {
        if changes.kept.is_empty() && changes.forgotten.is_empty() {
            return Ok(false);
        }
        let mut table = write.open_table(Mails::new(&self.mails))?;
        for mail in &changes.kept {
            table.insert(&mail::key(&mail.stream, mail.seq), mail::encode(mail).as_slice())?;
        }
        for (stream, seq) in &changes.forgotten {
            table.remove(&mail::key(stream, *seq))?;
        }
        Ok(true)
    }

    /// Whether anything changed.
    fn set_taken(
        &self,
        write: &WriteTransaction,
        taken: &[((Address, StreamId), Option<StreamCheckpoint>)],
    ) -> Result<bool, FileError> {
        if taken.is_empty() {
            return Ok(false);
        }
        let mut table = write.open_table(Taken::new(&self.taken))?;
        for ((sender, stream), row) in taken {
            let key = row::taken_key(sender, stream);
            match row {
                Some(row) => drop(table.insert(&key, row::encode_taken(row).as_slice())?),
                None => drop(table.remove(&key)?),
            }
        }
        Ok(true)
    }

    /// Whether anything changed.
    fn set_standings(
        &self,
        write: &WriteTransaction,
        standings: &[(Subject, Option<AccessRule>)],
    ) -> Result<bool, FileError> {
        if standings.is_empty() {
            return Ok(false);
        }
        let mut table = write.open_table(Standings::new(&self.standings))?;
        for (subject, standing) in standings {
            let key = row::encode_subject(subject);
            match standing {
                Some(standing) => drop(table.insert(key.as_slice(), row::encode_standing(*standing))?),
                None => drop(table.remove(key.as_slice())?),
            }
        }
        Ok(true)
    }

    /// Whether anything changed.
    fn merge_floors(&self, write: &WriteTransaction, rows: &[HighestSeen]) -> Result<bool, FileError> {
        let mut changed = false;
        let mut table = write.open_table(Floors::new(&self.floors))?;
        for row in rows {
            let key: &[u8; KEY_BYTES] = &row.address;
            let known = table.get(key)?.map(|value| row::decode(key, value.value())).transpose()?;
            if known.is_none_or(|known| known.order() < row.order()) {
                table.insert(key, row::encode(row).as_slice())?;
                changed = true;
            }
        }
        let Some(excess) = (table.len()? as usize).checked_sub(MAX_ROWS).filter(|excess| *excess > 0) else {
            return Ok(changed);
        };
        // The lowest seq is that of the agent that has been silent the longest.
        let mut by_age = Vec::with_capacity(MAX_ROWS + excess);
        for entry in table.iter()? {
            let (key, value) = entry?;
            let row = row::decode(key.value(), value.value())?;
            by_age.push((row.seq, row.address));
        }
        by_age.sort_unstable();
        for (_, address) in &by_age[..excess] {
            let key: &[u8; KEY_BYTES] = address;
            table.remove(key)?;
        }
        Ok(true)
    }
}

/// Returns whether all pages are as they were written, or could be mended. Reads the mails that can be
/// read if they could not.
fn check(database: &mut Database, network: &str, account: Address) -> Result<bool, FileError> {
    let failed = || Err(FileError::Damaged("checking it failed".to_owned()));
    let checked = caught(|| Ok(database.check_integrity()?)).unwrap_or_else(failed);
    checked.map_err(|error| match error {
        FileError::Damaged(reason) => {
            FileError::DamagedPages { reason, mails: readable_mails(database, network, account) }
        }
        error => error,
    })
}

/// Notes for whom a new file is.
fn claim(database: &Database, account: Address) -> Result<(), FileError> {
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

/// A table, if there is one.
fn existing<T>(opened: Result<T, TableError>) -> Result<Option<T>, FileError> {
    match opened {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
