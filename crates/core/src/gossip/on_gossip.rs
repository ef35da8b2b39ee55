//! Received gossip: records on the announcements topic, frames on every other topic. Each message
//! gets one verdict.

use crate::gate::pending_verification::GossipMessage;
use crate::gate::pending_verification::OfferedRecord;
use crate::gate::pending_verification::Pending;
use crate::gate::pending_verification::RecordSource;
use crate::signal::Signal;
use p2p_node_protocol::{Counter, ErrorCode, Event, Route};

use crate::Core;
use crate::effect::{NetworkCommand, Verdict};
use crate::gate::access_list::AccessRule;
use crate::mail::inbound::on_mail::{CLOCK_OUT_OF_RANGE, LATER_FRAMES};
use crate::{ANNOUNCEMENTS, MESSAGES, is_reserved};
use p2p_node_wire::envelope::limits::MAX_GOSSIP_FRAME_BYTES;
use p2p_node_wire::envelope::{Batch, Frame, Payload, Scope};

impl Core {
    pub(crate) fn on_gossip(&mut self, message: GossipMessage) {
        let now = self.cx.now;
        let (token, data) = (message.token, message.data.clone());
        let topic = message.topic.as_str();
        if !self.gossip.budget.has_room(data.len(), is_reserved(topic), now.mono) {
            self.cx.stats.count(Counter::GossipShed);
            return self.cx.network(NetworkCommand::Judge { token, verdict: Verdict::Ignore });
        }
        self.gossip.budget.take(data.len(), now.mono);
        if topic == ANNOUNCEMENTS {
            let source = RecordSource::Announcement(token);
            return self.on_record(OfferedRecord { bytes: data, source, expected_address: None });
        }
        if let Some(verdict) = self.judge_frame(message) {
            self.cx.network(NetworkCommand::Judge { token, verdict });
        }
    }

    /// Returns the verdict, or `None` if the frame waits for the crypto pool. The node forwards
    /// every authentic frame; its own rules for content and senders only affect local delivery.
    fn judge_frame(&mut self, message: GossipMessage) -> Option<Verdict> {
        let (from, topic) = (message.from, message.topic.clone());
        let topic = topic.as_str();
        let frame = match Frame::decode(message.data.clone(), MAX_GOSSIP_FRAME_BYTES) {
            Ok(frame) => frame,
            Err(error) if error.is_of_later_version() => {
                return Some(self.refuse_frame(LATER_FRAMES, Verdict::Ignore));
            }
            Err(_) => return Some(self.refuse_frame(Counter::FramesMalformed, Verdict::Reject)),
        };
        let in_scope = match &frame.body.scope {
            Some(Scope::Topic(scope)) => scope == topic,
            Some(Scope::NodeKey(_)) => topic == MESSAGES,
            None => false,
        };
        let networks = [&frame.body.network, &frame.binding.binding.network];
        if !in_scope || networks != [&self.cx.identity.network; 2] {
            return Some(self.refuse_frame(Counter::FramesOutOfScope, Verdict::Reject));
        }
        if frame.binding.binding.node_key == self.cx.identity.node_key.public() {
            if self.cx.frame_numbers.is_ahead(&frame) && frame.verify_signature() {
                self.cx.signal(Signal::CountersReused);
            }
            return Some(self.refuse_frame(Counter::FramesOfOurs, Verdict::Ignore));
        }
        if let Err(refusal) = self.check_frame(&frame, self.start_by(&frame.binding.binding.peer_id)) {
            if refusal.code == CLOCK_OUT_OF_RANGE {
                self.compare_clocks(&from, &frame, false);
            }
            let verdict = if refusal.provable { Verdict::Reject } else { Verdict::Ignore };
            return Some(self.refuse_frame(refusal.counter, verdict));
        }
        self.compare_clocks(&from, &frame, true);
        match self.check_binding(&frame.binding, || Pending::Gossip(message)) {
            None => return None,
            Some(false) => return Some(self.refuse_frame(Counter::FramesUnbound, Verdict::Reject)),
            Some(true) => {}
        }
        if self.commit_replay(&frame).is_some() {
            return Some(self.refuse_frame(Counter::FramesReplayed, Verdict::Ignore));
        }
        match (&frame.body.payload, &frame.body.scope) {
            (Some(Payload::Plain(_batch)), Some(Scope::NodeKey(key))) => {
                if *key == self.cx.identity.node_key.public().as_slice() {
                    self.cx.signal(Signal::MailByGossip(Box::new(frame)));
                }
            }
            (Some(Payload::Plain(batch)), _) => self.on_broadcast(&frame, batch, topic),
            (Some(Payload::Sealed(_)), _) if topic == MESSAGES => {
                self.cx.signal(Signal::MailByGossip(Box::new(frame)));
            }
            // A session exists only between two connected nodes, so its frames do not belong on a
            // topic.
            _ => self.cx.stats.count(Counter::FramesMisplaced),
        }
        Some(Verdict::Accept)
    }

    fn refuse_frame(&mut self, counter: Counter, verdict: Verdict) -> Verdict {
        self.cx.stats.count(counter);
        verdict
    }

    /// Handles a frame by gossip that may concern our mail: acks for us, or mail to decrypt.
    pub(crate) fn on_gossip_frame(&mut self, frame: Frame) {
        match &frame.body.payload {
            Some(Payload::Plain(batch)) => self.on_gossip_acks(&frame, batch),
            _ => self.unseal_gossip(frame),
        }
    }

    /// Handles acks for us that arrived by gossip. Mail by gossip is always encrypted, so a plain
    /// batch contains none.
    fn on_gossip_acks(&mut self, frame: &Frame, batch: &Batch) {
        if !batch.messages.is_empty() {
            self.cx.stats.count(Counter::FramesUnsealed);
        }
        self.on_acks(&self.sender(frame), frame, batch);
    }

    /// Handles mail that arrived by gossip like direct mail, except that no sender waits for a
    /// response.
    pub(crate) fn on_gossip_mail(&mut self, frame: &Frame, batch: &Batch) {
        let mut sender = self.sender(frame);
        self.on_acks(&sender, frame, batch);
        if batch.messages.is_empty() {
            return;
        }
        if !self.has_room_for(&sender, batch) || self.cx.is_flushing() {
            // The node sends no ack, so the sender keeps the messages and tries again.
            return self.cx.stats.count(Counter::MailBusy);
        }
        let taken = self.accept_batch(&mut sender, batch, Route::Gossip);
        self.mail.inbox.heard(&sender.address, frame.body.boot, frame.body.counter);
        self.acknowledge_gossip(sender.address, frame.binding.binding.node_key, taken.streams);
    }

    fn on_broadcast(&mut self, frame: &Frame, batch: &Batch, topic: &str) {
        if !self.gossip.subscribed.contains(topic) {
            return;
        }
        let mut sender = self.sender(frame);
        if sender.standing == Some(AccessRule::Blocked) {
            return self.cx.stats.add(Counter::BroadcastsBlocked, batch.messages.len() as u64);
        }
        for message in &batch.messages {
            match self.message_event(&mut sender, message.clone(), Some(topic), Route::Gossip) {
                Ok((message, bytes)) => {
                    self.cx.stats.count(Counter::BroadcastsReceived);
                    let class = self.effective_priority(sender.address, &message);
                    self.cx.replies.output.broadcast(class, Event::Message(message), bytes);
                }
                Err(code) => {
                    self.cx.stats.count(Counter::BroadcastsRefused);
                    if code == ErrorCode::MessageTooLarge {
                        self.cx.replies.output.too_long();
                    }
                }
            }
        }
    }
}
