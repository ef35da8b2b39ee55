//! The end of mail to an agent whose node does not admit this node.

use libp2p_identity::PeerId;
use p2p_node_protocol::{DeliveryState, ErrorCode};
use p2p_node_wire::record::SignedRecord;

use crate::cx::Cx;
use crate::directory::Directory;
use crate::mail::Mail;
use crate::mail::outbound::stream::QueuedMessage;

impl Mail {
    /// Ends the messages to the agent of a peer that does not admit this node, by its policy. A message
    /// that went out before may have arrived, so it waits for its ack until it expires.
    pub(crate) fn on_peer_rejected(
        &mut self,
        peer: &PeerId,
        reason: &str,
        directory: &Directory,
        cx: &mut Cx,
    ) {
        let record = directory.records.by_peer(peer, cx.now.unix_ms);
        let Some(recipient) = record.map(SignedRecord::address) else { return };
        let unsent = |_: usize, mail: &QueuedMessage, in_flight: bool| {
            mail.persisted && mail.attempts == 0 && !in_flight
        };
        for ended in self.outbox.remove_if(&recipient, unsent) {
            let (state, code) = (DeliveryState::Rejected, ErrorCode::PeerRejected);
            self.report_failed_because(ended, state, code, Some(reason.to_owned()), cx);
        }
        // The ack of a message that the peer has already may still come by gossip.
        if let Some(destination) = self.outbox.destination(&recipient) {
            destination.dialing_until = None;
            destination.unreachable = true;
            self.recipients_to_flush.insert(recipient);
        }
    }
}
