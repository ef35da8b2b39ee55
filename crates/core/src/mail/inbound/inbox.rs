//! Mail as it arrives: each stream is put in order, and nothing is handed on twice.

mod inbound_stream;
pub mod inbox_limits;
mod rejections;
mod reorder_buffer;
mod sender_usage;
mod senders;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use alloy_primitives::Address;
use p2p_node_wire::envelope::Message;
use p2p_node_wire::message_id::StreamId;

use crate::mail::inbound::digests::digest;
use crate::mail::inbound::receive_window::{
    DeliverDecision, ReceiveWindow, StreamCheckpoint, UNTAKEN_WINDOW,
};
use inbound_stream::InboundStream;
use inbox_limits::{
    FEW_BEYOND, HELD_BYTES, HELD_IDLE, MAX_BEYOND, MAX_STREAMS, SENDER_STREAMS, SENDER_UNTAKEN, SWEEP,
};
use reorder_buffer::ReorderBuffer;
use sender_usage::SenderUsage;

/// When mail is settled, so that its sender may forget it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AckPolicy {
    /// As soon as it is on its way to the parent.
    #[default]
    OnReceipt,
    /// When the store knows that the parent has it.
    OnPersisted,
    /// When the parent has acknowledged it, and the store, if there is one, knows that.
    Manual,
}

/// A stream, and whose it is.
pub type Key = (Address, StreamId);

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertOutcome {
    /// It, and what waited for it, may be handed on.
    Ready,
    /// It was handed on before, or its sender had given it up.
    Duplicate,
    /// It waits for an earlier one.
    Buffered,
    /// It would have to wait and there is no room; its sender will try again.
    NoCapacity,
    /// Its number was used for another message.
    Reused,
}

/// The receiving end of every stream.
#[derive(Debug, Default)]
pub struct Inbox {
    settling: AckPolicy,
    streams: BTreeMap<Key, InboundStream>,
    by_use: BTreeSet<(Duration, Key)>,
    held_bytes: usize,
    /// Every refusal, in order; those that were forgotten since are passed over.
    refused: VecDeque<(Key, u64)>,
    senders: BTreeMap<Address, SenderUsage>,
    /// Mails that arrived before something earlier.
    beyond: usize,
    /// When idle streams may be looked through again.
    sweep_at: Duration,
    /// Messages that waited and had to go, since this was asked last.
    dropped: u64,
    /// Streams that had to go, since this was asked last.
    forgotten: Vec<Key>,
    /// Mail handed on whose sender has given it up, since this was asked last.
    void: Vec<(Key, u64)>,
    /// Streams on which mail was accepted that came under another number, since this was asked last.
    renamed: Vec<Key>,
}

impl Inbox {
    /// An empty inbox.
    pub fn new(settling: AckPolicy) -> Self {
        Inbox { settling, ..Inbox::default() }
    }

    /// When mail is settled.
    pub fn settling(&self) -> AckPolicy {
        self.settling
    }

    /// Takes a message of `sender`; pushes to `ready` all that may be handed on now, in order.
    ///
    /// `base_seq` says from where on nothing earlier is still to come: a message is next when everything from there up to
    /// it is void. A sender with nothing earlier on its way says 0, so a stream may be forgotten, or joined late.
    pub fn offer(
        &mut self,
        sender: Address,
        message: Message,
        now: Duration,
        ready: &mut Vec<Message>,
    ) -> InsertOutcome {
        let Ok(stream) = StreamId::try_from(message.stream.as_ref()) else {
            return InsertOutcome::NoCapacity;
        };
        let key = (sender, stream);
        self.open(key, now);
        let share = self.senders.entry(sender).or_default();
        let incoming = self.streams.entry(key).or_default();
        self.by_use.remove(&(incoming.last_used, key));
        incoming.last_used = now;
        self.by_use.insert((now, key));
        if incoming.is_reused(&message) {
            return InsertOutcome::Reused;
        }
        incoming.forget_rejections(&message);
        if incoming.arrivals.outstanding() > 0 {
            // Nothing between `base_seq` and this one is still to come.
            let give_up = |arrivals: &mut ReceiveWindow| arrivals.give_up(message.base_seq, message.seq);
            let void = incoming.change(share, &mut self.beyond, give_up);
            self.void.extend(void.into_iter().map(|seq| (key, seq)));
        }
        if message.seq < incoming.next {
            return InsertOutcome::Duplicate;
        }
        let in_window = incoming.in_window(self.settling);
        let of_sender = if self.settling == AckPolicy::Manual { share.outstanding } else { 0 };
        let is_full = in_window >= UNTAKEN_WINDOW
            || share.beyond >= SENDER_UNTAKEN
            || self.beyond >= MAX_BEYOND && share.waiting() >= FEW_BEYOND;
        if of_sender >= SENDER_UNTAKEN || is_full && incoming.must_wait(&message) {
            return InsertOutcome::NoCapacity;
        }
        let fills_window = |held: &ReorderBuffer| {
            self.settling == AckPolicy::Manual && in_window + held.len() >= UNTAKEN_WINDOW
        };
        if message.base_seq > incoming.next {
            let is_full = fills_window(&incoming.held);
            return incoming.buffer(message, is_full, share, &mut self.held_bytes);
        }
        // What overtook it gives way, for it cannot go before it.
        while fills_window(&incoming.held)
            && let Some((_, size)) = incoming.held.pop_last()
        {
            share.release(size);
            self.held_bytes -= size;
            self.dropped += 1;
        }
        let first = ready.len();
        incoming.take_with_buffered(message, share, &mut self.held_bytes, ready);
        ready[first..].iter().for_each(|message| self.note_renamed(sender, message));
        InsertOutcome::Ready
    }

    /// Makes room for a stream that is new, and drops what has waited too long.
    fn open(&mut self, key: Key, now: Duration) {
        if !self.streams.contains_key(&key) {
            self.make_room(&key.0);
            self.senders.entry(key.0).or_default().streams += 1;
        }
        if self.held_bytes >= HELD_BYTES / 2 && now >= self.sweep_at {
            self.sweep_at = now + SWEEP;
            self.drop_idle(now);
        }
    }

    /// A message that was accepted under another number has come. A sender whose store went back may send it under that one, too.
    fn note_renamed(&mut self, sender: Address, message: &Message) {
        let Ok(stream) = StreamId::try_from(message.accepted_stream.as_ref()) else { return };
        let key = (sender, stream);
        if let Some(incoming) = self.streams.get_mut(&key)
            && incoming.digests.insert_renamed(message.accepted_seq, digest(message))
        {
            self.renamed.push(key);
        }
    }

    /// The first message of a stream that is not settled.
    pub fn next_seq(&self, sender: &Address, stream: &StreamId) -> u64 {
        self.streams.get(&(*sender, *stream)).map_or(0, |incoming| incoming.next)
    }

    /// What may be acknowledged of a stream: everything below a number, and of what is above it these.
    pub fn acked_up_to(&self, sender: &Address, stream: &StreamId) -> (u64, &[u64]) {
        let Some(incoming) = self.streams.get(&(*sender, *stream)) else { return (0, &[]) };
        match self.settling {
            AckPolicy::OnReceipt => (incoming.next, &[]),
            AckPolicy::OnPersisted | AckPolicy::Manual => {
                (incoming.arrivals.acked_up_to(), incoming.arrivals.settled_beyond())
            }
        }
    }

    /// Everything below need not be sent again: it is settled, or waits here for the parent to take it.
    pub fn received_up_to(&self, sender: &Address, stream: &StreamId) -> u64 {
        match self.settling {
            AckPolicy::Manual => self.next_seq(sender, stream),
            AckPolicy::OnReceipt | AckPolicy::OnPersisted => self.acked_up_to(sender, stream).0,
        }
    }

    /// How many messages of a stream have room, where the parent acknowledges mail itself.
    pub fn window(&self, sender: &Address, stream: &StreamId) -> usize {
        let unacked = self
            .streams
            .get(&(*sender, *stream))
            .map_or(0, |incoming| incoming.arrivals.outstanding() + incoming.arrivals.beyond());
        let of_sender = self.senders.get(sender).map_or(0, |share| share.outstanding);
        UNTAKEN_WINDOW.saturating_sub(unacked).min(SENDER_UNTAKEN.saturating_sub(of_sender))
    }

    /// The turn of a message has come.
    pub fn deliver(&mut self, (sender, stream): Key, seq: u64) -> DeliverDecision {
        let hand_on = |arrivals: &mut ReceiveWindow| arrivals.deliver(seq);
        self.change((sender, stream), hand_on).unwrap_or(DeliverDecision::Duplicate)
    }

    fn change<T>(&mut self, key: Key, change: impl FnOnce(&mut ReceiveWindow) -> T) -> Option<T> {
        let (incoming, share) = (self.streams.get_mut(&key)?, self.senders.get_mut(&key.0)?);
        Some(incoming.change(share, &mut self.beyond, change))
    }

    /// The parent has a message, or will not have it. Whether that is news.
    pub fn mark_acked(&mut self, key: Key, seq: u64) -> bool {
        self.change(key, |arrivals| arrivals.mark_acked(seq)).unwrap_or(false)
    }

    /// How far the parent has a stream, for the store.
    pub fn row(&self, (sender, stream): Key) -> Option<StreamCheckpoint> {
        let incoming = self.streams.get(&(sender, stream))?;
        Some(incoming.arrivals.row(sender, stream, &incoming.digests))
    }

    /// So much may be acknowledged from now on. Whether that is more than before.
    pub fn settle(&mut self, row: &StreamCheckpoint) -> bool {
        let incoming = self.streams.get_mut(&(row.sender, row.stream));
        incoming.is_some_and(|incoming| incoming.arrivals.settle(row))
    }

    /// Takes up what an earlier process left in the store; with none, nobody minds.
    pub fn restore(&mut self, rows: Vec<StreamCheckpoint>, now: Duration) {
        for row in rows {
            let key = (row.sender, row.stream);
            let incoming = self.streams.entry(key).or_default();
            (incoming.next, incoming.arrivals) = (row.next, ReceiveWindow::restored(&row));
            incoming.digests = row.digests.clone();
            incoming.last_used = now;
            self.by_use.insert((now, key));
            let share = self.senders.entry(row.sender).or_default();
            share.streams += 1;
            share.beyond += row.beyond.len();
            self.beyond += row.beyond.len();
        }
    }

    /// Streams that were forgotten since this was asked last.
    pub fn drain_evicted(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.forgotten)
    }

    /// Mail handed on whose sender has given it up, since this was asked last.
    pub fn drain_abandoned(&mut self) -> Vec<(Key, u64)> {
        std::mem::take(&mut self.void)
    }

    /// Streams on which mail was accepted that came under another number, since this was asked last.
    pub fn drain_renumbered(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.renamed)
    }

    /// Forgets the stream that was used longest ago: of this sender if it has its share already, else of all. Its sender says
    /// `base_seq` 0 as soon as all before is settled, and what was settled is sent again only if our answer to it was lost.
    fn make_room(&mut self, sender: &Address) {
        if self.senders.get(sender).is_some_and(|share| share.streams >= SENDER_STREAMS) {
            let own = self.streams.range((*sender, StreamId([0; 16]))..=(*sender, StreamId([u8::MAX; 16])));
            if let Some(key) = own.min_by_key(|(_, incoming)| incoming.last_used).map(|(key, _)| *key) {
                self.forget(key);
            }
        }
        while self.streams.len() >= MAX_STREAMS
            && let Some((_, key)) = self.by_use.first().copied()
        {
            self.forget(key);
        }
    }

    fn forget(&mut self, key: Key) {
        let Some(incoming) = self.streams.remove(&key) else { return };
        self.forgotten.push(key);
        self.beyond -= incoming.arrivals.beyond();
        self.by_use.remove(&(incoming.last_used, key));
        self.held_bytes -= incoming.held.bytes();
        self.dropped += incoming.held.len() as u64;
        if let Some(share) = self.senders.get_mut(&key.0) {
            share.streams -= 1;
            share.held -= incoming.held.len();
            share.held_bytes -= incoming.held.bytes();
            share.outstanding -= incoming.arrivals.outstanding();
            share.beyond -= incoming.arrivals.beyond();
            if share.streams == 0 {
                self.senders.remove(&key.0);
            }
        }
    }

    /// Drops what has waited too long; its sender will send it again.
    fn drop_idle(&mut self, now: Duration) {
        let idle = self.by_use.iter().take_while(|(last_used, _)| *last_used + HELD_IDLE < now);
        for (_, key) in idle {
            let Some(incoming) = self.streams.get_mut(key) else { continue };
            let held = std::mem::take(&mut incoming.held);
            let (number, bytes) = (held.len(), held.bytes());
            self.dropped += number as u64;
            self.held_bytes -= bytes;
            if let Some(share) = self.senders.get_mut(&key.0) {
                share.held -= number;
                share.held_bytes -= bytes;
            }
        }
    }

    /// How many messages that waited for an earlier one had to go since this was asked last; their senders still have them.
    pub fn drain_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Streams remembered.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Mails that arrived before something earlier.
    pub fn beyond(&self) -> usize {
        self.beyond
    }

    /// Numbers of which it is remembered what they stood for.
    pub fn digests(&self) -> usize {
        self.streams.values().map(|incoming| incoming.digests.len()).sum()
    }

    /// Memory of what waits for earlier messages, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }
}

#[cfg(test)]
mod tests;
