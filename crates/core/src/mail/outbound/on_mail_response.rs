//! Answers to our mail: acknowledgements, however they come, and refusals.

use std::time::Duration;

use alloy_primitives::Address;
use bytes::Bytes;
use p2p_node_protocol::{Counter, Delivery, DeliveryState, ErrorCode};

use crate::Core;
use crate::gate::sender::Sender;
use crate::input::Token;
use crate::local::clock_skew::ahead_of_us;
use crate::mail::inbound::on_mail::CLOCK_OUT_OF_RANGE;
use crate::mail::inbound::pending_acks::AckOutcome;
use crate::mail::outbound::destination::Hindrance;
use crate::mail::outbound::outbox::Completed;
use p2p_node_wire::envelope::replay::{REPLAYED, UNREMEMBERED};
use p2p_node_wire::envelope::{Ack, Batch, Frame, MailResponse, Refused, Response, SignedAck, strict_decode};
use p2p_node_wire::identity::binding::MAX_SKEW_SECS;
use p2p_node_wire::record::SignedRecord;

/// What a sender may tell us to wait, at most, in ms. Ours.
const MAX_BUSY_MS: u64 = 60_000;
/// What counts acknowledgements that are not genuine, and those that are not understood.
const REFUSED: Counter = Counter::AcksRefused;
const OF_LATER_VERSION: Counter = Counter::AcksOfLaterVersions;

impl Core {
    /// Acknowledgements inside a frame of the recipient of our mail, of whose nodes only the current one may sign for it.
    pub(crate) fn on_acks(&mut self, sender: &Sender, frame: &Frame, batch: &Batch) {
        let node_key = frame.binding.binding.node_key;
        let is_current = self.current_node_key(&sender.address) == Some(node_key);
        for bytes in &batch.acks {
            match self.verify_ack(bytes.clone(), &node_key) {
                Ok(ack) if is_current => self.on_ack(&sender.address, &ack),
                Ok(_) => self.cx.stats.count(REFUSED),
                Err(counter) => self.cx.stats.count(counter),
            }
        }
    }

    /// An acknowledgement of our own mail by the holder of `node_key`, or what counts it.
    fn verify_ack(&self, bytes: Bytes, node_key: &[u8; 32]) -> Result<Ack, Counter> {
        let signed = SignedAck::decode(bytes);
        let signed = signed.map_err(|error| if error.is_provable() { REFUSED } else { OF_LATER_VERSION })?;
        let ours = signed.ack.network == self.cx.identity.network
            && signed.ack.account == self.cx.identity.address.as_slice();
        if ours && signed.verify(node_key) { Ok(signed.ack) } else { Err(REFUSED) }
    }

    pub(crate) fn current_node_key(&self, address: &Address) -> Option<[u8; 32]> {
        let now = self.cx.now;
        self.directory.records.get(address, now.unix_ms).map(|record| record.record.binding.binding.node_key)
    }

    fn on_ack(&mut self, recipient: &Address, ack: &Ack) {
        let now = self.cx.now;
        // The last line is out, so the parent could not hear how its mail ended. The store still has the mail, and the next process asks again.
        if self.cx.is_flushing() {
            return;
        }
        self.mail.outbox.note_answers(recipient, ack);
        for stream in &ack.streams {
            if !self.mail.outbox.sends(recipient, &stream.stream) {
                self.cx.stats.count(Counter::AcksMisplaced);
                continue;
            }
            let renamed = self.mail.outbox.renumber(recipient, stream, now, &mut self.cx.jitter);
            self.keep_renamed(*recipient, renamed);
            for ended in self.mail.outbox.settle(recipient, stream, now.mono) {
                self.report_completed(ended);
            }
        }
        self.unhinder(recipient);
        self.mail.recipients_to_flush.insert(*recipient);
    }

    /// Mail gets through to this agent, or may again.
    pub(crate) fn unhinder(&mut self, recipient: &Address) {
        if let Some(destination) = self.mail.outbox.destination(recipient) {
            destination.hindrance = None;
        }
    }

    fn set_peer_busy(&mut self, recipient: &Address, busy: bool) {
        if let Some(destination) = self.mail.outbox.destination(recipient) {
            destination.busy = busy;
        }
    }

    /// The frame was refused for something that another attempt may escape. If that is its time, our clock or the recipient's is wrong.
    fn on_passing_refusal(&mut self, recipient: &Address, refused: &Refused) {
        let now = self.cx.now;
        let Some(peer) = self.directory.records.get(recipient, now.unix_ms).map(SignedRecord::peer_id) else {
            return;
        };
        if refused.code != CLOCK_OUT_OF_RANGE || refused.time_ms == 0 {
            return;
        }
        self.cx.stats.count(Counter::MailUntimely);
        self.observe_clock(&peer, refused.time_ms);
        self.note_clocks(recipient, ahead_of_us(refused.time_ms, now));
    }

    /// The recipient of our mail lives by another time, if it differs by as much as peers do not bear.
    pub(crate) fn note_clocks(&mut self, recipient: &Address, ahead_ms: i64) {
        if let Some(destination) = self.mail.outbox.destination(recipient)
            && ahead_ms.unsigned_abs() >= MAX_SKEW_SECS * 1000
        {
            destination.hindrance = Some(Hindrance::Clocks { ahead_ms });
        }
    }

    fn report_completed(&mut self, ended: Completed) {
        self.forget_mail(&ended);
        let Completed { message_id, delivered_as, mail, refused, .. } = ended;
        let (state, code) = match &refused {
            None => (DeliveryState::Delivered, None),
            Some(code) if code == ErrorCode::MessageTooLarge.as_str() => {
                (DeliveryState::Rejected, Some(ErrorCode::MessageTooLarge))
            }
            Some(_) => (DeliveryState::Rejected, Some(ErrorCode::PeerRejected)),
        };
        self.cx.emit_delivery(Delivery {
            message_id,
            request_id: mail.draft.request_id,
            state,
            code,
            message: None,
            attempts: mail.attempts,
            route: mail.went,
            redelivered: mail.restored,
            delivered_as,
        });
    }

    pub(crate) fn on_mail_answered(&mut self, token: Token, outcome: Result<Bytes, String>) {
        let now = self.cx.now;
        let response = outcome.ok().and_then(|body| strict_decode::<MailResponse>(&body).ok()?.response);
        if let Some(fate) = self.mail.pending_acks.answered(token, matches!(response, Some(Response::Ack(_))))
        {
            if fate == AckOutcome::Dropped {
                self.cx.stats.count(Counter::AcksDropped);
            }
            return;
        }
        let Some(recipient) = self.mail.outbox.recipient(token) else { return };
        self.mail.recipients_to_flush.insert(recipient);
        let node_key = self.current_node_key(&recipient);
        let is_replayed = matches!(&response, Some(Response::Refused(refused)) if refused.code == REPLAYED);
        self.note_replayed(&recipient, is_replayed);
        if let Some(Response::KemUnknown(unknown)) = response {
            return self.on_kem_unknown(token, recipient, unknown.record);
        }
        self.end_opening(&recipient, token, matches!(response, Some(Response::Ack(_))));
        match response {
            Some(Response::Ack(bytes)) => {
                match node_key.ok_or(REFUSED).and_then(|key| self.verify_ack(bytes, &key)) {
                    Ok(ack) => {
                        self.set_peer_busy(&recipient, false);
                        self.mail.outbox.note_answer(token);
                        self.on_ack(&recipient, &ack);
                        self.mail.outbox.answered(token, now.mono, &mut self.cx.jitter);
                    }
                    Err(counter) => {
                        self.cx.stats.count(counter);
                        self.mail.outbox.failed(token, Duration::ZERO, now.mono, &mut self.cx.jitter);
                    }
                }
            }
            Some(Response::Busy(busy)) => {
                self.cx.stats.count(Counter::MailDeferred);
                self.set_peer_busy(&recipient, true);
                let floor = Duration::from_millis(busy.retry_after_ms.clamp(1, MAX_BUSY_MS));
                self.mail.outbox.failed(token, floor, now.mono, &mut self.cx.jitter);
            }
            Some(Response::Refused(refused)) if !is_transient(&refused.code) && !self.cx.is_flushing() => {
                for mut ended in self.mail.outbox.refused(token) {
                    ended.refused = Some(refused.code.clone());
                    self.report_completed(ended);
                }
                self.mail.outbox.answered(token, now.mono, &mut self.cx.jitter);
            }
            other => {
                if let Some(Response::Refused(refused)) = other {
                    self.on_passing_refusal(&recipient, &refused);
                }
                self.cx.stats.count(Counter::MailAttemptsFailed);
                self.mail.outbox.failed(token, Duration::ZERO, now.mono, &mut self.cx.jitter);
            }
        }
    }
}

/// Refusals that a fresh frame may escape: the next attempt has another time, counter and binding.
fn is_transient(code: &str) -> bool {
    matches!(code, CLOCK_OUT_OF_RANGE | REPLAYED | UNREMEMBERED | "INVALID_BINDING")
}
