//! What one sender uses of the inbox.

use std::collections::BTreeSet;

use p2p_node_wire::envelope::limits::MAX_ACK_COUNTERS;
use p2p_node_wire::identity::NodePublicKey;

use crate::budget::Budget;

/// What one sender uses of the inbox, and where its messages came from.
#[derive(Debug, Default)]
pub(crate) struct SenderUsage {
    pub(crate) streams: usize,
    /// The node that sent its last message.
    pub(crate) node_key: Option<NodePublicKey>,
    /// The boot id of the process whose frames came by gossip, and the latest counters of these
    /// frames.
    pub(crate) boot: u64,
    pub(crate) counters: BTreeSet<u64>,
    /// Number and memory of the buffered messages.
    pub(crate) buffered: Budget,
    /// Number of delivered messages that are not acked.
    pub(crate) outstanding: usize,
    /// Number of messages acked out of order.
    pub(crate) out_of_order: usize,
}

impl SenderUsage {
    /// Records a mail frame that came by gossip. The next ack to the sender names it.
    pub(crate) fn record_frame(&mut self, boot: u64, counter: u64) {
        if self.boot != boot {
            (self.boot, self.counters) = (boot, BTreeSet::new());
        }
        self.counters.insert(counter);
        if self.counters.len() > MAX_ACK_COUNTERS {
            self.counters.pop_first();
        }
    }

    /// Returns the number of messages that are acked out of order, or may become so.
    pub(crate) fn waiting(&self) -> usize {
        self.buffered.count() + self.outstanding + self.out_of_order
    }
}
