//! Messages that the node accepted from the parent and has not completed. The outbox has a limit,
//! and so has each recipient.

mod completion;
mod persistence;
mod renumbering;

use std::collections::BTreeMap;
use std::time::Duration;

use alloy_primitives::Address;
use p2p_node_protocol::{Priority, Route};
use p2p_node_wire::envelope::{Batch, StreamAck};
use p2p_node_wire::message_id::{StreamId, StreamNamespace};
use p2p_node_wire::time::Instant;

use crate::backoff::Jitter;
use crate::budget::{Budget, Limit};
use crate::capacity::{NoRoom, Wait, limit_for};
use crate::input::Token;
use crate::mail::outbound::destination::Destination;
use crate::mail::outbound::lane::Lane;
use crate::mail::outbound::stream::{QueuedMessage, Stream};
use crate::outgoing::OutgoingMessage;
pub use persistence::PersistedMessage;

/// Limit of all messages in memory, in bytes. Our choice: eight times the 1 MiB that may be in
/// flight to one recipient.
pub const OUTBOX_BYTES: usize = 8 << 20;
/// Limit of the messages to one recipient, in bytes. Our choice: a quarter, so that three
/// recipients that are offline leave room for others.
pub const DESTINATION_BYTES: usize = OUTBOX_BYTES / 4;
/// Limit of the number of messages in memory. Our choice: the outbox full of messages of 64 bytes
/// with their overhead.
pub const OUTBOX_MAILS: usize = 50_000;
const OUTBOX: Limit = Limit { count: OUTBOX_MAILS, bytes: OUTBOX_BYTES };
/// Number of recipients without queued messages that the node remembers. Our choice: each costs
/// about 1 KiB.
pub const MAX_IDLE_DESTINATIONS: usize = 1024;

/// Pause after which the node offers a file again to a recipient that does not have it, if it heard nothing of
/// the transfer. Our choice: an offer is a message without effect on a transfer that goes on.
const OFFER_INTERVAL: Duration = Duration::from_secs(30);

/// The id and the number of an accepted message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The message id.
    pub message_id: String,
    /// The stream of the message.
    pub stream: StreamId,
    /// The number of the message in `stream`.
    pub seq: u64,
    /// The priority of the message.
    pub priority: Priority,
}

/// A message that has left the outbox.
#[derive(Debug)]
pub struct Completed {
    /// The message id.
    pub message_id: String,
    /// The id under which the recipient received the message, if it is another one.
    pub delivered_as: Option<String>,
    /// The stream on which the node accepted the message.
    pub stream: StreamId,
    /// The number of the message in `stream`.
    pub seq: u64,
    /// The recipient.
    pub recipient: Address,
    /// The message.
    pub mail: QueuedMessage,
    /// The code with which the recipient rejected the message.
    pub refused: Option<String>,
}

impl Completed {
    fn new(of: &Stream, recipient: Address, mail: QueuedMessage, refused: Option<String>) -> Self {
        let ((stream, seq), message_id, delivered_as) = of.names_of(&mail);
        Completed { message_id, delivered_as, stream, seq, recipient, mail, refused }
    }
}

/// The destinations of all recipients.
#[derive(Debug)]
pub struct Outbox {
    origin: StreamNamespace,
    destinations: BTreeMap<Address, Destination>,
    flights: BTreeMap<Token, Address>,
    /// Number and size of all messages.
    queued: Budget,
    /// Until when a `send` may wait for shared room.
    stall_deadline: Instant,
    incarnation: u64,
    /// Number of destinations at which the idle ones are removed: twice the number of the others,
    /// so that not every new destination causes a scan.
    gc_threshold: usize,
}

impl Outbox {
    /// Creates an empty outbox.
    pub fn new(origin: StreamNamespace) -> Self {
        Outbox {
            origin,
            destinations: BTreeMap::new(),
            flights: BTreeMap::new(),
            queued: Budget::default(),
            stall_deadline: Instant::ZERO,
            incarnation: 0,
            gc_threshold: MAX_IDLE_DESTINATIONS,
        }
    }

    /// Accepts a message. It may be sent at once if `persisted` is true, and otherwise when the store
    /// has committed it.
    ///
    /// # Errors
    /// Returns the message, and until when it may wait, if the outbox or the share of the recipient
    /// is full.
    pub fn accept(
        &mut self,
        recipient: Address,
        draft: OutgoingMessage,
        persisted: bool,
        now: Instant,
    ) -> Result<Accepted, Box<NoRoom>> {
        let size = draft.size();
        if let Some(wait) = self.wait(draft.priority, size) {
            return Err(Box::new(NoRoom { draft, wait }));
        }
        let destination = self.open(recipient);
        if let Some(wait) = destination.wait(draft.priority) {
            return Err(Box::new(NoRoom { draft, wait }));
        }
        let index = Lane::of(&draft).index();
        let (expires, priority) = (draft.expires, draft.priority);
        let stream = &mut destination.streams[index];
        let seq = stream.push(draft, persisted);
        let (message_id, stream) = (stream.message_id(seq), stream.stream_id());
        let accepted = Accepted { message_id, stream, seq, priority };
        self.account(recipient, size, persisted, expires, now);
        Ok(accepted)
    }

    /// Returns until when a `send` may wait for room, or `None` if there is room.
    pub fn wait_for(&self, recipient: &Address, draft: &OutgoingMessage) -> Option<Wait> {
        let own = || self.destinations.get(recipient)?.wait(draft.priority);
        self.wait(draft.priority, draft.size()).or_else(own)
    }

    /// Returns until when a `send` may wait for the room that all recipients share.
    fn wait(&self, priority: Priority, size: usize) -> Option<Wait> {
        let full = !self.queued.fits(size, limit_for(OUTBOX, priority));
        (!self.queued.is_empty() && full).then_some(Wait::Shared(self.stall_deadline))
    }

    /// Returns the destination of a recipient, and creates it if there is none.
    fn open(&mut self, recipient: Address) -> &mut Destination {
        if !self.destinations.contains_key(&recipient) {
            if self.destinations.len() >= self.gc_threshold {
                // A new incarnation has new streams, so the node may forget the numbers of the old
                // ones.
                self.destinations.retain(|_, destination| {
                    !destination.queued.is_empty() || !destination.flights.is_empty()
                });
                self.gc_threshold = MAX_IDLE_DESTINATIONS.max(2 * self.destinations.len());
            }
            self.incarnation += 1;
        }
        let fresh = || Destination::new(&self.origin, self.incarnation, &recipient);
        self.destinations.entry(recipient).or_insert_with(fresh)
    }

    fn account(&mut self, recipient: Address, size: usize, persisted: bool, expires: Instant, now: Instant) {
        let Some(destination) = self.destinations.get_mut(&recipient) else { return };
        if destination.queued.is_empty() && !destination.backoff.is_failing() {
            destination.extend_stall_deadline(now);
            self.stall_deadline = self.stall_deadline.max(destination.stall_deadline);
        }
        destination.earliest_expiry = destination.earliest_expiry.min(expires);
        // The new message may use another route than the queued ones.
        destination.paced_until = Instant::ZERO;
        destination.queued.add(size);
        destination.waiting += if persisted { size } else { 0 };
        self.queued.add(size);
    }

    /// Returns the destination of this recipient.
    pub fn destination(&mut self, recipient: &Address) -> Option<&mut Destination> {
        self.destinations.get_mut(recipient)
    }

    pub(crate) fn known(&self, recipient: &Address) -> Option<&Destination> {
        self.destinations.get(recipient)
    }

    /// Returns `true` if a message to this recipient is in the outbox.
    pub fn has_mail_for(&self, recipient: &Address) -> bool {
        self.destinations.get(recipient).is_some_and(|destination| !destination.queued.is_empty())
    }

    /// Returns the recipients for whom a frame is due.
    pub fn due(&self, now: Instant) -> impl Iterator<Item = Address> {
        let is_due = move |destination: &Destination| destination.frame_due().is_some_and(|due| due <= now);
        self.destinations
            .iter()
            .filter(move |(_, destination)| is_due(destination))
            .map(|(recipient, _)| *recipient)
    }

    /// Returns all recipients with a destination.
    pub fn recipients(&self) -> impl Iterator<Item = &Address> {
        self.destinations.keys()
    }

    /// Moves the next batch to a recipient into flight and returns it.
    pub fn send_next_batch(
        &mut self,
        recipient: Address,
        token: Token,
        route: Route,
        now: Instant,
    ) -> Option<Batch> {
        let batch = self.destinations.get_mut(&recipient)?.send_next_batch(token, route, now);
        self.flights.insert(token, recipient);
        Some(batch)
    }

    /// Returns the recipient of a frame in flight.
    pub fn recipient(&self, token: Token) -> Option<Address> {
        self.flights.get(&token).copied()
    }

    /// Returns `true` if messages to this recipient use this stream.
    pub fn sends(&self, recipient: &Address, stream: &[u8]) -> bool {
        let destination = self.destinations.get(recipient);
        destination.is_some_and(|known| known.streams.iter().any(|known| known.epoch_of(stream).is_some()))
    }

    /// Handles the part of an ack that names one stream. Returns the completed messages.
    pub fn apply_ack(&mut self, recipient: &Address, ack: &StreamAck, now: Instant) -> Vec<Completed> {
        let Some(destination) = self.destinations.get_mut(recipient) else { return Vec::new() };
        let epochs = destination.streams.iter().map(|stream| stream.epoch_of(&ack.stream));
        let Some((index, epoch)) = epochs.enumerate().find_map(|(index, epoch)| Some((index, epoch?))) else {
            return Vec::new();
        };
        let progress_bytes = destination.streams[index].apply_ack(epoch, ack.cumulative, &ack.selective);
        destination.streams[index].hold(epoch, ack.received, ack.window, now);
        if progress_bytes.is_empty() {
            self.complete_acked(recipient);
            return Vec::new();
        }
        destination.backoff.reset();
        let messages = destination.remove_completed(progress_bytes);
        destination.record_progress(messages.iter().map(|mail| mail.draft.size()).sum(), now);
        self.stall_deadline = self.stall_deadline.max(destination.stall_deadline);
        let stream = &destination.streams[index];
        let code = |seq| {
            ack.rejections.iter().find(|outcome| outcome.seq == seq).map(|outcome| outcome.code.clone())
        };
        let ended: Vec<_> = messages
            .into_iter()
            .map(|mail| {
                let refused = code(mail.seq);
                Completed::new(stream, *recipient, mail, refused)
            })
            .collect();
        self.forget(recipient, &ended);
        self.complete_acked(recipient);
        ended
    }

    /// Removes the gossip frames whose messages are all completed, because an ack may not name its
    /// frame.
    fn complete_acked(&mut self, recipient: &Address) {
        let Some(destination) = self.destinations.get_mut(recipient) else { return };
        let landed: Vec<Token> = destination
            .flights
            .iter()
            .filter(|flight| flight.deadline.is_some())
            .filter(|flight| {
                let mut parts = destination.streams.iter().zip(flight.seqs);
                parts.all(|(stream, seqs)| seqs.is_none_or(|(first, last)| !stream.has_sent(first, last)))
            })
            .map(|flight| flight.token)
            .collect();
        for token in landed {
            destination.complete(token);
            self.flights.remove(&token);
        }
    }

    /// Handles the response to a frame. Messages that the response did not complete are sent again
    /// after a pause.
    pub fn answered(&mut self, token: Token, now: Instant, jitter: &mut Jitter) {
        let Some(recipient) = self.flights.remove(&token) else { return };
        let Some(destination) = self.destinations.get_mut(&recipient) else { return };
        destination.await_file(token, now + OFFER_INTERVAL);
        if destination.complete(token) {
            // The recipient is online and had no room for some messages.
            destination.backoff.defer(now, Duration::ZERO, jitter);
        }
    }

    /// Handles a failed frame. Its messages are sent again after a pause of at least `floor`.
    pub fn failed(&mut self, token: Token, floor: Duration, now: Instant, jitter: &mut Jitter) {
        let Some(recipient) = self.flights.remove(&token) else { return };
        if let Some(destination) = self.destinations.get_mut(&recipient) {
            destination.complete(token);
            if floor.is_zero() {
                destination.backoff.fail(now, floor, jitter);
                destination.suspect();
            } else {
                // A busy recipient is online.
                destination.backoff.defer(now, floor, jitter);
            }
            // Whichever route failed, the next attempt dials first.
            destination.unreachable = false;
        }
    }

    /// Undoes the attempt to send a frame that no peer received. The next attempt follows after a
    /// pause.
    pub fn undo_batch(&mut self, token: Token, now: Instant, jitter: &mut Jitter) {
        if let Some(destination) =
            self.flights.get(&token).and_then(|recipient| self.destinations.get_mut(recipient))
        {
            destination.undo_send(token);
        }
        self.failed(token, Duration::ZERO, now, jitter);
    }

    /// Queues the messages in flight by gossip again if another route is allowed. A later ack of
    /// the gossip frame still counts.
    pub fn cancel_gossip(&mut self, recipient: &Address) {
        let Some(destination) = self.destinations.get_mut(recipient) else { return };
        for token in destination.gossip_in_flight() {
            self.flights.remove(&token);
            destination.complete(token);
        }
    }

    /// Removes and returns the messages of a frame that the recipient's node rejected as a whole.
    pub fn refused(&mut self, token: Token) -> Vec<Completed> {
        let Some(recipient) = self.flights.get(&token).copied() else { return Vec::new() };
        let Some(destination) = self.destinations.get_mut(&recipient) else { return Vec::new() };
        let Some(flight) = destination.flights.iter().find(|flight| flight.token == token) else {
            return Vec::new();
        };
        let seqs = flight.seqs;
        self.remove_if(&recipient, |index, mail, in_flight| {
            in_flight && seqs[index].is_some_and(|(first, last)| (first..=last).contains(&mail.position()))
        })
    }

    /// Returns when the outbox must act next.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.destinations
            .values()
            .filter(|destination| !destination.queued.is_empty() || !destination.flights.is_empty())
            .flat_map(|destination| {
                let expiry = Some(destination.earliest_expiry).filter(|expiry| *expiry < Instant::MAX);
                let flights = destination.flights.iter().filter_map(|flight| flight.deadline).min();
                [expiry, flights, destination.frame_due(), destination.probe_at()]
            })
            .flatten()
            .min()
    }

    /// Returns the number of messages.
    pub fn len(&self) -> usize {
        self.queued.count()
    }

    /// Returns `true` if the outbox is empty.
    pub fn is_empty(&self) -> bool {
        self.queued.is_empty()
    }

    /// Returns the size of all messages, in bytes.
    pub fn bytes(&self) -> usize {
        self.queued.bytes()
    }
}

#[cfg(test)]
mod tests;
