//! Mail accepted from the parent and not yet delivered, bounded as a whole and for each recipient.

mod completion;
mod persistence;
mod renumbering;

use std::collections::BTreeMap;
use std::time::Duration;

use alloy_primitives::Address;
use p2p_node_protocol::{Priority, Route};
use p2p_node_wire::envelope::{Batch, StreamAck};
use p2p_node_wire::message_id::{StreamId, StreamNamespace};

use crate::backoff::Jitter;
use crate::capacity::{NoRoom, Wait, capacity_for};
use crate::input::Token;
use crate::mail::outbound::destination::Destination;
use crate::mail::outbound::stream::{QueuedMessage, Stream};
use crate::outgoing::OutgoingMessage;
pub use persistence::PersistedMessage;

/// Messages held in memory, in bytes. Our choice: eight windows of 1 MiB.
pub const OUTBOX_BYTES: usize = 8 << 20;
/// … for one destination: a quarter, so that four agents that are away leave room for the others.
pub const DESTINATION_BYTES: usize = OUTBOX_BYTES / 4;
/// Mail held in memory, by number: the outbox full of messages of 64 bytes with their overhead.
pub const OUTBOX_MAILS: usize = 50_000;
/// Recipients that are remembered without mail on its way to them. Ours: they cost about 1 KiB each.
pub const MAX_IDLE_DESTINATIONS: usize = 1024;

/// Mail that has its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The message id.
    pub message_id: String,
    /// Its stream.
    pub stream: StreamId,
    /// Its number there.
    pub seq: u64,
}

/// Mail that has left the outbox.
#[derive(Debug)]
pub struct Completed {
    /// The message id.
    pub message_id: String,
    /// The id under which the recipient got it, if that is another.
    pub delivered_as: Option<String>,
    /// The stream on which it was accepted.
    pub stream: StreamId,
    /// Its number there.
    pub seq: u64,
    /// To whom it went.
    pub recipient: Address,
    /// The mail.
    pub mail: QueuedMessage,
    /// The code with which the recipient refused it.
    pub refused: Option<String>,
}

impl Completed {
    fn new(of: &Stream, recipient: Address, mail: QueuedMessage, refused: Option<String>) -> Self {
        let ((stream, seq), message_id, delivered_as) = of.names_of(&mail);
        Completed { message_id, delivered_as, stream, seq, recipient, mail, refused }
    }
}

/// Every destination.
#[derive(Debug)]
pub struct Outbox {
    origin: StreamNamespace,
    destinations: BTreeMap<Address, Destination>,
    flights: BTreeMap<Token, Address>,
    bytes: usize,
    mails: usize,
    /// Until when it is worth waiting for room in it as a whole.
    moves_until: Duration,
    incarnation: u64,
    /// At so many destinations the idle ones go: at twice those that are not idle, so that it is not done for each.
    sweep_at: usize,
}

impl Outbox {
    /// An empty outbox.
    pub fn new(origin: StreamNamespace) -> Self {
        Outbox {
            origin,
            destinations: BTreeMap::new(),
            flights: BTreeMap::new(),
            bytes: 0,
            mails: 0,
            moves_until: Duration::ZERO,
            incarnation: 0,
            sweep_at: MAX_IDLE_DESTINATIONS,
        }
    }

    /// Takes mail, which may leave at once if it is `kept`, or needs not be; otherwise when [`Outbox::keep`] says so.
    ///
    /// # Errors
    /// When memory is used up, or the recipient has used up its quarter: the mail, and how long to wait for room.
    pub fn accept(
        &mut self,
        recipient: Address,
        draft: OutgoingMessage,
        kept: bool,
        now: Duration,
    ) -> Result<Accepted, Box<NoRoom>> {
        let size = draft.size();
        if let Some(wait) = self.wait(draft.priority, size) {
            return Err(Box::new(NoRoom { draft, wait }));
        }
        let destination = self.open(recipient);
        if let Some(wait) = destination.wait(draft.priority) {
            return Err(Box::new(NoRoom { draft, wait }));
        }
        let index = Priority::High as usize - draft.priority as usize;
        let expires = draft.expires;
        let stream = &mut destination.streams[index];
        let seq = stream.push(draft, kept);
        let accepted = Accepted { message_id: stream.message_id(seq), stream: stream.stream_id(), seq };
        self.account(recipient, size, kept, expires, now);
        Ok(accepted)
    }

    /// How long to wait for room for mail, unless there is some.
    pub fn wait_for(&self, recipient: &Address, draft: &OutgoingMessage) -> Option<Wait> {
        let own = || self.destinations.get(recipient)?.wait(draft.priority);
        self.wait(draft.priority, draft.size()).or_else(own)
    }

    /// The same of the room that all recipients share.
    fn wait(&self, priority: Priority, size: usize) -> Option<Wait> {
        let of = |room| capacity_for(room, priority);
        let full = self.bytes + size > of(OUTBOX_BYTES) || self.mails >= of(OUTBOX_MAILS);
        (self.mails > 0 && full).then_some(Wait::Shared(self.moves_until))
    }

    /// The destination of a recipient, which is made if there is none.
    fn open(&mut self, recipient: Address) -> &mut Destination {
        if !self.destinations.contains_key(&recipient) {
            if self.destinations.len() >= self.sweep_at {
                // A new incarnation has new streams, so forgetting the numbering of the old ones is safe.
                self.destinations
                    .retain(|_, destination| destination.mails > 0 || !destination.flights.is_empty());
                self.sweep_at = MAX_IDLE_DESTINATIONS.max(2 * self.destinations.len());
            }
            self.incarnation += 1;
        }
        let fresh = || Destination::new(&self.origin, self.incarnation, &recipient);
        self.destinations.entry(recipient).or_insert_with(fresh)
    }

    fn account(&mut self, recipient: Address, size: usize, kept: bool, expires: Duration, now: Duration) {
        let Some(destination) = self.destinations.get_mut(&recipient) else { return };
        if destination.mails == 0 && !destination.backoff.is_failing() {
            destination.extend_stall_deadline(now);
            self.moves_until = self.moves_until.max(destination.moves_until);
        }
        destination.earliest_expiry = destination.earliest_expiry.min(expires);
        // It may go by another way than what is there.
        destination.paced_until = Duration::ZERO;
        destination.bytes += size;
        destination.waiting += if kept { size } else { 0 };
        destination.mails += 1;
        self.bytes += size;
        self.mails += 1;
    }

    /// The destination of mail to this recipient.
    pub fn destination(&mut self, recipient: &Address) -> Option<&mut Destination> {
        self.destinations.get_mut(recipient)
    }

    /// Whether mail to this recipient is on its way.
    pub fn has_mail_for(&self, recipient: &Address) -> bool {
        self.destinations.get(recipient).is_some_and(|destination| destination.mails > 0)
    }

    /// Recipients to whom a frame is due.
    pub fn due(&self, now: Duration) -> impl Iterator<Item = Address> {
        let is_due = move |destination: &Destination| destination.frame_due().is_some_and(|due| due <= now);
        self.destinations
            .iter()
            .filter(move |(_, destination)| is_due(destination))
            .map(|(recipient, _)| *recipient)
    }

    /// Everyone to whom mail is on its way.
    pub fn recipients(&self) -> impl Iterator<Item = &Address> {
        self.destinations.keys()
    }

    /// Puts the next batch to a recipient on the wire.
    pub fn send_next_batch(
        &mut self,
        recipient: Address,
        token: Token,
        route: Route,
        now: Duration,
    ) -> Option<Batch> {
        let batch = self.destinations.get_mut(&recipient)?.send_next_batch(token, route, now);
        self.flights.insert(token, recipient);
        Some(batch)
    }

    /// To whom a flight went.
    pub fn recipient(&self, token: Token) -> Option<Address> {
        self.flights.get(&token).copied()
    }

    /// Whether mail to this recipient goes on this stream.
    pub fn sends(&self, recipient: &Address, stream: &[u8]) -> bool {
        let destination = self.destinations.get(recipient);
        destination.is_some_and(|known| known.streams.iter().any(|known| known.epoch_of(stream).is_some()))
    }

    /// The recipient has signed for part of one of its streams.
    pub fn settle(&mut self, recipient: &Address, ack: &StreamAck, now: Duration) -> Vec<Completed> {
        let Some(destination) = self.destinations.get_mut(recipient) else { return Vec::new() };
        let epochs = destination.streams.iter().map(|stream| stream.epoch_of(&ack.stream));
        let Some((index, epoch)) = epochs.enumerate().find_map(|(index, epoch)| Some((index, epoch?))) else {
            return Vec::new();
        };
        let settled = destination.streams[index].settle(epoch, ack.cumulative, &ack.selective);
        destination.streams[index].hold(epoch, ack.received, ack.window, now);
        if settled.is_empty() {
            self.complete_acked(recipient);
            return Vec::new();
        }
        destination.backoff.reset();
        let mails = destination.take_out(settled);
        destination.record_progress(mails.iter().map(|mail| mail.draft.size()).sum(), now);
        self.moves_until = self.moves_until.max(destination.moves_until);
        let stream = &destination.streams[index];
        let code = |seq| {
            ack.rejections.iter().find(|outcome| outcome.seq == seq).map(|outcome| outcome.code.clone())
        };
        let ended: Vec<_> = mails
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

    /// By gossip the ack names no flight: those whose mail is all settled have landed.
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

    /// A flight was answered. What the answer did not settle is tried again, after a pause.
    pub fn answered(&mut self, token: Token, now: Duration, jitter: &mut Jitter) {
        let Some(recipient) = self.flights.remove(&token) else { return };
        if let Some(destination) = self.destinations.get_mut(&recipient)
            && destination.complete(token)
        {
            // The recipient is there, and had no room for all of it.
            destination.backoff.defer(now, Duration::ZERO, jitter);
        }
    }

    /// A flight failed: its mail is tried again, after a pause of `floor` and more.
    pub fn failed(&mut self, token: Token, floor: Duration, now: Duration, jitter: &mut Jitter) {
        let Some(recipient) = self.flights.remove(&token) else { return };
        if let Some(destination) = self.destinations.get_mut(&recipient) {
            destination.complete(token);
            if floor.is_zero() {
                destination.backoff.fail(now, floor, jitter);
                destination.suspect();
            } else {
                // A busy recipient is there.
                destination.backoff.defer(now, floor, jitter);
            }
            // By whatever route it failed: the next attempt tries to dial first.
            destination.undialable = false;
        }
    }

    /// The frame found nobody: as if it had never been launched, but that it is not tried again at once.
    pub fn undo_batch(&mut self, token: Token, now: Duration, jitter: &mut Jitter) {
        if let Some(destination) =
            self.flights.get(&token).and_then(|recipient| self.destinations.get_mut(recipient))
        {
            destination.undo_send(token);
        }
        self.failed(token, Duration::ZERO, now, jitter);
    }

    /// Takes back what is on its way by gossip, though another way was allowed; an acknowledgement that comes all the same
    /// still counts.
    pub fn cancel_gossip(&mut self, recipient: &Address) {
        let Some(destination) = self.destinations.get_mut(recipient) else { return };
        for token in destination.gossip_in_flight() {
            self.flights.remove(&token);
            destination.complete(token);
        }
    }

    /// Mail that the recipient's node refused as a whole with a flight.
    pub fn refused(&mut self, token: Token) -> Vec<Completed> {
        let Some(recipient) = self.flights.get(&token).copied() else { return Vec::new() };
        let Some(destination) = self.destinations.get_mut(&recipient) else { return Vec::new() };
        let Some(flight) = destination.flights.iter().find(|flight| flight.token == token) else {
            return Vec::new();
        };
        let seqs = flight.seqs;
        self.remove_if(&recipient, |index, mail, on_wire| {
            on_wire && seqs[index].is_some_and(|(first, last)| (first..=last).contains(&mail.position()))
        })
    }

    /// When something is due by itself, by `Now::mono`.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.destinations
            .values()
            .filter(|destination| destination.mails > 0 || !destination.flights.is_empty())
            .flat_map(|destination| {
                let expiry = Some(destination.earliest_expiry).filter(|expiry| *expiry < Duration::MAX);
                let flights = destination.flights.iter().filter_map(|flight| flight.deadline).min();
                [expiry, flights, destination.frame_due(), destination.probe_at()]
            })
            .flatten()
            .min()
    }

    /// Mail in it.
    pub fn len(&self) -> usize {
        self.mails
    }

    /// Whether there is no mail in it.
    pub fn is_empty(&self) -> bool {
        self.mails == 0
    }

    /// Bytes of mail in it.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests;
