//! Mail between two agents: accepted, encrypted, acknowledged and persisted.

pub(crate) mod encryption;
pub mod inbound;
pub mod outbound;
pub(crate) mod pending_writes;

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::Address;

use p2p_node_wire::seal::session::Incoming;

use crate::input::Token;
use encryption::{Openings, Unsealed};
use inbound::deferred_responses::HeldAnswers;
use inbound::delivery::Taking;
use inbound::inbox::Inbox;
use inbound::pending_acks::AcksOwed;
use outbound::outbox::Outbox;
use pending_writes::Keeping;

/// Mail in both directions.
#[derive(Debug)]
pub(crate) struct Mail {
    /// Mail that was accepted from the parent.
    pub(crate) outbox: Outbox,
    /// Recipients to whom a frame may be due.
    pub(crate) recipients_to_flush: BTreeSet<Address>,
    /// Frames that the crypto pool encrypts.
    pub(crate) pending_encryptions: BTreeMap<Token, Unsealed>,
    /// Mail that arrives, by sender and stream.
    pub(crate) inbox: Inbox,
    /// Mail on its way to the parent.
    pub(crate) delivery: Taking,
    /// Frames that the crypto pool decrypts.
    pub(crate) pending_decryptions: Openings,
    /// Sessions that peers opened.
    pub(crate) sessions: Incoming,
    /// Responses that wait for a missing message.
    pub(crate) deferred_responses: HeldAnswers,
    /// Acknowledgements that leave by themselves.
    pub(crate) pending_acks: AcksOwed,
    /// What is on its way to the disk.
    pub(crate) pending_writes: Keeping,
    /// The store does not write at present, and the parent has heard of it.
    pub(crate) store_failed: bool,
}

impl Mail {
    pub(crate) fn new(outbox: Outbox, inbox: Inbox, pending_writes: Keeping) -> Self {
        Mail {
            outbox,
            recipients_to_flush: BTreeSet::new(),
            pending_encryptions: BTreeMap::new(),
            inbox,
            delivery: Taking::default(),
            pending_decryptions: Openings::default(),
            sessions: Incoming::default(),
            deferred_responses: HeldAnswers::default(),
            pending_acks: AcksOwed::default(),
            pending_writes,
            store_failed: false,
        }
    }
}
