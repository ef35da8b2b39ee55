//! Handles the responses to frames of this node, and acks in frames and by gossip.

use std::time::Duration;

use alloy_primitives::Address;
use bytes::Bytes;
use libp2p_identity::PeerId;
use p2p_node_protocol::{Counter, Delivery, DeliveryState, ErrorCode};
use p2p_node_wire::envelope::replay::{REPLAYED, UNREMEMBERED};
use p2p_node_wire::envelope::{Ack, Batch, Frame, MailResponse, Refused, Response, strict_decode};
use p2p_node_wire::identity::binding::MAX_SKEW_SECS;
use p2p_node_wire::record::SignedRecord;

use crate::cx::Cx;
use crate::directory::Directory;
use crate::gate::frame_checks::CLOCK_OUT_OF_RANGE;
use crate::gate::sender::Sender;
use crate::input::Token;
use crate::local::Local;
use crate::local::clock_skew::ahead_of_us;
use crate::mail::Mail;
use crate::mail::inbound::pending_acks::AckOutcome;
use crate::mail::outbound::destination::Hindrance;
use crate::mail::outbound::outbox::Completed;
use crate::peers::Peers;
use crate::peers::admission::holding::NOT_ADMITTED;
use crate::signal::Signal;

/// Longest pause that a `Busy` response can ask for, in ms. Our choice.
const MAX_BUSY_MS: u64 = 60_000;
/// Number of consecutive `REPLAYED` rejections by one recipient after which the node starts new
/// numbers. Our choice: the third attempt comes after about two seconds, and a network that
/// duplicates frames rarely duplicates three in a row.
const REPLAYED_IN_A_ROW: u32 = 3;
/// The codes of a recipient that the sender's parent learns; every other one is `PEER_REJECTED`.
const TOLD: [ErrorCode; 8] = [
    ErrorCode::FileChanged,
    ErrorCode::FileTooLarge,
    ErrorCode::FilesRefused,
    ErrorCode::FlowLimit,
    ErrorCode::MessageTooLarge,
    ErrorCode::NotRegistered,
    ErrorCode::RegistryBlocked,
    ErrorCode::TooManyHops,
];
/// The counters of invalid acks, and of acks of a later protocol version.
const REFUSED: Counter = Counter::AcksRefused;
const OF_LATER_VERSION: Counter = Counter::AcksOfLaterVersions;

impl Mail {
    /// Handles the acks in a frame of a recipient. The frame proves which node made them, and only the
    /// current node of an agent may acknowledge its mail.
    pub(crate) fn on_acks(
        &mut self,
        sender: &Sender,
        frame: &Frame,
        batch: &Batch,
        directory: &Directory,
        cx: &mut Cx,
    ) {
        let node_key = frame.binding.binding.node_key;
        let is_current = directory.current_node_key(&sender.address, cx) == Some(node_key);
        for bytes in &batch.acks {
            match decode_ack(bytes, cx) {
                Ok(ack) if is_current => self.on_ack(&sender.address, &ack, cx),
                Ok(_) => cx.stats.count(REFUSED),
                Err(counter) => cx.stats.count(counter),
            }
        }
    }

    fn on_ack(&mut self, recipient: &Address, ack: &Ack, cx: &mut Cx) {
        let now = cx.now;
        // The node has written its last line, so it cannot report a completed message. The message
        // stays in the store, and the next process sends it again.
        if cx.is_flushing() {
            return;
        }
        self.outbox.record_responses(recipient, ack);
        for stream in &ack.streams {
            if !self.outbox.sends(recipient, &stream.stream) {
                cx.stats.count(Counter::AcksMisplaced);
                continue;
            }
            let renamed = self.outbox.renumber(recipient, stream, now, &mut cx.jitter);
            self.persist_renamed(*recipient, renamed, cx);
            for ended in self.outbox.apply_ack(recipient, stream, now.mono) {
                self.report_completed(ended, cx);
            }
        }
        self.unhinder(recipient);
        self.recipients_to_flush.insert(*recipient);
    }

    /// Clears the last known obstacle for messages to this agent.
    pub(crate) fn unhinder(&mut self, recipient: &Address) {
        if let Some(destination) = self.outbox.destination(recipient) {
            destination.hindrance = None;
        }
    }

    fn set_peer_busy(&mut self, recipient: &Address, busy: bool) {
        if let Some(destination) = self.outbox.destination(recipient) {
            destination.busy = busy;
        }
    }

    /// Handles a rejection that another attempt may avoid. If the reason is the time of the frame,
    /// either the clock of this node or that of the recipient is wrong.
    fn on_passing_refusal(
        &mut self,
        recipient: &Address,
        refused: &Refused,
        local: &mut Local,
        directory: &Directory,
        peers: &Peers,
        cx: &mut Cx,
    ) {
        let now = cx.now;
        let Some(peer) = directory.records.get(recipient, now.unix_ms).map(SignedRecord::peer_id) else {
            return;
        };
        if refused.code != CLOCK_OUT_OF_RANGE || refused.time_ms == 0 {
            return;
        }
        cx.stats.count(Counter::MailClockOutOfRange);
        local.observe_clock(&peer, refused.time_ms, peers.is_connected(&peer), cx);
        self.record_clocks(recipient, ahead_of_us(refused.time_ms, now));
    }

    /// Compares the clocks with that of a node whose record is from the future. `genuine` states that
    /// the agent signed the binding in it.
    pub(crate) fn on_record_from_future(
        &mut self,
        record: &SignedRecord,
        genuine: bool,
        local: &mut Local,
        peers: &Peers,
        cx: &mut Cx,
    ) {
        local.compare_future_record(record, peers.is_connected(&record.peer_id()), cx);
        if genuine {
            self.record_clocks(&record.address(), local.min_clock_lead(record, cx));
        }
    }

    /// Handles a peer that does not admit this node, because the clocks differ.
    pub(crate) fn on_clocks_differ(&mut self, peer: &PeerId, ahead_ms: i64, directory: &Directory, cx: &Cx) {
        let agent = directory.records.by_peer(peer, cx.now.unix_ms).map(SignedRecord::address);
        agent.into_iter().for_each(|agent| self.record_clocks(&agent, ahead_ms));
    }

    /// Records that the clocks differ as an obstacle, if the difference exceeds what nodes accept.
    fn record_clocks(&mut self, recipient: &Address, ahead_ms: i64) {
        if let Some(destination) = self.outbox.destination(recipient)
            && ahead_ms.unsigned_abs() >= MAX_SKEW_SECS * 1000
        {
            destination.hindrance = Some(Hindrance::Clocks { ahead_ms });
        }
    }

    fn report_completed(&mut self, ended: Completed, cx: &mut Cx) {
        self.forget_mail(&ended, cx);
        let Completed { message_id, delivered_as, mail, refused, .. } = ended;
        let (state, code) = match &refused {
            None => (DeliveryState::Delivered, None),
            Some(code) => {
                let told = TOLD.into_iter().find(|told| told.as_str() == code);
                (DeliveryState::Rejected, Some(told.unwrap_or(ErrorCode::PeerRejected)))
            }
        };
        if state == DeliveryState::Delivered {
            let after = mail.draft.asked_at.map(|asked_at| cx.now.mono.saturating_since(asked_at));
            cx.stats.traffic.delivered(mail.draft.priority, after);
        }
        let command = mail.draft.command.clone();
        let mut delivery = Delivery {
            message_id,
            request_id: command.id.clone(),
            state,
            code,
            message: None,
            attempts: mail.attempts,
            route: mail.last_route,
            redelivered: mail.restored,
            delivered_as,
            traceparent: None,
        };
        cx.end_mail_span(&mail.draft, &mut delivery);
        cx.report_delivery(&command, delivery);
    }

    /// Returns the response if it is of the recipient's current node. The connection proves which node
    /// responded: the one to which the frame went. The agent may have another node by now.
    fn of_current_node(
        &self,
        recipient: &Address,
        token: Token,
        response: Option<Response>,
        directory: &Directory,
        cx: &mut Cx,
    ) -> Option<Response> {
        let current = directory.current_node_key(recipient, cx);
        if current.is_some() && current == self.outbox.node_key_of(token) {
            return response;
        }
        if let Some(Response::Ack(_)) = response {
            cx.stats.count(REFUSED);
        }
        None
    }

    /// Handles the ack in the response to a frame of this node. `Err` is the counter of an invalid
    /// ack.
    fn on_direct_ack(&mut self, recipient: &Address, token: Token, ack: Result<Ack, Counter>, cx: &mut Cx) {
        let now = cx.now.mono;
        match ack {
            Ok(ack) => {
                self.set_peer_busy(recipient, false);
                self.outbox.record_response(token);
                self.on_ack(recipient, &ack, cx);
                self.outbox.answered(token, now, &mut cx.jitter);
            }
            Err(counter) => {
                cx.stats.count(counter);
                self.outbox.failed(token, Duration::ZERO, now, &mut cx.jitter);
            }
        }
    }

    /// Handles the response to a frame of this node, or the failure to send the frame.
    pub(crate) fn on_mail_response(
        &mut self,
        token: Token,
        outcome: Result<Bytes, String>,
        local: &mut Local,
        directory: &Directory,
        peers: &Peers,
        cx: &mut Cx,
    ) {
        let now = cx.now;
        let response = outcome.ok().and_then(|body| strict_decode::<MailResponse>(&body).ok()?.response);
        if let Some(fate) = self.pending_acks.answered(token, matches!(response, Some(Response::Ack(_)))) {
            if fate == AckOutcome::Dropped {
                cx.stats.count(Counter::AcksDropped);
            }
            return;
        }
        let Some(recipient) = self.outbox.recipient(token) else { return };
        self.recipients_to_flush.insert(recipient);
        let response = self.of_current_node(&recipient, token, response, directory, cx);
        let is_replayed = matches!(&response, Some(Response::Refused(refused)) if refused.code == REPLAYED);
        self.record_replay(&recipient, is_replayed, cx);
        if let Some(Response::KemUnknown(unknown)) = response {
            return self.on_kem_unknown(token, recipient, unknown.record, directory, cx);
        }
        self.end_opening(&recipient, token, matches!(response, Some(Response::Ack(_))));
        match response {
            Some(Response::Ack(bytes)) => {
                let ack = decode_ack(&bytes, cx);
                self.on_direct_ack(&recipient, token, ack, cx);
            }
            Some(Response::Busy(busy)) => {
                cx.stats.count(Counter::MailDeferred);
                self.set_peer_busy(&recipient, true);
                let floor = Duration::from_millis(busy.retry_after_ms.clamp(1, MAX_BUSY_MS));
                self.outbox.failed(token, floor, now.mono, &mut cx.jitter);
            }
            Some(Response::Refused(refused)) if !is_transient(&refused.code) && !cx.is_flushing() => {
                for mut ended in self.outbox.refused(token) {
                    ended.refused = Some(refused.code.clone());
                    self.report_completed(ended, cx);
                }
                self.outbox.answered(token, now.mono, &mut cx.jitter);
            }
            other => {
                if let Some(Response::Refused(refused)) = other {
                    self.on_passing_refusal(&recipient, &refused, local, directory, peers, cx);
                }
                cx.stats.count(Counter::MailAttemptsFailed);
                self.outbox.failed(token, Duration::ZERO, now.mono, &mut cx.jitter);
            }
        }
    }
}

/// Decodes an ack of this node's messages. Returns the counter that applies if it is invalid.
fn decode_ack(bytes: &Bytes, cx: &Cx) -> Result<Ack, Counter> {
    let ack: Ack =
        strict_decode(bytes).map_err(|error| if error.is_provable() { REFUSED } else { OF_LATER_VERSION })?;
    let is_ours = ack.network == cx.identity.network && ack.account == cx.identity.address.as_slice();
    if is_ours { Ok(ack) } else { Err(REFUSED) }
}

/// Returns `true` if a new frame may avoid the rejection: the next attempt has another time,
/// counter and binding, or comes after the admission.
fn is_transient(code: &str) -> bool {
    matches!(code, CLOCK_OUT_OF_RANGE | REPLAYED | UNREMEMBERED | NOT_ADMITTED | "INVALID_BINDING")
}

impl Mail {
    /// Counts consecutive rejections of a recipient's frames as replayed. A single one may have
    /// been caused by a duplicated frame.
    pub(crate) fn record_replay(&mut self, recipient: &Address, is_replayed: bool, cx: &mut Cx) {
        let Some(destination) = self.outbox.destination(recipient) else { return };
        destination.replayed = if is_replayed { destination.replayed + 1 } else { 0 };
        if destination.replayed >= REPLAYED_IN_A_ROW {
            destination.replayed = 0;
            cx.signal(Signal::CountersReused);
        }
    }
}
