//! The stream of events (`/api/stream`): a report each second, and what happens in between.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use p2p_node_protocol::Event;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::MissedTickBehavior;

use super::connections::Connection;
use super::entry::Entry;

/// Time between two pieces of the stream, and the number of pieces after which a report follows: one second.
const TICK: Duration = Duration::from_millis(250);
const TICKS_PER_REPORT: u32 = 4;

/// Maximum number of events in one piece. Our choice: a person cannot read 200 events a second, and a busy
/// node must not lose time with more.
const MAX_EVENTS: usize = 50;

/// Maximum number of pieces that wait for one client: about 6 s. Then the server ends its connection, and
/// the client may connect anew.
const MAX_PIECES: usize = 32;

/// Room that a piece has from the start, in bytes: enough for [`MAX_EVENTS`] messages. Our choice.
const PIECE_BYTES: usize = MAX_EVENTS * 256;

/// The next piece.
#[derive(Default)]
struct Pending {
    text: Vec<u8>,
    /// The number of events in it.
    number: usize,
}

/// The followers of the events, and the events since the last piece.
#[derive(Default)]
pub(super) struct Feed {
    followers: Mutex<Vec<Sender>>,
    number: watch::Sender<usize>,
    pending: Mutex<Pending>,
    /// The next piece has room for no event. Told without the lock, which a busy node would take for each message.
    is_full: AtomicBool,
    dropped: AtomicU64,
}

struct Sender {
    pieces: mpsc::Sender<Bytes>,
    connection: Arc<Connection>,
}

/// The receiving end of one follower. It has its place until it is dropped.
pub(super) struct Follower {
    pieces: mpsc::Receiver<Bytes>,
    _place: OwnedSemaphorePermit,
}

/// The pieces. They end if the follower was too slow.
impl Stream for Follower {
    type Item = Bytes;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.get_mut().pieces.poll_recv(cx)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns a report as a piece of the stream.
fn report_piece(report: &Bytes) -> Bytes {
    [b"event: report\ndata: ", report.as_ref(), b"\n\n"].concat().into()
}

impl Feed {
    /// Returns `true` if somebody follows.
    pub(super) fn has_followers(&self) -> bool {
        *self.number.borrow() > 0
    }

    /// Adds a follower, who first gets a report.
    pub(super) fn follow(
        &self,
        connection: &Arc<Connection>,
        place: OwnedSemaphorePermit,
        report: &Bytes,
    ) -> Follower {
        let (sender, pieces) = mpsc::channel(MAX_PIECES);
        // A new channel has room.
        let _ = sender.try_send(report_piece(report));
        let mut followers = locked(&self.followers);
        followers.push(Sender { pieces: sender, connection: Arc::clone(connection) });
        self.number.send_replace(followers.len());
        Follower { pieces, _place: place }
    }

    /// Queues events of the node for the next piece. Payloads are never in them.
    pub(super) fn publish<'a>(&self, events: impl Iterator<Item = &'a Event>, unix_ms: u64) {
        let mut dropped = 0;
        for event in events {
            // A burst of messages must not cost the text of each.
            if matches!(event, Event::Message(_) | Event::Delivery(_)) && self.is_full.load(Ordering::Relaxed)
            {
                dropped += 1;
            } else if let Some(entry) = Entry::of(event, unix_ms) {
                self.push(&entry);
            }
        }
        if dropped > 0 {
            self.dropped.fetch_add(dropped, Ordering::Relaxed);
        }
    }

    /// Queues an event for the next piece.
    pub(super) fn push(&self, entry: &impl Serialize) {
        let mut pending = locked(&self.pending);
        if pending.number == MAX_EVENTS {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        pending.number += 1;
        self.is_full.store(pending.number == MAX_EVENTS, Ordering::Relaxed);
        pending.text.extend_from_slice(b"event: event\ndata: ");
        // An entry has texts and numbers alone, and there is always room for more bytes.
        if let Err(error) = serde_json::to_writer(&mut pending.text, entry) {
            tracing::error!(%error, "the event has no form as JSON");
        }
        pending.text.extend_from_slice(b"\n\n");
    }

    /// Waits until somebody follows, or until nobody does.
    pub(super) async fn until(&self, is_followed: bool) {
        // The sender is alive as long as the feed.
        let _ = self.number.subscribe().wait_for(|number| (*number > 0) == is_followed).await.map(drop);
    }

    /// Sends pieces while somebody follows. `report` asks the loop.
    pub(super) async fn run<F: Future<Output = Option<Bytes>>>(&self, report: impl Fn() -> F) {
        // Each piece that is taken leaves another one with room.
        locked(&self.pending).text.reserve(PIECE_BYTES);
        loop {
            self.until(true).await;
            let mut ticks = tokio::time::interval(TICK);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks.tick().await;
            let mut number = 0;
            while self.has_followers() {
                ticks.tick().await;
                number += 1;
                let events = self.take_pending();
                if !events.is_empty() {
                    self.send(&events.into());
                }
                if number % TICKS_PER_REPORT == 0
                    && let Some(report) = report().await
                {
                    self.send(&report_piece(&report));
                }
            }
            self.take_pending();
        }
    }

    /// Removes and returns the events of the next piece. This thread allocates and frees the piece, so that the loop
    /// of the node only fills it.
    fn take_pending(&self) -> Vec<u8> {
        let next = Pending { text: Vec::with_capacity(PIECE_BYTES), number: 0 };
        let mut pending = locked(&self.pending);
        self.is_full.store(false, Ordering::Relaxed);
        std::mem::replace(&mut *pending, next).text
    }

    /// Sends a piece to every follower. Ends the connections of those that are too slow.
    pub(super) fn send(&self, piece: &Bytes) {
        let mut followers = locked(&self.followers);
        followers.retain(|follower| match follower.pieces.try_send(piece.clone()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                follower.connection.end();
                false
            }
        });
        self.number.send_if_modified(|number| std::mem::replace(number, followers.len()) != followers.len());
    }

    /// Returns the number of events and followers that were dropped since the last call.
    pub(super) fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}
