//! One received stream.

use std::collections::VecDeque;

use p2p_node_wire::envelope::{Message, Rejection, SEQUENCE_REUSED};
use p2p_node_wire::time::Instant;

use crate::budget::Budget;
use crate::mail::inbound::digests::Digests;
use crate::mail::inbound::inbox::inbox_limits::{REORDER, SENDER_REORDER};
use crate::mail::inbound::inbox::reorder_buffer::{ReorderBuffer, buffered_size};
use crate::mail::inbound::inbox::sender_usage::SenderUsage;
use crate::mail::inbound::inbox::{AckPolicy, InsertOutcome};
use crate::mail::inbound::receive_window::ReceiveWindow;

/// One received stream.
#[derive(Debug, Default)]
pub(crate) struct InboundStream {
    pub(crate) next: u64,
    /// Unused if the node acknowledges messages on receipt.
    pub(crate) arrivals: ReceiveWindow,
    pub(crate) buffered: ReorderBuffer,
    /// The digests of the latest accepted numbers.
    pub(crate) digests: Digests,
    pub(crate) refusals: VecDeque<Rejection>,
    pub(crate) last_used: Instant,
}

impl InboundStream {
    /// Returns `true` if the number of a message stands for another message, accepted or buffered.
    pub(crate) fn is_reused(&self, message: &Message) -> bool {
        self.digests.contradict(message, self.next) || self.buffered.contradicts(message)
    }

    /// Accepts the message that is next in order. Skips the earlier numbers that an earlier process
    /// of this node delivered and the parent did not ack.
    pub(crate) fn take(&mut self, message: &Message) {
        let arrivals = &self.arrivals;
        self.digests.pass_over(self.next..message.seq, |seq| !arrivals.has_out_of_order(seq));
        self.next = message.seq.saturating_add(1);
        self.digests.insert(message);
    }

    /// Accepts a message, and the buffered ones that follow it, into `ready`. `all` counts
    /// the buffered messages of all streams.
    pub(crate) fn take_with_buffered(
        &mut self,
        message: Message,
        share: &mut SenderUsage,
        all: &mut Budget,
        ready: &mut Vec<Message>,
    ) {
        self.take(&message);
        ready.push(message);
        while let Some((buffered, size)) = self.buffered.pop_ready(self.next) {
            share.buffered.remove(size);
            all.remove(size);
            if buffered.seq >= self.next {
                self.take(&buffered);
                ready.push(buffered);
            }
        }
    }

    /// Drops the rejection of a reused number, because the right message arrived under this number.
    pub(crate) fn is_genuine(&mut self, seq: u64) {
        self.refusals.retain(|outcome| outcome.seq != seq || outcome.code != SEQUENCE_REUSED);
    }

    /// Drops the rejections that the sender has received: that of this number, and, if this is the
    /// first message that the sender still has, those of all earlier numbers.
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
            AckPolicy::OnPersisted => self.arrivals.out_of_order(),
            AckPolicy::Manual => self.arrivals.outstanding() + self.arrivals.out_of_order(),
        }
    }

    /// Returns `true` if an earlier message is not acked or missing. Otherwise the message takes no
    /// room for long, and may free some.
    pub(crate) fn must_wait(&self, message: &Message) -> bool {
        self.arrivals.outstanding() > 0 || message.base_seq > self.next
    }

    /// Buffers a message until the earlier ones have arrived. `is_full` states that the window of
    /// the stream is used up. `all` counts the buffered messages of all streams.
    pub(crate) fn buffer(
        &mut self,
        message: Message,
        is_full: bool,
        share: &mut SenderUsage,
        all: &mut Budget,
    ) -> InsertOutcome {
        let size = buffered_size(&message);
        if self.buffered.contains(message.seq) {
            return InsertOutcome::Buffered;
        }
        if is_full || !share.buffered.fits(size, SENDER_REORDER) || !all.fits(size, REORDER) {
            return InsertOutcome::NoCapacity;
        }
        share.buffered.add(size);
        all.add(size);
        self.buffered.insert(message);
        InsertOutcome::Buffered
    }

    /// Runs `change` on the receive window and updates the usage counters by the difference.
    pub(crate) fn change<T>(
        &mut self,
        share: &mut SenderUsage,
        out_of_order: &mut usize,
        change: impl FnOnce(&mut ReceiveWindow) -> T,
    ) -> T {
        let before = (self.arrivals.outstanding(), self.arrivals.out_of_order());
        let done = change(&mut self.arrivals);
        share.outstanding = share.outstanding + self.arrivals.outstanding() - before.0;
        share.out_of_order = share.out_of_order + self.arrivals.out_of_order() - before.1;
        *out_of_order = *out_of_order + self.arrivals.out_of_order() - before.1;
        done
    }
}
