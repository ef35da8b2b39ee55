//! Admission of `send` commands: the node accepts a `send` at once, queues it in the send lane, or
//! refuses it.

use std::time::Duration;

use alloy_primitives::Address;
use p2p_node_protocol::{Counter, ErrorCode, Id};

use crate::mail::outbound::stream::OutgoingMessage;
use crate::parent::send_lane::{NoRoom, To, Wait, Waiting};
use crate::{Core, MAX_INFLIGHT, Phase};

/// Longest wait of a broadcast for a subscriber, unless its `ttlMs` is shorter. Our choice: as long
/// as a node needs to join the network.
const TOPIC_HOLD: Duration = Duration::from_secs(10);

impl Core {
    /// Accepts a `send`, queues it in the send lane, or refuses it if waiting cannot help.
    pub(crate) fn offer(&mut self, to: To, send: Waiting) {
        let Waiting { draft, length } = send;
        let now = self.cx.now;
        let no_room = if self.parent.send_lane.has_line(&to, draft.priority) {
            Box::new(NoRoom { draft, wait: Wait::Shared(Duration::MAX) })
        } else {
            match self.admit(&to, draft) {
                Ok(()) => return,
                Err(no_room) => no_room,
            }
        };
        let NoRoom { draft, wait } = *no_room;
        if !wait.may_help(now.mono) || self.parent.send_lane.is_over() || !self.is_heard(&to) {
            self.cx.stats.count(Counter::SendsRefused);
            return self.cx.refuse_send(draft.request_id, ErrorCode::Busy, busy(&to));
        }
        self.cx.stats.count(Counter::SendsDeferred);
        self.cx.replies.open_sends.extend(draft.request_id.clone());
        self.parent.send_lane.push(to, Waiting { draft, length }, now.mono);
    }

    /// Accepts a `send` if there is room.
    fn admit(&mut self, to: &To, draft: OutgoingMessage) -> Result<(), Box<NoRoom>> {
        match to {
            To::Agent(recipient) => self.admit_mail(*recipient, draft),
            To::Topic(topic) => self.admit_broadcast(topic, draft),
        }
    }

    fn admit_mail(&mut self, recipient: Address, draft: OutgoingMessage) -> Result<(), Box<NoRoom>> {
        let now = self.cx.now;
        if let Some(wait) = self.wait_for_disk() {
            return Err(Box::new(NoRoom { draft, wait }));
        }
        let (id, route) = (draft.request_id.clone(), draft.route);
        let durable = self.mail.pending_writes.is_durable();
        let to_keep = durable.then(|| draft.clone());
        let accepted = self.mail.outbox.accept(recipient, draft, !durable, now.mono)?;
        self.keep_mail(recipient, accepted, to_keep, id, route);
        Ok(())
    }

    fn admit_broadcast(&mut self, topic: &str, draft: OutgoingMessage) -> Result<(), Box<NoRoom>> {
        let now = self.cx.now;
        let id = draft.request_id.clone();
        let give_up = draft.expires.min(now.mono + TOPIC_HOLD);
        let message_id = self.gossip.broadcasts.accept(topic, draft, give_up)?;
        let peers = self.subscribers(topic);
        if peers == 0 {
            self.connect_soon();
        }
        self.cx.stats.count(Counter::BroadcastsAccepted);
        self.cx.answer(id, "send", |answer| {
            answer.message_id = Some(message_id);
            answer.peers = Some(peers);
        });
        Ok(())
    }

    /// Returns a wait if as many `send` commands wait for the disk as a parent may have unanswered.
    fn wait_for_disk(&self) -> Option<Wait> {
        (self.mail.pending_writes.mails() >= MAX_INFLIGHT).then_some(Wait::Shared(Duration::MAX))
    }

    /// Returns `true` if the destination can make room: an agent always, a topic if it has
    /// connected subscribers.
    fn is_heard(&self, to: &To) -> bool {
        match to {
            To::Agent(_) => true,
            To::Topic(topic) => self.subscribers(topic) > 0,
        }
    }

    /// Returns until when a `send` has to wait, or `None` if there is room for it.
    fn wait_for(&self, to: &To, draft: &OutgoingMessage) -> Option<Wait> {
        match to {
            To::Agent(recipient) => {
                self.wait_for_disk().or_else(|| self.mail.outbox.wait_for(recipient, draft))
            }
            To::Topic(topic) => self.gossip.broadcasts.wait_for(topic, draft),
        }
    }

    /// Accepts the waiting `send` commands that have room now, and refuses those whose wait is
    /// over.
    pub(crate) fn admit_waiting(&mut self) {
        let now = self.cx.now;
        if self.parent.send_lane.is_empty() {
            return;
        }
        for key in self.parent.send_lane.in_turn() {
            while let Some(head) = self.parent.send_lane.head(&key) {
                if let Some(wait) = self.wait_for(&key.0, &head.draft) {
                    let waits_on =
                        self.parent.send_lane.waits_on(&key, wait, now.mono) && self.is_heard(&key.0);
                    if !waits_on && !self.is_closing() {
                        let sends = self.parent.send_lane.give_up(&key);
                        self.refuse_waiting(&key.0, sends);
                    }
                    break;
                }
                let Some(Waiting { draft, length }) = self.parent.send_lane.serve(&key, now.mono) else {
                    break;
                };
                if let Err(no_room) = self.admit(&key.0, draft) {
                    // Unreachable in practice: `wait_for` has just found room.
                    let sends = [Waiting { draft: no_room.draft, length }];
                    self.refuse_waiting(&key.0, sends);
                    break;
                }
            }
        }
        for (to, sends) in self.parent.send_lane.end_pause(now.mono) {
            self.refuse_waiting(&to, sends);
        }
    }

    fn refuse_waiting(&mut self, to: &To, sends: impl IntoIterator<Item = Waiting>) {
        for Waiting { draft, .. } in sends {
            self.cx.stats.count(Counter::SendsRefusedAfterPause);
            self.cx.refuse_send(draft.request_id, ErrorCode::Busy, busy(to));
        }
    }

    /// Cancels the waiting `send` with this id. Returns `false` if there is none.
    pub(crate) fn cancel_waiting(&mut self, target: &Id) -> bool {
        let Some(waiting) = self.parent.send_lane.cancel(target) else { return false };
        self.cx.stats.count(Counter::SendsCancelled);
        self.cx.refuse_send(
            waiting.draft.request_id,
            ErrorCode::Cancelled,
            "a `cancel` command ended this `send`",
        );
        true
    }

    /// Refuses every waiting `send` because the node closes.
    pub(crate) fn abandon_waiting(&mut self) {
        for Waiting { draft, .. } in self.parent.send_lane.drain() {
            self.parent.sends_abandoned = true;
            let message = "the node closed before the `send` found room";
            self.cx.refuse_send(draft.request_id, ErrorCode::ShuttingDown, message);
        }
    }

    /// Returns when a wait in the lane ends next. While the node closes, waits end with the drain.
    pub(crate) fn lane_deadline(&self) -> Option<Duration> {
        if self.is_closing() { None } else { self.parent.send_lane.next_deadline() }
    }

    fn is_closing(&self) -> bool {
        matches!(self.cx.phase, Phase::Closing { .. })
    }
}

/// Returns the error message for a full queue.
fn busy(to: &To) -> &'static str {
    match to {
        To::Agent(_) => {
            "outbox full, for this recipient or in total; send again when recipients have acknowledged messages"
        }
        To::Topic(_) => {
            "broadcast queue full, or too many topics have queued broadcasts; send again in a moment"
        }
    }
}
