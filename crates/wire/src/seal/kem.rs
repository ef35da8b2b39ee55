//! Our KEM keys: a new one every day, each kept for as long as mail may have been sealed to it, and then gone for good.
//!
//! Rotation and retention go by `Now::mono`, which runs on during suspend and does not jump. The wall clock only dates what a record says of the
//! newest key, and when it jumps that date moves with it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hpke::{Deserializable, Kem as _, Serializable};
use zeroize::Zeroizing;

use super::SUITE;
use super::hpke::Algorithm;
use crate::identity::hash_fields;
use crate::record::{Kem, MAX_RECORD_LIFE_MS};
use crate::time::Now;

/// A new key is made so often, by `Now::mono`. Ours: a day.
pub const ROTATE: Duration = Duration::from_secs(24 * 3600);
/// A key lives so long, by `Now::mono`: records name it until the next one is made, the last of them lives for 24 h, and then frames that were
/// sealed to it may still be on their way. What is stolen opens nothing older.
pub const LIFE: Duration =
    ROTATE.saturating_add(Duration::from_millis(MAX_RECORD_LIFE_MS)).saturating_add(LAST_FRAMES);
/// Keys held at most: the one that records name, the one that the last records of the day before name, and one of which frames may be on their way.
pub const MAX_KEYS: usize = 3;
/// Mail may be sealed to a key until so long before its end: a frame's age, twice, and the skew of two clocks.
const LAST_FRAMES: Duration = Duration::from_secs(5 * 60);
/// Length of a key's name, in bytes. Ours: a key that shares a name would have to be searched for 2^64 times.
pub const KEM_ID_BYTES: usize = 16;
/// Length of a public key, in bytes: ML-KEM-768's 1,184 and X25519's 32 (draft-connolly-cfrg-xwing-kem §5).
pub const PUBLIC_KEY_BYTES: usize = 1216;
/// Length of a secret key, in bytes: the seed of both parts.
const SECRET_KEY_BYTES: usize = 32;

const ID_DOMAIN: &[u8] = b"p2p-node/kem-id/v1";
const KEY_DOMAIN: &[u8] = b"p2p-node/kem-key/v1";
const RATCHET_DOMAIN: &[u8] = b"p2p-node/kem-ratchet/v1";

/// Names a KEM key.
pub type KemId = [u8; KEM_ID_BYTES];

/// The name of a public key, which is bound to it.
pub fn kem_id(public_key: &[u8]) -> KemId {
    let hash = hash_fields(&[ID_DOMAIN, public_key]);
    let mut id = [0; KEM_ID_BYTES];
    id.copy_from_slice(&hash[..KEM_ID_BYTES]);
    id
}

/// The name of a key to which mail can be sealed now; `None` when its record names other algorithms, a key that is none of
/// theirs, or one that is over.
pub fn usable_key_id(kem: &Kem, now_ms: u64) -> Option<KemId> {
    let fits = kem.suite == SUITE && kem.public_key.len() == PUBLIC_KEY_BYTES && kem.not_after_ms > now_ms;
    let id = kem_id(&kem.public_key);
    (fits && kem.id.as_ref() == id).then_some(id)
}

/// A secret key. Zeroised when dropped.
pub struct Secret(Zeroizing<[u8; SECRET_KEY_BYTES]>);

impl Secret {
    /// The key in the library's form. Any bytes are one.
    pub(super) fn key(&self) -> <Algorithm as hpke::Kem>::PrivateKey {
        Deserializable::from_bytes(self.0.as_slice()).expect("a secret key has 32 bytes, of any value")
    }

    /// The public key.
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
    /// By `Now::mono`.
    made_at: Duration,
    /// Until when mail may be sealed to it, by our wall clock.
    not_after_ms: u64,
}

/// Our keys, newest first. Each comes from a seed that is replaced by its own hash at once, so that nothing that is kept leads
/// back to a key that is gone.
pub struct Keyring {
    seed: Zeroizing<[u8; 32]>,
    keys: VecDeque<Key>,
}

impl Keyring {
    /// A ring with its first key; `seed` is random.
    pub fn new(seed: [u8; 32], now: Now) -> Self {
        let mut ring = Keyring { seed: Zeroizing::new(seed), keys: VecDeque::new() };
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
            not_after_ms: now.unix_ms.saturating_add((LIFE - LAST_FRAMES).as_millis() as u64),
        });
    }

    /// Makes a new key when it is time, and forgets those that are over; whether there is a new one.
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

    /// The wall clock has jumped by so much: the keys live on, and records say by the new time until when.
    pub fn clock_jumped(&mut self, jump_ms: i64) {
        for key in &mut self.keys {
            key.not_after_ms = key.not_after_ms.saturating_add_signed(jump_ms);
        }
    }

    /// When there is something to do, by `Now::mono`.
    pub fn next_deadline(&self) -> Option<Duration> {
        let rotate = self.keys.front().map(|newest| newest.made_at + ROTATE);
        let forget = self.keys.back().map(|oldest| oldest.made_at + LIFE);
        rotate.into_iter().chain(forget).min()
    }

    /// The newest key, as our record tells of it.
    pub fn current(&self) -> Option<Kem> {
        self.keys.front().map(|key| Kem {
            id: Bytes::copy_from_slice(&key.id),
            suite: SUITE,
            public_key: key.public_key.clone(),
            not_after_ms: key.not_after_ms,
        })
    }

    /// The secret key of this name, if it is one of ours and not gone.
    pub fn find(&self, id: &[u8]) -> Option<Arc<Secret>> {
        self.keys.iter().find(|key| key.id == id).map(|key| Arc::clone(&key.secret))
    }

    /// Keys held.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
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
        Now { mono: Duration::from_secs(hours * 3600), unix_ms: 1_000 + hours * 3_600_000 }
    }

    #[test]
    fn a_new_key_comes_every_day_and_goes_when_no_record_names_it() {
        let mut ring = Keyring::new([1; 32], at(0));
        let first = ring.current().unwrap();
        assert!(!ring.rotate(at(23)));
        assert_eq!(ring.next_deadline(), Some(ROTATE));
        // The last record that names it is made just before the next key, and lives for a day.
        assert!(first.not_after_ms >= at(24).unix_ms + MAX_RECORD_LIFE_MS);
        assert!(ring.rotate(at(24)) && ring.rotate(at(48)));
        assert_eq!(ring.len(), MAX_KEYS);
        let gone = Arc::downgrade(&ring.find(&first.id).unwrap());
        assert_eq!(ring.next_deadline(), Some(LIFE));
        let over = Now { mono: LIFE, ..at(48) };
        assert!(
            !ring.rotate(Now { mono: LIFE - Duration::from_millis(1), ..over }) && gone.strong_count() == 1
        );
        assert!(!ring.rotate(over));
        assert_eq!((ring.len(), ring.find(&first.id).is_none(), gone.strong_count()), (2, true, 0));
        assert!(ring.rotate(at(100 * 24)), "after a long sleep");
        assert_eq!(ring.len(), 1);
    }

    #[test]
    fn keys_differ_and_only_ours_is_usable_in_its_time() {
        let mut ring = Keyring::new([1; 32], at(0));
        let kem = ring.current().unwrap();
        assert_eq!(kem.public_key.len(), PUBLIC_KEY_BYTES);
        assert_eq!(
            usable_key_id(&kem, at(0).unix_ms).as_ref().map(<[u8; 16]>::as_slice),
            Some(kem.id.as_ref())
        );
        assert_eq!(usable_key_id(&kem, kem.not_after_ms), None);
        assert_eq!(usable_key_id(&Kem { suite: 2, ..kem.clone() }, 0), None);
        assert_eq!(usable_key_id(&Kem { id: vec![0; 16].into(), ..kem.clone() }, 0), None);
        assert_eq!(usable_key_id(&Kem { public_key: kem.public_key.slice(1..), ..kem.clone() }, 0), None);
        ring.rotate(at(24));
        assert_ne!(ring.current().unwrap().id, kem.id);
        assert_ne!(Keyring::new([2; 32], at(0)).current().unwrap().id, kem.id);
    }

    #[test]
    fn a_jump_of_the_wall_clock_dates_the_keys_anew_and_takes_none() {
        for jump in [-7 * 24 * 3_600_000, 7 * 24 * 3_600_000] {
            let mut ring = Keyring::new([1; 32], at(0));
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
    fn secrets_do_not_print() {
        let ring = Keyring::new([1; 32], at(0));
        let secret = ring.find(&ring.current().unwrap().id).unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert!(!format!("{ring:?}").contains(&hex::encode([1; 8])));
    }
}
