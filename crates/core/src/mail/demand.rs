//! Tells the directory which records to keep longest, and the trimmer which connections to keep.

use std::collections::BTreeSet;

use alloy_primitives::Address;
use libp2p_identity::PeerId;

use crate::directory::on_record::Demand;
use crate::gossip::Gossip;
use crate::mail::Mail;
use crate::peers::Peers;
use crate::peers::trimmer::Needs;

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

/// What gossip and mail use connections for. The trimmer keeps these.
pub(crate) struct Uses<'a> {
    /// The topics.
    pub(crate) gossip: &'a Gossip,
    /// The outbox, which knows the recipients of queued messages, and the messages that arrive.
    pub(crate) mail: &'a Mail,
}

impl Needs for Uses<'_> {
    fn topics(&self) -> BTreeSet<String> {
        self.gossip.topics()
    }

    fn has_mail(&self, agent: &Address) -> bool {
        self.mail.outbox.has_mail_for(agent)
            || self.mail.deferred_responses.has_sender(agent)
            || self.mail.delivery.unacked.has_sender(agent)
    }
}
