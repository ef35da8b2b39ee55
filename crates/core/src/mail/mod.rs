//! Mail between two agents: accepted, encrypted, acknowledged and persisted.

pub(crate) mod decryption;
pub(crate) mod demand;
pub(crate) mod encryption;
pub mod inbound;
pub mod outbound;
pub(crate) mod pending_writes;

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::Address;
use p2p_node_wire::seal;
use p2p_node_wire::seal::session::InboundSessions;

use crate::MAX_INFLIGHT;
use crate::config::CoreConfig;
use crate::cx::Cx;
use crate::input::{Now, Token};
use crate::mail::inbound::{digests, unacked};
use crate::replies::output_queue;
use crate::timers::TimerTable;
use crate::usage::Usage;
use decryption::PendingDecryptions;
use encryption::PendingEncryption;
use inbound::deferred_responses::DeferredResponses;
use inbound::delivery::InboundDelivery;
use inbound::files::{FileDecisions, FileLimits, MAX_DECISIONS};
use inbound::inbox::{AckPolicy, Inbox};
use inbound::pending_acks::PendingAcks;
use inbound::{deferred_responses, inbox, pending_acks};
use outbound::outbox;
use outbound::outbox::Outbox;
use pending_writes::{MAX_RULE_WRITES, PendingWrites};

/// The state of mail in both directions.
#[derive(Debug)]
pub(crate) struct Mail {
    /// Messages that the node accepted from the parent and has not completed.
    pub(crate) outbox: Outbox,
    /// Recipients for whom a frame may be due.
    pub(crate) recipients_to_flush: BTreeSet<Address>,
    /// Frames that the crypto pool encrypts, by the token of the frame.
    pub(crate) pending_encryptions: BTreeMap<Token, PendingEncryption>,
    /// Messages that arrive, by sender and stream.
    pub(crate) inbox: Inbox,
    /// Decisions about messages with files.
    pub(crate) files: FileDecisions,
    /// What the node accepts of files.
    pub(crate) file_limits: FileLimits,
    /// Messages on their way to the parent.
    pub(crate) delivery: InboundDelivery,
    /// Frames that the crypto pool decrypts.
    pub(crate) pending_decryptions: PendingDecryptions,
    /// Sessions that peers opened.
    pub(crate) sessions: InboundSessions,
    /// Responses that wait for an earlier message, the disk or the parent.
    pub(crate) deferred_responses: DeferredResponses,
    /// Acks that no response carries.
    pub(crate) pending_acks: PendingAcks,
    /// Changes that the store has not committed yet.
    pub(crate) pending_writes: PendingWrites,
    /// `true` while the store fails. The node reports each failure of the store once.
    pub(crate) store_failed: bool,
}

impl Mail {
    /// Creates the component, with the messages and checkpoints that earlier processes left in the
    /// store.
    pub(crate) fn restore(config: &CoreConfig, now: Now) -> Self {
        let mut outbox = Outbox::new(config.origin());
        let position = outbox.restore(config.outbox.clone(), now);
        let mut inbox = Inbox::new(match (config.manual_ack, config.durable) {
            (true, _) => AckPolicy::Manual,
            (false, true) => AckPolicy::OnPersisted,
            (false, false) => AckPolicy::OnReceipt,
        });
        inbox.restore(config.inbox.clone(), now.mono);
        let pending_writes = PendingWrites::new(config.durable, position);
        Mail {
            outbox,
            recipients_to_flush: BTreeSet::new(),
            pending_encryptions: BTreeMap::new(),
            inbox,
            files: FileDecisions::default(),
            file_limits: config.files,
            delivery: InboundDelivery::default(),
            pending_decryptions: PendingDecryptions::default(),
            sessions: InboundSessions::default(),
            deferred_responses: DeferredResponses::default(),
            pending_acks: PendingAcks::default(),
            pending_writes,
            store_failed: false,
        }
    }

    /// Enters the next deadline of each part.
    pub(crate) fn timers(&self, timers: &mut TimerTable) {
        timers.enter("deferred responses", self.deferred_responses.next_deadline());
        timers.enter("acks by gossip", self.pending_acks.paced_until());
        timers.enter("checkpoints", self.delivery.next_deadline());
        timers.enter("outbox", self.outbox.next_deadline());
    }

    /// Returns the size of each collection, with its limit.
    pub(crate) fn usage(&self) -> Vec<Usage> {
        [
            ("sessions", self.sessions.len(), seal::session::MAX_SESSIONS),
            ("frames to decrypt", self.pending_decryptions.len(), decryption::MAX_DECRYPTIONS),
            ("frames to encrypt", self.pending_encryptions.len(), outbox::OUTBOX_MAILS),
            (
                "pending writes",
                self.pending_writes.len(),
                outbox::OUTBOX_MAILS + inbox::inbox_limits::MAX_STREAMS + MAX_RULE_WRITES,
            ),
            ("pending writes of access rules", self.pending_writes.access_rules(), MAX_RULE_WRITES),
            ("pending writes of messages", self.pending_writes.messages(), MAX_INFLIGHT),
            ("pending writes of checkpoints", self.delivery.len(), 2 * inbox::inbox_limits::MAX_STREAMS),
            ("messages in the outbox", self.outbox.len(), outbox::OUTBOX_MAILS),
            ("bytes in the outbox", self.outbox.bytes(), outbox::OUTBOX_BYTES + crate::MAX_DIRECT_BYTES),
            (
                "destinations",
                self.outbox.recipients().count(),
                outbox::OUTBOX_MAILS + outbox::MAX_IDLE_DESTINATIONS,
            ),
            ("streams received", self.inbox.len(), inbox::inbox_limits::MAX_STREAMS),
            ("message digests", self.inbox.digests(), inbox::inbox_limits::MAX_STREAMS * digests::REMEMBERED),
            ("messages acked out of order", self.inbox.out_of_order(), inbox::inbox_limits::ALL_OUT_OF_ORDER),
            ("bytes in the reorder buffers", self.inbox.buffered_bytes(), inbox::inbox_limits::REORDER_BYTES),
            ("decisions about files", self.files.len(), MAX_DECISIONS),
            ("deferred responses", self.deferred_responses.len(), deferred_responses::MAX_DEFERRED_RESPONSES),
            ("pending acks", self.pending_acks.len(), pending_acks::MAX_ACKS_OWED),
            ("acks in flight", self.pending_acks.in_flight(), pending_acks::MAX_ACKS_ON_WIRE),
            ("messages that wait for an ack", self.delivery.unacked.len(), unacked::MAX_UNACKED),
            (
                "bytes that wait for an ack",
                self.delivery.unacked.bytes(),
                unacked::MAX_UNACKED_BYTES + 2 * crate::MAX_DIRECT_BYTES,
            ),
            ("acks of other clients", self.delivery.unacked.settled(), unacked::MAX_UNACKED),
            (
                "messages that wait for a checkpoint",
                self.delivery.awaiting_checkpoint().count(),
                output_queue::MAIL_LINES,
            ),
            (
                "bytes that wait for a checkpoint",
                self.delivery.awaiting_checkpoint().bytes(),
                output_queue::MAIL_BYTES + crate::MAX_DIRECT_BYTES,
            ),
        ]
        .into_iter()
        .map(|(name, size, limit)| Usage { name, size, limit })
        .collect()
    }

    /// Returns `true` if a sender waits for an ack, or the parent waits for the answer to an `ack`.
    pub(crate) fn has_deferred_responses(&self, cx: &Cx) -> bool {
        !self.pending_acks.is_idle()
            || !self.deferred_responses.is_empty()
            || self.delivery.len() > 0
            || self.delivery.has_pending_acks()
            || cx.replies.clients.await_receipts()
    }
}

#[cfg(test)]
mod tests;
