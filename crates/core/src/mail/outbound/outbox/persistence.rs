//! Mail that outlives the process: it leaves when the store has it, and the next process takes it up.

use std::time::Duration;

use alloy_primitives::Address;
use p2p_node_protocol::Priority;
use p2p_node_wire::message_id::StreamId;
use p2p_node_wire::time::Now;

use crate::mail::outbound::outbox::Outbox;
use crate::mail::outbound::stream::{Name, QueuedMessage};
use crate::outgoing::OutgoingMessage;

/// Mail as it outlives the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersistedMessage {
    /// To whom it goes.
    pub recipient: Address,
    /// The stream on which it was accepted.
    pub stream: StreamId,
    /// Its number there.
    pub seq: u64,
    /// Its stream and number on the wire, if the recipient knew those above for something else.
    pub sent_as: Option<Name>,
    /// Its place among all mail of the store: it was accepted, or got its name, after those with lower ones.
    pub position: u64,
    /// When to give it up, in ms since 1970: the draft's own time is of a clock that ends with the process.
    pub expires_at_ms: u64,
    /// What it is.
    pub draft: OutgoingMessage,
}

impl Outbox {
    /// The store has the mail: it may leave. Whether it is there.
    pub fn keep(&mut self, recipient: &Address, stream: &StreamId, seq: u64) -> bool {
        let Some(destination) = self.destinations.get_mut(recipient) else { return false };
        let kept = destination.streams.iter_mut().find_map(|queue| queue.keep((*stream, seq)));
        let Some((size, expires)) = kept else { return false };
        destination.waiting += size;
        destination.earliest_expiry = destination.earliest_expiry.min(expires);
        true
    }

    /// The store could not take the mail: it was never accepted.
    pub fn rollback(&mut self, recipient: &Address, stream: &StreamId, seq: u64) -> bool {
        let Some(destination) = self.destinations.get(recipient) else { return false };
        let epochs: Vec<_> = destination.streams.iter().map(|queue| queue.epoch_of(stream)).collect();
        let unkept = |at: usize, mail: &QueuedMessage, _: bool| {
            Some(mail.epoch) == epochs[at] && mail.seq == seq && !mail.kept
        };
        !self.remove_if(recipient, unkept).is_empty()
    }

    /// Takes up what earlier processes left in the store: each mail keeps the stream and the number under which it may have been sent.
    /// Returns the place of the latest.
    pub fn restore(&mut self, mut mails: Vec<PersistedMessage>, now: Now) -> u64 {
        mails.sort_by_key(|mail| mail.position);
        let last = mails.last().map_or(0, |mail| mail.position);
        for PersistedMessage { recipient, stream, seq, sent_as, expires_at_ms, mut draft, .. } in mails {
            // A clock that was set back meanwhile makes no life longer than it was.
            let life = expires_at_ms.saturating_sub(draft.sent_at_ms);
            let left = expires_at_ms.saturating_sub(now.unix_ms).min(life);
            draft.expires = now.mono + Duration::from_millis(left);
            let (size, expires) = (draft.size(), draft.expires);
            let (name, accepted_as) = match sent_as {
                None => ((stream, seq), None),
                Some(name) => (name, Some((stream, seq))),
            };
            let slot = Priority::High as usize - draft.priority as usize;
            let own = self.open(recipient).streams[slot].stream_id();
            // If its own stream has mail already, this process is a copy of the one that accepted that.
            let is_copy = own == name.0;
            let unused = is_copy.then(|| self.unused_stream(&recipient, draft.priority, now.unix_ms));
            let destination = self.open(recipient);
            unused.iter().for_each(|unused| destination.streams[slot].begin(unused));
            destination.streams[slot].restore(name, accepted_as, draft);
            self.account(recipient, size, true, expires, now.mono);
        }
        last
    }
}
