//! The size of every collection in the core with its limit. Tests compare the two after every step.

use crate::MAX_INFLIGHT;
use crate::directory::record_table;
use crate::gossip::broadcast_queue;
use crate::mail::outbound::outbox;
use crate::replies::output_queue;

/// The size of one collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Name of the collection.
    pub name: &'static str,
    /// Current size, in items or bytes.
    pub size: usize,
    /// Largest permitted size.
    pub limit: usize,
}

/// Largest number of required lines beyond those at which the node stops reading stdin: the
/// completion of every accepted message and broadcast, the reply to every command, and the lines of
/// one turn.
pub(crate) const MAX_REQUIRED: usize = output_queue::MAX_REQUIRED_LINES
    + outbox::OUTBOX_MAILS
    + broadcast_queue::MAX_TOPICS * broadcast_queue::TOPIC_QUEUE_MESSAGES
    + MAX_INFLIGHT
    + record_table::MAX_AGENTS;
