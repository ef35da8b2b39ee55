//! Delivery of messages to the clients.
//!
//! Without a store the node acknowledges a message as soon as it is on the way to a client. With
//! a store the node acknowledges it when the store has recorded that a client has it, so that no
//! crash loses an acknowledged message. With `--ack manual` the node acknowledges it when its clients
//! have written `ack`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use alloy_primitives::Address;
use p2p_node_protocol::{Counter, ErrorCode, Message, Route};
use p2p_node_wire::envelope;
use p2p_node_wire::identity::NodePublicKey;
use p2p_node_wire::message_id::StreamId;
use p2p_node_wire::time::Instant;

use crate::budget::Budget;
use crate::client_id::ClientId;
use crate::cx::Cx;
use crate::effect::Effect;
use crate::gate::Gate;
use crate::gate::message_event::message_event;
use crate::gate::sender::Sender;
use crate::mail::Mail;
use crate::mail::inbound::inbox::{AckPolicy, Key};
use crate::mail::inbound::pending_acks::MAX_ACKS_OWED;
use crate::mail::inbound::receive_window::{DeliverDecision, StreamCheckpoint};
use crate::mail::inbound::unacked::{MAX_UNACKED, Unacked};
use crate::replies::message_line_bytes;
use crate::replies::output_queue::{MailLine, WriteToken};
use crate::replies::reply_to::ReplyTo;

/// Pause before the node tries a failed write of a checkpoint again. Our choice: soon enough for a
/// sender that waits for a response.
const RETRY: Duration = Duration::from_secs(1);

/// A message that the node delivers after the store has committed the checkpoint. So the next
/// process knows that the message may have been delivered.
#[derive(Debug)]
struct AwaitingCheckpoint {
    seq: u64,
    message: Box<Message>,
    bytes: usize,
}

/// An `ack` that the node answers when the store has committed all of its messages.
#[derive(Debug)]
pub(super) struct PendingAckReply {
    /// The messages that the store has not committed.
    pub(super) pending: Vec<(Key, u64)>,
    /// The ids that belong to no message.
    pub(super) unknown: Vec<String>,
    /// The `ack`, which has an id.
    pub(super) command: ReplyTo,
}

/// Limit of the messages in all `ack` commands that wait for the disk. Our choice: each message
/// that may wait for its `ack`, acknowledged twice.
pub(super) const MAX_ASKED: usize = 2 * MAX_UNACKED;

/// The progress of the parent beyond the committed checkpoints. The store writes at most one
/// checkpoint of a stream at a time.
#[derive(Debug, Default)]
pub(crate) struct InboundDelivery {
    in_flight: BTreeSet<Key>,
    /// Streams whose checkpoint has changed since the last write began.
    later: BTreeSet<Key>,
    retry_at: Option<Instant>,
    /// Streams whose messages came by gossip, with the node that receives their ack.
    by_gossip: BTreeMap<Key, NodePublicKey>,
    pub(crate) unacked: Unacked,
    awaiting_checkpoint: BTreeMap<Key, VecDeque<AwaitingCheckpoint>>,
    awaiting_checkpoint_budget: Budget,
    pub(super) pending_ack_replies: Vec<PendingAckReply>,
    /// Something changed since the node last looked for clients that take waiting messages.
    pub(super) may_hand_over: bool,
}

impl InboundDelivery {
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.retry_at
    }

    pub(crate) fn len(&self) -> usize {
        self.in_flight.len() + self.later.len()
    }

    /// Returns `true` if an `ack` waits for the disk.
    pub(crate) fn has_pending_acks(&self) -> bool {
        !self.pending_ack_replies.is_empty()
    }

    /// Returns the number and the size of the messages that wait for a checkpoint before delivery.
    pub(crate) fn awaiting_checkpoint(&self) -> Budget {
        self.awaiting_checkpoint_budget
    }

    /// Removes and returns the messages of a stream below `below`, which the node may deliver now.
    fn drain_deliverable(&mut self, key: &Key, below: u64) -> Vec<AwaitingCheckpoint> {
        let Some(waiting) = self.awaiting_checkpoint.get_mut(key) else { return Vec::new() };
        let delivered_up_to: Vec<AwaitingCheckpoint> =
            waiting.drain(..waiting.partition_point(|mail| mail.seq < below)).collect();
        if waiting.is_empty() {
            self.awaiting_checkpoint.remove(key);
        }
        self.awaiting_checkpoint_budget -= delivered_up_to.iter().map(|mail| mail.bytes).collect();
        delivered_up_to
    }

    /// Schedules an ack of the stream to this node, sent once the store has committed its
    /// checkpoint. Returns `false` if there is no room: the sender repeats its messages and
    /// receives an ack then.
    fn acknowledge_later(&mut self, key: Key, node_key: NodePublicKey) -> bool {
        let has_room = self.by_gossip.len() < MAX_ACKS_OWED || self.by_gossip.contains_key(&key);
        if has_room {
            self.by_gossip.insert(key, node_key);
        }
        has_room
    }

    /// Removes all state of a stream.
    fn forget(&mut self, key: &Key) {
        self.later.remove(key);
        self.drain_deliverable(key, u64::MAX);
        self.by_gossip.remove(key);
        self.unacked.forget(key);
    }
}

impl Mail {
    pub(crate) fn manual_ack(&self) -> bool {
        self.inbox.ack_policy() == AckPolicy::Manual
    }

    /// Returns `true` if there is room for these messages too. `has_high` states that some have
    /// high priority.
    pub(crate) fn has_room(&self, messages: Budget, has_high: bool, cx: &Cx) -> bool {
        cx.replies.clients.has_mail_room(messages, has_high, self.delivery.awaiting_checkpoint())
    }

    /// Returns `true` if the clients may hold one more message of a sender without `ack`, and all
    /// buffered messages of that sender.
    pub(crate) fn may_hold_one_more(&self, sender: &Address, bytes: usize) -> bool {
        let buffered = self.inbox.buffered_of(sender);
        self.delivery.unacked.has_room(sender, buffered + Budget::of(1, bytes))
    }

    /// Hands a message to the clients that get it.
    fn push_mail(
        &mut self,
        (key, seq): (Key, u64),
        message: Box<Message>,
        bytes: usize,
        receipt: Option<WriteToken>,
        gate: &mut Gate,
        cx: &mut Cx,
    ) {
        let priority = gate.effective_priority(key.0, &message, cx);
        let line = MailLine { priority, message, bytes, receipt };
        match self.manual_ack() {
            true => self.hand_over_unacked(&key, seq, line, cx),
            false => cx.emit_mail(line),
        }
    }

    /// Delivers a message that is next in its stream, if it passes the last checks.
    pub(super) fn deliver_message(
        &mut self,
        sender: &mut Sender,
        key: Key,
        message: envelope::Message,
        route: Route,
        gate: &mut Gate,
        cx: &mut Cx,
    ) -> Result<(), ErrorCode> {
        let seq = message.seq;
        gate.guard_flow(sender, &message, cx)?;
        let file = self.take_file(key, &message)?;
        let (mut message, bytes) = message_event(sender, message, None, route, cx)?;
        message.file = file;
        if message_line_bytes(&message) > cx.replies.clients.longest_line() {
            return Err(ErrorCode::MessageTooLarge);
        }
        cx.stats.received(Counter::MailReceived, message.priority, cx.now.mono);
        gate.tiers.on_mail_from(sender.address);
        gate.flow.remember(&message.message_id, message.hops.unwrap_or_default());
        self.deliver(key, seq, message, bytes, gate, cx);
        Ok(())
    }

    /// Delivers a message to the clients, or keeps it until the store has committed the checkpoint.
    pub(crate) fn deliver(
        &mut self,
        key: Key,
        seq: u64,
        mut message: Box<Message>,
        bytes: usize,
        gate: &mut Gate,
        cx: &mut Cx,
    ) {
        let ack_policy = self.inbox.ack_policy();
        let (sender, stream) = key;
        if ack_policy == AckPolicy::OnReceipt {
            return self.push_mail((key, seq), message, bytes, None, gate, cx);
        }
        let DeliverDecision::New { redelivered: again } = self.inbox.deliver(key, seq) else {
            return self.schedule_checkpoint(key, cx);
        };
        message.redelivered = again;
        if ack_policy == AckPolicy::OnPersisted {
            let receipt = Some(WriteToken { sender, stream, seq });
            return self.push_mail((key, seq), message, bytes, receipt, gate, cx);
        }
        self.delivery.unacked.insert(key, seq, bytes);
        if !self.pending_writes.is_durable() {
            return self.push_mail((key, seq), message, bytes, None, gate, cx);
        }
        self.delivery.awaiting_checkpoint_budget.add(bytes);
        self.delivery.awaiting_checkpoint.entry(key).or_default().push_back(AwaitingCheckpoint {
            seq,
            message,
            bytes,
        });
        self.delivery.later.insert(key);
    }

    /// Rejects a message. The rejection is acknowledged as soon as all earlier messages are.
    pub(crate) fn reject_in_order(&mut self, key: Key, seq: u64, cx: &mut Cx) {
        if self.inbox.ack_policy() != AckPolicy::OnReceipt {
            self.inbox.deliver(key, seq);
            self.inbox.mark_acked(key, seq);
            self.schedule_checkpoint(key, cx);
        }
    }

    /// Handles lines that the writer of a client has written.
    pub(crate) fn on_written(&mut self, client: ClientId, lines: usize, cx: &mut Cx) {
        self.delivery.may_hand_over = true;
        let Some(client) = cx.replies.clients.get_mut(client) else { return };
        client.pace.progressed();
        for WriteToken { sender, stream, seq } in client.output.written(lines) {
            if self.inbox.mark_acked((sender, stream), seq) {
                self.schedule_checkpoint((sender, stream), cx);
            }
        }
    }

    /// Schedules a checkpoint, because the parent has more of a stream than before.
    pub(super) fn schedule_checkpoint(&mut self, key: Key, cx: &mut Cx) {
        if self.pending_writes.is_durable() {
            self.delivery.later.insert(key);
        } else if let Some(row) = self.inbox.row(key) {
            self.commit_checkpoint(&row, cx);
        }
    }

    /// Lets the node acknowledge the messages up to this checkpoint. With manual acks the node
    /// sends the ack by itself, because the response to the sender's frame has already left.
    fn commit_checkpoint(&mut self, row: &StreamCheckpoint, cx: &mut Cx) {
        if self.inbox.commit(row) && self.manual_ack() {
            self.queue_ack(&row.sender, None, BTreeSet::from([row.stream]), cx);
        }
    }

    /// Drops the state of evicted streams and of messages that their sender gave up, before one of
    /// them can arrive again or be acknowledged.
    pub(crate) fn drain_evicted_streams(&mut self, cx: &mut Cx) {
        for (key, seq) in self.inbox.drain_abandoned() {
            self.delivery.unacked.remove(&key, seq);
            self.schedule_checkpoint(key, cx);
        }
        for key in self.inbox.drain_renumbered() {
            self.schedule_checkpoint(key, cx);
        }
        for key in self.inbox.drain_evicted() {
            self.delivery.forget(&key);
            // Nothing of the stream is left to persist, so the node answers the `ack`s now.
            self.reply_pending_acks(|pending_ack_replies, _| *pending_ack_replies == key, cx);
            if self.pending_writes.is_durable() {
                let (sender, stream) = key;
                cx.effects.push_back(Effect::DeleteCheckpoint { sender, stream });
            }
        }
    }

    /// Writes the changed checkpoints to the store.
    pub(crate) fn persist_checkpoints(&mut self, cx: &mut Cx) {
        let now = cx.now;
        if self.delivery.retry_at.is_some_and(|at| at > now.mono) {
            return;
        }
        self.delivery.retry_at = None;
        let in_flight = &self.delivery.in_flight;
        let ready: Vec<Key> = self.delivery.later.extract_if(.., |key| !in_flight.contains(key)).collect();
        for key in ready {
            let Some(row) = self.inbox.row(key) else { continue };
            self.delivery.in_flight.insert(key);
            self.persist_checkpoint(row, cx);
        }
    }

    /// Writes the last checkpoints before the process exits, so that the next process does not
    /// deliver these messages again.
    pub(crate) fn persist_final_checkpoints(&mut self, cx: &mut Cx) {
        for key in std::mem::take(&mut self.delivery.later) {
            if let Some(row) = self.inbox.row(key) {
                self.persist_checkpoint(row, cx);
            }
        }
    }

    pub(crate) fn on_checkpoint_persisted(&mut self, row: &StreamCheckpoint, gate: &mut Gate, cx: &mut Cx) {
        let key = (row.sender, row.stream);
        self.delivery.in_flight.remove(&key);
        self.commit_checkpoint(row, cx);
        self.delivery.unacked.commit(row);
        for AwaitingCheckpoint { seq, message, bytes } in
            self.delivery.drain_deliverable(&key, row.delivered_up_to)
        {
            self.push_mail((key, seq), message, bytes, None, gate, cx);
        }
        self.reply_pending_acks(
            |pending_ack_replies, seq| {
                *pending_ack_replies == key
                    && (seq < row.next || row.out_of_order.binary_search(&seq).is_ok())
            },
            cx,
        );
        if let Some(node_key) = self.delivery.by_gossip.remove(&key) {
            self.queue_ack(&key.0, Some(node_key), BTreeSet::from([key.1]), cx);
        }
    }

    pub(crate) fn on_checkpoint_failed(&mut self, row: &StreamCheckpoint, reason: &str, cx: &mut Cx) {
        let now = cx.now;
        let key = (row.sender, row.stream);
        self.delivery.in_flight.remove(&key);
        self.delivery.later.insert(key);
        self.delivery.retry_at = Some(now.mono + RETRY);
        cx.stats.count(Counter::CheckpointsNotPersisted);
        let message =
            format!("ack accepted but not durable (disk write failed: {reason}); send it again to confirm");
        self.reject_pending_acks(ErrorCode::DiskFull, &message, cx);
    }

    /// Acknowledges messages that came by gossip. The node acknowledges a stream whose checkpoint
    /// is not committed after the commit.
    pub(crate) fn acknowledge_gossip(
        &mut self,
        sender: Address,
        node_key: NodePublicKey,
        streams: BTreeSet<StreamId>,
        cx: &mut Cx,
    ) {
        let mut known = BTreeSet::new();
        for stream in streams {
            if self.inbox.received_up_to(&sender, &stream) >= self.inbox.next_seq(&sender, &stream) {
                known.insert(stream);
            } else if !self.delivery.acknowledge_later((sender, stream), node_key) {
                cx.stats.count(Counter::AcksDropped);
            }
        }
        if !known.is_empty() {
            self.queue_ack(&sender, Some(node_key), known, cx);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gossip_streams_awaiting_a_write_are_bounded_and_end_with_their_stream() {
        let mut taking = InboundDelivery::default();
        let key = |number: usize| (Address::left_padding_from(&number.to_be_bytes()), StreamId([1; 16]));
        assert!(
            (0..MAX_ACKS_OWED).all(|number| taking.acknowledge_later(key(number), NodePublicKey([1; 32])))
        );
        assert!(!taking.acknowledge_later(key(MAX_ACKS_OWED), NodePublicKey([1; 32])));
        assert!(taking.acknowledge_later(key(0), NodePublicKey([2; 32])));
        assert_eq!(
            (taking.by_gossip.len(), taking.by_gossip[&key(0)]),
            (MAX_ACKS_OWED, NodePublicKey([2; 32]))
        );
        taking.forget(&key(0));
        assert!(taking.acknowledge_later(key(MAX_ACKS_OWED), NodePublicKey([1; 32])));
    }
}
