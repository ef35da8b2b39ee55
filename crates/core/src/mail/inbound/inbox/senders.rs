//! What is known of each sender whose mail arrives.

use alloy_primitives::Address;

use crate::mail::inbound::inbox::Inbox;

impl Inbox {
    /// Notes from which node a sender's mail came: its acknowledgements go there, whoever else knows of it.
    pub fn set_source_node(&mut self, sender: &Address, node_key: [u8; 32]) {
        if let Some(share) = self.senders.get_mut(sender) {
            share.node_key = Some(node_key);
        }
    }

    /// The node that a sender's last mail came from.
    pub fn node_key_of(&self, sender: &Address) -> Option<[u8; 32]> {
        self.senders.get(sender)?.node_key
    }

    /// Notes that a frame with this boot and counter brought mail by gossip.
    pub fn heard(&mut self, sender: &Address, boot: u64, counter: u64) {
        if let Some(share) = self.senders.get_mut(sender) {
            share.heard(boot, counter);
        }
    }

    /// The frames of a sender's process that came by gossip lately.
    pub fn heard_of(&self, sender: &Address) -> (u64, Vec<u64>) {
        self.senders
            .get(sender)
            .map_or((0, Vec::new()), |share| (share.boot, share.counters.iter().copied().collect()))
    }

    /// What waits for earlier messages of a sender: how many, and their bytes. The next of its frames may free all of it.
    pub fn held_of(&self, sender: &Address) -> (usize, usize) {
        self.senders.get(sender).map_or((0, 0), |share| (share.held, share.held_bytes))
    }
}
