//! Encryption of outgoing frames, and the sessions to recipients.

use std::time::Duration;

use alloy_primitives::Address;
use bytes::Bytes;
use libp2p_identity::PeerId;
use p2p_node_protocol::Counter;
use p2p_node_wire::envelope::{Batch, Payload, Scope, Sealed};
use p2p_node_wire::identity::NodePublicKey;
use p2p_node_wire::seal::hpke::{Info, SealedFrame};
use p2p_node_wire::seal::kem::KemId;
use p2p_node_wire::seal::padding;
use p2p_node_wire::seal::session::OutboundSession;
use p2p_node_wire::seal::suite::Suite;
use prost::Message as _;

use crate::crypto_task::{CryptoTask, SealTask, TaskOutcome};
use crate::cx::Cx;
use crate::directory::Directory;
use crate::effect::{Effect, NetworkCommand};
use crate::gate::pending_verification::{OfferedRecord, RecordSource};
use crate::gossip::Gossip;
use crate::input::Token;
use crate::mail::Mail;
use crate::mail::outbound::destination::PendingSession;
use crate::signal::Signal;
use crate::topics::MESSAGES;

/// The destination of a frame that the crypto pool encrypts.
#[derive(Debug)]
pub(crate) struct PendingEncryption {
    pub(crate) recipient: Address,
    /// The node that receives the frame; `None` if the frame goes by gossip.
    pub(crate) peer: Option<PeerId>,
    pub(crate) node_key: NodePublicKey,
    pub(crate) kem_id: KemId,
    pub(crate) suite: Suite,
}

impl Mail {
    /// Sends a batch: encrypted with the session if there is one, else sealed to the KEM key of the
    /// recipient. A direct sealed frame begins a new session.
    pub(crate) fn seal_mail(
        &mut self,
        token: Token,
        to: PendingEncryption,
        public_key: &Bytes,
        batch: &Batch,
        cx: &mut Cx,
    ) {
        let now = cx.now;
        let content = padding::pad(batch.encode_to_vec());
        if to.peer.is_some() {
            self.outbox.record_node(token, to.node_key);
        }
        let Some(destination) = self.outbox.destination(&to.recipient) else { return };
        if let Some(peer) = to.peer {
            let unusable =
                |session: &OutboundSession| !session.is_for(&to.node_key) || session.is_expired(now.mono);
            destination.session.take_if(|session| unusable(session));
            // The current session serves until the recipient has answered the first frame of the
            // next one.
            let begins = destination.opening.is_some();
            let session = destination.session.as_mut();
            let session = session.filter(|session| begins || !session.needs_rekey(&to.kem_id, now.mono));
            if let Some(session) = session {
                let Some(sealed) = session.seal(content) else { return };
                let frame = cx.direct_frame(&to.node_key, Payload::Session(sealed));
                return cx.network(NetworkCommand::SendMail { token, peer, frame });
            }
            destination.opening = Some(PendingSession { token, session: None });
        }
        let info = Info {
            network: cx.identity.network.clone(),
            sender: cx.identity.node_key.public(),
            recipient: to.recipient,
            kem_id: to.kem_id,
            suite: to.suite,
        };
        cx.stats.count(Counter::MailEncrypted);
        self.pending_encryptions.insert(token, to);
        let task = SealTask { token, public_key: public_key.clone(), info, content };
        cx.effects.push_back(Effect::Crypto(CryptoTask::Seal(Box::new(task))));
    }

    pub(crate) fn on_sealed(
        &mut self,
        token: Token,
        outcome: TaskOutcome<SealedFrame>,
        gossip: &mut Gossip,
        cx: &mut Cx,
    ) {
        let now = cx.now;
        let Some(PendingEncryption { recipient, peer, node_key, kem_id, suite }) =
            self.pending_encryptions.remove(&token)
        else {
            return;
        };
        // The recipient may have acked the messages, or they may have expired, in the meantime.
        if self.outbox.recipient(token) != Some(recipient) {
            return self.drop_opening(&recipient, token);
        }
        let TaskOutcome::Done(SealedFrame { enc, ciphertext, session }) = outcome else {
            let pool_full = matches!(outcome, TaskOutcome::PoolFull);
            cx.stats.count(if pool_full { Counter::CryptoPoolFull } else { Counter::MailWithoutKey });
            self.drop_opening(&recipient, token);
            self.outbox.failed(token, Duration::ZERO, now.mono, &mut cx.jitter);
            self.recipients_to_flush.insert(recipient);
            return;
        };
        let sealed = Payload::Sealed(Sealed {
            kem_id: Bytes::copy_from_slice(&kem_id),
            suite: suite.number(),
            enc,
            ciphertext,
        });
        match peer {
            Some(peer) => {
                if let Some(opening) = self.opening_of(&recipient, token) {
                    opening.session = Some(OutboundSession::new(session, node_key, kem_id, now.mono));
                }
                let frame = cx.direct_frame(&node_key, sealed);
                cx.network(NetworkCommand::SendMail { token, peer, frame });
            }
            None => {
                let data = cx.signed_frame(Scope::Topic(MESSAGES.to_owned()), sealed);
                self.outbox.record_frame(token, cx.frame_numbers.latest());
                gossip.record_own_frame(data.len(), None, now.mono);
                gossip.budget.record(data.len(), None, now.mono);
                cx.network(NetworkCommand::Publish { token, topic: MESSAGES.to_owned(), data });
            }
        }
    }

    fn opening_of(&mut self, recipient: &Address, token: Token) -> Option<&mut PendingSession> {
        self.outbox.destination(recipient)?.opening.as_mut().filter(|opening| opening.token == token)
    }

    /// Drops the pending session that would begin with this frame.
    fn drop_opening(&mut self, recipient: &Address, token: Token) {
        if let Some(destination) = self.outbox.destination(recipient) {
            destination.opening.take_if(|opening| opening.token == token);
        }
    }

    /// Ends the pending session that would begin with this direct frame, if there is one. If the
    /// recipient accepted the frame (`taken`), the session replaces the current one. Returns `true`
    /// if there was a pending session.
    pub(crate) fn end_opening(&mut self, recipient: &Address, token: Token, accepted: bool) -> bool {
        let Some(destination) = self.outbox.destination(recipient) else { return false };
        let Some(opening) = destination.opening.take_if(|opening| opening.token == token) else {
            return false;
        };
        if accepted {
            destination.session = opening.session;
        }
        true
    }

    /// Handles `KemUnknown`: the recipient cannot decrypt the frame, and its response contains its
    /// current record.
    pub(crate) fn on_kem_unknown(
        &mut self,
        token: Token,
        recipient: Address,
        record: Bytes,
        directory: &Directory,
        cx: &mut Cx,
    ) {
        let now = cx.now;
        cx.stats.count(Counter::MailKemUnknown);
        let key = directory.kem_of(&recipient, cx);
        let by_session = !self.end_opening(&recipient, token, false);
        if let Some(destination) = self.outbox.destination(&recipient) {
            destination.session = None;
        }
        self.outbox.failed(token, Duration::ZERO, now.mono, &mut cx.jitter);
        // The response counts only if it is of the node that the record names.
        if let Some(known) = directory.records.get(&recipient, now.unix_ms) {
            cx.signal(Signal::RecordReceived(OfferedRecord {
                bytes: record,
                source: RecordSource::Answer(known.peer_id()),
                expected_address: Some(recipient),
            }));
        }
        cx.signal(Signal::KeyRefused { recipient, key, by_session });
    }

    /// Retries at once if another attempt can succeed: either the node has dropped the session that
    /// the recipient does not know, or the recipient's record now names another key than the
    /// rejected one.
    pub(crate) fn on_key_refused(
        &mut self,
        recipient: Address,
        key: Option<Bytes>,
        by_session: bool,
        directory: &Directory,
        cx: &Cx,
    ) {
        if (by_session || directory.kem_of(&recipient, cx) != key)
            && let Some(destination) = self.outbox.destination(&recipient)
        {
            destination.backoff.reset();
        }
    }
}
