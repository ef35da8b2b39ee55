//! The ordered mail to one recipient in one priority.

mod epochs;
mod mail;

use std::collections::VecDeque;
use std::time::Duration;

use alloy_primitives::Address;
use p2p_node_protocol::Route;
use p2p_node_wire::envelope;
use p2p_node_wire::message_id::{StreamId, message_id, message_name};

use crate::outgoing::OutgoingMessage;
use epochs::Epochs;
pub use epochs::Position;
pub use mail::{Name, QueuedMessage, Renamed};

/// What the recipient's node holds is sent again so much later, for it may have been started again unseen, or its acknowledgement
/// was lost. Ours: the longest pause between two attempts; twice as long each time that nothing comes of it, up to 16 minutes.
const REMIND_AFTER: Duration = Duration::from_secs(60);
const MAX_DOUBLINGS: u32 = 4;

/// Mail to one recipient in one priority. The first `sent` of the queue are on the wire, or with the recipient's node, which waits for
/// its agent to take them; when an attempt fails, everything else from its first mail on is sent again, for the recipient drops what
/// it has already.
#[derive(Debug)]
pub struct Stream {
    epochs: Epochs,
    queue: VecDeque<QueuedMessage>,
    sent: usize,
    /// The recipient's node has everything below.
    held: Position,
    /// How many messages from `held` on find room there, when the agent acknowledges mail itself.
    window: Option<usize>,
    /// When to ask again for what it has, and how often that was done since anything was settled.
    remind_at: Option<Duration>,
    reminders: u32,
}

impl Stream {
    /// An empty queue, whose mail `sender` numbers in this stream.
    pub fn new(sender: &Address, id: StreamId) -> Self {
        Stream {
            epochs: Epochs::new(sender, &id),
            queue: VecDeque::new(),
            sent: 0,
            held: Position::default(),
            window: None,
            remind_at: None,
            reminders: 0,
        }
    }

    /// The stream of new mail.
    pub fn stream_id(&self) -> StreamId {
        self.epochs.current().stream_id()
    }

    /// The epoch of the stream that is named so on the wire, if mail of this queue goes on it.
    pub fn epoch_of(&self, id: &[u8]) -> Option<u32> {
        self.epochs.find(id)
    }

    /// The id of a new message, as parents see it.
    pub fn message_id(&self, seq: u64) -> String {
        message_id(&self.epochs.current().name, seq)
    }

    /// The name that the parent knows a mail by and the id that goes with it; and the id under which the recipient gets it, if that
    /// is another.
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

    /// New mail goes on this stream from now on, which nobody has used.
    pub fn begin(&mut self, id: &StreamId) {
        self.epochs.forget_before(self.queue.front().map(|mail| mail.epoch));
        self.epochs.begin(id);
    }

    /// Puts mail of an earlier process in its place, behind all earlier mail of its stream. There is no mail of this process yet.
    pub fn restore(&mut self, (stream, seq): Name, accepted_as: Option<Name>, draft: OutgoingMessage) {
        let epoch = self.epochs.restore(&stream);
        let mail = QueuedMessage {
            epoch,
            seq,
            accepted_as,
            attempts: 0,
            went: None,
            kept: true,
            restored: true,
            answered: false,
            draft,
        };
        let at = self.queue.partition_point(|known| known.position() < mail.position());
        self.queue.insert(at, mail);
    }

    /// Appends mail, which may leave at once, or once it is kept; returns its number.
    pub fn push(&mut self, draft: OutgoingMessage, kept: bool) -> u64 {
        self.epochs.forget_before(self.queue.front().map(|mail| mail.epoch));
        let Position { epoch, seq } = self.epochs.next_position();
        self.queue.push_back(QueuedMessage {
            epoch,
            seq,
            accepted_as: None,
            attempts: 0,
            went: None,
            kept,
            restored: false,
            answered: false,
            draft,
        });
        seq
    }

    /// Lets mail leave; its size and when it expires, if it is there and could not leave before.
    pub fn keep(&mut self, (stream, seq): Name) -> Option<(usize, Duration)> {
        let position = Position { epoch: self.epochs.find(&stream)?, seq };
        let at = self.queue.binary_search_by_key(&position, QueuedMessage::position).ok()?;
        let mail = self.queue.get_mut(at).filter(|mail| !mail.kept)?;
        mail.kept = true;
        Some((mail.draft.size(), mail.draft.expires))
    }

    /// The first mail that is not on the wire and may go there.
    pub fn unsent(&self) -> Option<&QueuedMessage> {
        // With no room left one message asks whether there is some again.
        if let Some(window) = self.window
            && self.sent - self.queue.partition_point(|mail| mail.position() < self.held).min(self.sent)
                >= window.max(1)
        {
            return None;
        }
        let mail = self.queue.get(self.sent).filter(|mail| mail.kept)?;
        // The recipient orders each stream by itself: the next one begins when it has all that comes before.
        let before = self.sent.checked_sub(1).and_then(|before| self.queue.get(before));
        let begins_stream = before.filter(|before| before.epoch != mail.epoch);
        begins_stream.is_none_or(|before| before.position() < self.held).then_some(mail)
    }

    /// Puts the first unsent mail on the wire, by `route`.
    pub fn send(&mut self, route: Route, now: Duration) -> Option<(Position, envelope::Message)> {
        self.unsent()?;
        let before = self.sent.checked_sub(1).and_then(|before| self.queue.get(before));
        let before = before.map(QueuedMessage::position);
        let mail = self.queue.get_mut(self.sent)?;
        mail.attempts = mail.attempts.saturating_add(1);
        mail.went = Some(route);
        self.sent += 1;
        // What lies before it in its stream is all that the recipient must wait for.
        let base_seq = before.filter(|before| before.epoch == mail.epoch).map_or(0, |before| before.seq + 1);
        let stream = &self.epochs.get(mail.epoch).id;
        Some((mail.position(), mail.draft.encode(stream, mail.seq, base_seq, mail.accepted_as.as_ref(), now)))
    }

    /// What was to go just now has not left.
    pub fn undo_send(&mut self, first: Position, last: Position) {
        let from = self.queue.partition_point(|mail| mail.position() < first);
        let to = self.queue.partition_point(|mail| mail.position() <= last);
        for mail in self.queue.range_mut(from..to) {
            mail.attempts = mail.attempts.saturating_sub(1);
        }
    }

    /// The recipient has answered an attempt that had the mail between these places.
    pub fn note_answer(&mut self, first: Position, last: Position) {
        let from = self.queue.partition_point(|mail| mail.position() < first);
        let to = self.queue.partition_point(|mail| mail.position() <= last);
        self.queue.range_mut(from..to).for_each(|mail| mail.answered = true);
    }

    /// Takes this mail and all that follows off the wire, but for what the recipient's node has; returns the bytes that wait again.
    pub fn requeue_from(&mut self, first: Position) -> usize {
        let first = first.max(self.held);
        let from = self.queue.partition_point(|mail| mail.position() < first);
        if from >= self.sent {
            return 0;
        }
        let bytes = self.queue.range(from..self.sent).map(|mail| mail.draft.size()).sum();
        self.sent = from;
        bytes
    }

    /// Takes out of an epoch everything below `next` and what lies so far `beyond` it, in growing order, which the recipient has
    /// settled; with each, whether it is on the wire: an answer may come after the mail was taken off it to be sent again.
    pub fn settle(&mut self, epoch: u32, next: u64, beyond: &[u64]) -> Vec<(QueuedMessage, bool)> {
        let from = self.queue.partition_point(|mail| mail.epoch < epoch);
        let is_settled =
            |mail: &&QueuedMessage| mail.epoch == epoch && mail.seq < next && mail.can_be_settled();
        let to = from + self.queue.range(from..).take_while(is_settled).count();
        let on_wire = self.sent.clamp(from, to) - from;
        self.sent -= on_wire;
        let mut taken: Vec<_> =
            self.queue.drain(from..to).enumerate().map(|(index, mail)| (mail, index < on_wire)).collect();
        if !beyond.is_empty() {
            let is_beyond =
                |seq: u64| seq.checked_sub(next).is_some_and(|far| beyond.binary_search(&far).is_ok());
            taken.extend(
                self.remove_if(|mail, _| mail.epoch == epoch && mail.can_be_settled() && is_beyond(mail.seq)),
            );
        }
        if !taken.is_empty() {
            (self.remind_at, self.reminders) = (None, 0);
        }
        taken
    }

    /// Moves mail whose numbers, in growing order, the recipient knows for something else to the back, and with it what has not left
    /// and comes behind: on the current stream, or on the `unused` one if the numbers are of the current one. Returns what was renamed,
    /// the bytes of it that were on the wire, and whether any had been renamed before.
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
        // What comes behind mail of this process was accepted after the copy, as that was. Mail of an earlier one the recipient may have.
        let follows =
            |mail: &QueuedMessage| !is_restored && mail.position() > first && mail.attempts == 0 && mail.kept;
        let moved = self.remove_if(|mail, _| is_reused(mail) || follows(mail));
        let (mut renamed, mut bytes, mut again) = (Vec::new(), 0, false);
        for (mut mail, on_wire) in moved {
            again |= is_reused(&mail) && mail.accepted_as.is_some();
            bytes += if on_wire { mail.draft.size() } else { 0 };
            let (accepted_as, ..) = self.names_of(&mail);
            let Position { epoch, seq } = self.epochs.next_position();
            (mail.epoch, mail.seq, mail.accepted_as) = (epoch, seq, Some(accepted_as));
            // Nobody knows the new number.
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

    /// The recipient's node has everything of an epoch below `next` that was put on the wire, and all before it, and waits for its
    /// agent to take it. Only news puts off asking again: a node that was started again unseen has less than it had.
    pub fn hold(&mut self, epoch: u32, next: u64, window: u64, now: Duration) {
        self.window = window.checked_sub(1).map(|window| usize::try_from(window).unwrap_or(usize::MAX));
        let sent = self.queue.range(..self.sent).rev().find(|mail| mail.epoch <= epoch);
        let last = sent.filter(|mail| mail.epoch == epoch).map_or(0, |mail| mail.seq + 1);
        let mut on_wire = self.queue.range(..self.sent).take_while(|mail| mail.restored);
        let unknown = on_wire.find(|mail| mail.epoch == epoch && !mail.can_be_settled());
        let held = Position { epoch, seq: next.min(last).min(unknown.map_or(u64::MAX, |mail| mail.seq)) };
        // Nothing of this stream is on the wire: that says nothing about the others.
        let held = if last == 0 { Position::default() } else { held };
        let is_news = held > self.held || self.remind_at.is_none();
        self.held = self.held.max(held);
        if self.queue.front().is_none_or(|mail| mail.position() >= self.held) {
            self.remind_at = None;
            return;
        }
        if is_news {
            self.remind_at = Some(now + REMIND_AFTER * (1 << self.reminders.min(MAX_DOUBLINGS)));
        }
    }

    /// When to ask again for what the recipient's node has.
    pub fn probe_at(&self) -> Option<Duration> {
        self.remind_at
    }

    /// The recipient's node may have forgotten what it had; if that was anything, everything is taken off the wire: the bytes that
    /// wait again.
    pub fn probe(&mut self) -> Option<usize> {
        self.remind_at.take()?;
        self.reminders += 1;
        // It may be another process that does not wait for its agent.
        self.window = None;
        let held = std::mem::take(&mut self.held);
        self.queue.front().filter(|mail| mail.position() < held)?;
        Some(self.requeue_from(Position::default()))
    }

    /// Takes out every mail for which `dead` holds, wherever it is; with each, whether it was on the wire.
    pub fn remove_if(&mut self, dead: impl Fn(&QueuedMessage, bool) -> bool) -> Vec<(QueuedMessage, bool)> {
        if !self.queue.iter().enumerate().any(|(index, mail)| dead(mail, index < self.sent)) {
            return Vec::new();
        }
        let (mut removed, mut kept, mut sent) = (Vec::new(), VecDeque::new(), 0);
        for (index, mail) in self.queue.drain(..).enumerate() {
            let on_wire = index < self.sent;
            if dead(&mail, on_wire) {
                removed.push((mail, on_wire));
            } else {
                sent += usize::from(on_wire);
                kept.push_back(mail);
            }
        }
        (self.queue, self.sent) = (kept, sent);
        removed
    }

    /// Mails, their bytes, and those of them that are not on the wire.
    #[cfg(test)]
    pub(crate) fn accounts(&self) -> (usize, usize, usize) {
        let bytes = |mails: std::collections::vec_deque::Iter<'_, QueuedMessage>| {
            mails.map(|mail| mail.draft.size()).sum()
        };
        let waiting =
            self.queue.range(self.sent..).filter(|mail| mail.kept).map(|mail| mail.draft.size()).sum();
        (self.queue.len(), bytes(self.queue.iter()), waiting)
    }

    /// Whether any of the mail between these places is on the wire.
    pub fn has_sent(&self, first: Position, last: Position) -> bool {
        let first = first.max(self.held);
        let from = self.queue.partition_point(|mail| mail.position() < first);
        from < self.sent && self.queue.get(from).is_some_and(|mail| mail.position() <= last)
    }

    /// The route that the first mail from `first` on asks for.
    pub fn route_of(&self, first: Position) -> Option<Route> {
        let from = self.queue.partition_point(|mail| mail.position() < first);
        self.queue.get(from).map(|mail| mail.draft.route)
    }

    /// When the first of its mail expires that may leave, by `Now::mono`.
    pub fn first_expiry(&self) -> Option<Duration> {
        self.queue.iter().filter(|mail| mail.kept).map(|mail| mail.draft.expires).min()
    }
}
