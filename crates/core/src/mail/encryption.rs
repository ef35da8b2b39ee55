//! What is sealed on its way out and opened on its way in.

use crate::gate::pending_verification::MAX_PARKED;
use crate::gate::pending_verification::MAX_PARKED_BYTES;
use crate::gate::pending_verification::OfferedRecord;
use crate::gate::pending_verification::RecordSource;
use crate::signal::Signal;
use p2p_node_protocol::Counter;
use std::collections::BTreeMap;
use std::time::Duration;

use alloy_primitives::Address;
use bytes::Bytes;
use libp2p_identity::PeerId;
use prost::Message as _;

use crate::crypto_task::{CryptoTask, OpenTask, Opened, Outcome, SealTask};
use crate::effect::{Effect, NetworkCommand};
use crate::gate::pending_verification::BUSY_MS;
use crate::input::Token;
use crate::mail::inbound::on_mail::{LATER_FRAMES, UNSUPPORTED_VERSION};
use crate::mail::outbound::destination::PendingSession;
use crate::{Core, MESSAGES};
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

impl Core {
    /// Makes a new KEM key when it is time, and tells of it in our record.
    pub(crate) fn rotate_kem_keys(&mut self) {
        let now = self.cx.now;
        self.local.keyring.rotate(now);
        self.local.record.set_kem(self.local.keyring.current(), now);
    }

    /// Sends a batch: under the keys of the session, or sealed to the recipient's key, which begins one.
    pub(crate) fn seal_mail(
        &mut self,
        token: Token,
        to: PendingEncryption,
        public_key: &Bytes,
        batch: &Batch,
    ) {
        let now = self.cx.now;
        let content = padding::pad(batch.encode_to_vec());
        let Some(destination) = self.mail.outbox.destination(&to.recipient) else { return };
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
                let frame = self.cx.frame(scope, Payload::Session(sealed));
                return self.cx.network(NetworkCommand::SendMail { token, peer, frame });
            }
            destination.opening = Some(PendingSession { token, session: None });
        }
        let info = Info {
            network: self.cx.identity.network.clone(),
            sender: self.cx.identity.node_key.public(),
            recipient: to.recipient,
            kem_id: to.kem_id,
        };
        self.cx.stats.count(Counter::MailSealed);
        self.mail.pending_encryptions.insert(token, to);
        let task = SealTask { token, public_key: public_key.clone(), info, content };
        self.cx.effects.push_back(Effect::Crypto(CryptoTask::Seal(Box::new(task))));
    }

    pub(crate) fn on_sealed(&mut self, token: Token, outcome: Outcome<SealedFrame>) {
        let now = self.cx.now;
        let Some(PendingEncryption { recipient, peer, node_key, kem_id }) =
            self.mail.pending_encryptions.remove(&token)
        else {
            return;
        };
        // It may have been settled, or given up, meanwhile.
        if self.mail.outbox.recipient(token) != Some(recipient) {
            return self.drop_opening(&recipient, token);
        }
        let Some(Some(SealedFrame { enc, ciphertext, session })) = outcome else {
            self.cx.stats.count(if outcome.is_none() {
                Counter::CryptoPoolFull
            } else {
                Counter::MailWithoutKey
            });
            self.drop_opening(&recipient, token);
            self.mail.outbox.failed(token, Duration::ZERO, now.mono, &mut self.cx.jitter);
            self.mail.recipients_to_flush.insert(recipient);
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
                let frame = self.cx.frame(Scope::NodeKey(Bytes::copy_from_slice(&node_key)), sealed);
                self.cx.network(NetworkCommand::SendMail { token, peer, frame });
            }
            None => {
                let data = self.cx.frame(Scope::Topic(MESSAGES.to_owned()), sealed);
                self.mail.outbox.note_frame(token, self.cx.frame_numbers.latest());
                self.gossip.pacer.take(data.len(), now.mono);
                self.gossip.budget.take(data.len(), now.mono);
                self.cx.network(NetworkCommand::Publish { token, topic: MESSAGES.to_owned(), data });
            }
        }
    }

    fn opening_of(&mut self, recipient: &Address, token: Token) -> Option<&mut PendingSession> {
        self.mail.outbox.destination(recipient)?.opening.as_mut().filter(|opening| opening.token == token)
    }

    /// Nothing comes of a session that was to begin with this flight.
    fn drop_opening(&mut self, recipient: &Address, token: Token) {
        if let Some(destination) = self.mail.outbox.destination(recipient) {
            destination.opening.take_if(|opening| opening.token == token);
        }
    }

    /// A direct flight has ended. If a session was to begin with it, it has begun if the recipient has `taken` the frame; whether
    /// one was to.
    pub(crate) fn end_opening(&mut self, recipient: &Address, token: Token, taken: bool) -> bool {
        let Some(destination) = self.mail.outbox.destination(recipient) else { return false };
        let Some(opening) = destination.opening.take_if(|opening| opening.token == token) else {
            return false;
        };
        if taken {
            destination.session = opening.session;
        }
        true
    }

    /// The recipient cannot read what we sent, and says what it can.
    pub(crate) fn on_kem_unknown(&mut self, token: Token, recipient: Address, record: Bytes) {
        let now = self.cx.now;
        self.cx.stats.count(Counter::MailKemUnknown);
        let key = self.kem_of(&recipient);
        let by_session = !self.end_opening(&recipient, token, false);
        if let Some(destination) = self.mail.outbox.destination(&recipient) {
            destination.session = None;
        }
        self.mail.outbox.failed(token, Duration::ZERO, now.mono, &mut self.cx.jitter);
        self.cx.signal(Signal::RecordReceived(OfferedRecord {
            bytes: record,
            source: RecordSource::Answer,
            expected_address: Some(recipient),
        }));
        self.cx.signal(Signal::KeyRefused { recipient, key, by_session });
    }

    /// Retries at once if another attempt can succeed: the session that the recipient does not
    /// know is gone, or its record names another key than the one it refused.
    pub(crate) fn on_key_refused(&mut self, recipient: Address, key: Option<Bytes>, by_session: bool) {
        if (by_session || self.kem_of(&recipient) != key)
            && let Some(destination) = self.mail.outbox.destination(&recipient)
        {
            destination.backoff.reset();
        }
    }

    fn kem_of(&self, address: &Address) -> Option<Bytes> {
        let now = self.cx.now;
        let record = self.directory.records.get(address, now.unix_ms)?;
        record.record.kem.as_ref().map(|kem| kem.id.clone())
    }

    /// What is in a frame of direct mail whose signature is good.
    pub(crate) fn unseal_mail(&mut self, token: Token, peer: PeerId, frame: &Frame) -> DecryptOutcome {
        match &frame.body.payload {
            Some(Payload::Session(session)) => {
                let Some(key) = self.mail.sessions.find(&peer, &session.id) else {
                    return DecryptOutcome::Answer(self.kem_unknown());
                };
                let content = key.open(session.counter, &session.ciphertext);
                match decode_content(content) {
                    Ok(batch) => DecryptOutcome::Done(batch),
                    Err(unread) => DecryptOutcome::Answer(self.refuse_unread(unread)),
                }
            }
            Some(Payload::Sealed(sealed)) => {
                let Some(task) = self.open_task(frame, sealed) else {
                    return DecryptOutcome::Answer(self.kem_unknown());
                };
                let size = sealed.ciphertext.len();
                if !self.mail.pending_decryptions.has_room(size) {
                    return DecryptOutcome::Answer(self.reply_busy());
                }
                let frame = Box::new(frame.clone());
                self.mail.pending_decryptions.insert(
                    task.token,
                    PendingDecryption::Mail { token, peer, frame },
                    size,
                );
                self.cx.effects.push_back(Effect::Crypto(CryptoTask::Open(Box::new(task))));
                DecryptOutcome::Waits
            }
            // Acknowledgements name streams and numbers alone.
            Some(Payload::Plain(batch)) if batch.messages.is_empty() => DecryptOutcome::Done(batch.clone()),
            Some(Payload::Plain(_)) | None => {
                let reason = "the frame is not encrypted; mail must be encrypted to a key of the recipient";
                DecryptOutcome::Answer(self.refuse_mail(Counter::FramesUnsealed, "NOT_ENCRYPTED", &reason))
            }
        }
    }

    /// A sealed frame by gossip: most are for others.
    pub(crate) fn unseal_gossip(&mut self, frame: Frame) {
        let Some(Payload::Sealed(sealed)) = &frame.body.payload else { return };
        let Some(task) = self.open_task(&frame, sealed) else { return };
        let size = sealed.ciphertext.len();
        if !self.mail.pending_decryptions.has_room(size) {
            // Without an acknowledgement the sender keeps it and tries again.
            return self.cx.stats.count(Counter::CryptoPoolFull);
        }
        self.mail.pending_decryptions.insert(
            task.token,
            PendingDecryption::Gossip { frame: Box::new(frame) },
            size,
        );
        self.cx.effects.push_back(Effect::Crypto(CryptoTask::Open(Box::new(task))));
    }

    /// How to open it, if it is sealed to a key of ours.
    fn open_task(&mut self, frame: &Frame, sealed: &Sealed) -> Option<OpenTask> {
        let secret = self.local.keyring.find(&sealed.kem_id).filter(|_| sealed.suite == SUITE)?;
        let info = Info {
            network: self.cx.identity.network.clone(),
            sender: frame.binding.binding.node_key,
            recipient: self.cx.identity.address,
            kem_id: sealed.kem_id.as_ref().try_into().ok()?,
        };
        let (enc, ciphertext) = (sealed.enc.clone(), sealed.ciphertext.clone());
        Some(OpenTask { token: self.cx.token(), secret, info, enc, ciphertext })
    }

    pub(crate) fn on_opened(&mut self, token: Token, outcome: Outcome<Opened>) {
        let (opened, unopened) = match (outcome, self.mail.pending_decryptions.remove(token)) {
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
                if let Some(session) = session.filter(|_| self.peers.connected.contains_key(&peer)) {
                    self.mail.sessions.insert(peer, session);
                }
                if let Some(response) = self.receive_batch(token, &frame, &batch) {
                    self.cx.answer_mail(token, response);
                }
            }
            (PendingDecryption::Mail { token, .. }, Err(unread)) => {
                let response = self.refuse_unread(unread);
                self.cx.answer_mail(token, response);
            }
            (PendingDecryption::Gossip { frame }, Ok(batch)) => self.on_gossip_mail(&frame, &batch),
            (PendingDecryption::Gossip { .. }, Err(unread)) => self.cx.stats.count(match unread {
                Unread::NotTried => Counter::CryptoPoolFull,
                Unread::Unreadable => Counter::FramesUnreadable,
                Unread::Later => LATER_FRAMES,
            }),
        }
    }

    /// The sender has to seal anew, to what our record says.
    fn kem_unknown(&mut self) -> Response {
        self.cx.stats.count(Counter::FramesKemUnknown);
        match self.local.record.current() {
            Some(record) => Response::KemUnknown(KemUnknown { record: record.bytes.clone() }),
            None => Response::Busy(Busy { retry_after_ms: BUSY_MS }),
        }
    }

    fn refuse_unread(&mut self, unread: Unread) -> Response {
        match unread {
            Unread::NotTried => self.reply_busy(),
            Unread::Unreadable => {
                let reason = "the frame does not decrypt: its sender did not encrypt it to this node";
                self.refuse_mail(Counter::FramesUnreadable, "DECRYPTION_FAILED", &reason)
            }
            Unread::Later => self.refuse_mail(
                LATER_FRAMES,
                UNSUPPORTED_VERSION,
                &"the encrypted batch is of a later version",
            ),
        }
    }

    fn reply_busy(&mut self) -> Response {
        self.cx.stats.count(Counter::CryptoPoolFull);
        Response::Busy(Busy { retry_after_ms: BUSY_MS })
    }
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
