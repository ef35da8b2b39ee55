//! One stream as it arrives.

use std::collections::VecDeque;
use std::time::Duration;

use crate::mail::inbound::digests::Digests;
use crate::mail::inbound::inbox::reorder_buffer::ReorderBuffer;
use crate::mail::inbound::inbox::sender_usage::SenderUsage;
use crate::mail::inbound::receive_window::ReceiveWindow;
use p2p_node_wire::envelope::{Message, Rejection, SEQUENCE_REUSED};

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

    /// A message has come under its own number: whatever was said of that is over.
    pub(crate) fn is_genuine(&mut self, seq: u64) {
        self.refusals.retain(|outcome| outcome.seq != seq || outcome.code != SEQUENCE_REUSED);
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
