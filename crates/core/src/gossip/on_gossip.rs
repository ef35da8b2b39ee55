//! Received gossip: records on the announcements topic, frames on every other topic. Each message
//! gets one verdict.

use bytes::Bytes;
use libp2p_identity::PeerId;
use p2p_node_protocol::{Counter, ErrorCode, Event, Route};

use crate::Core;
use crate::directory::on_record::{Pending, Source};
use crate::effect::{NetworkCommand, Verdict};
use crate::gate::access_list::AccessRule;
use crate::input::{Now, Token};
use crate::mail::inbound::on_mail::{CLOCK_OUT_OF_RANGE, LATER_FRAMES};
use crate::{ANNOUNCEMENTS, MESSAGES, is_reserved};
use p2p_node_wire::envelope::limits::MAX_GOSSIP_FRAME_BYTES;
use p2p_node_wire::envelope::{Batch, Frame, Payload, Scope};

impl Core {
    pub(crate) fn on_gossip(&mut self, token: Token, from: PeerId, topic: String, data: Bytes, now: Now) {
        if !self.gossip.budget.has_room(data.len(), is_reserved(&topic), now.mono) {
            self.cx.stats.count(Counter::GossipShed);
            return self.network(NetworkCommand::Judge { token, verdict: Verdict::Ignore });
        }
        self.gossip.budget.take(data.len(), now.mono);
        if topic == ANNOUNCEMENTS {
            return self.on_record(data, Source::Announcement(token), None, now);
        }
        if let Some(verdict) = self.judge_frame(token, from, &topic, data, now) {
            self.network(NetworkCommand::Judge { token, verdict });
        }
    }

    /// Returns the verdict, or `None` if the frame waits for the crypto pool. The node forwards
    /// every authentic frame; its own rules for content and senders only affect local delivery.
    fn judge_frame(
        &mut self,
        token: Token,
        from: PeerId,
        topic: &str,
        data: Bytes,
        now: Now,
    ) -> Option<Verdict> {
        let frame = match Frame::decode(data.clone(), MAX_GOSSIP_FRAME_BYTES) {
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
        if !in_scope || networks != [&self.local.identity.network; 2] {
            return Some(self.refuse_frame(Counter::FramesOutOfScope, Verdict::Reject));
        }
        if frame.binding.binding.node_key == self.local.identity.node_key.public() {
            if self.local.frame_numbers.is_ahead(&frame) && frame.verify_signature() {
                self.on_counter_reused(now);
            }
            return Some(self.refuse_frame(Counter::FramesOfOurs, Verdict::Ignore));
        }
        if let Err(refusal) = self.check_frame(&frame, self.start_by(&frame.binding.binding.peer_id), now) {
            if refusal.code == CLOCK_OUT_OF_RANGE {
                self.compare_clocks(&from, &frame, false, now);
            }
            let verdict = if refusal.provable { Verdict::Reject } else { Verdict::Ignore };
            return Some(self.refuse_frame(refusal.counter, verdict));
        }
        self.compare_clocks(&from, &frame, true, now);
        match self.check_binding(&frame.binding, || Pending::Gossip {
            token,
            from,
            topic: topic.to_owned(),
            data,
        }) {
            None => return None,
            Some(false) => return Some(self.refuse_frame(Counter::FramesUnbound, Verdict::Reject)),
            Some(true) => {}
        }
        if self.commit_replay(&frame, now).is_some() {
            return Some(self.refuse_frame(Counter::FramesReplayed, Verdict::Ignore));
        }
        match (&frame.body.payload, &frame.body.scope) {
            (Some(Payload::Plain(batch)), Some(Scope::NodeKey(key))) => {
                if *key == self.local.identity.node_key.public().as_slice() {
                    self.on_gossip_acks(&frame, batch, now);
                }
            }
            (Some(Payload::Plain(batch)), _) => self.on_broadcast(&frame, batch, topic, now),
            (Some(Payload::Sealed(_)), _) if topic == MESSAGES => self.unseal_gossip(frame),
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

    /// Handles acks for us that arrived by gossip. Mail by gossip is always encrypted, so a plain
    /// batch contains none.
    fn on_gossip_acks(&mut self, frame: &Frame, batch: &Batch, now: Now) {
        if !batch.messages.is_empty() {
            self.cx.stats.count(Counter::FramesUnsealed);
        }
        self.on_acks(&self.sender(frame), frame, batch, now);
    }

    /// Handles mail that arrived by gossip like direct mail, except that no sender waits for a
    /// response.
    pub(crate) fn on_gossip_mail(&mut self, frame: &Frame, batch: &Batch, now: Now) {
        let mut sender = self.sender(frame);
        self.on_acks(&sender, frame, batch, now);
        if batch.messages.is_empty() {
            return;
        }
        if !self.has_room_for(&sender, batch, now) || self.is_flushing() {
            // The node sends no ack, so the sender keeps the messages and tries again.
            return self.cx.stats.count(Counter::MailBusy);
        }
        let taken = self.accept_batch(&mut sender, batch, Route::Gossip, now);
        self.mail.inbox.heard(&sender.address, frame.body.boot, frame.body.counter);
        self.acknowledge_gossip(sender.address, frame.binding.binding.node_key, taken.streams, now);
    }

    fn on_broadcast(&mut self, frame: &Frame, batch: &Batch, topic: &str, now: Now) {
        if !self.gossip.subscribed.contains(topic) {
            return;
        }
        let mut sender = self.sender(frame);
        if sender.standing == Some(AccessRule::Blocked) {
            return self.cx.stats.add(Counter::BroadcastsBlocked, batch.messages.len() as u64);
        }
        for message in &batch.messages {
            match self.message_event(&mut sender, message.clone(), Some(topic), Route::Gossip, now) {
                Ok((message, bytes)) => {
                    self.cx.stats.count(Counter::BroadcastsReceived);
                    let class = self.effective_priority(sender.address, &message, now);
                    self.parent.output.broadcast(class, Event::Message(message), bytes);
                }
                Err(code) => {
                    self.cx.stats.count(Counter::BroadcastsRefused);
                    if code == ErrorCode::MessageTooLarge {
                        self.parent.output.too_long();
                    }
                }
            }
        }
    }
}
