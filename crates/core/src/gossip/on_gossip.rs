//! Received gossip: records on the announcements topic, frames on every other topic. Each message
//! gets one verdict.

use libp2p_identity::PeerId;
use p2p_node_protocol::{Counter, ErrorCode, Route};
use p2p_node_wire::envelope::limits::MAX_GOSSIP_FRAME_BYTES;
use p2p_node_wire::envelope::{Batch, Frame, FrameClaim, Payload, Scope};

use crate::cx::Cx;
use crate::directory::Directory;
use crate::effect::{NetworkCommand, Verdict};
use crate::gate::Gate;
use crate::gate::frame_checks::{CLOCK_OUT_OF_RANGE, LATER_FRAMES};
use crate::gate::limits::{Author, Passage, TopicKind};
use crate::gate::message_event::{ReceivedCall, message_event};
use crate::gate::pending_verification::{GossipMessage, OfferedRecord, Pending, RecordSource};
use crate::gate::reputation::{Conduct, Party};
use crate::gate::sender::Sender;
use crate::gate::tier::Tier;
use crate::gossip::Gossip;
use crate::input::Token;
use crate::local::Local;
use crate::peers::Peers;
use crate::signal::Signal;
use crate::topics::is_node_topic;
use crate::topics::{ANNOUNCEMENTS, MESSAGES, STATUS};

impl Gossip {
    /// Handles a gossip message. Reports the verdict, unless the message waits for the crypto pool.
    pub(crate) fn on_gossip(
        &mut self,
        message: GossipMessage,
        local: &mut Local,
        gate: &mut Gate,
        directory: &Directory,
        peers: &Peers,
        cx: &mut Cx,
    ) {
        if let Some(verdict) = self.screen(&message, gate, directory, cx) {
            return report(message.token, message.from, verdict, cx);
        }
        self.budget.record(message.data.len(), Some(message.from), cx.now.mono);
        if message.topic == ANNOUNCEMENTS {
            return cx.signal(Signal::RecordReceived(OfferedRecord {
                bytes: message.data,
                source: RecordSource::Announcement(message.token, message.from),
                expected_address: None,
            }));
        }
        self.on_admitted(message, local, gate, directory, peers, cx);
    }

    /// Handles a frame that is within the limits of its neighbour and its author, also again after the
    /// crypto pool checked its binding.
    pub(crate) fn on_admitted(
        &mut self,
        message: GossipMessage,
        local: &mut Local,
        gate: &mut Gate,
        directory: &Directory,
        peers: &Peers,
        cx: &mut Cx,
    ) {
        let (token, from) = (message.token, message.from);
        if let Some(verdict) = self.validate_frame(message, local, gate, directory, peers, cx) {
            report(token, from, verdict, cx);
        }
    }

    /// Checks what costs next to nothing. Returns the verdict of a message that the node does not read.
    fn screen(
        &mut self,
        message: &GossipMessage,
        gate: &mut Gate,
        directory: &Directory,
        cx: &mut Cx,
    ) -> Option<Verdict> {
        let (now, size, from) = (cx.now, message.data.len(), message.from);
        // The connection of a banned neighbour is about to end. What it sent before costs no more checks.
        if gate.reputations.ban_of(&Party::Node(from)).is_some() {
            return Some(reject_frame(Counter::DataNotAdmitted, Verdict::Ignore, cx));
        }
        if !self.budget.has_room(size, &from, is_node_topic(&message.topic), now.mono) {
            return Some(reject_frame(Counter::GossipDropped, Verdict::Ignore, cx));
        }
        let tier = gate.tier_of_peer(&from, || directory.agent_of(&from, cx));
        if !gate.limits.admit_gossip(from, tier, now.mono) {
            return Some(reject_frame(Counter::GossipOverLimit, Verdict::Ignore, cx));
        }
        if message.topic == ANNOUNCEMENTS {
            return None;
        }
        let claim = FrameClaim::read(&message.data)?;
        if claim.peer_id == from
            && tier < Tier::Allowed
            && let Some(conduct) = gate.limits.authors.check_own_frame(from, &claim, size, now)
        {
            cx.observe(from, conduct);
        }
        let author = Author {
            agent: &claim.account,
            node: &claim.peer_id,
            tier: gate.tier(Some(&claim.account), &claim.peer_id),
            is_met: directory.records.is_met(&claim.account),
        };
        // Each node bans for itself. Without this, one that has not yet done so would pass a flood on to all.
        if author.tier < Tier::Allowed && gate.reputations.is_banned(author.agent, author.node) {
            return Some(reject_frame(Counter::FramesOfBanned, Verdict::Ignore, cx));
        }
        let passage = Passage { author, from, topic: topic_kind(&message.topic) };
        if gate.limits.authors.has_room(passage, size, now.mono) {
            return None;
        }
        let is_forged = gate.limits.admit_spot_check(from, now.mono)
            && Frame::decode(message.data.clone(), MAX_GOSSIP_FRAME_BYTES)
                .map_or_else(|error| !error.is_of_later_version(), |frame| !frame.is_authentic());
        Some(if is_forged {
            reject_frame(Counter::FramesForged, Verdict::Reject, cx)
        } else {
            reject_frame(Counter::FramesOverLimit, Verdict::Ignore, cx)
        })
    }

    /// Returns the verdict, or `None` if the frame waits for the crypto pool, or goes to the mail
    /// component first. The node forwards every authentic frame of an author that it does not ban. Its rules
    /// for content and senders affect only local delivery.
    fn validate_frame(
        &mut self,
        message: GossipMessage,
        local: &mut Local,
        gate: &mut Gate,
        directory: &Directory,
        peers: &Peers,
        cx: &mut Cx,
    ) -> Option<Verdict> {
        let (token, from, size) = (message.token, message.from, message.data.len());
        let topic = &*message.topic.clone();
        let frame = match Frame::decode(message.data.clone(), MAX_GOSSIP_FRAME_BYTES) {
            Ok(frame) => frame,
            Err(error) if error.is_of_later_version() => {
                return Some(reject_frame(LATER_FRAMES, Verdict::Ignore, cx));
            }
            Err(_) => return Some(reject_frame(Counter::FramesMalformed, Verdict::Reject, cx)),
        };
        let networks = [&frame.body.network, &frame.binding.binding.network];
        if !is_in_scope(&frame, topic) || networks != [&cx.identity.network; 2] {
            return Some(reject_frame(Counter::FramesOutOfScope, Verdict::Reject, cx));
        }
        if frame.binding.binding.node_key == cx.identity.node_key.public() {
            if cx.frame_numbers.is_ahead(&frame) && frame.is_authentic() {
                cx.signal(Signal::CountersReused);
            }
            return Some(ignore_frame(Counter::FramesOfOurs, &frame, from, gate, cx));
        }
        if let Err(refusal) = gate.check_frame(
            &frame,
            local.start_by(&frame.binding.binding.peer_id, cx),
            |account| directory.minimum_generation(account, local, cx),
            cx,
        ) {
            if refusal.code == CLOCK_OUT_OF_RANGE {
                local.compare_clocks(&from, &frame, false, peers.is_connected(&from), cx);
            }
            return Some(match refusal.provable {
                true => reject_frame(refusal.counter, Verdict::Reject, cx),
                false => ignore_frame(refusal.counter, &frame, from, gate, cx),
            });
        }
        local.compare_clocks(&from, &frame, true, peers.is_connected(&from), cx);
        if let Err(fault) = gate.check_binding(&frame.binding, || Pending::Gossip(message), cx)? {
            return Some(reject_frame(fault.counter(Counter::FramesBindingForged), fault.verdict(), cx));
        }
        if gate.commit_replay(&frame, cx).is_some() {
            return Some(reject_frame(Counter::FramesReplayed, Verdict::Ignore, cx));
        }
        let sender = gate.sender(&frame, directory.records.is_met(frame.account()), cx.now.mono);
        // Other frames of the author may have come while this one waited for the crypto pool.
        let passage = Passage { author: sender.author(), from, topic: topic_kind(topic) };
        if !gate.limits.authors.admit(passage, size, cx.now.mono) {
            return Some(reject_frame(Counter::FramesOverLimit, Verdict::Ignore, cx));
        }
        cx.signal(Signal::Heard(frame.binding.binding.account));
        self.accept_frame((token, from), frame, sender, topic, gate, cx)
    }

    /// Handles a frame that passed all checks. Returns `None` if the frame goes to the mail
    /// component first.
    fn accept_frame(
        &mut self,
        (token, from): (Token, PeerId),
        frame: Frame,
        sender: Sender,
        topic: &str,
        gate: &mut Gate,
        cx: &mut Cx,
    ) -> Option<Verdict> {
        let ours = cx.identity.node_key.public();
        let concerns_our_mail = match (&frame.body.payload, &frame.body.scope) {
            (Some(Payload::Plain(_)), Some(Scope::NodeKey(key))) => **key == *ours,
            (Some(Payload::Sealed(_)), _) => topic == MESSAGES,
            _ => false,
        };
        if concerns_our_mail {
            cx.signal(Signal::MailByGossip { token, from, frame: Box::new(frame) });
            return None;
        }
        match (&frame.body.payload, &frame.body.scope) {
            // Acks for another node.
            (Some(Payload::Plain(_)), Some(Scope::NodeKey(_))) => {}
            (Some(Payload::Plain(batch)), _) => self.on_broadcast(sender, batch, topic, gate, cx),
            // A session exists only between two connected nodes, so its frames do not belong on a
            // topic.
            _ => cx.stats.count(Counter::FramesMisplaced),
        }
        Some(Verdict::Accept)
    }

    fn on_broadcast(&mut self, mut sender: Sender, batch: &Batch, topic: &str, gate: &mut Gate, cx: &mut Cx) {
        if topic == STATUS && sender.refusal().is_none() {
            self.on_status(sender.peer_id, batch, cx);
        }
        let Some(subscribers) = self.subscribed.clients(topic) else { return };
        let messages = batch.messages.len() as u64;
        match sender.refusal() {
            Some(ErrorCode::PeerRejected) => return cx.stats.add(Counter::BroadcastsBlocked, messages),
            Some(_) => return cx.stats.add(Counter::RegistryBroadcastsDropped, messages),
            None if sender.awaits_registry() => {
                return cx.stats.add(Counter::RegistryBroadcastsDropped, messages);
            }
            None => {}
        }
        for message in &batch.messages {
            if !gate.limits.broadcasts.has_room(sender.author(), message.data.len(), cx.now.mono) {
                cx.stats.count(Counter::BroadcastsOverLimit);
                continue;
            }
            gate.limits.broadcasts.charge(sender.author(), message.data.len(), cx.now.mono);
            let (call, ttl_left_ms) = (message.call.clone(), message.ttl_left_ms);
            let admitted = gate.guard_flow(&sender, message, cx);
            let event = admitted
                .and_then(|()| message_event(&mut sender, message.clone(), Some(topic), Route::Gossip, cx));
            match event {
                Ok((message, bytes)) => {
                    cx.stats.received(Counter::BroadcastsReceived, message.priority, cx.now.mono);
                    self.traffic.received(topic, cx.now.mono);
                    if let Some(call) = call {
                        let event = (message, bytes);
                        cx.signal(Signal::CallReceived(ReceivedCall::new(&sender, call, ttl_left_ms, event)));
                        continue;
                    }
                    gate.flow.remember(&message.message_id, message.hops.unwrap_or_default());
                    let priority = gate.effective_priority(sender.address, &message, cx);
                    cx.emit_broadcast(subscribers, priority, message, bytes);
                }
                Err(code) => {
                    cx.stats.count(Counter::BroadcastsRefused);
                    if code == ErrorCode::MessageTooLarge {
                        cx.replies.clients.too_long_for(subscribers);
                    }
                }
            }
        }
    }
}

/// Reports the verdict of a message. The neighbour answers for what every node rejects.
fn report(token: Token, from: PeerId, verdict: Verdict, cx: &mut Cx) {
    if verdict == Verdict::Reject {
        cx.observe(from, Conduct::InvalidGossip);
    }
    cx.network(NetworkCommand::ReportValidation { token, verdict });
}

/// Counts a frame that the node ignores, and returns the verdict. Nobody is to blame for an old frame or a
/// replay. But a forger must not get away with it by an old time, so the node verifies some of these frames
/// all the same.
fn ignore_frame(counter: Counter, frame: &Frame, from: PeerId, gate: &mut Gate, cx: &mut Cx) -> Verdict {
    if gate.limits.admit_spot_check(from, cx.now.mono) && !frame.is_authentic() {
        return reject_frame(Counter::FramesForged, Verdict::Reject, cx);
    }
    reject_frame(counter, Verdict::Ignore, cx)
}

/// Counts a rejected frame and returns the verdict.
fn reject_frame(counter: Counter, verdict: Verdict, cx: &mut Cx) -> Verdict {
    cx.stats.count(counter);
    verdict
}

/// Returns `true` if the scope of the frame is this topic. Acks name a node instead of a topic.
fn is_in_scope(frame: &Frame, topic: &str) -> bool {
    match &frame.body.scope {
        Some(Scope::Topic(scope)) => scope == topic,
        Some(Scope::NodeKey(_)) => topic == MESSAGES,
        None => false,
    }
}

fn topic_kind(topic: &str) -> TopicKind {
    if is_node_topic(topic) { TopicKind::OfNodes } else { TopicKind::OfAgents }
}
