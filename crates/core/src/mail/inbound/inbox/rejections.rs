//! The rejections that the node keeps until their senders have received them.

use alloy_primitives::Address;
use p2p_node_wire::envelope::{Rejection, SEQUENCE_REUSED};
use p2p_node_wire::message_id::StreamId;

use crate::mail::inbound::inbox::Inbox;
use crate::mail::inbound::inbox::inbox_limits::{MAX_ALL_REFUSALS, MAX_REFUSALS};

impl Inbox {
    /// Records that the node rejected a message, or that its number stands for another message.
    pub fn refuse(&mut self, sender: &Address, stream: &StreamId, outcome: Rejection) {
        let key = (*sender, *stream);
        let Some(incoming) = self.streams.get_mut(&key) else { return };
        if outcome.code == SEQUENCE_REUSED && incoming.refusals.contains(&outcome) {
            return;
        }
        let seq = outcome.seq;
        incoming.refusals.push_back(outcome);
        if incoming.refusals.len() > MAX_REFUSALS {
            incoming.refusals.pop_front();
        }
        self.refused.push_back((key, seq));
        if self.refused.len() > MAX_ALL_REFUSALS
            && let Some((oldest, seq)) = self.refused.pop_front()
            && let Some(incoming) = self.streams.get_mut(&oldest)
            && incoming.refusals.front().is_some_and(|outcome| outcome.seq == seq)
        {
            incoming.refusals.pop_front();
        }
    }

    /// Returns the remembered rejections of a stream.
    pub fn refusals(&self, sender: &Address, stream: &StreamId) -> impl Iterator<Item = &Rejection> {
        self.streams.get(&(*sender, *stream)).into_iter().flat_map(|incoming| &incoming.refusals)
    }
}
