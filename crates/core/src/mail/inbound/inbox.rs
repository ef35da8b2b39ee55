//! Incoming messages: the inbox puts each stream in order and passes no message on twice.

mod inbound_stream;
pub mod inbox_limits;
mod rejections;
mod reorder_buffer;
mod sender_usage;
mod senders;

use std::collections::{BTreeMap, VecDeque};

use alloy_primitives::Address;
use p2p_node_wire::envelope::Message;
use p2p_node_wire::lru_map::LruMap;
use p2p_node_wire::message_id::StreamId;
use p2p_node_wire::time::Instant;

use crate::budget::Budget;
use crate::mail::inbound::digests::digest;
use crate::mail::inbound::receive_window::{ACK_WINDOW, DeliverDecision, ReceiveWindow, StreamCheckpoint};
use inbound_stream::InboundStream;
use inbox_limits::{
    FEW_OUT_OF_ORDER, MAX_OUT_OF_ORDER, MAX_STREAMS, MAX_UNACKED_PER_SENDER, REORDER_BYTES, REORDER_TIMEOUT,
    SENDER_STREAMS, SWEEP,
};
use reorder_buffer::ReorderBuffer;
use sender_usage::SenderUsage;

/// When the node acknowledges a message, so that its sender may delete it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AckPolicy {
    /// As soon as the message is on its way to the parent.
    #[default]
    OnReceipt,
    /// When the store has recorded that the parent has the message.
    OnPersisted,
    /// When the parent has written `ack` and the store, if there is one, has recorded that.
    Manual,
}

/// The sender and the id of a stream.
pub type Key = (Address, StreamId);

/// The outcome of inserting a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertOutcome {
    /// The message, and the buffered ones that follow it, may be delivered.
    Ready,
    /// The message was delivered before, or its sender had given it up.
    Duplicate,
    /// The inbox buffers the message until an earlier one arrives.
    Buffered,
    /// The inbox has no room to buffer the message. Its sender will send it again.
    NoCapacity,
    /// The number of the message stands for another message.
    Reused,
}

/// The received streams of all senders.
#[derive(Debug, Default)]
pub struct Inbox {
    ack_policy: AckPolicy,
    streams: LruMap<Key, InboundStream>,
    /// Number and memory of the buffered messages of all streams.
    buffered: Budget,
    /// All rejections, oldest first. Some may have been removed from their stream since.
    refused: VecDeque<(Key, u64)>,
    senders: BTreeMap<Address, SenderUsage>,
    /// Number of messages acked out of order, all streams together.
    out_of_order: usize,
    /// When the next scan of the idle streams is allowed.
    gc_threshold: Instant,
    /// Buffered messages that the inbox dropped since the last call of `drain_dropped`.
    dropped: u64,
    /// Streams that the inbox evicted since the last call of `drain_evicted`.
    forgotten: Vec<Key>,
    /// Delivered messages that their sender gave up since the last call of `drain_abandoned`.
    void: Vec<(Key, u64)>,
    /// Streams with messages that arrived under another number since the last call of
    /// `drain_renumbered`.
    renamed: Vec<Key>,
}

impl Inbox {
    /// Creates an empty inbox.
    pub fn new(ack_policy: AckPolicy) -> Self {
        Inbox { ack_policy, ..Inbox::default() }
    }

    /// Returns when the node acknowledges a message.
    pub fn ack_policy(&self) -> AckPolicy {
        self.ack_policy
    }

    /// Inserts a message of `sender`. Appends to `ready` the messages that may be delivered now, in
    /// order.
    ///
    /// No message from `base_seq` up to this one will arrive, so the message is next in order if
    /// the inbox has everything below its `base_seq`. A sender without earlier messages sets
    /// `base_seq` to 0, so the inbox may evict a stream, or see its first message late.
    pub fn insert(
        &mut self,
        sender: Address,
        message: Message,
        now: Instant,
        ready: &mut Vec<Message>,
    ) -> InsertOutcome {
        let Ok(stream) = StreamId::try_from(message.stream.as_ref()) else {
            return InsertOutcome::NoCapacity;
        };
        let key = (sender, stream);
        if !self.open(key, now) {
            return InsertOutcome::NoCapacity;
        }
        let share = self.senders.entry(sender).or_default();
        let incoming = self.streams.touch_or_default(&key);
        incoming.last_used = now;
        if incoming.is_reused(&message) {
            return InsertOutcome::Reused;
        }
        incoming.forget_rejections(&message);
        if incoming.arrivals.outstanding() > 0 {
            // No message between `base_seq` and this one will arrive.
            let skip_range =
                |arrivals: &mut ReceiveWindow| arrivals.skip_range(message.base_seq, message.seq);
            let void = incoming.change(share, &mut self.out_of_order, skip_range);
            self.void.extend(void.into_iter().map(|seq| (key, seq)));
        }
        if message.seq < incoming.next {
            return InsertOutcome::Duplicate;
        }
        let in_window = incoming.in_window(self.ack_policy);
        let of_sender = if self.ack_policy == AckPolicy::Manual { share.outstanding } else { 0 };
        let is_full = in_window >= ACK_WINDOW
            || share.out_of_order >= MAX_UNACKED_PER_SENDER
            || self.out_of_order >= MAX_OUT_OF_ORDER && share.waiting() >= FEW_OUT_OF_ORDER;
        if of_sender >= MAX_UNACKED_PER_SENDER || is_full && incoming.must_wait(&message) {
            return InsertOutcome::NoCapacity;
        }
        let fills_window = |buffered: &ReorderBuffer| {
            self.ack_policy == AckPolicy::Manual && in_window + buffered.len() >= ACK_WINDOW
        };
        if message.base_seq > incoming.next {
            let is_full = fills_window(&incoming.buffered);
            return incoming.buffer(message, is_full, share, &mut self.buffered);
        }
        // Drops the messages that overtook this one, because they cannot be delivered before it.
        while fills_window(&incoming.buffered)
            && let Some((_, size)) = incoming.buffered.pop_last()
        {
            share.buffered.remove(size);
            self.buffered.remove(size);
            self.dropped += 1;
        }
        let first = ready.len();
        incoming.take_with_buffered(message, share, &mut self.buffered, ready);
        ready[first..].iter().for_each(|message| self.record_renamed(sender, message));
        InsertOutcome::Ready
    }

    /// Makes room for a new stream, and drops messages that have been buffered too long. Returns
    /// `false` if there is no room.
    fn open(&mut self, key: Key, now: Instant) -> bool {
        if !self.streams.contains_key(&key) {
            if !self.evict_for(&key.0) {
                return false;
            }
            self.senders.entry(key.0).or_default().streams += 1;
        }
        if self.buffered.bytes() >= REORDER_BYTES / 2 && now >= self.gc_threshold {
            self.gc_threshold = now + SWEEP;
            self.drop_idle(now);
        }
        true
    }

    /// Records the number under which the sender accepted a renumbered message. A sender whose
    /// store was set back may send the message under that number too.
    fn record_renamed(&mut self, sender: Address, message: &Message) {
        let Ok(stream) = StreamId::try_from(message.accepted_stream.as_ref()) else { return };
        let key = (sender, stream);
        if let Some(incoming) = self.streams.get_mut(&key)
            && incoming.digests.insert_renamed(message.accepted_seq, digest(message))
        {
            self.renamed.push(key);
        }
    }

    /// Returns `true` if the inbox has this stream.
    pub fn has_stream(&self, sender: &Address, stream: &StreamId) -> bool {
        self.streams.contains_key(&(*sender, *stream))
    }

    /// Returns the number of the next message in order of a stream.
    pub fn next_seq(&self, sender: &Address, stream: &StreamId) -> u64 {
        self.streams.get(&(*sender, *stream)).map_or(0, |incoming| incoming.next)
    }

    /// Returns what the node may acknowledge of a stream: all numbers below the first value, and
    /// the numbers in the list.
    pub fn acked_up_to(&self, sender: &Address, stream: &StreamId) -> (u64, &[u64]) {
        let Some(incoming) = self.streams.get(&(*sender, *stream)) else { return (0, &[]) };
        match self.ack_policy {
            AckPolicy::OnReceipt => (incoming.next, &[]),
            AckPolicy::OnPersisted | AckPolicy::Manual => {
                (incoming.arrivals.acked_up_to(), incoming.arrivals.committed_out_of_order())
            }
        }
    }

    /// Returns the number below which the sender need not send anything again: the node has
    /// acknowledged these messages, or they wait for the parent's `ack`.
    pub fn received_up_to(&self, sender: &Address, stream: &StreamId) -> u64 {
        match self.ack_policy {
            AckPolicy::Manual => self.next_seq(sender, stream),
            AckPolicy::OnReceipt | AckPolicy::OnPersisted => self.acked_up_to(sender, stream).0,
        }
    }

    /// Returns how many more messages of a stream have room, with manual acks.
    pub fn window(&self, sender: &Address, stream: &StreamId) -> usize {
        let unacked = self
            .streams
            .get(&(*sender, *stream))
            .map_or(0, |incoming| incoming.arrivals.outstanding() + incoming.arrivals.out_of_order());
        let of_sender = self.senders.get(sender).map_or(0, |share| share.outstanding);
        ACK_WINDOW.saturating_sub(unacked).min(MAX_UNACKED_PER_SENDER.saturating_sub(of_sender))
    }

    /// Decides about the message that is next in order.
    pub fn deliver(&mut self, (sender, stream): Key, seq: u64) -> DeliverDecision {
        let hand_on = |arrivals: &mut ReceiveWindow| arrivals.deliver(seq);
        self.change((sender, stream), hand_on).unwrap_or(DeliverDecision::Duplicate)
    }

    fn change<T>(&mut self, key: Key, change: impl FnOnce(&mut ReceiveWindow) -> T) -> Option<T> {
        let (incoming, share) = (self.streams.get_mut(&key)?, self.senders.get_mut(&key.0)?);
        Some(incoming.change(share, &mut self.out_of_order, change))
    }

    /// Records that the parent has a message, or that the node rejected it. Returns `true` if this
    /// is new.
    pub fn mark_acked(&mut self, key: Key, seq: u64) -> bool {
        self.change(key, |arrivals| arrivals.mark_acked(seq)).unwrap_or(false)
    }

    /// Returns the checkpoint of a stream for the store.
    pub fn row(&self, (sender, stream): Key) -> Option<StreamCheckpoint> {
        let incoming = self.streams.get(&(sender, stream))?;
        Some(incoming.arrivals.row(sender, stream, &incoming.digests))
    }

    /// Lets the node acknowledge the messages up to a checkpoint. Returns `true` if that is more
    /// than before.
    pub fn commit(&mut self, row: &StreamCheckpoint) -> bool {
        let incoming = self.streams.get_mut(&(row.sender, row.stream));
        incoming.is_some_and(|incoming| incoming.arrivals.commit(row))
    }

    /// Restores the checkpoints that an earlier process left in the store.
    pub fn restore(&mut self, rows: Vec<StreamCheckpoint>, now: Instant) {
        for row in rows {
            let key = (row.sender, row.stream);
            let incoming = self.streams.touch_or_default(&key);
            (incoming.next, incoming.arrivals) = (row.next, ReceiveWindow::restored(&row));
            incoming.digests = row.digests.clone();
            incoming.last_used = now;
            let share = self.senders.entry(row.sender).or_default();
            share.streams += 1;
            share.out_of_order += row.out_of_order.len();
            self.out_of_order += row.out_of_order.len();
        }
    }

    /// Returns the streams that the inbox evicted since the last call.
    pub fn drain_evicted(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.forgotten)
    }

    /// Returns the delivered messages that their sender gave up since the last call.
    pub fn drain_abandoned(&mut self) -> Vec<(Key, u64)> {
        std::mem::take(&mut self.void)
    }

    /// Returns the streams with messages that arrived under another number since the last call.
    pub fn drain_renumbered(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.renamed)
    }

    /// Evicts the least recently used stream without open mail: of this sender if it has used its
    /// share, else of all senders. Returns `false` if each has open mail. The eviction is safe: the
    /// sender sets `base_seq` to 0 once all earlier messages are acknowledged, and it repeats
    /// acknowledged messages only if the ack was lost.
    fn evict_for(&mut self, sender: &Address) -> bool {
        let is_closed = |incoming: &InboundStream| !incoming.arrivals.has_open_mail();
        if self.senders.get(sender).is_some_and(|share| share.streams >= SENDER_STREAMS) {
            let own = (*sender, StreamId([0; 16]))..=(*sender, StreamId([u8::MAX; 16]));
            let Some((key, _)) = self.streams.oldest_in(own, is_closed) else { return false };
            self.forget(*key);
        }
        let mut open = 0;
        while self.streams.len() >= MAX_STREAMS
            && let Some((key, oldest)) = self.streams.oldest()
        {
            let key = *key;
            if is_closed(oldest) {
                self.forget(key);
            } else if open < MAX_STREAMS {
                // The next search begins with other streams.
                self.streams.touch(&key);
                open += 1;
            } else {
                return false;
            }
        }
        true
    }

    fn forget(&mut self, key: Key) {
        let Some(incoming) = self.streams.remove(&key) else { return };
        self.forgotten.push(key);
        self.out_of_order -= incoming.arrivals.out_of_order();
        self.buffered -= incoming.buffered.budget();
        self.dropped += incoming.buffered.len() as u64;
        if let Some(share) = self.senders.get_mut(&key.0) {
            share.streams -= 1;
            share.buffered -= incoming.buffered.budget();
            share.outstanding -= incoming.arrivals.outstanding();
            share.out_of_order -= incoming.arrivals.out_of_order();
            if share.streams == 0 {
                self.senders.remove(&key.0);
            }
        }
    }

    /// Drops messages that have been buffered too long. Their senders will send them again.
    fn drop_idle(&mut self, now: Instant) {
        let in_turn = self.streams.iter_by_use();
        let idle = in_turn.take_while(|(_, incoming)| incoming.last_used + REORDER_TIMEOUT < now);
        let idle: Vec<Key> = idle.map(|(key, _)| *key).collect();
        for key in idle {
            let Some(incoming) = self.streams.get_mut(&key) else { continue };
            let buffered = std::mem::take(&mut incoming.buffered).budget();
            self.dropped += buffered.count() as u64;
            self.buffered -= buffered;
            if let Some(share) = self.senders.get_mut(&key.0) {
                share.buffered -= buffered;
            }
        }
    }

    /// Returns how many buffered messages the inbox dropped since the last call. Their senders
    /// still have them.
    pub fn drain_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Returns the number of streams.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Returns `true` if there is no stream.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Returns the number of messages acked out of order, all streams together.
    pub fn out_of_order(&self) -> usize {
        self.out_of_order
    }

    /// Returns the number of stored digests.
    pub fn digests(&self) -> usize {
        self.streams.values().map(|incoming| incoming.digests.len()).sum()
    }

    /// Returns the memory of all buffered messages, in bytes.
    pub fn buffered_bytes(&self) -> usize {
        self.buffered.bytes()
    }
}

#[cfg(test)]
mod tests;
