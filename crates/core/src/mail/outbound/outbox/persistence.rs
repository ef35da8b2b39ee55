//! Messages that outlive the process: the node sends them after the store has committed them, and
//! the next process continues to send them.

use std::time::Duration;

use alloy_primitives::Address;
use p2p_node_wire::message_id::StreamId;
use p2p_node_wire::time::Now;

use crate::mail::outbound::lane::Lane;
use crate::mail::outbound::outbox::Outbox;
use crate::mail::outbound::stream::{Name, QueuedMessage};
use crate::outgoing::OutgoingMessage;

/// A message in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersistedMessage {
    /// The recipient.
    pub recipient: Address,
    /// The stream on which the node accepted the message.
    pub stream: StreamId,
    /// The number of the message in `stream`.
    pub seq: u64,
    /// The stream and the number on the wire, if the recipient knew another message under the ones
    /// above.
    pub sent_as: Option<Name>,
    /// The position among all messages of the store: in the order in which the node accepted or
    /// renumbered them.
    pub position: u64,
    /// When the message expires, in ms since 1970. The time in `draft` belongs to a clock that ends
    /// with the process.
    pub expires_at_ms: u64,
    /// The content and the options of the message.
    pub draft: OutgoingMessage,
}

impl Outbox {
    /// Lets a message leave, because the store has committed it. Returns `true` if the message is
    /// there.
    pub fn mark_persisted(&mut self, recipient: &Address, stream: &StreamId, seq: u64) -> bool {
        let Some(destination) = self.destinations.get_mut(recipient) else { return false };
        let persisted = destination.streams.iter_mut().find_map(|queue| queue.mark_persisted((*stream, seq)));
        let Some((size, expires)) = persisted else { return false };
        destination.waiting += size;
        destination.earliest_expiry = destination.earliest_expiry.min(expires);
        true
    }

    /// Removes a message that the store could not write, as if the node had never accepted it.
    /// Returns `true` if the message was there.
    pub fn rollback(&mut self, recipient: &Address, stream: &StreamId, seq: u64) -> bool {
        let Some(destination) = self.destinations.get(recipient) else { return false };
        let epochs: Vec<_> = destination.streams.iter().map(|queue| queue.epoch_of(stream)).collect();
        let unpersisted = |at: usize, mail: &QueuedMessage, _: bool| {
            Some(mail.epoch) == epochs[at] && mail.seq == seq && !mail.persisted
        };
        !self.remove_if(recipient, unpersisted).is_empty()
    }

    /// Restores the messages that earlier processes left in the store. Each message keeps the
    /// stream and the number under which an earlier process may have sent it. Returns the position
    /// of the latest message.
    pub fn restore(&mut self, mut messages: Vec<PersistedMessage>, now: Now) -> u64 {
        messages.sort_by_key(|mail| mail.position);
        let last = messages.last().map_or(0, |mail| mail.position);
        for PersistedMessage { recipient, stream, seq, sent_as, expires_at_ms, mut draft, .. } in messages {
            // A wall clock that was set back in the meantime does not extend the lifetime.
            let life = expires_at_ms.saturating_sub(draft.sent_at_ms);
            let left = expires_at_ms.saturating_sub(now.unix_ms).min(life);
            draft.expires = now.mono + Duration::from_millis(left);
            let (size, expires) = (draft.size(), draft.expires);
            let (name, accepted_as) = match sent_as {
                None => ((stream, seq), None),
                Some(name) => (name, Some((stream, seq))),
            };
            let lane = Lane::of(&draft);
            let slot = lane.index();
            let own = self.open(recipient).streams[slot].stream_id();
            // If the stream of this process already has messages, this process is a copy of the one
            // that accepted them.
            let is_copy = own == name.0;
            let unused = is_copy.then(|| self.unused_stream(&recipient, lane, now.unix_ms));
            let destination = self.open(recipient);
            unused.iter().for_each(|unused| destination.streams[slot].begin(unused));
            destination.streams[slot].restore(name, accepted_as, draft);
            self.account(recipient, size, true, expires, now.mono);
        }
        last
    }
}
