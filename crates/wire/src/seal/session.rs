//! Sessions: frames after the first one on a connection cost only a symmetric cipher.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use libp2p_identity::PeerId;
use ring::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::kem::KemId;
use super::suite::Suite;
use crate::envelope::Session;
use crate::identity::NodePublicKey;
use crate::newtype::fixed_bytes;
use crate::time::Instant;

/// Length of a session id and length of a session key, in bytes.
pub const SESSION_ID_BYTES: usize = 16;
pub(super) const KEY_BYTES: usize = 32;

/// A sender starts a new session after this time or this number of bytes, so that a stolen session
/// key decrypts little.
const REKEY_AFTER: Duration = Duration::from_secs(600);
const REKEY_BYTES: u64 = 1 << 30;
/// Largest number of sessions with one peer: our choice, twice the current session and its
/// successor.
const SESSIONS_PER_PEER: usize = 4;
/// Largest number of sessions with all peers: twice the 1,000 connections of a bootstrap node.
pub const MAX_SESSIONS: usize = 2000;

fixed_bytes!(
    /// Id of a session.
    SessionId,
    SESSION_ID_BYTES
);

/// Id, cipher and key of a session. The key is zeroised on drop.
#[derive(Clone)]
pub struct SessionKey {
    id: SessionId,
    suite: Suite,
    key: Zeroizing<[u8; KEY_BYTES]>,
}

impl SessionKey {
    /// Splits the bytes that HPKE exports: id ‖ key.
    pub(super) fn from_bytes(suite: Suite, bytes: &[u8]) -> Option<Self> {
        let (id, key) = bytes.split_at_checked(SESSION_ID_BYTES)?;
        Some(SessionKey { id: id.try_into().ok()?, suite, key: Zeroizing::new(key.try_into().ok()?) })
    }

    /// Returns the id of the session.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Prepares the cipher, in 0.1 µs, so that nothing keeps the prepared key.
    fn cipher(&self) -> Option<LessSafeKey> {
        Some(LessSafeKey::new(UnboundKey::new(self.suite.cipher(), self.key.as_slice()).ok()?))
    }

    /// Encrypts content. The caller must not use a counter twice.
    fn seal(&self, counter: u64, mut content: Vec<u8>) -> Option<Bytes> {
        self.cipher()?.seal_in_place_append_tag(nonce(counter), Aad::from(self.id), &mut content).ok()?;
        Some(content.into())
    }

    /// Decrypts content. Returns `None` when any part of it was changed.
    pub fn open(&self, counter: u64, ciphertext: &[u8]) -> Option<Vec<u8>> {
        let mut content = ciphertext.to_vec();
        let length =
            self.cipher()?.open_in_place(nonce(counter), Aad::from(self.id), &mut content).ok()?.len();
        content.truncate(length);
        Some(content)
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionKey({})", hex::encode(self.id))
    }
}

/// Returns the nonce: four zero bytes and the counter, big endian.
fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// The sender's side of a session.
#[derive(Debug)]
pub struct OutboundSession {
    key: SessionKey,
    node_key: NodePublicKey,
    kem_id: KemId,
    since: Instant,
    counter: u64,
    bytes: u64,
}

impl OutboundSession {
    /// Creates a session with a node, derived with one of the node's KEM keys.
    pub fn new(key: SessionKey, node_key: NodePublicKey, kem_id: KemId, now: Instant) -> Self {
        OutboundSession { key, node_key, kem_id, since: now, counter: 0, bytes: 0 }
    }

    /// Returns `true` if the session is with this node.
    pub fn is_for(&self, node_key: &NodePublicKey) -> bool {
        self.node_key == *node_key
    }

    /// Returns `true` if the sender should start a new session.
    pub fn needs_rekey(&self, kem_id: &KemId, now: Instant) -> bool {
        self.kem_id != *kem_id || now >= self.since + REKEY_AFTER || self.bytes >= REKEY_BYTES
    }

    /// Returns `true` if the session must not be used any more, because its successor is long
    /// overdue.
    pub fn is_expired(&self, now: Instant) -> bool {
        now >= self.since + 2 * REKEY_AFTER || self.bytes >= 2 * REKEY_BYTES
    }

    /// Encrypts content as the next frame of the session.
    pub fn seal(&mut self, content: Vec<u8>) -> Option<Session> {
        self.bytes += content.len() as u64;
        self.counter += 1;
        let ciphertext = self.key.seal(self.counter, content)?;
        Some(Session { id: Bytes::copy_from_slice(&self.key.id), counter: self.counter, ciphertext })
    }
}

/// The recipient's side of the sessions of all connected peers.
#[derive(Debug, Default)]
pub struct InboundSessions {
    sessions: BTreeMap<PeerId, Vec<SessionKey>>,
    number: usize,
}

impl InboundSessions {
    /// Adds a session of a connected peer, replacing its oldest one at the limit. Returns `true` if
    /// there was capacity.
    pub fn insert(&mut self, peer: PeerId, key: SessionKey) -> bool {
        if self.number >= MAX_SESSIONS && self.sessions.get(&peer).is_none_or(Vec::is_empty) {
            return false;
        }
        let sessions = self.sessions.entry(peer).or_default();
        if sessions.len() >= SESSIONS_PER_PEER || self.number >= MAX_SESSIONS {
            sessions.remove(0);
            self.number -= 1;
        }
        sessions.push(key);
        self.number += 1;
        true
    }

    /// Returns the session of this peer with this id.
    pub fn find(&self, peer: &PeerId, id: &[u8]) -> Option<&SessionKey> {
        self.sessions.get(peer)?.iter().find(|session| *session.id == *id)
    }

    /// Removes all sessions of a peer whose connection ended.
    pub fn forget(&mut self, peer: &PeerId) {
        self.number -= self.sessions.remove(peer).map_or(0, |sessions| sessions.len());
    }

    /// Returns the number of sessions.
    pub fn len(&self) -> usize {
        self.number
    }

    /// Returns `true` if there are no sessions.
    pub fn is_empty(&self) -> bool {
        self.number == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SessionKey {
        key_of(Suite::ChaCha20Poly1305, byte)
    }

    fn key_of(suite: Suite, byte: u8) -> SessionKey {
        SessionKey::from_bytes(suite, &[byte; SESSION_ID_BYTES + KEY_BYTES]).unwrap()
    }

    #[test]
    fn debug_output_of_sessions_has_no_key() {
        let outgoing = OutboundSession::new(key(0xA7), NodePublicKey([0; 32]), KemId([0; 16]), Instant::ZERO);
        let mut incoming = InboundSessions::default();
        incoming.insert(PeerId::random(), key(0xA7));
        let shown = format!("{outgoing:?} {outgoing:#?} {outgoing:x?} {incoming:?}");
        // The session id appears once in each output, in hexadecimal digits.
        assert_eq!(shown.matches(&"a7".repeat(SESSION_ID_BYTES)).count(), 4, "{shown}");
        assert!(!shown.contains("167") && !shown.contains(&"a7".repeat(SESSION_ID_BYTES + 1)), "{shown}");
        assert!(!shown.contains("a7, a7"), "{shown}");
    }

    #[test]
    fn ciphertext_opens_only_with_its_session_cipher_and_counter() {
        for (suite, other) in [(Suite::ALL[0], Suite::ALL[1]), (Suite::ALL[1], Suite::ALL[0])] {
            let key = |byte| key_of(suite, byte);
            let mut session =
                OutboundSession::new(key(1), NodePublicKey([0; 32]), KemId([0; 16]), Instant::ZERO);
            let first = session.seal(b"hello".to_vec()).unwrap();
            let second = session.seal(b"hello".to_vec()).unwrap();
            assert_ne!(first.ciphertext, second.ciphertext);
            assert_eq!((first.counter, second.counter), (1, 2));
            assert_eq!(key(1).open(first.counter, &first.ciphertext), Some(b"hello".to_vec()));
            assert_eq!(key(1).open(second.counter, &first.ciphertext), None);
            assert_eq!(key(2).open(first.counter, &first.ciphertext), None);
            assert_eq!(key_of(other, 1).open(first.counter, &first.ciphertext), None);
            for at in 0..first.ciphertext.len() {
                let mut bent = first.ciphertext.to_vec();
                bent[at] ^= 1;
                assert_eq!(key(1).open(first.counter, &bent), None);
                assert_eq!(key(1).open(first.counter, &first.ciphertext[..at]), None);
            }
            assert_eq!(format!("{:?}", key(1)), format!("SessionKey({})", "01".repeat(16)));
        }
    }

    #[test]
    fn session_needs_rekey_by_age_size_and_recipient_key() {
        let session = || OutboundSession::new(key(1), NodePublicKey([7; 32]), KemId([1; 16]), Instant::ZERO);
        assert!(session().is_for(&NodePublicKey([7; 32])) && !session().is_for(&NodePublicKey([8; 32])));
        assert!(!session().needs_rekey(&KemId([1; 16]), Instant::from_secs(599)));
        assert!(session().needs_rekey(&KemId([1; 16]), Instant::from_secs(600)));
        assert!(session().needs_rekey(&KemId([2; 16]), Instant::ZERO), "the recipient has a new key");
        assert!(
            !session().is_expired(Instant::from_secs(1199)) && session().is_expired(Instant::from_secs(1200))
        );
        let mut busy = session();
        busy.bytes = REKEY_BYTES - 1;
        busy.seal(vec![0]).unwrap();
        assert!(busy.needs_rekey(&KemId([1; 16]), Instant::ZERO) && !busy.is_expired(Instant::ZERO));
        busy.bytes = 2 * REKEY_BYTES;
        assert!(busy.is_expired(Instant::ZERO));
    }

    #[test]
    fn sessions_are_bounded_per_peer_and_in_total() {
        let mut incoming = InboundSessions::default();
        let peer = PeerId::random();
        for byte in 0..10 {
            assert!(incoming.insert(peer, key(byte)));
        }
        assert_eq!(incoming.len(), SESSIONS_PER_PEER);
        assert!(incoming.find(&peer, &[5; 16]).is_none() && incoming.find(&peer, &[6; 16]).is_some());
        assert!(incoming.find(&PeerId::random(), &[6; 16]).is_none());
        while incoming.len() < MAX_SESSIONS {
            assert!(incoming.insert(PeerId::random(), key(1)));
        }
        assert!(!incoming.insert(PeerId::random(), key(1)));
        assert!(incoming.insert(peer, key(11)), "it makes room of its own");
        assert_eq!(incoming.len(), MAX_SESSIONS);
        incoming.forget(&peer);
        assert_eq!(incoming.len(), MAX_SESSIONS - SESSIONS_PER_PEER);
        assert!(incoming.find(&peer, &[11; 16]).is_none());
    }
}
