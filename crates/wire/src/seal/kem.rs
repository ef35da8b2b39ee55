//! Our KEM keys. The node makes a new key every day, keeps each key as long as frames encrypted to
//! it may arrive, and then erases it.
//!
//! Rotation and retention use `Now::mono`, which counts suspended time and does not jump. The wall
//! clock only dates the newest key in our record; when the wall clock jumps, that date moves with
//! it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hpke::{Deserializable, Kem as _, Serializable};
use zeroize::Zeroizing;

use super::hpke::Algorithm;
use super::suite::Suite;
use crate::identity::hash_fields;
use crate::newtype::fixed_bytes;
use crate::record::{Kem, MAX_RECORD_LIFE_MS};
use crate::time::{Instant, Now};

/// Interval between new keys, by `Now::mono`: our choice, a day.
pub const ROTATE: Duration = Duration::from_secs(24 * 3600);
/// Life of a key, by `Now::mono`. Records name a key for 24 h until the next one is made, the last
/// of these records lives for 24 h, and frames may be in flight after that. A stolen key decrypts
/// nothing that was encrypted to erased keys.
pub const LIFE: Duration =
    ROTATE.saturating_add(Duration::from_millis(MAX_RECORD_LIFE_MS)).saturating_add(SEAL_MARGIN);
/// Largest number of keys: the key in the current record, the key in the last records of the day
/// before, and one for frames in flight.
pub const MAX_KEYS: usize = 3;
/// Time before the end of a key at which senders stop using it: twice the maximum age of a frame,
/// and twice the tolerated clock skew.
const SEAL_MARGIN: Duration = Duration::from_secs(5 * 60);
/// Length of a key id, in bytes: our choice. An attacker would have to try 2^64 keys to find two
/// with the same id.
pub const KEM_ID_BYTES: usize = 16;
/// Length of a public key, in bytes: 1,184 of ML-KEM-768 and 32 of X25519
/// (draft-connolly-cfrg-xwing-kem §5).
pub const PUBLIC_KEY_BYTES: usize = 1216;
/// Length of a secret key, in bytes: the seed of both parts.
const SECRET_KEY_BYTES: usize = 32;

const ID_DOMAIN: &[u8] = b"p2p-node/kem-id/v1";
const KEY_DOMAIN: &[u8] = b"p2p-node/kem-key/v1";
const RATCHET_DOMAIN: &[u8] = b"p2p-node/kem-ratchet/v1";

fixed_bytes!(
    /// Id of a KEM key.
    KemId,
    KEM_ID_BYTES
);

/// Returns the id of a public key: a hash of the key.
pub fn kem_id(public_key: &[u8]) -> KemId {
    let hash = hash_fields(&[ID_DOMAIN, public_key]);
    let mut id = [0; KEM_ID_BYTES];
    id.copy_from_slice(&hash[..KEM_ID_BYTES]);
    KemId(id)
}

/// Returns the id of a key to which mail can be encrypted now, and the suite that its owner prefers.
/// Returns `None` if the suite is unknown, the key has the wrong length, the id does not match the
/// key, or the key has expired.
pub fn usable_key(kem: &Kem, now_ms: u64) -> Option<(KemId, Suite)> {
    let suite = Suite::from_number(kem.suite)?;
    let fits = kem.public_key.len() == PUBLIC_KEY_BYTES && kem.not_after_ms > now_ms;
    let id = kem_id(&kem.public_key);
    (fits && *kem.id == *id).then_some((id, suite))
}

/// A secret key. It is zeroised on drop.
pub struct Secret(Zeroizing<[u8; SECRET_KEY_BYTES]>);

impl Secret {
    /// Returns the key in the library's form. Every value of the 32 bytes is a valid key.
    pub(super) fn key(&self) -> <Algorithm as hpke::Kem>::PrivateKey {
        Deserializable::from_bytes(self.0.as_slice()).expect("a secret key has 32 bytes, of any value")
    }

    /// Returns the public key.
    pub fn public_key(&self) -> Bytes {
        Bytes::copy_from_slice(&Algorithm::sk_to_pk(&self.key()).to_bytes())
    }
}

impl From<[u8; SECRET_KEY_BYTES]> for Secret {
    fn from(bytes: [u8; SECRET_KEY_BYTES]) -> Self {
        Secret(Zeroizing::new(bytes))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[derive(Debug)]
struct Key {
    id: KemId,
    public_key: Bytes,
    secret: Arc<Secret>,
    /// Time of creation.
    made_at: Instant,
    /// Time until which senders may use the key, by our wall clock.
    not_after_ms: u64,
}

/// Our keys, newest first. After each new key the seed is replaced by its own hash, so erased keys
/// cannot be derived again.
pub struct Keyring {
    suite: Suite,
    seed: Zeroizing<[u8; 32]>,
    keys: VecDeque<Key>,
}

impl Keyring {
    /// Creates a keyring with its first key. `seed` must be random. Records name `suite` as the one
    /// that the node prefers.
    pub fn new(seed: [u8; 32], suite: Suite, now: Now) -> Self {
        let mut ring = Keyring { suite, seed: Zeroizing::new(seed), keys: VecDeque::new() };
        ring.make_key(now);
        ring
    }

    fn make_key(&mut self, now: Now) {
        let secret = Secret::from(hash_fields(&[KEY_DOMAIN, self.seed.as_slice()]));
        self.seed = Zeroizing::new(hash_fields(&[RATCHET_DOMAIN, self.seed.as_slice()]));
        let public_key = secret.public_key();
        self.keys.push_front(Key {
            id: kem_id(&public_key),
            public_key,
            secret: Arc::new(secret),
            made_at: now.mono,
            not_after_ms: now.unix_ms.saturating_add((LIFE - SEAL_MARGIN).as_millis() as u64),
        });
    }

    /// Makes a new key if the current one is old enough, and erases expired keys. Returns `true` if
    /// there is a new key.
    pub fn rotate(&mut self, now: Now) -> bool {
        while self.keys.back().is_some_and(|oldest| now.mono >= oldest.made_at + LIFE) {
            self.keys.pop_back();
        }
        let due = self.keys.front().is_none_or(|newest| now.mono >= newest.made_at + ROTATE);
        if due {
            self.make_key(now);
        }
        due
    }

    /// Moves the dates of the keys after the wall clock jumped by `jump_ms`. The keys themselves
    /// stay valid.
    pub fn clock_jumped(&mut self, jump_ms: i64) {
        for key in &mut self.keys {
            key.not_after_ms = key.not_after_ms.saturating_add_signed(jump_ms);
        }
    }

    /// Returns the time of the next rotation or expiry.
    pub fn next_deadline(&self) -> Option<Instant> {
        let rotate = self.keys.front().map(|newest| newest.made_at + ROTATE);
        let forget = self.keys.back().map(|oldest| oldest.made_at + LIFE);
        rotate.into_iter().chain(forget).min()
    }

    /// Returns the newest key, for our record.
    pub fn current(&self) -> Option<Kem> {
        self.keys.front().map(|key| Kem {
            id: Bytes::copy_from_slice(&key.id),
            suite: self.suite.number(),
            public_key: key.public_key.clone(),
            not_after_ms: key.not_after_ms,
        })
    }

    /// Returns the secret key with this id, unless it is unknown or erased.
    pub fn find(&self, id: &[u8]) -> Option<Arc<Secret>> {
        self.keys.iter().find(|key| *key.id == *id).map(|key| Arc::clone(&key.secret))
    }

    /// Returns the number of keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns `true` if there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| hex::encode(key.id))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: u64) -> Now {
        Now { mono: Instant::from_secs(hours * 3600), unix_ms: 1_000 + hours * 3_600_000 }
    }

    fn ring() -> Keyring {
        Keyring::new([1; 32], Suite::default(), at(0))
    }

    #[test]
    fn key_rotates_daily_and_is_erased_when_no_record_names_it() {
        let mut ring = ring();
        let first = ring.current().unwrap();
        assert!(!ring.rotate(at(23)));
        assert_eq!(ring.next_deadline(), Some(Instant::after_start(ROTATE)));
        // The node makes the last record that names the key just before the next key; that record
        // lives for a day.
        assert!(first.not_after_ms >= at(24).unix_ms + MAX_RECORD_LIFE_MS);
        assert!(ring.rotate(at(24)) && ring.rotate(at(48)));
        assert_eq!(ring.len(), MAX_KEYS);
        let gone = Arc::downgrade(&ring.find(&first.id).unwrap());
        assert_eq!(ring.next_deadline(), Some(Instant::after_start(LIFE)));
        let over = Now { mono: Instant::after_start(LIFE), ..at(48) };
        assert!(
            !ring.rotate(Now { mono: over.mono - Duration::from_millis(1), ..over })
                && gone.strong_count() == 1
        );
        assert!(!ring.rotate(over));
        assert_eq!((ring.len(), ring.find(&first.id).is_none(), gone.strong_count()), (2, true, 0));
        assert!(ring.rotate(at(100 * 24)), "after a long sleep");
        assert_eq!(ring.len(), 1);
    }

    #[test]
    fn keys_differ_and_expired_or_altered_key_is_unusable() {
        let mut ring = ring();
        let kem = ring.current().unwrap();
        assert_eq!(kem.public_key.len(), PUBLIC_KEY_BYTES);
        let id = kem_id(&kem.public_key);
        assert_eq!(usable_key(&kem, at(0).unix_ms), Some((id, Suite::ChaCha20Poly1305)));
        assert_eq!(usable_key(&Kem { suite: 2, ..kem.clone() }, 0), Some((id, Suite::Aes256Gcm)));
        assert_eq!(usable_key(&kem, kem.not_after_ms), None);
        assert_eq!(usable_key(&Kem { suite: 3, ..kem.clone() }, 0), None);
        assert_eq!(usable_key(&Kem { id: vec![0; 16].into(), ..kem.clone() }, 0), None);
        assert_eq!(usable_key(&Kem { public_key: kem.public_key.slice(1..), ..kem.clone() }, 0), None);
        ring.rotate(at(24));
        assert_ne!(ring.current().unwrap().id, kem.id);
        assert_ne!(Keyring::new([2; 32], Suite::default(), at(0)).current().unwrap().id, kem.id);
    }

    #[test]
    fn clock_jump_moves_dates_and_erases_no_key() {
        for jump in [-7 * 24 * 3_600_000, 7 * 24 * 3_600_000] {
            let mut ring = ring();
            let before = ring.current().unwrap();
            ring.clock_jumped(jump);
            let jumped = Now { unix_ms: at(200).unix_ms.saturating_add_signed(jump), ..at(1) };
            assert!(!ring.rotate(jumped));
            let after = ring.current().unwrap();
            assert_eq!(after.id, before.id);
            assert_eq!(after.not_after_ms, before.not_after_ms.saturating_add_signed(jump));
        }
    }

    #[test]
    fn debug_output_of_keyring_has_no_secret() {
        let ring = ring();
        let secret = ring.find(&ring.current().unwrap().id).unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert!(!format!("{ring:?}").contains(&hex::encode([1; 8])));
    }
}
