//! One stream as it arrives.

use std::collections::VecDeque;
use std::time::Duration;

use p2p_node_wire::envelope::{Message, Rejection, SEQUENCE_REUSED};

use crate::mail::inbound::digests::Digests;
use crate::mail::inbound::inbox::inbox_limits::{HELD_BYTES, REORDER_MESSAGES, SENDER_HELD_BYTES};
use crate::mail::inbound::inbox::reorder_buffer::{ReorderBuffer, held_size};
use crate::mail::inbound::inbox::sender_usage::SenderUsage;
use crate::mail::inbound::inbox::{AckPolicy, InsertOutcome};
use crate::mail::inbound::receive_window::ReceiveWindow;

/// One stream as it arrives.
#[derive(Debug, Default)]
pub(crate) struct InboundStream {
    pub(crate) next: u64,
    /// Unused where mail is settled at once.
    pub(crate) arrivals: ReceiveWindow,
    pub(crate) held: ReorderBuffer,
    /// What the numbers that were taken stood for.
    pub(crate) digests: Digests,
    pub(crate) refusals: VecDeque<Rejection>,
    pub(crate) last_used: Duration,
}

impl InboundStream {
    /// Whether the number of a message is taken, or waits, for something else.
    pub(crate) fn is_reused(&self, message: &Message) -> bool {
        self.digests.contradict(message, self.next) || self.held.contradicts(message)
    }

    /// The turn of a message has come. What an earlier process of this node told in the numbers before it, and the parent has not
    /// taken, is passed over.
    pub(crate) fn take(&mut self, message: &Message) {
        let arrivals = &self.arrivals;
        self.digests.pass_over(self.next..message.seq, |seq| !arrivals.has_beyond(seq));
        self.next = message.seq.saturating_add(1);
        self.digests.insert(message);
    }

    /// Takes a message, and the buffered ones that follow it, into `ready`. `all_bytes` are the
    /// buffered bytes of all streams.
    pub(crate) fn take_with_buffered(
        &mut self,
        message: Message,
        share: &mut SenderUsage,
        all_bytes: &mut usize,
        ready: &mut Vec<Message>,
    ) {
        self.take(&message);
        ready.push(message);
        while let Some((held, size)) = self.held.pop_ready(self.next) {
            share.release(size);
            *all_bytes -= size;
            if held.seq >= self.next {
                self.take(&held);
                ready.push(held);
            }
        }
    }

    /// A message has come under its own number: whatever was said of that is over.
    pub(crate) fn is_genuine(&mut self, seq: u64) {
        self.refusals.retain(|outcome| outcome.seq != seq || outcome.code != SEQUENCE_REUSED);
    }

    /// Forgets the rejections that the sender has heard of: that of this number, which the sender
    /// has taken back, and, if this is the first message that the sender still has, all before it.
    pub(crate) fn forget_rejections(&mut self, message: &Message) {
        if !self.refusals.is_empty() && self.digests.cover(message.seq) {
            self.is_genuine(message.seq);
        }
        if message.base_seq == 0 {
            while self.refusals.front().is_some_and(|outcome| outcome.seq < message.seq) {
                self.refusals.pop_front();
            }
        }
    }

    /// Returns the number of messages that count against the window of the stream.
    pub(crate) fn in_window(&self, policy: AckPolicy) -> usize {
        match policy {
            AckPolicy::OnReceipt => 0,
            AckPolicy::OnPersisted => self.arrivals.beyond(),
            AckPolicy::Manual => self.arrivals.outstanding() + self.arrivals.beyond(),
        }
    }

    /// Returns `true` if something before the message is not finished. Otherwise the message takes
    /// no place for long, and may free some.
    pub(crate) fn must_wait(&self, message: &Message) -> bool {
        self.arrivals.outstanding() > 0 || message.base_seq > self.next
    }

    /// Buffers a message until those before it have come. `is_full` states that the window of the
    /// stream is used up; `all_bytes` are the buffered bytes of all streams.
    pub(crate) fn buffer(
        &mut self,
        message: Message,
        is_full: bool,
        share: &mut SenderUsage,
        all_bytes: &mut usize,
    ) -> InsertOutcome {
        let size = held_size(&message);
        if self.held.contains(message.seq) {
            return InsertOutcome::Buffered;
        }
        if is_full
            || share.held >= REORDER_MESSAGES
            || share.held_bytes + size > SENDER_HELD_BYTES
            || *all_bytes + size > HELD_BYTES
        {
            return InsertOutcome::NoCapacity;
        }
        share.held += 1;
        share.held_bytes += size;
        *all_bytes += size;
        self.held.insert(message);
        InsertOutcome::Buffered
    }

    /// Something becomes of what was handed on, which is accounted for.
    pub(crate) fn change<T>(
        &mut self,
        share: &mut SenderUsage,
        beyond: &mut usize,
        change: impl FnOnce(&mut ReceiveWindow) -> T,
    ) -> T {
        let before = (self.arrivals.outstanding(), self.arrivals.beyond());
        let done = change(&mut self.arrivals);
        share.outstanding = share.outstanding + self.arrivals.outstanding() - before.0;
        share.beyond = share.beyond + self.arrivals.beyond() - before.1;
        *beyond = *beyond + self.arrivals.beyond() - before.1;
        done
    }
}
