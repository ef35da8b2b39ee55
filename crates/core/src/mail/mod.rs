//! Mail between two agents: accepted, encrypted, acknowledged and persisted.

pub(crate) mod encryption;
pub mod inbound;
pub mod outbound;
pub(crate) mod pending_writes;

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::Address;

use p2p_node_wire::seal::session::InboundSessions;

use crate::input::Token;
use encryption::{PendingDecryptions, PendingEncryption};
use inbound::deferred_responses::DeferredResponses;
use inbound::delivery::InboundDelivery;
use inbound::inbox::Inbox;
use inbound::pending_acks::PendingAcks;
use outbound::outbox::Outbox;
use pending_writes::PendingWrites;

/// Mail in both directions.
#[derive(Debug)]
pub(crate) struct Mail {
    /// Mail that was accepted from the parent.
    pub(crate) outbox: Outbox,
    /// Recipients to whom a frame may be due.
    pub(crate) recipients_to_flush: BTreeSet<Address>,
    /// Frames that the crypto pool encrypts.
    pub(crate) pending_encryptions: BTreeMap<Token, PendingEncryption>,
    /// Mail that arrives, by sender and stream.
    pub(crate) inbox: Inbox,
    /// Mail on its way to the parent.
    pub(crate) delivery: InboundDelivery,
    /// Frames that the crypto pool decrypts.
    pub(crate) pending_decryptions: PendingDecryptions,
    /// Sessions that peers opened.
    pub(crate) sessions: InboundSessions,
    /// Responses that wait for a missing message.
    pub(crate) deferred_responses: DeferredResponses,
    /// Acknowledgements that leave by themselves.
    pub(crate) pending_acks: PendingAcks,
    /// What is on its way to the disk.
    pub(crate) pending_writes: PendingWrites,
    /// The store does not write at present, and the parent has heard of it.
    pub(crate) store_failed: bool,
}

impl Mail {
    pub(crate) fn new(outbox: Outbox, inbox: Inbox, pending_writes: PendingWrites) -> Self {
        Mail {
            outbox,
            recipients_to_flush: BTreeSet::new(),
            pending_encryptions: BTreeMap::new(),
            inbox,
            delivery: InboundDelivery::default(),
            pending_decryptions: PendingDecryptions::default(),
            sessions: InboundSessions::default(),
            deferred_responses: DeferredResponses::default(),
            pending_acks: PendingAcks::default(),
            pending_writes,
            store_failed: false,
        }
    }
}
