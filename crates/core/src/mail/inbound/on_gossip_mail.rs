//! Mail and acks that arrived by gossip.

use libp2p_identity::PeerId;
use p2p_node_protocol::{Counter, Route};
use p2p_node_wire::envelope::{Batch, Frame, Payload};

use crate::cx::Cx;
use crate::directory::Directory;
use crate::gate::Gate;
use crate::local::Local;
use crate::mail::Mail;

impl Mail {
    /// Handles a gossip frame that may concern this node's mail: acks for this node, or messages to
    /// decrypt.
    pub(crate) fn on_gossip_frame(
        &mut self,
        frame: Frame,
        from: &PeerId,
        local: &Local,
        gate: &mut Gate,
        directory: &Directory,
        cx: &mut Cx,
    ) {
        match &frame.body.payload {
            Some(Payload::Plain(batch)) => self.on_gossip_acks(&frame, batch, gate, directory, cx),
            _ => self.open_gossip(frame, from, local, cx),
        }
    }

    /// Handles acks for this node that arrived by gossip. Mail by gossip is always encrypted, so a
    /// plain batch contains no valid message.
    fn on_gossip_acks(
        &mut self,
        frame: &Frame,
        batch: &Batch,
        gate: &mut Gate,
        directory: &Directory,
        cx: &mut Cx,
    ) {
        if !batch.messages.is_empty() {
            cx.stats.count(Counter::FramesNotEncrypted);
        }
        let sender = gate.sender(frame, directory.records.is_met(frame.account()), cx.now.mono);
        self.on_acks(&sender, frame, batch, directory, cx);
    }

    /// Handles mail that arrived by gossip like direct mail, except that no sender waits for a
    /// response.
    pub(crate) fn on_gossip_mail(
        &mut self,
        frame: &Frame,
        batch: &Batch,
        gate: &mut Gate,
        directory: &Directory,
        cx: &mut Cx,
    ) {
        let mut sender = gate.sender(frame, directory.records.is_met(frame.account()), cx.now.mono);
        self.on_acks(&sender, frame, batch, directory, cx);
        if batch.messages.is_empty() {
            return;
        }
        if !self.has_room_for(&sender, batch, gate, cx) || cx.is_flushing() {
            // The node sends no ack, so the sender keeps the messages and tries again.
            return cx.stats.count(Counter::MailBusy);
        }
        let outcome = self.accept_batch(&mut sender, batch, Route::Gossip, gate, cx);
        self.inbox.record_frame(&sender.address, frame.body.boot, frame.body.counter);
        self.acknowledge_gossip(sender.address, frame.binding.binding.node_key, outcome.streams, cx);
    }
}
