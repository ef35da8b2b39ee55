//! Decryption of incoming frames: with the key of a session, or with a KEM key of this node by the
//! crypto pool.

use std::collections::BTreeMap;

use libp2p_identity::PeerId;
use p2p_node_protocol::Counter;
use p2p_node_wire::envelope::{Batch, Busy, Frame, KemUnknown, Payload, Response, Sealed, strict_decode};
use p2p_node_wire::seal::hpke::Info;
use p2p_node_wire::seal::padding;
use p2p_node_wire::seal::suite::Suite;

use crate::budget::Limit;
use crate::crypto_task::{CryptoTask, OpenTask, Opened, TaskOutcome};
use crate::cx::Cx;
use crate::directory::Directory;
use crate::effect::Effect;
use crate::gate::Gate;
use crate::gate::frame_checks::{LATER_FRAMES, UNSUPPORTED_VERSION};
use crate::gate::pending_verification::{BUSY_MS, MAX_PENDING_BYTES};
use crate::input::Token;
use crate::local::Local;
use crate::mail::Mail;
use crate::mail::inbound::on_mail::refuse_mail;
use crate::peers::Peers;
use crate::shared_budget::SharedBudget;

/// Largest number of frames that the crypto pool decrypts at the same time: our choice. A decryption takes
/// 0.3 ms, so the last one is done after 60 ms.
pub(crate) const MAX_DECRYPTIONS: usize = 192;
const DECRYPTIONS_LIMIT: Limit = Limit { count: MAX_DECRYPTIONS, bytes: MAX_PENDING_BYTES };

/// A frame that the crypto pool decrypts.
#[derive(Debug)]
enum PendingDecryption {
    Mail { token: Token, peer: PeerId, frame: Box<Frame> },
    Gossip { frame: Box<Frame> },
}

/// The outcome of decrypting a frame of mail.
pub(crate) enum DecryptOutcome {
    Done(Batch),
    Answer(Response),
    Waits,
}

/// The frames that the crypto pool decrypts, each with the neighbour that sent it and its size in bytes.
/// Neighbours share the room for them.
#[derive(Debug, Default)]
pub(crate) struct PendingDecryptions {
    frames: BTreeMap<Token, (PendingDecryption, PeerId, usize)>,
    budget: SharedBudget,
}

impl PendingDecryptions {
    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    fn has_room(&self, from: &PeerId, size: usize) -> bool {
        self.budget.fits(from, size, DECRYPTIONS_LIMIT)
    }

    fn insert(&mut self, token: Token, frame: PendingDecryption, from: PeerId, size: usize) {
        self.budget.add(from, size);
        self.frames.insert(token, (frame, from, size));
    }

    fn remove(&mut self, token: Token) -> Option<PendingDecryption> {
        let (frame, from, size) = self.frames.remove(&token)?;
        self.budget.remove(&from, size);
        Some(frame)
    }
}

/// Why the node cannot read an encrypted frame.
#[derive(Clone, Copy, Debug)]
enum Unread {
    /// The crypto pool had no capacity for the frame.
    NotTried,
    /// The frame does not decrypt with the key of this node, or the content is not a valid batch.
    Unreadable,
    /// The frame contains a batch of a later protocol version.
    Later,
}

impl Mail {
    /// Decrypts a direct frame whose signature is valid. Uses the session key if the frame belongs
    /// to a session; otherwise passes the frame to the crypto pool.
    pub(crate) fn open_mail(
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
                if !self.pending_decryptions.has_room(&peer, size) {
                    return DecryptOutcome::Answer(reply_busy(cx));
                }
                let frame = Box::new(frame.clone());
                self.pending_decryptions.insert(
                    task.token,
                    PendingDecryption::Mail { token, peer, frame },
                    peer,
                    size,
                );
                cx.effects.push_back(Effect::Crypto(CryptoTask::Open(Box::new(task))));
                DecryptOutcome::Waits
            }
            // An ack contains only stream ids and numbers, so it needs no encryption.
            Some(Payload::Plain(batch)) if batch.messages.is_empty() => DecryptOutcome::Done(batch.clone()),
            Some(Payload::Plain(_)) | None => {
                let reason = "the frame is not encrypted; mail must be encrypted to a key of the recipient";
                DecryptOutcome::Answer(refuse_mail(Counter::FramesNotEncrypted, "NOT_ENCRYPTED", &reason, cx))
            }
        }
    }

    /// Passes an encrypted gossip frame to the crypto pool if it is for this node. Most are for
    /// others. `from` is the neighbour that forwarded it.
    pub(crate) fn open_gossip(&mut self, frame: Frame, from: &PeerId, local: &Local, cx: &mut Cx) {
        let Some(Payload::Sealed(sealed)) = &frame.body.payload else { return };
        let Some(task) = self.open_task(&frame, sealed, local, cx) else { return };
        let size = sealed.ciphertext.len();
        if !self.pending_decryptions.has_room(from, size) {
            // The node sends no ack, so the sender keeps the messages and tries again.
            return cx.stats.count(Counter::CryptoPoolFull);
        }
        self.pending_decryptions.insert(
            task.token,
            PendingDecryption::Gossip { frame: Box::new(frame) },
            *from,
            size,
        );
        cx.effects.push_back(Effect::Crypto(CryptoTask::Open(Box::new(task))));
    }

    /// Returns the task for the crypto pool, or `None` if no key of this node has the KEM id of the
    /// frame, or the suite is unknown.
    fn open_task(&mut self, frame: &Frame, sealed: &Sealed, local: &Local, cx: &mut Cx) -> Option<OpenTask> {
        let suite = Suite::from_number(sealed.suite)?;
        let secret = local.keyring.find(&sealed.kem_id)?;
        let info = Info {
            network: cx.identity.network.clone(),
            sender: frame.binding.binding.node_key,
            recipient: cx.identity.address,
            kem_id: sealed.kem_id.as_ref().try_into().ok()?,
            suite,
        };
        let (enc, ciphertext) = (sealed.enc.clone(), sealed.ciphertext.clone());
        Some(OpenTask { token: cx.token(), secret, info, enc, ciphertext })
    }

    pub(crate) fn on_opened(
        &mut self,
        token: Token,
        outcome: TaskOutcome<Opened>,
        gate: &mut Gate,
        directory: &Directory,
        peers: &mut Peers,
        cx: &mut Cx,
    ) {
        let Some(pending) = self.pending_decryptions.remove(token) else { return };
        let (session, batch) = match outcome {
            TaskOutcome::Done(opened) => (Some(opened.session), decode_content(Some(opened.content))),
            TaskOutcome::Failed => (None, decode_content(None)),
            TaskOutcome::PoolFull => (None, Err(Unread::NotTried)),
        };
        match (pending, batch) {
            (PendingDecryption::Mail { token, peer, frame }, Ok(batch)) => {
                if let Some(session) = session.filter(|_| peers.is_connected(&peer)) {
                    self.sessions.insert(peer, session);
                }
                let before = cx.stats.get(Counter::MailReceived);
                let response = self.receive_batch(token, &frame, &batch, gate, directory, cx);
                peers.count_messages(&peer, cx.stats.get(Counter::MailReceived) - before, 0);
                if let Some(response) = response {
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
                Unread::Unreadable => Counter::FramesNotDecrypted,
                Unread::Later => LATER_FRAMES,
            }),
        }
    }

    /// Responds with this node's record, from which the sender learns the current KEM key.
    fn kem_unknown(&mut self, local: &Local, cx: &mut Cx) -> Response {
        cx.stats.count(Counter::FramesKemUnknown);
        match local.record.current() {
            Some(record) => Response::KemUnknown(KemUnknown { record: record.bytes.clone() }),
            None => Response::Busy(Busy { retry_after_ms: BUSY_MS }),
        }
    }
}

fn refuse_unread(unread: Unread, cx: &mut Cx) -> Response {
    match unread {
        Unread::NotTried => reply_busy(cx),
        Unread::Unreadable => {
            let reason = "the frame does not decrypt with the key that it names";
            refuse_mail(Counter::FramesNotDecrypted, "DECRYPTION_FAILED", &reason, cx)
        }
        Unread::Later => {
            refuse_mail(LATER_FRAMES, UNSUPPORTED_VERSION, &"the encrypted batch has a later version", cx)
        }
    }
}

fn reply_busy(cx: &mut Cx) -> Response {
    cx.stats.count(Counter::CryptoPoolFull);
    Response::Busy(Busy { retry_after_ms: BUSY_MS })
}

fn decode_content(content: Option<Vec<u8>>) -> Result<Batch, Unread> {
    let encoded = content.and_then(padding::unpad).ok_or(Unread::Unreadable)?;
    let batch = strict_decode(&encoded.into());
    batch.map_err(|error| if error.is_provable() { Unread::Unreadable } else { Unread::Later })
}
