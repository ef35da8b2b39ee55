//! Mail that comes by gossip, and its acknowledgements, which go the same way.

use std::collections::BTreeSet;

use alloy::primitives::Address;
use bytes::Bytes;
use p2p_node_protocol::Route;

use super::Core;
use super::effect::Network;
use super::envelope::limits::MAX_ACK_STREAMS;
use super::envelope::{Batch, Frame, Payload, Scope};
use super::input::Now;

/// Senders whose mail came by gossip in one turn and waits for its acknowledgement. Ours.
pub(super) const MAX_GOSSIP_ACKS: usize = 256;

/// An acknowledgement that is to go out by gossip.
#[derive(Debug)]
pub(super) struct GossipAck {
    node_key: Bytes,
    streams: BTreeSet<[u8; 16]>,
}

impl Core {
    /// Acknowledgements by gossip for us. Mail would be sealed.
    pub(super) fn on_gossip_acks(&mut self, frame: &Frame, batch: &Batch, now: Now) {
        if !batch.messages.is_empty() {
            self.stats.count("frames_unsealed");
        }
        self.on_acks(&self.sender(frame), frame, batch, now);
    }

    /// Mail by gossip for us: as direct mail, but the acknowledgement goes by gossip too.
    pub(super) fn on_gossip_mail(&mut self, frame: &Frame, batch: &Batch, now: Now) {
        let sender = self.sender(frame);
        self.on_acks(&sender, frame, batch, now);
        if batch.messages.is_empty() {
            return;
        }
        if !self.has_room(batch) || self.is_leaving() {
            // Without an acknowledgement the sender keeps it and tries again.
            return self.stats.count("mail_busy");
        }
        let taken = self.take_mail(&sender, batch, Route::Gossip, now);
        let node_key = Bytes::copy_from_slice(&frame.binding.binding.node_key);
        self.acknowledge_when_kept(&sender.address, node_key, taken.streams);
    }

    /// Has streams acknowledged at the end of the turn, as far as they can be.
    pub(super) fn acknowledge_by_gossip(
        &mut self,
        account: &Address,
        node_key: Bytes,
        streams: BTreeSet<[u8; 16]>,
    ) {
        let full = self.gossip_acks.len() >= MAX_GOSSIP_ACKS;
        if full && !self.gossip_acks.contains_key(account) {
            return self.stats.count("acks_dropped");
        }
        let ack = self
            .gossip_acks
            .entry(*account)
            .or_insert_with(|| GossipAck { node_key: node_key.clone(), streams: BTreeSet::new() });
        ack.node_key = node_key;
        // An ack has room for so many; the sender repeats what is missing.
        let room = MAX_ACK_STREAMS.saturating_sub(ack.streams.len());
        ack.streams.extend(streams.into_iter().take(room));
    }

    pub(super) fn send_gossip_acks(&mut self, now: Now) {
        for (account, gossip_ack) in std::mem::take(&mut self.gossip_acks) {
            let ack = self.ack(&account, &gossip_ack.streams, now);
            let batch = Batch { messages: Vec::new(), acks: vec![ack] };
            let token = self.token();
            let data = self.frame(Scope::NodeKey(gossip_ack.node_key), Payload::Plain(batch), now);
            self.pacer.take(data.len(), now.mono);
            self.network(Network::Publish { token, topic: super::MESSAGES.to_owned(), data });
        }
    }
}
