//! What the inbox knows of each sender.

use alloy_primitives::Address;

use crate::budget::Budget;
use crate::mail::inbound::inbox::Inbox;
use p2p_node_wire::identity::NodePublicKey;

impl Inbox {
    /// Records the node that sent the last messages of a sender. The acks go to that node.
    pub fn set_source_node(&mut self, sender: &Address, node_key: NodePublicKey) {
        if let Some(share) = self.senders.get_mut(sender) {
            share.node_key = Some(node_key);
        }
    }

    /// Returns the node that sent the last message of a sender.
    pub fn node_key_of(&self, sender: &Address) -> Option<NodePublicKey> {
        self.senders.get(sender)?.node_key
    }

    /// Records the boot id and the counter of a mail frame that came by gossip.
    pub fn record_frame(&mut self, sender: &Address, boot: u64, counter: u64) {
        if let Some(share) = self.senders.get_mut(sender) {
            share.record_frame(boot, counter);
        }
    }

    /// Returns the boot id and the counters of the sender's latest gossip frames.
    pub fn heard_of(&self, sender: &Address) -> (u64, Vec<u64>) {
        self.senders
            .get(sender)
            .map_or((0, Vec::new()), |share| (share.boot, share.counters.iter().copied().collect()))
    }

    /// Returns the number and the memory of a sender's buffered messages. Its next frame may make
    /// all of them deliverable.
    pub fn buffered_of(&self, sender: &Address) -> Budget {
        self.senders.get(sender).map_or(Budget::default(), |share| share.buffered)
    }
}
