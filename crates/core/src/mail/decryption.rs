//! Decryption of frames that arrive: within a session, or to a KEM key of ours by the crypto pool.

use std::collections::BTreeMap;

use libp2p_identity::PeerId;
use p2p_node_protocol::Counter;
use p2p_node_wire::envelope::{Batch, Busy, Frame, KemUnknown, Payload, Response, Sealed, strict_decode};
use p2p_node_wire::seal::hpke::Info;
use p2p_node_wire::seal::{SUITE, padding};

use crate::crypto_task::{CryptoTask, OpenTask, Opened, Outcome};
use crate::cx::Cx;
use crate::directory::Directory;
use crate::effect::Effect;
use crate::gate::Gate;
use crate::gate::frame_checks::{LATER_FRAMES, UNSUPPORTED_VERSION};
use crate::gate::pending_verification::{BUSY_MS, MAX_PARKED, MAX_PARKED_BYTES};
use crate::input::Token;
use crate::local::Local;
use crate::mail::Mail;
use crate::mail::inbound::on_mail::refuse_mail;
use crate::peers::Peers;

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

impl Mail {
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

fn decode_content(content: Option<Vec<u8>>) -> Result<Batch, Unread> {
    let encoded = content.and_then(padding::unpad).ok_or(Unread::Unreadable)?;
    let batch = strict_decode(&encoded.into());
    batch.map_err(|error| if error.is_provable() { Unread::Unreadable } else { Unread::Later })
}
