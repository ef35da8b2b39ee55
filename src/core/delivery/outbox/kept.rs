//! Mail that outlives the process: it leaves when the store has it, and the next process takes it up.

use std::time::Duration;

use alloy::primitives::Address;
use p2p_node_protocol::Priority;

use super::Outbox;
use crate::core::delivery::naming::StreamId;
use crate::core::delivery::stream::{Draft, Mail};
use crate::core::input::Now;

/// Mail as it outlives the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptMail {
    /// To whom it goes.
    pub recipient: Address,
    /// Its stream.
    pub stream: StreamId,
    /// Its number there.
    pub seq: u64,
    /// When to give it up, in ms since 1970: the draft's own time is of a clock that ends with the process.
    pub expires_at_ms: u64,
    /// What it is.
    pub draft: Draft,
}

impl Outbox {
    /// The store has the mail: it may leave. Whether it is there.
    pub fn keep(&mut self, recipient: &Address, stream: &StreamId, seq: u64) -> bool {
        let Some(destination) = self.destinations.get_mut(recipient) else { return false };
        let kept = destination.streams.iter_mut().find(|known| known.own_id() == *stream);
        let Some((size, expires)) = kept.and_then(|stream| stream.keep(seq)) else { return false };
        destination.waiting += size;
        destination.earliest_expiry = destination.earliest_expiry.min(expires);
        true
    }

    /// The store could not take the mail: it was never accepted.
    pub fn give_back(&mut self, recipient: &Address, stream: &StreamId, seq: u64) -> bool {
        let Some(destination) = self.destinations.get(recipient) else { return false };
        let Some(index) = destination.streams.iter().position(|known| known.own_id() == *stream) else {
            return false;
        };
        let unkept = |at: usize, mail: &Mail, _: bool| at == index && mail.seq == seq && !mail.kept;
        !self.remove_if(recipient, unkept).is_empty()
    }

    /// Takes up what an earlier process left in the store, in the order of its streams and numbers.
    pub fn restore(&mut self, mails: Vec<KeptMail>, now: Now) {
        for KeptMail { recipient, stream, seq, expires_at_ms, mut draft } in mails {
            // A clock that was set back meanwhile makes no life longer than it was.
            let life = expires_at_ms.saturating_sub(draft.sent_at_ms);
            let left = expires_at_ms.saturating_sub(now.unix_ms).min(life);
            draft.expires = now.mono + Duration::from_millis(left);
            let (size, expires) = (draft.size(), draft.expires);
            let account = self.origin.account;
            let destination = self.open(recipient);
            let slot = &mut destination.streams[Priority::High as usize - draft.priority as usize];
            if slot.is_new() || slot.own_id() == stream {
                slot.resume(&account, stream, seq);
                slot.restore(seq, draft);
                self.account(recipient, size, true, expires, now.mono);
            }
        }
    }
}
