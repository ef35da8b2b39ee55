//! What outlives the process beside keys: floors, standings, accepted mail and how far mail arrived, in an embedded transactional
//! database.
//!
//! It has a thread of its own. Changes wait in maps, so that of several of one agent only the last is written, and go to the
//! disk in one transaction. A database that cannot be written is opened again and again, while they go on waiting.

pub mod caught;
mod file;
pub mod mail;
mod owner;
pub mod reserve;
pub mod row;
mod salvage;
mod writer;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy::primitives::Address;
use p2p_node_protocol::ErrorCode;
use tokio::sync::{mpsc, oneshot};

use crate::io::disk::{Cause, make_directory};
use file::{Changes, File, FileError, MAX_ROWS};
pub use owner::OWNER_FILE;
use owner::{Elsewhere, Owner};
use p2p_node_core::directory::rollback_guard::HighestSeen;
use p2p_node_core::effect::ExitCode;
use p2p_node_core::gate::access_list::{AccessRule, MAX_STANDINGS, Subject};
use p2p_node_core::input::Input;
use p2p_node_core::mail::inbound::receive_window::StreamCheckpoint;
use p2p_node_core::mail::outbound::outbox::PersistedMessage;
use p2p_node_wire::message_id::StreamId;
use reserve::{RESERVE_FILE, Reserve};
use salvage::begin_anew;
use writer::Writer;

/// Name of the database in the data directory.
pub const STORE_FILE: &str = "node.redb";

/// Reports that wait to be taken; more of them would say the same.
const REPORTS: usize = 16;
/// How long the last rows may take to be written when the process ends.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("the data directory {0} is in use by another process")]
    InUse(PathBuf),
    /// A process on another host has it, where its lock is not seen.
    #[error(
        "the data directory {data_dir} is in use by a process on the host {host}, which wrote to it a moment ago: end that one, or give this node a directory of its own (P2P_NODE_DATA_DIR); if that process is gone, the directory is free 20 s after its last sign of life"
    )]
    InUseElsewhere {
        /// The directory.
        data_dir: PathBuf,
        /// What the host calls itself.
        host: String,
    },
    /// It keeps the mail of another agent.
    #[error(
        "the data directory {data_dir} belongs to {owner}, and this node is {account}: start it with the key of {owner} (in PRIVATE_KEY; without PRIVATE_KEY that of the directory counts, if it has one), or give it another data directory (P2P_NODE_DATA_DIR)"
    )]
    OfAnother {
        /// The directory.
        data_dir: PathBuf,
        /// For whom it was made.
        owner: Address,
        /// Who wants it.
        account: Address,
    },
    /// What it keeps cannot be read or written, so that the node would forget whom it blocked, which keys are revoked, and mail.
    #[error("the store {path} cannot be opened: {reason}")]
    Unavailable {
        /// The database, or its directory.
        path: PathBuf,
        /// What the system says.
        reason: String,
        /// Whether it may pass.
        cause: Cause,
    },
    /// Nothing would ever be written.
    #[error("the store has no thread: {0}")]
    Thread(#[from] io::Error),
}

impl OpenError {
    /// What the parent is told.
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

    /// How the process ends for this reason.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            OpenError::InUse(_) => ExitCode::InUse,
            // Nobody tells when that one ends.
            OpenError::InUseElsewhere { .. } => ExitCode::Io,
            OpenError::OfAnother { .. } => ExitCode::Config,
            OpenError::Unavailable { cause, .. } => cause.exit_code(),
            OpenError::Thread(_) => ExitCode::Io,
        }
    }
}

/// Opens the database: another call for every attempt.
type Open = Box<dyn FnMut() -> Result<(File, Contents), FileError> + Send>;

/// What is kept of one network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Oldest first.
    pub floors: Vec<HighestSeen>,
    /// Whom the parent blocked or allowed.
    pub standings: Vec<(Subject, AccessRule)>,
    /// Mail that was accepted and has not ended.
    pub mails: Vec<PersistedMessage>,
    /// How far mail was handed on.
    pub taken: Vec<StreamCheckpoint>,
}

/// Changes that wait, and whether it is time to end.
#[derive(Debug, Default)]
struct Waiting {
    floors: BTreeMap<Address, HighestSeen>,
    /// As many as the core keeps, and those that it took back since.
    standings: BTreeMap<Subject, Option<AccessRule>>,
    /// Mail to be kept, arrivals, and the number of the last of both, for which somebody waits.
    kept: Vec<PersistedMessage>,
    taken: BTreeMap<(Address, StreamId), Option<StreamCheckpoint>>,
    last_kept: u64,
    is_awaited: bool,
    forgotten: Vec<(StreamId, u64)>,
    closing: bool,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.floors.is_empty()
            && self.standings.is_empty()
            && self.kept.is_empty()
            && self.taken.is_empty()
            && self.forgotten.is_empty()
    }

    /// Whether somebody waits for what is to be written.
    fn is_urgent(&self) -> bool {
        self.closing || self.is_awaited
    }

    fn take(&mut self) -> Changes {
        Changes {
            floors: std::mem::take(&mut self.floors).into_values().collect(),
            standings: std::mem::take(&mut self.standings).into_iter().collect(),
            kept: std::mem::take(&mut self.kept),
            taken: std::mem::take(&mut self.taken).into_iter().collect(),
            forgotten: std::mem::take(&mut self.forgotten),
        }
    }

    /// What was not written waits again, but for what has been changed since, and what somebody waited for, who is told.
    fn put_back(&mut self, changes: Changes) {
        self.forgotten.splice(..0, changes.forgotten);
        for row in changes.floors {
            self.floors.entry(row.address).or_insert(row);
        }
        for (subject, standing) in changes.standings {
            self.standings.entry(subject).or_insert(standing);
        }
        for (stream, _) in changes.taken.into_iter().filter(|(_, row)| row.is_none()) {
            self.taken.entry(stream).or_insert(None);
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // A map is whole after every step, whoever panicked.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a time pass, unless it is time to end before, or somebody begins to wait.
    fn pause(&self, time: Duration) {
        let waiting = self.changed.wait_timeout_while(self.lock(), time, |waiting| !waiting.is_urgent());
        drop(waiting);
    }
}

/// An open store. What waits is written when it is dropped too, but only [`Store::close`] waits for that.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    reports: mpsc::Receiver<Input>,
    ended: oneshot::Receiver<()>,
}

impl Store {
    /// Opens the database of an agent's data directory, which is made if it is missing, and reads what is kept of a network. A
    /// damaged database is moved aside, named after the time `now_ms` (ms since 1970), and begun anew; [`Store::next`] tells of it. `token` is random, of this process.
    ///
    /// # Errors
    /// When another process has it open, it belongs to another agent, it cannot be read or written, or it gets no thread. Then
    /// nothing of it is lost.
    pub fn open(
        data_dir: &Path,
        network: &str,
        account: Address,
        now_ms: u64,
        token: &[u8; 16],
    ) -> Result<(Self, Contents), OpenError> {
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
            move || File::open(&path, &network, account)
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
        let mut trouble = None;
        let opened = open().or_else(|error| {
            let (reason, mails) = match error {
                FileError::Damaged(reason) => (reason, Vec::new()),
                FileError::DamagedPages { reason, mails } => (reason, mails),
                error => return Err(error),
            };
            let aside = data_dir.join(format!("{STORE_FILE}.corrupt-{now_ms}"));
            trouble = Some(format!(
                "{} was damaged ({reason}) and is now {}; {} mails that were under way could be read and are kept, others are lost; which keys are revoked is learned anew, and nobody is blocked or allowed any more",
                path.display(),
                aside.display(),
                mails.len(),
            ));
            begin_anew(&path, &aside, mails, &mut open)
        });
        let (file, contents) = opened.map_err(refused)?;
        owner.claim().map_err(unavailable)?;
        let reserve = Reserve::new(data_dir.join(RESERVE_FILE));
        trouble = trouble.or_else(|| Some(format!("{}: {}", path.display(), file.trouble(reserve.noted())?)));
        reserve.note(file.commits());
        Ok((Store::start(Some(file), open, reserve, owner, trouble)?, contents))
    }

    fn start(
        file: Option<File>,
        open: Open,
        reserve: Reserve,
        owner: Owner,
        trouble: Option<String>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (report, reports) = mpsc::channel(REPORTS);
        let (end, ended) = oneshot::channel();
        let mut writer = Writer::new(Arc::clone(&shared), file, open, reserve, owner, report);
        if let Some(reason) = trouble {
            writer.failed(reason);
        }
        std::thread::Builder::new().name("store".to_owned()).spawn(move || {
            writer.run();
            let _ = end.send(());
        })?;
        Ok(Store { shared, reports, ended })
    }

    /// Has a standing written soon, or taken out; whether there was room. There is for all that a core keeps, several times over.
    pub fn keep(&self, subject: Subject, standing: Option<AccessRule>) -> bool {
        let mut waiting = self.shared.lock();
        let room = waiting.standings.len() < 4 * MAX_STANDINGS || waiting.standings.contains_key(&subject);
        if room {
            waiting.standings.insert(subject, standing);
        }
        drop(waiting);
        self.shared.changed.notify_one();
        room
    }

    /// Has a floor written soon; whether there was room. There is for as many agents as are remembered; of more, those that come first.
    pub fn remember(&self, row: HighestSeen) -> bool {
        let mut waiting = self.shared.lock();
        let room = waiting.floors.len() < MAX_ROWS || waiting.floors.contains_key(&row.address);
        if room {
            waiting.floors.insert(row.address, row);
        }
        drop(waiting);
        self.shared.changed.notify_one();
        room
    }

    /// Has mail brought to the disk at once; [`Store::next`] says when it is there, with its number. There is room for all that the
    /// outbox takes.
    pub fn keep_mail(&self, number: u64, mail: PersistedMessage) {
        let mut waiting = self.shared.lock();
        waiting.kept.push(mail);
        waiting.last_kept = number;
        waiting.is_awaited = true;
        drop(waiting);
        self.shared.changed.notify_one();
    }

    /// Has an arrival brought to the disk; told of like mail.
    pub fn keep_taken(&self, number: u64, row: StreamCheckpoint) {
        let mut waiting = self.shared.lock();
        waiting.taken.insert((row.sender, row.stream), Some(row));
        waiting.last_kept = number;
        waiting.is_awaited = true;
        drop(waiting);
        self.shared.changed.notify_one();
    }

    /// Has a stream that mail was received on forgotten, soon.
    pub fn forget_taken(&self, sender: Address, stream: StreamId) {
        self.shared.lock().taken.insert((sender, stream), None);
        self.shared.changed.notify_one();
    }

    /// Has mail forgotten, soon. No more than was kept can be.
    pub fn forget_mail(&self, stream: StreamId, seq: u64) {
        self.shared.lock().forgotten.push((stream, seq));
        self.shared.changed.notify_one();
    }

    /// Waits for the next report: `StoreFailed` for every failed attempt, and `StoreRecovered`. Cancel-safe.
    pub async fn next(&mut self) -> Input {
        match self.reports.recv().await {
            Some(input) => input,
            None => std::future::pending().await,
        }
    }

    /// Writes what waits, for as long as may be.
    pub async fn close(mut self) {
        // Nobody reads them any more, and nobody is to be waited for.
        self.reports.close();
        self.end();
        if tokio::time::timeout(CLOSE_TIMEOUT, &mut self.ended).await.is_err() {
            tracing::warn!("the store was not written in time");
        }
    }

    /// Has the thread write what waits, and end.
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
