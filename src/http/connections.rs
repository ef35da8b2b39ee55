//! The connections of a server for local clients, and their limits.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Maximum number of connections. Our choice: a scraper, probes and some people with a page need a few, and
/// the node's sockets belong to its peers. A new connection ends the oldest one that has sent no request; if
/// all have, the server refuses it with 503.
pub const MAX_CONNECTIONS: usize = 64;

/// Maximum number of connections that follow the events. Our choice: an explorer page is for people. More
/// are refused with 503.
pub const MAX_STREAMS: usize = 8;

/// All connections.
pub(crate) struct Connections {
    places: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    open: Mutex<BTreeMap<u64, Arc<Connection>>>,
    last: AtomicU64,
    refused: AtomicU64,
}

/// One connection. It has its place until it is dropped.
pub(crate) struct Connection {
    number: u64,
    asked: AtomicBool,
    follows: AtomicBool,
    end: Notify,
}

impl Connections {
    pub(crate) fn new() -> Self {
        Connections {
            places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            open: Mutex::default(),
            last: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Connection>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a place for a new connection, or `None` if all connections have sent a request.
    pub(crate) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Some(place);
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        let oldest = self.open().values().find(|idle| !idle.asked.load(Ordering::Relaxed)).cloned()?;
        // One place for each connection that ends: marks it, so that the next call ends another one.
        oldest.asked.store(true, Ordering::Relaxed);
        oldest.end();
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    /// Enters a new connection.
    pub(crate) fn enter(&self) -> Arc<Connection> {
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::new(Connection {
            number,
            asked: AtomicBool::new(false),
            follows: AtomicBool::new(false),
            end: Notify::new(),
        });
        self.open().insert(number, Arc::clone(&connection));
        connection
    }

    /// Removes a connection that has ended.
    pub(crate) fn leave(&self, connection: &Connection) {
        self.open().remove(&connection.number);
    }

    /// Returns a place among those who follow the events, if there is one.
    pub(super) fn stream(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.streams).try_acquire_owned().ok()
    }

    /// Ends all connections.
    pub(crate) fn close(&self) {
        self.open().values().for_each(|connection| connection.end());
    }

    /// Returns the number of connections refused or ended for others since the last call.
    pub(crate) fn take_refused(&self) -> u64 {
        self.refused.swap(0, Ordering::Relaxed)
    }
}

impl Connection {
    /// Notes that a request has arrived.
    pub(crate) fn asked(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    /// Notes that the connection follows the events, so that it has no time limit.
    pub(super) fn follows(&self) {
        self.follows.store(true, Ordering::Relaxed);
    }

    /// Returns `true` if the connection follows the events.
    pub(super) fn is_following(&self) -> bool {
        self.follows.load(Ordering::Relaxed)
    }

    /// Ends the connection.
    pub(super) fn end(&self) {
        self.end.notify_one();
    }

    /// Waits until the connection must end.
    pub(crate) async fn ended(&self) {
        self.end.notified().await;
    }
}
