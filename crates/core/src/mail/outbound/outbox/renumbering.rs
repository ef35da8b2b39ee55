//! What happens when numbers turn out to have been used before: the process runs from a copy of its memory, as when a virtual machine
//! goes back to a snapshot.

use alloy_primitives::Address;
use p2p_node_protocol::Priority;
use p2p_node_wire::envelope::{Ack, SEQUENCE_REUSED, StreamAck};
use p2p_node_wire::message_id::{StreamId, StreamNamespace};

use crate::backoff::Jitter;
use crate::input::{Now, Token};
use crate::mail::outbound::outbox::Outbox;
use crate::mail::outbound::stream::Renamed;

impl Outbox {
    /// Mail whose numbers the recipient knows for something else goes under other names. One that says so again and again is asked
    /// ever more rarely.
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
        let [high, medium, low] = [Priority::High, Priority::Medium, Priority::Low]
            .map(|priority| self.unused_stream(recipient, priority, now.unix_ms));
        let Some(destination) = self.destinations.get_mut(recipient) else { return Vec::new() };
        let mut all = Vec::new();
        for (queue, unused) in destination.streams.iter_mut().zip([high, medium, low]) {
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

    /// The acknowledgement that comes is the answer to this flight, so that it is about what was in that.
    pub fn note_answer(&mut self, token: Token) {
        let recipient = self.flights.get(&token);
        if let Some(destination) = recipient.and_then(|recipient| self.destinations.get_mut(recipient)) {
            destination.note_answer(token);
        }
    }

    /// A flight went by gossip, in the frame with this boot and counter.
    pub fn note_frame(&mut self, token: Token, frame: (u64, u64)) {
        let recipient = self.flights.get(&token);
        if let Some(destination) = recipient.and_then(|recipient| self.destinations.get_mut(recipient)) {
            destination.note_frame(token, frame);
        }
    }

    /// An acknowledgement that has come by itself answers the flights by gossip that it names.
    pub fn note_answers(&mut self, recipient: &Address, ack: &Ack) {
        let Some(destination) = self.destinations.get_mut(recipient) else { return };
        for token in destination.answered_by(ack) {
            destination.note_answer(token);
        }
    }

    /// Names every stream anew for mail to come. What was accepted keeps its numbers, for it may have been sent under them.
    pub fn renew(&mut self, now_ms: u64) -> StreamNamespace {
        self.origin = self.origin.renewed(now_ms);
        for (recipient, destination) in &mut self.destinations {
            self.incarnation += 1;
            let priorities = [Priority::High, Priority::Medium, Priority::Low];
            for (queue, priority) in destination.streams.iter_mut().zip(priorities) {
                queue.begin(&self.origin.stream(b"mail", self.incarnation, recipient.as_slice(), priority));
            }
            // A copy of the session has used its numbers too.
            destination.session = None;
        }
        self.origin
    }

    /// A stream that nobody has used: not this process, nor a copy of it.
    pub(crate) fn unused_stream(&mut self, recipient: &Address, priority: Priority, now_ms: u64) -> StreamId {
        self.incarnation += 1;
        let origin = self.origin.renewed(now_ms);
        origin.stream(b"mail", self.incarnation, recipient.as_slice(), priority)
    }
}
