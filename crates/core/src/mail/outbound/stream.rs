//! The ordered messages to one recipient in one lane.

mod epochs;
mod mail;
mod pauses;

use std::collections::VecDeque;
use std::time::Duration;

use alloy_primitives::Address;
use p2p_node_protocol::Route;
use p2p_node_wire::envelope;
use p2p_node_wire::message_id::{StreamId, message_id, message_name};
use p2p_node_wire::time::Instant;

use crate::mail::outbound::lane::Lane;
use crate::outgoing::OutgoingMessage;
use epochs::Epochs;
pub use epochs::Position;
pub use mail::{Name, QueuedMessage, Renamed};

/// First pause before the node sends received messages again, because the recipient's node may have
/// restarted unnoticed, or its ack may have been lost. Our choice: the longest pause between two
/// attempts. Each probe without progress doubles the pause, up to 16 minutes.
const PROBE_INTERVAL: Duration = Duration::from_secs(60);
const MAX_DOUBLINGS: u32 = 4;
/// Pause before the first probe if the ack of the recipient's agent came before the response to the
/// frame, on another stream of the connection. Our choice: two round trips of half a second.
const OVERTAKEN_PROBE: Duration = Duration::from_secs(1);

/// The messages to one recipient in one lane.
///
/// The first `sent` messages of the queue are in flight, or received by the recipient's node, which
/// waits for its agent. When an attempt fails, the node sends all messages from the first of its
/// frame on again; the recipient drops those that it has.
#[derive(Debug)]
pub struct Stream {
    lane: Lane,
    epochs: Epochs,
    queue: VecDeque<QueuedMessage>,
    sent: usize,
    /// The recipient's node has received all messages below this position.
    received: Position,
    /// How many messages from `received` on the recipient accepts, if its agent acks messages itself.
    window: Option<usize>,
    /// When the next probe is due, and the number of probes since the last completed message.
    probe_at: Option<Instant>,
    reminders: u32,
    /// `true` if an ack came of restored messages to which the recipient had not responded yet, so that
    /// it did not count.
    is_overtaken: bool,
    /// `true` while the next message waits until its recipient has its file, or until `probe_at`.
    is_paused: bool,
}

impl Stream {
    /// Creates an empty queue whose messages have numbers in stream `id` of `sender`.
    pub fn new(sender: &Address, id: StreamId, lane: Lane) -> Self {
        Stream {
            lane,
            epochs: Epochs::new(sender, &id),
            queue: VecDeque::new(),
            sent: 0,
            received: Position::default(),
            window: None,
            probe_at: None,
            reminders: 0,
            is_overtaken: false,
            is_paused: false,
        }
    }

    /// Returns the stream of new messages.
    pub fn stream_id(&self) -> StreamId {
        self.epochs.current().stream_id()
    }

    /// Returns the epoch of the stream with this id on the wire, if the queue uses it.
    pub fn epoch_of(&self, id: &[u8]) -> Option<u32> {
        self.epochs.find(id)
    }

    /// Returns the id of a new message, as parents see it.
    pub fn message_id(&self, seq: u64) -> String {
        message_id(&self.epochs.current().name, seq)
    }

    /// Returns the name under which the parent knows a message, the message id that belongs to it,
    /// and the id under which the recipient receives the message, if it is another one.
    pub fn names_of(&self, mail: &QueuedMessage) -> (Name, String, Option<String>) {
        let epoch = self.epochs.get(mail.epoch);
        let id = message_id(&epoch.name, mail.seq);
        match mail.accepted_as {
            None => ((epoch.stream_id(), mail.seq), id, None),
            Some((stream, seq)) => {
                let known = message_id(&message_name(self.epochs.account(), &stream), seq);
                ((stream, seq), known, Some(id))
            }
        }
    }

    /// Numbers new messages in this stream from now on. No process has used the stream.
    pub fn begin(&mut self, id: &StreamId) {
        self.epochs.forget_before(self.queue.front().map(|mail| mail.epoch));
        self.epochs.begin(id);
    }

    /// Inserts a message of an earlier process behind the earlier messages of its stream. The queue
    /// does not contain messages of this process yet.
    pub fn restore(&mut self, (stream, seq): Name, accepted_as: Option<Name>, draft: OutgoingMessage) {
        let epoch = self.epochs.restore(&stream);
        let mail = QueuedMessage {
            epoch,
            seq,
            accepted_as,
            attempts: 0,
            last_route: None,
            persisted: true,
            restored: true,
            answered: false,
            draft,
        };
        let at = self.queue.partition_point(|known| known.position() < mail.position());
        self.queue.insert(at, mail);
    }

    /// Appends a message and returns its number. If `persisted` is false, the message waits for `mark_persisted`.
    pub fn push(&mut self, draft: OutgoingMessage, persisted: bool) -> u64 {
        self.epochs.forget_before(self.queue.front().map(|mail| mail.epoch));
        let Position { epoch, seq } = self.epochs.next_position();
        self.queue.push_back(QueuedMessage {
            epoch,
            seq,
            accepted_as: None,
            attempts: 0,
            last_route: None,
            persisted,
            restored: false,
            answered: false,
            draft,
        });
        seq
    }

    /// Lets a message leave. Returns its size and when it expires, or `None` if it is not there or
    /// may leave already.
    pub fn mark_persisted(&mut self, (stream, seq): Name) -> Option<(usize, Instant)> {
        let position = Position { epoch: self.epochs.find(&stream)?, seq };
        let at = self.queue.binary_search_by_key(&position, QueuedMessage::position).ok()?;
        let mail = self.queue.get_mut(at).filter(|mail| !mail.persisted)?;
        mail.persisted = true;
        Some((mail.draft.size(), mail.draft.expires))
    }

    /// Returns the first message that is not in flight and may be sent.
    pub fn unsent(&self) -> Option<&QueuedMessage> {
        if self.is_paused {
            return None;
        }
        // A message with a file goes when the recipient has the one before it.
        let window = if self.lane == Lane::Files { Some(1) } else { self.window };
        // If the recipient has no room, the node sends one message to ask for room.
        if let Some(window) = window
            && self.sent - self.queue.partition_point(|mail| mail.position() < self.received).min(self.sent)
                >= window.max(1)
        {
            return None;
        }
        let mail = self.queue.get(self.sent).filter(|mail| mail.persisted)?;
        // The recipient orders each stream separately, so the next stream begins when the recipient
        // has received all messages of the one before.
        let before = self.sent.checked_sub(1).and_then(|before| self.queue.get(before));
        let begins_stream = before.filter(|before| before.epoch != mail.epoch);
        begins_stream.is_none_or(|before| before.position() < self.received).then_some(mail)
    }

    /// Moves the first unsent message into flight, by `route`.
    pub fn send(&mut self, route: Route, now: Instant) -> Option<(Position, envelope::Message)> {
        self.unsent()?;
        let before = self.sent.checked_sub(1).and_then(|before| self.queue.get(before));
        let before = before.map(QueuedMessage::position);
        let mail = self.queue.get_mut(self.sent)?;
        mail.attempts = mail.attempts.saturating_add(1);
        mail.last_route = Some(route);
        self.sent += 1;
        // The recipient waits only for earlier messages of the same stream.
        let base_seq = before.filter(|before| before.epoch == mail.epoch).map_or(0, |before| before.seq + 1);
        let stream = &self.epochs.get(mail.epoch).id;
        Some((mail.position(), mail.draft.encode(stream, mail.seq, base_seq, mail.accepted_as.as_ref(), now)))
    }

    /// Undoes the attempt to send these messages, because they have not left.
    pub fn undo_send(&mut self, first: Position, last: Position) {
        let from = self.queue.partition_point(|mail| mail.position() < first);
        let to = self.queue.partition_point(|mail| mail.position() <= last);
        for mail in self.queue.range_mut(from..to) {
            mail.attempts = mail.attempts.saturating_sub(1);
        }
    }

    /// Records that the recipient has answered an attempt with these messages.
    pub fn record_response(&mut self, first: Position, last: Position) {
        let from = self.queue.partition_point(|mail| mail.position() < first);
        let to = self.queue.partition_point(|mail| mail.position() <= last);
        self.queue.range_mut(from..to).for_each(|mail| mail.answered = true);
    }

    /// Queues the messages from `first` on again, except those that the recipient's node has
    /// received. Returns their size.
    pub fn requeue_from(&mut self, first: Position) -> usize {
        let first = first.max(self.received);
        let from = self.queue.partition_point(|mail| mail.position() < first);
        if from >= self.sent {
            return 0;
        }
        let bytes = self.queue.range(from..self.sent).map(|mail| mail.draft.size()).sum();
        self.sent = from;
        bytes
    }

    /// Removes the completed messages of an epoch: those below `next`, and those at the distances
    /// `out_of_order` above it, which are sorted. Returns each with `true` if it was in flight. An ack
    /// may arrive after the message was queued again.
    pub fn apply_ack(&mut self, epoch: u32, next: u64, out_of_order: &[u64]) -> Vec<(QueuedMessage, bool)> {
        let from = self.queue.partition_point(|mail| mail.epoch < epoch);
        let is_settled =
            |mail: &&QueuedMessage| mail.epoch == epoch && mail.seq < next && mail.can_be_acked();
        let to = from + self.queue.range(from..).take_while(is_settled).count();
        let in_flight = self.sent.clamp(from, to) - from;
        self.sent -= in_flight;
        let mut taken: Vec<_> =
            self.queue.drain(from..to).enumerate().map(|(index, mail)| (mail, index < in_flight)).collect();
        let is_beyond =
            |seq: u64| seq.checked_sub(next).is_some_and(|far| out_of_order.binary_search(&far).is_ok());
        if !out_of_order.is_empty() {
            taken.extend(
                self.remove_if(|mail, _| mail.epoch == epoch && mail.can_be_acked() && is_beyond(mail.seq)),
            );
        }
        if !taken.is_empty() {
            (self.probe_at, self.reminders, self.is_overtaken) = (None, 0, false);
            self.is_paused = false;
        }
        // Only restored messages cannot be acked, and they come first.
        let last = Position { epoch, seq: next.saturating_add(out_of_order.last().copied().unwrap_or(0)) };
        let unacked = self.queue.iter().take_while(|mail| mail.restored && mail.position() <= last);
        let is_acked = |mail: &QueuedMessage| mail.epoch == epoch && (mail.seq < next || is_beyond(mail.seq));
        self.is_overtaken |=
            unacked.filter(|mail| is_acked(mail)).any(|mail| mail.attempts > 0 && !mail.can_be_acked());
        taken
    }

    /// Moves the messages whose numbers `seqs` (sorted) the recipient knows for other messages to
    /// the back of the queue, under new numbers. The unsent messages behind them move too, to keep
    /// the order. The new numbers belong to the current stream, or to `unused` if `seqs` belong to
    /// the current one. Returns the renamed messages, the size of those that were in flight, and
    /// `true` if the recipient rejected one that had been renamed before.
    pub fn renumber(&mut self, epoch: u32, seqs: &[u64], unused: &StreamId) -> (Vec<Renamed>, usize, bool) {
        let is_reused = |mail: &QueuedMessage| {
            mail.epoch == epoch && mail.attempts > 0 && seqs.binary_search(&mail.seq).is_ok()
        };
        let Some(first) = self.queue.iter().find(|mail| is_reused(mail)) else {
            return (Vec::new(), 0, false);
        };
        let (first, is_restored) = (first.position(), first.restored);
        if self.epochs.is_current(epoch) {
            self.begin(unused);
        }
        // A message of this process was accepted after the copy was made, and so were those behind
        // it. The recipient may already have messages of an earlier process.
        let follows = |mail: &QueuedMessage| {
            !is_restored && mail.position() > first && mail.attempts == 0 && mail.persisted
        };
        let moved = self.remove_if(|mail, _| is_reused(mail) || follows(mail));
        let (mut renamed, mut bytes, mut again) = (Vec::new(), 0, false);
        for (mut mail, in_flight) in moved {
            again |= is_reused(&mail) && mail.accepted_as.is_some();
            bytes += if in_flight { mail.draft.size() } else { 0 };
            let (accepted_as, ..) = self.names_of(&mail);
            let Position { epoch, seq } = self.epochs.next_position();
            (mail.epoch, mail.seq, mail.accepted_as) = (epoch, seq, Some(accepted_as));
            // No earlier process has used the new number, so an ack of it is about this message.
            mail.answered = true;
            renamed.push(Renamed {
                accepted_as,
                sent_as: (self.stream_id(), seq),
                draft: mail.draft.clone(),
            });
            self.queue.push_back(mail);
        }
        (renamed, bytes, again)
    }

    /// Records that the recipient's node has received the messages of an epoch below `next`, and
    /// all earlier ones, and waits for its agent. Only progress postpones the next probe: a node
    /// that restarted unnoticed reports less than before.
    pub fn hold(&mut self, epoch: u32, next: u64, window: u64, now: Instant) {
        self.window = window.checked_sub(1).map(|window| usize::try_from(window).unwrap_or(usize::MAX));
        let sent = self.queue.range(..self.sent).rev().find(|mail| mail.epoch <= epoch);
        let last = sent.filter(|mail| mail.epoch == epoch).map_or(0, |mail| mail.seq + 1);
        let mut in_flight = self.queue.range(..self.sent).take_while(|mail| mail.restored);
        let unknown = in_flight.find(|mail| mail.epoch == epoch && !mail.can_be_acked());
        let received = Position { epoch, seq: next.min(last).min(unknown.map_or(u64::MAX, |mail| mail.seq)) };
        // No message of this stream is in flight, so the ack says nothing about the other streams.
        let received = if last == 0 { Position::default() } else { received };
        let is_news = received > self.received || self.probe_at.is_none();
        self.received = self.received.max(received);
        if self.queue.front().is_none_or(|mail| mail.position() >= self.received) {
            self.resume();
            return;
        }
        if is_news {
            let is_restored = self.queue.front().is_some_and(|mail| mail.restored);
            let pause = if std::mem::take(&mut self.is_overtaken) && is_restored {
                OVERTAKEN_PROBE
            } else {
                PROBE_INTERVAL * (1 << self.reminders.min(MAX_DOUBLINGS))
            };
            self.probe_at = Some(now + pause);
        }
    }

    /// Returns when the next probe is due.
    pub fn probe_at(&self) -> Option<Instant> {
        self.probe_at
    }

    /// Queues all messages again if the recipient's node reported some as received, because it may
    /// have lost them. Returns the size of the queued messages.
    pub fn probe(&mut self) -> Option<usize> {
        self.probe_at.take()?;
        self.is_paused = false;
        self.reminders += 1;
        // The recipient's node may be another process, which does not wait for its agent.
        self.window = None;
        let received = std::mem::take(&mut self.received);
        self.queue.front().filter(|mail| mail.position() < received)?;
        Some(self.requeue_from(Position::default()))
    }

    /// Removes and returns the messages for which `dead` is true, each with `true` if it was in
    /// flight.
    pub fn remove_if(&mut self, dead: impl Fn(&QueuedMessage, bool) -> bool) -> Vec<(QueuedMessage, bool)> {
        if !self.queue.iter().enumerate().any(|(index, mail)| dead(mail, index < self.sent)) {
            return Vec::new();
        }
        let (mut removed, mut persisted, mut sent) = (Vec::new(), VecDeque::new(), 0);
        for (index, mail) in self.queue.drain(..).enumerate() {
            let in_flight = index < self.sent;
            if dead(&mail, in_flight) {
                removed.push((mail, in_flight));
            } else {
                sent += usize::from(in_flight);
                persisted.push_back(mail);
            }
        }
        (self.queue, self.sent) = (persisted, sent);
        // The next message with a file need not wait for that of a message that is gone.
        self.is_paused = false;
        removed
    }

    /// Returns the number of messages, their size, and the size of those not in flight.
    #[cfg(test)]
    pub(crate) fn accounts(&self) -> (usize, usize, usize) {
        let bytes = |messages: std::collections::vec_deque::Iter<'_, QueuedMessage>| {
            messages.map(|mail| mail.draft.size()).sum()
        };
        let waiting =
            self.queue.range(self.sent..).filter(|mail| mail.persisted).map(|mail| mail.draft.size()).sum();
        (self.queue.len(), bytes(self.queue.iter()), waiting)
    }

    /// Returns `true` if a message between these positions is in flight.
    pub fn has_sent(&self, first: Position, last: Position) -> bool {
        let first = first.max(self.received);
        let from = self.queue.partition_point(|mail| mail.position() < first);
        from < self.sent && self.queue.get(from).is_some_and(|mail| mail.position() <= last)
    }

    /// Returns the requested route of the first message from `first` on.
    pub fn route_of(&self, first: Position) -> Option<Route> {
        let from = self.queue.partition_point(|mail| mail.position() < first);
        self.queue.get(from).map(|mail| mail.draft.route)
    }

    /// Returns when the first persisted message expires.
    pub fn first_expiry(&self) -> Option<Instant> {
        self.queue.iter().filter(|mail| mail.persisted).map(|mail| mail.draft.expires).min()
    }
}
