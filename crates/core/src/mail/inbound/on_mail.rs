//! Handles frames of mail: checks, decrypts, delivers and responds.

use std::collections::BTreeSet;
use std::time::Duration;

use alloy_primitives::Address;
use bytes::Bytes;
use p2p_node_protocol::{Counter, Route};
use p2p_node_wire::envelope::limits::MAX_ACK_STREAMS;
use p2p_node_wire::envelope::{
    self, Batch, Frame, FrameError, Refused, Rejection, Response, SEQUENCE_REUSED, Scope,
};
use p2p_node_wire::message_id::StreamId;

use crate::budget::Budget;
use crate::cx::Cx;
use crate::directory::Directory;
use crate::gate::Gate;
use crate::gate::access_list::AccessRule;
use crate::gate::binding_check::BindingFault;
use crate::gate::frame_checks::{CLOCK_OUT_OF_RANGE, FrameRejection, LATER_FRAMES, UNSUPPORTED_VERSION};
use crate::gate::pending_verification::{MailRequest, Pending};
use crate::gate::reputation::Conduct;
use crate::gate::sender::Sender;
use crate::input::Token;
use crate::local::Local;
use crate::mail::Mail;
use crate::mail::decryption::DecryptOutcome;
use crate::mail::inbound::deferred_responses::DeferredResponse;
use crate::mail::inbound::inbox::InsertOutcome;
use crate::mail::inbound::mail_limits::{limit_mail, limit_mail_frames};
use crate::peers::Peers;
use crate::signal::Signal;

/// How long the response to a frame waits for missing earlier messages. Our choice: frames of one
/// connection overtake each other by moments. A message that is missing longer was rejected or
/// lost, and its sender must learn to send it again.
const HOLD_FOR_GAP: Duration = Duration::from_millis(100);
/// How long the response to a frame waits for the parent to read. Our choice: half of the time that
/// the sender waits for a response.
const HOLD_FOR_PARENT: Duration = Duration::from_secs(5);

/// The outcome of accepting a batch.
pub(crate) struct BatchOutcome {
    pub(crate) streams: BTreeSet<StreamId>,
    /// The last message of each stream that cannot be acknowledged yet.
    gaps: Vec<(StreamId, u64)>,
    /// `true` if earlier messages are missing.
    has_gap: bool,
    /// `true` if the parent holds as many messages without `ack` as it may, or the sender may not send
    /// more now.
    is_full: bool,
}

impl Mail {
    /// Handles a frame of direct mail: responds, or keeps the response until it can.
    pub(crate) fn on_mail_request(
        &mut self,
        request: MailRequest,
        local: &mut Local,
        gate: &mut Gate,
        directory: &Directory,
        peers: &mut Peers,
        cx: &mut Cx,
    ) {
        match limit_mail_frames(request.peer, gate, directory, cx) {
            Some(busy) => cx.answer_mail(request.token, busy),
            None => self.on_admitted(request, local, gate, directory, peers, cx),
        }
    }

    /// Handles a frame that is within the limit of its peer, also again after the crypto pool checked its
    /// binding.
    pub(crate) fn on_admitted(
        &mut self,
        request: MailRequest,
        local: &mut Local,
        gate: &mut Gate,
        directory: &Directory,
        peers: &mut Peers,
        cx: &mut Cx,
    ) {
        let (token, peer) = (request.token, request.peer);
        let before = cx.stats.get(Counter::MailReceived);
        let response = self.receive_mail(request, local, gate, directory, peers, cx);
        peers.count_messages(&peer, cx.stats.get(Counter::MailReceived) - before, 0);
        if matches!(response, Some(Response::Ack(_))) {
            cx.observe(peer, Conduct::MailAccepted);
        }
        // Mail that the node refuses is no use of the connection.
        if matches!(response, None | Some(Response::Ack(_))) {
            peers.touch(&peer, cx);
        }
        if let Some(response) = response {
            cx.answer_mail(token, response);
        }
    }

    /// Returns the response, or `None` if it has to wait.
    fn receive_mail(
        &mut self,
        request: MailRequest,
        local: &mut Local,
        gate: &mut Gate,
        directory: &Directory,
        peers: &Peers,
        cx: &mut Cx,
    ) -> Option<Response> {
        let (token, peer) = (request.token, request.peer);
        let frame = match decode_mail(&request, cx) {
            Ok(frame) => frame,
            Err(refused) => return Some(refused),
        };
        // Only the sender can have sent the frame on this connection. Frames from before the start
        // of this process were encrypted to keys that no longer exist, so they cannot be replayed.
        match gate.check_frame(&frame, 0, |account| directory.minimum_generation(account, local, cx), cx) {
            Ok(()) => local.compare_clocks(&peer, &frame, true, peers.is_connected(&peer), cx),
            Err(FrameRejection { counter, code, provable }) => {
                if provable {
                    cx.observe(peer, Conduct::InvalidMail);
                }
                if code == CLOCK_OUT_OF_RANGE {
                    local.compare_clocks(&peer, &frame, false, peers.is_connected(&peer), cx);
                }
                let time_ms = if code == CLOCK_OUT_OF_RANGE { cx.now.unix_ms } else { 0 };
                return Some(refuse_mail_at(counter, code, &"the frame failed a check", time_ms, cx));
            }
        }
        if let Err(fault) = gate.check_binding(&frame.binding, || Pending::Mail(request), cx)? {
            if fault == BindingFault::Forged {
                cx.observe(peer, Conduct::InvalidMail);
            }
            let counter = fault.counter(Counter::FramesBindingForged);
            return Some(refuse_mail(counter, "INVALID_BINDING", &fault.reason(), cx));
        }
        cx.signal(Signal::Heard(frame.binding.binding.account));
        if let Some(busy) = limit_mail(&frame, gate, directory, cx) {
            return Some(busy);
        }
        match self.open_mail(token, peer, &frame, local, cx) {
            DecryptOutcome::Done(batch) => self.receive_batch(token, &frame, &batch, gate, directory, cx),
            DecryptOutcome::Answer(response) => Some(response),
            DecryptOutcome::Waits => None,
        }
    }

    /// Accepts a decrypted batch. Returns the response, or `None` if it has to wait.
    pub(crate) fn receive_batch(
        &mut self,
        token: Token,
        frame: &Frame,
        batch: &Batch,
        gate: &mut Gate,
        directory: &Directory,
        cx: &mut Cx,
    ) -> Option<Response> {
        let now = cx.now;
        let mut sender = gate.sender(frame, directory.records.is_met(frame.account()), now.mono);
        if let Some(busy) = self.defer_batch(&sender, batch, gate, cx) {
            return Some(busy);
        }
        if let Some(code) = gate.commit_replay(frame, cx) {
            return Some(refuse_mail(
                Counter::FramesReplayed,
                code,
                &"the node has seen the frame before, or cannot remember it",
                cx,
            ));
        }
        self.on_acks(&sender, frame, batch, directory, cx);
        if let Some(code) = sender.refusal()
            && self.has_only_new_streams(&sender.address, batch)
        {
            // A refused message opens no stream, so it takes no room from others. What arrived before
            // the block is acknowledged all the same.
            cx.stats.add(Counter::MailRefused, batch.messages.len() as u64 - 1);
            return Some(refuse_mail(
                Counter::MailRefused,
                code.as_str(),
                &"the recipient does not accept messages of this sender",
                cx,
            ));
        }
        let outcome = self.accept_batch(&mut sender, batch, Route::Direct, gate, cx);
        let BatchOutcome { streams, gaps, has_gap, is_full } = outcome;
        // If there is no room, the sender learns at once how much of the frame the node accepted.
        if is_full || gaps.is_empty() && cx.replies.clients.are_draining() {
            return Some(Response::Ack(self.ack(&sender.address, &streams, cx)));
        }
        let gap_deadline = has_gap.then_some(now.mono + HOLD_FOR_GAP);
        let deadline = now.mono + HOLD_FOR_PARENT;
        let buffered =
            DeferredResponse { token, sender: sender.address, streams, gaps, gap_deadline, deadline };
        let buffered = self.deferred_responses.insert(buffered)?;
        Some(Response::Ack(self.ack(&buffered.sender, &buffered.streams, cx)))
    }

    /// Returns `true` if the node has room for a frame and all buffered messages of its sender.
    /// Acks, and messages that the node already has, need no room.
    pub(crate) fn has_room_for(&self, sender: &Sender, batch: &Batch, gate: &Gate, cx: &Cx) -> bool {
        let now = cx.now;
        let buffered = self.inbox.buffered_of(&sender.address);
        let trusted = sender.rule == Some(AccessRule::Allowed);
        let fits = |counts: &dyn Fn(&envelope::Message) -> bool| {
            let news = || batch.messages.iter().filter(|message| counts(message));
            let messages: Budget = news().map(|message| message.data.len()).collect();
            let is_high = |message: &envelope::Message| message.priority() == envelope::Priority::High;
            // The room for high priority is for messages that the limiter would admit as high.
            let has_high = news().any(is_high)
                && gate.high_priority_limiter.would_admit(&sender.address, trusted, now.mono);
            messages.is_empty()
                || self.has_room(messages + buffered, has_high, cx)
                    && (!self.manual_ack() || self.may_hold_one_more(&sender.address, 0))
        };
        let is_news = |message: &envelope::Message| {
            stream_id(&message.stream)
                .is_some_and(|stream| message.seq >= self.inbox.next_seq(&sender.address, &stream))
        };
        // Most frames fit as a whole, which needs no lookup for each message.
        fits(&|_| true) || fits(&is_news)
    }

    /// Returns `true` if the batch has messages, and all of them are of streams that the node does not
    /// know.
    fn has_only_new_streams(&self, sender: &Address, batch: &Batch) -> bool {
        let is_known = |message: &envelope::Message| {
            stream_id(&message.stream).is_some_and(|stream| self.inbox.has_stream(sender, &stream))
        };
        !batch.messages.is_empty() && !batch.messages.iter().any(is_known)
    }

    /// Puts each message in order and delivers those that are next.
    pub(crate) fn accept_batch(
        &mut self,
        sender: &mut Sender,
        batch: &Batch,
        route: Route,
        gate: &mut Gate,
        cx: &mut Cx,
    ) -> BatchOutcome {
        let now = cx.now;
        let mut outcome =
            BatchOutcome { streams: BTreeSet::new(), gaps: Vec::new(), has_gap: false, is_full: false };
        let (mut ready, mut is_over_limit) = (Vec::new(), false);
        for message in &batch.messages {
            let Some(stream) = stream_id(&message.stream) else { continue };
            if outcome.streams.len() >= MAX_ACK_STREAMS && !outcome.streams.contains(&stream) {
                cx.stats.count(Counter::MailNotBuffered);
                continue;
            }
            outcome.streams.insert(stream);
            if self.must_wait_for_file(sender, stream, message, cx) {
                continue;
            }
            if self.manual_ack() && message.seq >= self.inbox.next_seq(&sender.address, &stream) {
                outcome.is_full |= !self.may_hold_one_more(&sender.address, message.data.len());
                if outcome.is_full {
                    cx.stats.count(Counter::MailNotBuffered);
                    continue;
                }
            }
            let has_room = gate.limits.mail.has_room(sender.author(), message.data.len(), now.mono);
            if (is_over_limit || !has_room) && message.seq >= self.inbox.next_seq(&sender.address, &stream) {
                cx.stats.count(Counter::MailOverLimit);
                (is_over_limit, outcome.is_full) = (true, true);
                continue;
            }
            match self.inbox.insert(sender.address, message.clone(), now.mono, &mut ready) {
                InsertOutcome::Ready | InsertOutcome::Buffered => {
                    gate.limits.mail.charge(sender.author(), message.data.len(), now.mono);
                }
                InsertOutcome::Duplicate => cx.stats.count(Counter::MailDuplicates),
                InsertOutcome::NoCapacity => cx.stats.count(Counter::MailNotBuffered),
                InsertOutcome::Reused => {
                    cx.stats.count(Counter::MailCollisions);
                    cx.observe_agent(sender.address, sender.peer_id, Conduct::ReusedNumber);
                    let outcome = Rejection { seq: message.seq, code: SEQUENCE_REUSED.to_owned() };
                    self.inbox.refuse(&sender.address, &stream, outcome);
                }
            }
            self.drain_evicted_streams(cx);
            for message in ready.drain(..) {
                self.deliver_in_order(sender, stream, message, route, gate, cx);
            }
        }
        self.inbox.set_source_node(&sender.address, sender.node_key);
        cx.stats.add(Counter::MailEvicted, self.inbox.drain_dropped());
        self.note_gaps(&sender.address, batch, &mut outcome);
        outcome
    }

    /// Notes which messages of the batch cannot be acknowledged yet.
    fn note_gaps(&self, sender: &Address, batch: &Batch, outcome: &mut BatchOutcome) {
        for message in &batch.messages {
            let Some(stream) = stream_id(&message.stream).filter(|stream| outcome.streams.contains(stream))
            else {
                continue;
            };
            let is_missing = message.seq >= self.inbox.next_seq(sender, &stream);
            if is_missing && message.file.is_some() {
                // The file takes long, and the response tells the sender at once that the message waits.
                continue;
            }
            outcome.has_gap |= is_missing;
            if message.seq >= self.inbox.received_up_to(sender, &stream) {
                match outcome.gaps.iter_mut().find(|(gap, _)| *gap == stream) {
                    Some((_, last)) => *last = message.seq.max(*last),
                    None => outcome.gaps.push((stream, message.seq)),
                }
            }
        }
    }

    /// Delivers a message that is next in order to the parent, or rejects it.
    fn deliver_in_order(
        &mut self,
        sender: &mut Sender,
        stream: StreamId,
        message: envelope::Message,
        route: Route,
        gate: &mut Gate,
        cx: &mut Cx,
    ) {
        let (key, seq) = ((sender.address, stream), message.seq);
        let outcome = match sender.refusal() {
            Some(code) => Err(code),
            None if message.call.is_some() => self.deliver_call(sender, key, message, route, gate, cx),
            None => self.deliver_message(sender, key, message, route, gate, cx),
        };
        if let Err(code) = outcome {
            cx.stats.count(Counter::MailRefused);
            self.reject_in_order(key, seq, cx);
            let outcome = Rejection { seq, code: code.as_str().to_owned() };
            self.inbox.refuse(&sender.address, &stream, outcome);
        }
    }

    /// Sends the deferred responses that are due.
    pub(crate) fn flush_deferred_responses(&mut self, cx: &mut Cx) {
        let now = cx.now;
        let is_draining = cx.replies.clients.are_draining();
        for buffered in self.deferred_responses.due(&self.inbox, is_draining, now.mono) {
            let ack = self.ack(&buffered.sender, &buffered.streams, cx);
            cx.answer_mail(buffered.token, Response::Ack(ack));
        }
    }
}

/// Decodes a frame of direct mail to this node, or returns the response to a frame that is none.
fn decode_mail(request: &MailRequest, cx: &mut Cx) -> Result<Frame, Response> {
    let peer = request.peer;
    let frame = Frame::decode_direct(&request.frame, &peer).map_err(|error| {
        if error.is_of_later_version() {
            return refuse_mail(LATER_FRAMES, UNSUPPORTED_VERSION, &error, cx);
        }
        cx.observe(peer, Conduct::InvalidMail);
        let (counter, code) = match error {
            FrameError::WrongSender => (Counter::FramesOfOthers, "OUT_OF_SCOPE"),
            _ => (Counter::FramesMalformed, "MALFORMED"),
        };
        refuse_mail(counter, code, &error, cx)
    })?;
    let scope = Scope::NodeKey(Bytes::copy_from_slice(&cx.identity.node_key.public()));
    match frame.check_scope(&cx.identity.network, &scope) {
        Ok(()) => Ok(frame),
        Err(error) => {
            cx.observe(peer, Conduct::InvalidMail);
            Err(refuse_mail(Counter::FramesOutOfScope, "OUT_OF_SCOPE", &error, cx))
        }
    }
}

pub(crate) fn refuse_mail(
    counter: Counter,
    code: &str,
    reason: &dyn std::fmt::Display,
    cx: &mut Cx,
) -> Response {
    refuse_mail_at(counter, code, reason, 0, cx)
}

/// Rejects a frame as `refuse_mail` does, with this node's time for a sender whose clock may be
/// wrong. 0 if the time does not matter.
fn refuse_mail_at(
    counter: Counter,
    code: &str,
    reason: &dyn std::fmt::Display,
    time_ms: u64,
    cx: &mut Cx,
) -> Response {
    cx.stats.count(counter);
    let reason: String = reason.to_string().chars().filter(|c| !c.is_control()).take(120).collect();
    Response::Refused(Refused { code: code.to_owned(), reason, time_ms })
}

fn stream_id(bytes: &Bytes) -> Option<StreamId> {
    bytes.as_ref().try_into().ok()
}
