//! Tells the directory which records to keep longest.

use alloy_primitives::Address;
use libp2p_identity::PeerId;

use crate::directory::on_record::Demand;
use crate::mail::Mail;
use crate::peers::Peers;

/// The records that connections and queued messages need. The directory evicts them last.
pub(crate) struct Wants<'a> {
    /// The connected peers.
    pub(crate) peers: &'a Peers,
    /// The outbox, which knows the recipients of queued messages.
    pub(crate) mail: &'a Mail,
}

impl Demand for Wants<'_> {
    fn is_connected(&self, peer: &PeerId) -> bool {
        self.peers.is_connected(peer)
    }

    fn has_mail(&self, address: &Address) -> bool {
        self.mail.outbox.has_mail_for(address)
    }
}
