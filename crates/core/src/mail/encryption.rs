//! What is sealed on its way out and opened on its way in.

use crate::cx::Cx;
use crate::directory::Directory;
use crate::gate::Gate;
use crate::gate::pending_verification::MAX_PARKED;
use crate::gate::pending_verification::MAX_PARKED_BYTES;
use crate::gate::pending_verification::OfferedRecord;
use crate::gate::pending_verification::RecordSource;
use crate::gossip::Gossip;
use crate::local::Local;
use crate::mail::Mail;
use crate::mail::inbound::on_mail::refuse_mail;
use crate::peers::Peers;
use crate::signal::Signal;
use p2p_node_protocol::Counter;
use std::collections::BTreeMap;
use std::time::Duration;

use alloy_primitives::Address;
use bytes::Bytes;
use libp2p_identity::PeerId;
use prost::Message as _;

use crate::MESSAGES;
use crate::crypto_task::{CryptoTask, OpenTask, Opened, Outcome, SealTask};
use crate::effect::{Effect, NetworkCommand};
use crate::gate::pending_verification::BUSY_MS;
use crate::input::Token;
use crate::mail::inbound::on_mail::{LATER_FRAMES, UNSUPPORTED_VERSION};
use crate::mail::outbound::destination::PendingSession;
use p2p_node_wire::envelope::{
    Batch, Busy, Frame, KemUnknown, Payload, Response, Scope, Sealed, strict_decode,
};
use p2p_node_wire::seal::hpke::{Info, SealedFrame};
use p2p_node_wire::seal::kem::KemId;
use p2p_node_wire::seal::session::OutboundSession;
use p2p_node_wire::seal::{SUITE, padding};

/// A frame on its way out, before it is sealed.
#[derive(Debug)]
pub(crate) struct PendingEncryption {
    pub(crate) recipient: Address,
    /// The node to which it goes; none by gossip.
    pub(crate) peer: Option<PeerId>,
    pub(crate) node_key: [u8; 32],
    pub(crate) kem_id: KemId,
}

/// A frame on its way in, while it is being opened.
#[derive(Debug)]
enum PendingDecryption {
    Mail { token: Token, peer: PeerId, frame: Box<Frame> },
    Gossip { frame: Box<Frame> },
}

/// What came of looking into a frame of mail.
pub(crate) enum DecryptOutcome {
    Done(Batch),
    Answer(Response),
    Waits,
}

/// Frames that are being opened, with their bytes.
#[derive(Debug, Default)]
pub(crate) struct PendingDecryptions {
    frames: BTreeMap<Token, (PendingDecryption, usize)>,
    bytes: usize,
}

impl PendingDecryptions {
    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    fn has_room(&self, size: usize) -> bool {
        self.frames.len() < MAX_PARKED && self.bytes + size <= MAX_PARKED_BYTES
    }

    fn insert(&mut self, token: Token, frame: PendingDecryption, size: usize) {
        self.bytes += size;
        self.frames.insert(token, (frame, size));
    }

    fn remove(&mut self, token: Token) -> Option<PendingDecryption> {
        let (frame, size) = self.frames.remove(&token)?;
        self.bytes -= size;
        Some(frame)
    }
}

impl Local {
    /// Makes a new KEM key when it is time, and tells of it in our record.
    pub(crate) fn rotate_kem_keys(&mut self, cx: &Cx) {
        let now = cx.now;
        self.keyring.rotate(now);
        self.record.set_kem(self.keyring.current(), now);
    }
}

impl Mail {
    /// Sends a batch: under the keys of the session, or sealed to the recipient's key, which begins one.
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
        let Some(destination) = self.outbox.destination(&to.recipient) else { return };
        if let Some(peer) = to.peer {
            let unusable =
                |session: &OutboundSession| !session.is_with(&to.node_key) || session.is_over(now.mono);
            destination.session.take_if(|session| unusable(session));
            // While the next one begins, this one serves.
            let begins = destination.opening.is_some();
            let session = destination.session.as_mut();
            let session = session.filter(|session| begins || !session.is_due(&to.kem_id, now.mono));
            if let Some(session) = session {
                let Some(sealed) = session.seal(content) else { return };
                let scope = Scope::NodeKey(Bytes::copy_from_slice(&to.node_key));
                let frame = cx.frame(scope, Payload::Session(sealed));
                return cx.network(NetworkCommand::SendMail { token, peer, frame });
            }
            destination.opening = Some(PendingSession { token, session: None });
        }
        let info = Info {
            network: cx.identity.network.clone(),
            sender: cx.identity.node_key.public(),
            recipient: to.recipient,
            kem_id: to.kem_id,
        };
        cx.stats.count(Counter::MailSealed);
        self.pending_encryptions.insert(token, to);
        let task = SealTask { token, public_key: public_key.clone(), info, content };
        cx.effects.push_back(Effect::Crypto(CryptoTask::Seal(Box::new(task))));
    }

    pub(crate) fn on_sealed(
        &mut self,
        token: Token,
        outcome: Outcome<SealedFrame>,
        gossip: &mut Gossip,
        cx: &mut Cx,
    ) {
        let now = cx.now;
        let Some(PendingEncryption { recipient, peer, node_key, kem_id }) =
            self.pending_encryptions.remove(&token)
        else {
            return;
        };
        // It may have been settled, or given up, meanwhile.
        if self.outbox.recipient(token) != Some(recipient) {
            return self.drop_opening(&recipient, token);
        }
        let Some(Some(SealedFrame { enc, ciphertext, session })) = outcome else {
            cx.stats.count(if outcome.is_none() { Counter::CryptoPoolFull } else { Counter::MailWithoutKey });
            self.drop_opening(&recipient, token);
            self.outbox.failed(token, Duration::ZERO, now.mono, &mut cx.jitter);
            self.recipients_to_flush.insert(recipient);
            return;
        };
        let sealed = Payload::Sealed(Sealed {
            kem_id: Bytes::copy_from_slice(&kem_id),
            suite: SUITE,
            enc,
            ciphertext,
        });
        match peer {
            Some(peer) => {
                if let Some(opening) = self.opening_of(&recipient, token) {
                    opening.session = Some(OutboundSession::new(session, node_key, kem_id, now.mono));
                }
                let frame = cx.frame(Scope::NodeKey(Bytes::copy_from_slice(&node_key)), sealed);
                cx.network(NetworkCommand::SendMail { token, peer, frame });
            }
            None => {
                let data = cx.frame(Scope::Topic(MESSAGES.to_owned()), sealed);
                self.outbox.note_frame(token, cx.frame_numbers.latest());
                gossip.pacer.take(data.len(), now.mono);
                gossip.budget.take(data.len(), now.mono);
                cx.network(NetworkCommand::Publish { token, topic: MESSAGES.to_owned(), data });
            }
        }
    }

    fn opening_of(&mut self, recipient: &Address, token: Token) -> Option<&mut PendingSession> {
        self.outbox.destination(recipient)?.opening.as_mut().filter(|opening| opening.token == token)
    }

    /// Nothing comes of a session that was to begin with this flight.
    fn drop_opening(&mut self, recipient: &Address, token: Token) {
        if let Some(destination) = self.outbox.destination(recipient) {
            destination.opening.take_if(|opening| opening.token == token);
        }
    }

    /// A direct flight has ended. If a session was to begin with it, it has begun if the recipient has `taken` the frame; whether
    /// one was to.
    pub(crate) fn end_opening(&mut self, recipient: &Address, token: Token, taken: bool) -> bool {
        let Some(destination) = self.outbox.destination(recipient) else { return false };
        let Some(opening) = destination.opening.take_if(|opening| opening.token == token) else {
            return false;
        };
        if taken {
            destination.session = opening.session;
        }
        true
    }

    /// The recipient cannot read what we sent, and says what it can.
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
        cx.signal(Signal::RecordReceived(OfferedRecord {
            bytes: record,
            source: RecordSource::Answer,
            expected_address: Some(recipient),
        }));
        cx.signal(Signal::KeyRefused { recipient, key, by_session });
    }

    /// Retries at once if another attempt can succeed: the session that the recipient does not
    /// know is gone, or its record names another key than the one it refused.
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

    /// What is in a frame of direct mail whose signature is good.
    pub(crate) fn unseal_mail(
        &mut self,
        token: Token,
        peer: PeerId,
        frame: &Frame,
        local: &Local,
        cx: &mut Cx,
    ) -> DecryptOutcome {
        match &frame.body.payload {
            Some(Payload::Session(session)) => {
                let Some(key) = self.sessions.find(&peer, &session.id) else {
                    return DecryptOutcome::Answer(self.kem_unknown(local, cx));
                };
                let content = key.open(session.counter, &session.ciphertext);
                match decode_content(content) {
                    Ok(batch) => DecryptOutcome::Done(batch),
                    Err(unread) => DecryptOutcome::Answer(refuse_unread(unread, cx)),
                }
            }
            Some(Payload::Sealed(sealed)) => {
                let Some(task) = self.open_task(frame, sealed, local, cx) else {
                    return DecryptOutcome::Answer(self.kem_unknown(local, cx));
                };
                let size = sealed.ciphertext.len();
                if !self.pending_decryptions.has_room(size) {
                    return DecryptOutcome::Answer(reply_busy(cx));
                }
                let frame = Box::new(frame.clone());
                self.pending_decryptions.insert(
                    task.token,
                    PendingDecryption::Mail { token, peer, frame },
                    size,
                );
                cx.effects.push_back(Effect::Crypto(CryptoTask::Open(Box::new(task))));
                DecryptOutcome::Waits
            }
            // Acknowledgements name streams and numbers alone.
            Some(Payload::Plain(batch)) if batch.messages.is_empty() => DecryptOutcome::Done(batch.clone()),
            Some(Payload::Plain(_)) | None => {
                let reason = "the frame is not encrypted; mail must be encrypted to a key of the recipient";
                DecryptOutcome::Answer(refuse_mail(Counter::FramesUnsealed, "NOT_ENCRYPTED", &reason, cx))
            }
        }
    }

    /// A sealed frame by gossip: most are for others.
    pub(crate) fn unseal_gossip(&mut self, frame: Frame, local: &Local, cx: &mut Cx) {
        let Some(Payload::Sealed(sealed)) = &frame.body.payload else { return };
        let Some(task) = self.open_task(&frame, sealed, local, cx) else { return };
        let size = sealed.ciphertext.len();
        if !self.pending_decryptions.has_room(size) {
            // Without an acknowledgement the sender keeps it and tries again.
            return cx.stats.count(Counter::CryptoPoolFull);
        }
        self.pending_decryptions.insert(
            task.token,
            PendingDecryption::Gossip { frame: Box::new(frame) },
            size,
        );
        cx.effects.push_back(Effect::Crypto(CryptoTask::Open(Box::new(task))));
    }

    /// How to open it, if it is sealed to a key of ours.
    fn open_task(&mut self, frame: &Frame, sealed: &Sealed, local: &Local, cx: &mut Cx) -> Option<OpenTask> {
        let secret = local.keyring.find(&sealed.kem_id).filter(|_| sealed.suite == SUITE)?;
        let info = Info {
            network: cx.identity.network.clone(),
            sender: frame.binding.binding.node_key,
            recipient: cx.identity.address,
            kem_id: sealed.kem_id.as_ref().try_into().ok()?,
        };
        let (enc, ciphertext) = (sealed.enc.clone(), sealed.ciphertext.clone());
        Some(OpenTask { token: cx.token(), secret, info, enc, ciphertext })
    }

    pub(crate) fn on_opened(
        &mut self,
        token: Token,
        outcome: Outcome<Opened>,
        gate: &mut Gate,
        directory: &Directory,
        peers: &Peers,
        cx: &mut Cx,
    ) {
        let (opened, unopened) = match (outcome, self.pending_decryptions.remove(token)) {
            (_, None) => return,
            (outcome, Some(unopened)) => (outcome, unopened),
        };
        let session = opened.iter().flatten().map(|opened| opened.session.clone()).next();
        let batch = match opened {
            Some(opened) => decode_content(opened.map(|opened| opened.content)),
            None => Err(Unread::NotTried),
        };
        match (unopened, batch) {
            (PendingDecryption::Mail { token, peer, frame }, Ok(batch)) => {
                if let Some(session) = session.filter(|_| peers.connected.contains_key(&peer)) {
                    self.sessions.insert(peer, session);
                }
                if let Some(response) = self.receive_batch(token, &frame, &batch, gate, directory, cx) {
                    cx.answer_mail(token, response);
                }
            }
            (PendingDecryption::Mail { token, .. }, Err(unread)) => {
                let response = refuse_unread(unread, cx);
                cx.answer_mail(token, response);
            }
            (PendingDecryption::Gossip { frame }, Ok(batch)) => {
                self.on_gossip_mail(&frame, &batch, gate, directory, cx)
            }
            (PendingDecryption::Gossip { .. }, Err(unread)) => cx.stats.count(match unread {
                Unread::NotTried => Counter::CryptoPoolFull,
                Unread::Unreadable => Counter::FramesUnreadable,
                Unread::Later => LATER_FRAMES,
            }),
        }
    }

    /// The sender has to seal anew, to what our record says.
    fn kem_unknown(&mut self, local: &Local, cx: &mut Cx) -> Response {
        cx.stats.count(Counter::FramesKemUnknown);
        match local.record.current() {
            Some(record) => Response::KemUnknown(KemUnknown { record: record.bytes.clone() }),
            None => Response::Busy(Busy { retry_after_ms: BUSY_MS }),
        }
    }
}

impl Directory {
    fn kem_of(&self, address: &Address, cx: &Cx) -> Option<Bytes> {
        let now = cx.now;
        let record = self.records.get(address, now.unix_ms)?;
        record.record.kem.as_ref().map(|kem| kem.id.clone())
    }
}

fn refuse_unread(unread: Unread, cx: &mut Cx) -> Response {
    match unread {
        Unread::NotTried => reply_busy(cx),
        Unread::Unreadable => {
            let reason = "the frame does not decrypt: its sender did not encrypt it to this node";
            refuse_mail(Counter::FramesUnreadable, "DECRYPTION_FAILED", &reason, cx)
        }
        Unread::Later => {
            refuse_mail(LATER_FRAMES, UNSUPPORTED_VERSION, &"the encrypted batch is of a later version", cx)
        }
    }
}

fn reply_busy(cx: &mut Cx) -> Response {
    cx.stats.count(Counter::CryptoPoolFull);
    Response::Busy(Busy { retry_after_ms: BUSY_MS })
}

/// Why a frame that was sealed is not read.
#[derive(Clone, Copy, Debug)]
enum Unread {
    /// The crypto pool did not get to it.
    NotTried,
    /// It was not sealed to us, or holds no batch.
    Unreadable,
    /// It holds a batch of a later version.
    Later,
}

fn decode_content(content: Option<Vec<u8>>) -> Result<Batch, Unread> {
    let encoded = content.and_then(padding::unpad).ok_or(Unread::Unreadable)?;
    let batch = strict_decode(&encoded.into());
    batch.map_err(|error| if error.is_provable() { Unread::Unreadable } else { Unread::Later })
}
