//! The driver of files: hashes what clients send, sends it to peers that ask for it, and fetches what peers offer.
//! The core decides all of it. What takes long runs beside the main loop.

mod content;
mod fetch;
mod framing;
mod serve;
mod trees;

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use libp2p::PeerId;
use p2p_node_core::file_io::{
    FetchFault, FileCommand, FileEvent, FileHash, HashFault, HashedFile, ServeEnd, StoredFile,
};
use p2p_node_core::input::{Input, Token};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{AbortHandle, spawn_blocking};
use tokio::time::{Instant, timeout};

use self::fetch::Target;
use self::serve::Offered;
use self::trees::Trees;
use super::byte_streams::{BoxedStream, OpenStream, Streams};

/// Number of events that wait for the main loop. Our choice: a task waits when there are more.
const EVENTS: usize = 256;
/// Largest number of streams whose peers have not said what they want. Our choice: twice as many as the core
/// serves. The next one ends the oldest: a peer says at once what it wants, so the oldest is of one that does
/// not. So peers that say nothing, which cost their owner nothing, keep no other out.
const MAX_SILENT: usize = 64;
/// Largest number of these streams of one peer. Our choice: twice as many as the core serves.
const MAX_SILENT_PER_PEER: usize = 4;
/// Largest number of refusals that are being written. Beyond it the streams end without one. Our choice.
const MAX_REFUSALS: usize = 64;
/// Time in which a peer must say which file it wants.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between two reports of the progress of a transfer.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Time for the core to let a complete file finish. It answers in its next turn.
const FINISH_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest number of files that a list of the directory names: more than the core keeps.
const MAX_LISTED: usize = 20_000;

enum Event {
    ForCore(FileEvent),
    Requested {
        token: Token,
        hash: FileHash,
        stream: BoxedStream,
    },
    /// The peer did not say in time what it wants.
    Silent {
        token: Token,
    },
}

/// A stream whose peer has not said what it wants.
struct Silent {
    token: Token,
    peer: PeerId,
    task: AbortHandle,
}

struct Fetching {
    task: AbortHandle,
    finish: oneshot::Sender<()>,
}

struct Sending {
    task: AbortHandle,
    sent: Arc<AtomicU64>,
}

/// The driver of files.
pub struct Files {
    /// The directory for received files.
    directory: Option<PathBuf>,
    is_durable: bool,
    streams: Streams,
    trees: Arc<Trees>,
    events: (mpsc::Sender<Event>, mpsc::Receiver<Event>),
    /// Files to hash, the first of which is being hashed. The core limits their number.
    to_hash: VecDeque<FileCommand>,
    /// The oldest first.
    silent: VecDeque<Silent>,
    refusals: Arc<Semaphore>,
    last_token: Token,
    /// Streams about which the core decides in its next turn.
    requested: HashMap<Token, BoxedStream>,
    /// The core limits the number of both.
    sending: HashMap<Token, Sending>,
    fetching: HashMap<Token, Fetching>,
    /// Events that the driver itself has for the core.
    own: VecDeque<FileEvent>,
}

impl Files {
    /// Creates the driver. `directory` is there. With `is_durable`, a complete file outlives a loss of power.
    pub fn new(directory: Option<PathBuf>, is_durable: bool, streams: Streams) -> Self {
        Files {
            directory,
            is_durable,
            streams,
            trees: Arc::default(),
            events: mpsc::channel(EVENTS),
            to_hash: VecDeque::new(),
            silent: VecDeque::new(),
            refusals: Arc::new(Semaphore::new(MAX_REFUSALS)),
            last_token: 0,
            requested: HashMap::new(),
            sending: HashMap::new(),
            fetching: HashMap::new(),
            own: VecDeque::new(),
        }
    }

    /// Starts a command. [`Files::next`] returns its results. Must be called within a tokio runtime.
    pub fn execute(&mut self, command: FileCommand) {
        match command {
            FileCommand::Hash { .. } => {
                self.to_hash.push_back(command);
                if self.to_hash.len() == 1 {
                    self.hash_next();
                }
            }
            FileCommand::Fetch { token, peer, hash, size, partial, name } => {
                let Some(directory) = self.directory.clone() else { return };
                let is_durable = self.is_durable;
                let target = Target { directory, part: partial, name, hash, size, is_durable };
                self.fetch(token, peer, target);
            }
            FileCommand::FinishFetch { token } => {
                if let Some(fetching) = self.fetching.remove(&token) {
                    // The task has ended if the core took too long.
                    let _ = fetching.finish.send(());
                }
            }
            FileCommand::CancelFetch { token } => {
                if let Some(fetching) = self.fetching.remove(&token) {
                    fetching.task.abort();
                }
            }
            FileCommand::Serve { token, path, hash, size } => {
                self.serve(token, Offered { path: path.into(), hash, size });
            }
            FileCommand::Refuse { token } => {
                if let Some(stream) = self.requested.remove(&token)
                    && let Ok(place) = Arc::clone(&self.refusals).try_acquire_owned()
                {
                    tokio::spawn(async move {
                        serve::refuse(stream).await;
                        drop(place);
                    });
                }
            }
            FileCommand::StopServing { token } => {
                if let Some(Sending { task, sent }) = self.sending.remove(&token) {
                    task.abort();
                    let sent = sent.load(Ordering::Relaxed);
                    self.own.push_back(FileEvent::ServeEnded { token, sent, end: ServeEnd::Broken });
                }
            }
            FileCommand::Remove { name } => self.remove(&name),
            FileCommand::List => self.list(),
        }
    }

    /// Waits for the next event. Cancel-safe: dropping the future loses nothing.
    pub async fn next(&mut self) -> Input {
        loop {
            if let Some(event) = self.own.pop_front() {
                return Input::File(event);
            }
            tokio::select! {
                event = self.events.1.recv() => match event {
                    Some(Event::ForCore(event)) => {
                        self.on_event(&event);
                        return Input::File(event);
                    }
                    Some(Event::Requested { token, hash, stream }) => {
                        // Its place may have gone to another meanwhile.
                        if let Some(peer) = self.end_silence(token) {
                            self.requested.insert(token, stream);
                            return Input::File(FileEvent::Requested { token, peer, hash });
                        }
                    }
                    Some(Event::Silent { token }) => drop(self.end_silence(token)),
                    // Cannot happen, because the driver holds a sender.
                    None => std::future::pending().await,
                },
                Some((peer, stream)) = self.streams.incoming.recv() => self.read_request(peer, stream),
            }
        }
    }

    /// Updates the tables for an event that leaves for the core.
    fn on_event(&mut self, event: &FileEvent) {
        match event {
            FileEvent::Hashed { .. } => {
                self.to_hash.pop_front();
                self.hash_next();
            }
            FileEvent::ServeEnded { token, .. } => {
                self.sending.remove(token);
            }
            FileEvent::FetchFailed { token, .. } => {
                self.fetching.remove(token);
            }
            _ => {}
        }
    }

    fn hash_next(&mut self) {
        let Some(FileCommand::Hash { number, path, max_bytes }) = self.to_hash.front().cloned() else {
            return;
        };
        let (events, trees) = (self.events.0.clone(), Arc::clone(&self.trees));
        tokio::spawn(async move {
            let outcome = spawn_blocking(move || hash(Path::new(&path), max_bytes, &trees)).await;
            let outcome = outcome.unwrap_or_else(|error| Err(HashFault::Unreadable(error.to_string())));
            let _ = events.send(Event::ForCore(FileEvent::Hashed { number, outcome })).await;
        });
    }

    /// Reads which file a peer wants. Closes the stream if the peer has too many.
    fn read_request(&mut self, peer: PeerId, mut stream: BoxedStream) {
        if self.silent.iter().filter(|silent| silent.peer == peer).count() >= MAX_SILENT_PER_PEER {
            return;
        }
        if self.silent.len() == MAX_SILENT
            && let Some(oldest) = self.silent.pop_front()
        {
            oldest.task.abort();
        }
        self.last_token += 1;
        let (token, events) = (self.last_token, self.events.0.clone());
        let task = tokio::spawn(async move {
            let event = match timeout(REQUEST_TIMEOUT, framing::read_hash(&mut stream)).await {
                Ok(Ok(hash)) => Event::Requested { token, hash, stream },
                _ => Event::Silent { token },
            };
            let _ = events.send(event).await;
        });
        self.silent.push_back(Silent { token, peer, task: task.abort_handle() });
    }

    /// Forgets a stream whose peer says what it wants, or has ended it. Returns the peer, unless the stream lost
    /// its place before.
    fn end_silence(&mut self, token: Token) -> Option<PeerId> {
        let place = self.silent.iter().position(|silent| silent.token == token)?;
        self.silent.remove(place).map(|silent| silent.peer)
    }

    fn serve(&mut self, token: Token, offered: Offered) {
        let Some(stream) = self.requested.remove(&token) else { return };
        let (events, trees, sent) =
            (self.events.0.clone(), Arc::clone(&self.trees), Arc::<AtomicU64>::default());
        let (counter, reports) = (Arc::clone(&sent), self.events.0.clone());
        let task = tokio::spawn(async move {
            let mut pace = Pace::default();
            let progress = |range: content::Range| {
                counter.fetch_add(range.length, Ordering::Relaxed);
                if pace.is_due() {
                    let bytes = range.offset + range.length;
                    // A later report says more.
                    let _ = reports.try_send(Event::ForCore(FileEvent::Served { token, bytes }));
                }
            };
            let end = serve::serve(stream, offered, trees, progress).await;
            let sent = counter.load(Ordering::Relaxed);
            let _ = events.send(Event::ForCore(FileEvent::ServeEnded { token, sent, end })).await;
        });
        self.sending.insert(token, Sending { task: task.abort_handle(), sent });
    }

    fn fetch(&mut self, token: Token, peer: PeerId, target: Target) {
        let (events, open) = (self.events.0.clone(), self.streams.open.clone());
        let (finish, finished) = oneshot::channel();
        let reports = events.clone();
        let task = tokio::spawn(async move {
            let mut pace = Pace::default();
            let progress = |bytes| {
                if pace.is_due() {
                    let _ = reports.try_send(Event::ForCore(FileEvent::Received { token, bytes }));
                }
            };
            let outcome = match open_stream(peer, &open).await {
                Some(stream) => fetch::fetch(stream, target, progress).await,
                None => Err(FetchFault::Broken),
            };
            match outcome {
                Ok((path, writer)) => {
                    let path = path.to_string_lossy().into_owned();
                    let _ = events.send(Event::ForCore(FileEvent::Fetched { token, path })).await;
                    if let Ok(Ok(())) = timeout(FINISH_TIMEOUT, finished).await {
                        fetch::finish(writer).await;
                    }
                }
                Err(fault) => {
                    let _ = events.send(Event::ForCore(FileEvent::FetchFailed { token, fault })).await;
                }
            }
        });
        self.fetching.insert(token, Fetching { task: task.abort_handle(), finish });
    }

    fn remove(&self, name: &str) {
        let Some(path) = self.directory.as_ref().map(|directory| directory.join(name)) else { return };
        spawn_blocking(move || {
            if let Err(error) = std::fs::remove_file(&path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(%error, path = %path.display(), "deleting a received file failed");
            }
        });
    }

    fn list(&self) {
        let (events, directory) = (self.events.0.clone(), self.directory.clone());
        tokio::spawn(async move {
            let stored =
                spawn_blocking(move || directory.map(|directory| list(&directory)).unwrap_or_default());
            let stored = stored.await.unwrap_or_default();
            let _ = events.send(Event::ForCore(FileEvent::Stored(stored))).await;
        });
    }
}

/// Opens a stream to a connected peer.
async fn open_stream(peer: PeerId, open: &mpsc::Sender<OpenStream>) -> Option<BoxedStream> {
    let (reply, opened) = oneshot::channel();
    open.send(OpenStream { peer, reply }).await.ok()?;
    opened.await.ok()
}

/// Limits the reports of a transfer.
struct Pace(Instant);

impl Default for Pace {
    fn default() -> Self {
        Pace(Instant::now())
    }
}

impl Pace {
    fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let is_due = now >= self.0 + REPORT_INTERVAL;
        if is_due {
            self.0 = now;
        }
        is_due
    }
}

fn hash(path: &Path, max_bytes: u64, trees: &Trees) -> Result<HashedFile, HashFault> {
    let unreadable = |error: std::io::Error| HashFault::Unreadable(error.to_string());
    let (file, size) = content::open_regular(path).map_err(unreadable)?;
    if size > max_bytes {
        return Err(HashFault::TooLarge(size));
    }
    let tree = trees.insert(content::read_tree(&file, size).map_err(unreadable)?);
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(HashedFile { hash: *tree.root.as_bytes(), size, name })
}

/// Lists the regular files of the directory. What is not there is no error: a client may delete files.
fn list(directory: &Path) -> Vec<StoredFile> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let metadata = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
            let name = entry.file_name().into_string().ok()?;
            Some(StoredFile { name, bytes: metadata.len() })
        })
        .take(MAX_LISTED)
        .collect()
}

#[cfg(test)]
mod tests;
