//! The steps of an exchange. Each check comes before the ones that cost more: rate, size and form, policy,
//! signature, record.

use bytes::Bytes;
use libp2p_identity::PeerId;
use p2p_node_protocol::Counter;
use p2p_node_wire::envelope::{
    Accepted, Admission as Message, Challenge, Connect, Handshake, Rejected, Side, SignedResponse, Step,
    strict_decode,
};
use p2p_node_wire::record::{RecordHash, WireRole};
use p2p_node_wire::time::Instant;

use super::{Inbound, Nonce, Offer, Outbound, RETRY};
use crate::cx::Cx;
use crate::effect::NetworkCommand;
use crate::gate::Gate;
use crate::gate::admission_policy::Refusal;
use crate::gate::pending_verification::{OfferedRecord, RecordSource};
use crate::input::Token;
use crate::local::Local;
use crate::peers::Peers;
use crate::signal::Signal;

/// Decodes a step.
fn decode(body: &Bytes, cx: &mut Cx) -> Result<Step, Refusal> {
    let refusal = match strict_decode::<Message>(body) {
        Ok(Message { step: Some(step), .. }) => return Ok(step),
        Err(error) if !error.is_provable() => {
            cx.stats.count(Counter::AdmissionsOfLaterVersions);
            Refusal::UnsupportedVersion
        }
        Ok(_) | Err(_) => Refusal::Malformed,
    };
    Err(refusal)
}

/// Returns what the node says of itself, or `None` if it has no record yet.
fn introduce(nonce: Nonce, local: &mut Local, cx: &mut Cx) -> Option<Connect> {
    local.reissue_if_due(cx);
    Some(Connect {
        network: cx.identity.network.clone(),
        record: local.record.current()?.bytes.clone(),
        nonce: Bytes::copy_from_slice(&nonce),
        role: WireRole::from(cx.identity.role).into(),
        time_ms: cx.now.unix_ms,
        agent_version: format!("p2p-node/{}", cx.identity.version),
    })
}

pub(super) fn answer(token: Token, step: Step, cx: &mut Cx) {
    cx.network(NetworkCommand::AnswerAdmission { token, body: Message::encode(step) });
}

pub(super) fn send(peer: PeerId, step: Step, cx: &mut Cx) -> Token {
    let token = cx.token();
    cx.network(NetworkCommand::SendAdmission { token, peer, body: Message::encode(step) });
    token
}

pub(super) fn rejected(refusal: Refusal, cx: &Cx) -> Step {
    Step::Rejected(Rejected {
        code: refusal.code().to_owned(),
        reason: refusal.reason().to_owned(),
        retry_after_ms: refusal.retry_after().as_millis() as u64,
        time_ms: if refusal == Refusal::ClockOutOfRange { cx.now.unix_ms } else { 0 },
    })
}

/// Returns the signed exchange. `nonces` are those of the initiator and the responder.
fn handshake<'a>(
    side: Side,
    peer: &'a PeerId,
    nonces: &'a [Nonce; 2],
    own: &'a PeerId,
    network: &'a str,
) -> Handshake<'a> {
    let (initiator, responder) = match side {
        Side::Initiator => (own, peer),
        Side::Responder => (peer, own),
    };
    Handshake { network, initiator, responder, initiator_nonce: &nonces[0], responder_nonce: &nonces[1] }
}

/// Returns the signature of this node at one end of an exchange with a peer.
fn sign(side: Side, peer: &PeerId, nonces: &[Nonce; 2], cx: &Cx) -> Bytes {
    let of = &cx.identity;
    handshake(side, peer, nonces, &of.peer, &of.network).sign(side, of.role, &of.node_key)
}

/// Returns `true` if the peer signed the exchange. `side` is the end of this node.
fn is_signed(
    side: Side,
    peer: &PeerId,
    nonces: &[Nonce; 2],
    offer: &Offer,
    signature: &[u8],
    cx: &Cx,
) -> bool {
    let other = match side {
        Side::Initiator => Side::Responder,
        Side::Responder => Side::Initiator,
    };
    let of = &cx.identity;
    handshake(side, peer, nonces, &of.peer, &of.network).is_signed(other, offer.role, signature)
}

/// Passes the record of a peer to the directory, which checks it like every record and answers with
/// `Signal::PeerRecordChecked`.
fn check_record(peer: PeerId, record: Bytes, cx: &mut Cx) {
    cx.signal(Signal::RecordReceived(OfferedRecord {
        bytes: record,
        source: RecordSource::Admission(peer),
        expected_address: None,
    }));
}

impl Peers {
    /// Begins an exchange with a connected peer. One that is under way ends first: if the steps of two
    /// overtook each other, the peer would take a signature for the wrong one.
    pub(super) fn start_exchange(&mut self, peer: PeerId, local: &mut Local, cx: &mut Cx) {
        let retry_at = cx.now.mono + RETRY;
        if self.admissions.begins(&peer) {
            return self.admissions.retry(&peer, retry_at);
        }
        let nonce = self.admissions.next_nonce();
        let Some(own) = introduce(nonce, local, cx) else {
            return self.admissions.retry(&peer, retry_at);
        };
        let token = send(peer, Step::Connect(own), cx);
        self.admissions.update(&peer, |state| {
            state.connect_at = Instant::MAX;
            state.outbound = Outbound::Connecting { token, nonce };
        });
    }

    /// Handles the answer to a step of this node.
    pub(crate) fn on_admission_response(
        &mut self,
        token: Token,
        peer: PeerId,
        outcome: Result<Bytes, String>,
        local: &mut Local,
        gate: &mut Gate,
        cx: &mut Cx,
    ) {
        let retry_at = cx.now.mono + RETRY;
        let expected = self.admissions.update(&peer, |state| match state.outbound {
            Outbound::Connecting { token: sent, nonce } if sent == token => {
                state.outbound = Outbound::Idle;
                Some(Some(nonce))
            }
            Outbound::Responding { token: sent, is_refusal } if sent == token => {
                state.outbound = Outbound::Idle;
                // The answer to a refusal repeats it.
                (!is_refusal || state.closes_at.is_some()).then_some(None)
            }
            _ => None,
        });
        let Some(Some(nonce)) = expected else { return };
        if !self.admissions.is_pending(&peer) {
            // The peer has read that this node does not admit it.
            return self.close_now(&peer, cx);
        }
        let Ok(body) = outcome else { return self.admissions.retry(&peer, retry_at) };
        match (decode(&body, cx), nonce) {
            (Ok(Step::Challenge(challenge)), Some(nonce)) => {
                if let Err(refusal) = self.on_challenge(peer, nonce, challenge, local, gate, cx) {
                    send(peer, rejected(refusal, cx), cx);
                    self.refuse_peer(&peer, refusal, cx);
                }
            }
            (Ok(Step::Accepted(_)), None) => self.accepted(&peer),
            (Ok(Step::Rejected(by_peer)), _) => self.on_rejected(peer, &by_peer, local, gate, cx),
            (Ok(_), _) => self.refuse_peer(&peer, Refusal::OutOfTurn, cx),
            (Err(refusal), _) => self.refuse_peer(&peer, refusal, cx),
        }
    }

    fn on_challenge(
        &mut self,
        peer: PeerId,
        nonce: Nonce,
        challenge: Challenge,
        local: &mut Local,
        gate: &mut Gate,
        cx: &mut Cx,
    ) -> Result<(), Refusal> {
        let responder = challenge.responder.ok_or(Refusal::Malformed)?;
        let nonces = [nonce, nonce_of(&responder)?];
        let offer = self.check_offer(&peer, responder, gate, cx)?;
        if !is_signed(Side::Initiator, &peer, &nonces, &offer, &challenge.signature, cx) {
            return Err(Refusal::Forged);
        }
        local.observe_clock(&peer, offer.time_ms, true, cx);
        let record = offer.hash;
        self.admissions.update(&peer, |state| state.outbound = Outbound::Checking { nonces, record });
        check_record(peer, offer.record, cx);
        Ok(())
    }

    /// Handles a step of a peer.
    pub(crate) fn on_admission_request(
        &mut self,
        token: Token,
        peer: PeerId,
        body: &Bytes,
        local: &mut Local,
        gate: &mut Gate,
        cx: &mut Cx,
    ) {
        if !self.admissions.is_pending(&peer) {
            // A step that overtakes its connection comes again.
            let is_early = !self.is_connected(&peer);
            let refusal = if is_early { Refusal::Busy } else { Refusal::OutOfTurn };
            return answer(token, rejected(refusal, cx), cx);
        }
        let outcome = match decode(body, cx) {
            Ok(Step::Connect(connect)) => self.on_connect(token, peer, connect, local, gate, cx),
            Ok(Step::SignedResponse(response)) => self.on_signed_response(token, peer, &response, local, cx),
            Ok(Step::Rejected(by_peer)) => {
                answer(token, Step::Rejected(Rejected { time_ms: 0, ..by_peer.clone() }), cx);
                return self.on_rejected(peer, &by_peer, local, gate, cx);
            }
            Ok(Step::Challenge(_) | Step::Accepted(_)) => Err(Refusal::OutOfTurn),
            Err(refusal) => Err(refusal),
        };
        let Err(refusal) = outcome else { return };
        answer(token, rejected(refusal, cx), cx);
        match refusal {
            Refusal::Busy => cx.stats.count(Counter::AdmissionsDeferred),
            _ => self.refuse_peer(&peer, refusal, cx),
        }
    }

    fn on_connect(
        &mut self,
        token: Token,
        peer: PeerId,
        connect: Connect,
        local: &mut Local,
        gate: &mut Gate,
        cx: &mut Cx,
    ) -> Result<(), Refusal> {
        self.count_connect(&peer, gate, cx)?;
        let initiator_nonce = nonce_of(&connect)?;
        let offer = self.check_offer(&peer, connect, gate, cx)?;
        let nonces = [initiator_nonce, self.admissions.next_nonce()];
        let responder = introduce(nonces[1], local, cx).ok_or(Refusal::Busy)?;
        let signature = sign(Side::Responder, &peer, &nonces, cx);
        answer(token, Step::Challenge(Challenge { responder: Some(responder), signature }), cx);
        let before = self.admissions.update(&peer, |state| {
            // The peer has begun, so this node need not, unless its own exchange is under way.
            state.connect_at = Instant::MAX;
            std::mem::replace(&mut state.inbound, Inbound::Challenged { offer, nonces })
        });
        if let Some(Inbound::Checking { token, .. }) = before {
            // The peer gave its last exchange up.
            answer(token, rejected(Refusal::Busy, cx), cx);
        }
        Ok(())
    }

    fn on_signed_response(
        &mut self,
        token: Token,
        peer: PeerId,
        response: &SignedResponse,
        local: &mut Local,
        cx: &mut Cx,
    ) -> Result<(), Refusal> {
        // Each challenge is for one response.
        let (offer, nonces) = match self.admissions.update(&peer, |state| std::mem::take(&mut state.inbound))
        {
            Some(Inbound::Challenged { offer, nonces }) => (offer, nonces),
            Some(Inbound::Checking { token, .. }) => {
                answer(token, rejected(Refusal::OutOfTurn, cx), cx);
                return Err(Refusal::OutOfTurn);
            }
            Some(Inbound::Idle) | None => return Err(Refusal::OutOfTurn),
        };
        if !is_signed(Side::Responder, &peer, &nonces, &offer, &response.signature, cx) {
            return Err(Refusal::Forged);
        }
        local.observe_clock(&peer, offer.time_ms, true, cx);
        let record = offer.hash;
        self.admissions.update(&peer, |state| state.inbound = Inbound::Checking { token, record });
        check_record(peer, offer.record, cx);
        Ok(())
    }

    /// Ends the exchanges that waited for the check of this record.
    pub(super) fn end_exchanges(
        &mut self,
        peer: PeerId,
        record: RecordHash,
        outcome: Result<(), Refusal>,
        cx: &mut Cx,
    ) {
        let waiting = self.admissions.update(&peer, |state| {
            let nonces = match state.outbound {
                Outbound::Checking { nonces, record: checked } if checked == record => {
                    state.outbound = Outbound::Idle;
                    Some(nonces)
                }
                _ => None,
            };
            let token = match state.inbound {
                Inbound::Checking { token, record: checked } if checked == record => {
                    state.inbound = Inbound::Idle;
                    Some(token)
                }
                _ => None,
            };
            (nonces, token)
        });
        let (nonces, token) = waiting.unwrap_or_default();
        if let Some(nonces) = nonces {
            let step = match outcome {
                Ok(()) => {
                    let signature = sign(Side::Initiator, &peer, &nonces, cx);
                    Step::SignedResponse(SignedResponse { signature })
                }
                Err(refusal) => rejected(refusal, cx),
            };
            let token = send(peer, step, cx);
            let is_refusal = outcome.is_err();
            self.admissions
                .update(&peer, |state| state.outbound = Outbound::Responding { token, is_refusal });
        }
        if let Some(token) = token {
            let step = outcome.map_or_else(|refusal| rejected(refusal, cx), |()| Step::Accepted(Accepted {}));
            answer(token, step, cx);
            // The signature of the peer proves that it admits this node.
            if outcome.is_ok() {
                self.accepted(&peer);
            }
        }
    }
}

/// Returns the nonce of a step, whose length the decoder has checked.
fn nonce_of(connect: &Connect) -> Result<Nonce, Refusal> {
    connect.nonce.as_ref().try_into().map_err(|_| Refusal::Malformed)
}
