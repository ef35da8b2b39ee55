//! Renumbering of messages whose numbers were used before. This happens when the process runs from
//! a copy of its memory, such as a virtual machine that was set back to a snapshot.

use alloy_primitives::Address;
use p2p_node_wire::envelope::{Ack, SEQUENCE_REUSED, StreamAck};
use p2p_node_wire::message_id::{StreamId, StreamNamespace};

use crate::backoff::Jitter;
use crate::input::{Now, Token};
use crate::mail::outbound::lane::Lane;
use crate::mail::outbound::outbox::Outbox;
use crate::mail::outbound::stream::Renamed;

impl Outbox {
    /// Renumbers messages whose numbers the recipient knows for other messages. A recipient that
    /// rejects the new numbers too gets ever fewer attempts.
    pub fn renumber(
        &mut self,
        recipient: &Address,
        ack: &StreamAck,
        now: Now,
        jitter: &mut Jitter,
    ) -> Vec<Renamed> {
        let reused = ack.rejections.iter().filter(|outcome| outcome.code == SEQUENCE_REUSED);
        let mut seqs: Vec<u64> = reused.map(|outcome| outcome.seq).collect();
        if seqs.is_empty() {
            return Vec::new();
        }
        seqs.sort_unstable();
        let unused = Lane::ALL.map(|lane| self.unused_stream(recipient, lane, now.unix_ms));
        let Some(destination) = self.destinations.get_mut(recipient) else { return Vec::new() };
        let mut all = Vec::new();
        for (queue, unused) in destination.streams.iter_mut().zip(unused) {
            let Some(epoch) = queue.epoch_of(&ack.stream) else { continue };
            let (renamed, bytes, again) = queue.renumber(epoch, &seqs, &unused);
            destination.waiting += bytes;
            if again {
                destination.backoff.fail(now.mono, std::time::Duration::ZERO, jitter);
            }
            all.extend(renamed);
        }
        self.complete_acked(recipient);
        all
    }

    /// Records that the next ack answers this frame, so it is about the messages of this frame.
    pub fn record_response(&mut self, token: Token) {
        let recipient = self.flights.get(&token);
        if let Some(destination) = recipient.and_then(|recipient| self.destinations.get_mut(recipient)) {
            destination.record_response(token);
        }
    }

    /// Records the boot id and the counter of a gossip frame.
    pub fn record_frame(&mut self, token: Token, frame: (u64, u64)) {
        let recipient = self.flights.get(&token);
        if let Some(destination) = recipient.and_then(|recipient| self.destinations.get_mut(recipient)) {
            destination.record_frame(token, frame);
        }
    }

    /// Records that an ack outside of a response answers the gossip frames that it names.
    pub fn record_responses(&mut self, recipient: &Address, ack: &Ack) {
        let Some(destination) = self.destinations.get_mut(recipient) else { return };
        for token in destination.answered_by(ack) {
            destination.record_response(token);
        }
    }

    /// Starts new streams for all recipients. Accepted messages keep their numbers, because the
    /// node may have sent them under these.
    pub fn renew(&mut self, now_ms: u64) -> StreamNamespace {
        self.origin = self.origin.renewed(now_ms);
        for (recipient, destination) in &mut self.destinations {
            self.incarnation += 1;
            for (queue, lane) in destination.streams.iter_mut().zip(Lane::ALL) {
                queue.begin(&lane.stream_id(&self.origin, self.incarnation, recipient.as_slice()));
            }
            // A copy of this process may have used the counters of the session too.
            destination.session = None;
        }
        self.origin
    }

    /// Returns a new stream that neither this process nor a copy of it has used.
    pub(crate) fn unused_stream(&mut self, recipient: &Address, lane: Lane, now_ms: u64) -> StreamId {
        self.incarnation += 1;
        let origin = self.origin.renewed(now_ms);
        lane.stream_id(&origin, self.incarnation, recipient.as_slice())
    }
}
