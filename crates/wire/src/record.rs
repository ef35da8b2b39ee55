//! The record: an agent's node publishes its binding, addresses and keys in it, signed by the node
//! key.

mod codec;
mod registry_claim;
mod wire_role;

use alloy_primitives::Address;
use bytes::Bytes;
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use p2p_node_protocol::Role;
use prost::Message;

use self::codec::WireRecord;
pub use self::registry_claim::RegistryClaim;
pub use self::wire_role::WireRole;
use crate::identity::binding::MAX_SKEW_SECS;
use crate::identity::keys::{keccak_fields, signed_body, verify_signed};
use crate::identity::{BindingError, NodeKey, SignedBinding, hash_fields};
use crate::newtype::fixed_bytes;
use crate::strict::{DecodeError, Wire, strict_decode};
pub use crate::topic_hash::{
    TOPIC_HASH_BYTES, TopicHash, decode_topic_hashes, encode_topic_hashes, topic_hash,
};

/// Domain of the signature over a record.
pub const RECORD_DOMAIN: &str = "p2p-node/record/v1";

/// Longest record with its signature, in bytes. All parts may have their longest form at once; the
/// KEM key alone takes 1.2 KiB, the hashes of topics 2 KiB, and the signature of a contract wallet 1.5 KiB.
pub const MAX_RECORD_BYTES: usize = 6784;

/// Longest life of a record, in ms: 24 hours. Records of a node that is gone leave the DHT within a
/// day.
pub const MAX_RECORD_LIFE_MS: u64 = 24 * 60 * 60 * 1000;

/// Largest number of addresses in a record. A node with IPv4 and IPv6, each over TCP and QUIC, on a
/// LAN and on the internet, has eight.
pub const MAX_RECORD_ADDRS: usize = 8;

/// Largest total length of the addresses in a record, in bytes of their binary form: 75 bytes for
/// each of the eight.
pub const MAX_RECORD_ADDR_BYTES: usize = 600;

/// Longest display name, in bytes: our choice, one line of text.
pub const MAX_RECORD_NAME_BYTES: usize = 64;

/// Largest total length of capabilities and topics, in bytes: our choice. It keeps the record small
/// enough to announce every few minutes.
pub const MAX_RECORD_TAG_BYTES: usize = 512;

/// Largest number of capabilities and topics together: our choice, 8 bytes for each.
pub const MAX_RECORD_TAGS: usize = 64;

/// Largest number of topics that a record has as hashes: as many as a peer accepts.
pub const MAX_RECORD_TOPIC_HASHES: usize = 512;

/// Longest id of a KEM key, in bytes: a SHA-256. Ours has 16.
pub const MAX_RECORD_KEM_ID_BYTES: usize = 32;

const SKEW_MS: u64 = MAX_SKEW_SECS * 1000;

/// The reasons why a record is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes are not an encoded record.
    #[error("the record is {0}")]
    Decode(#[from] DecodeError),
    /// The record is for another network.
    #[error("the record is for another network")]
    WrongNetwork,
    /// The record is about another agent than the caller asked for.
    #[error("the record is about another address")]
    WrongAddress,
    /// The binding in the record is rejected.
    #[error(transparent)]
    Binding(#[from] BindingError),
    /// The record ends before it begins, or lives longer than 24 hours.
    #[error("the record's lifetime is negative or longer than 24 hours")]
    Lifetime,
    /// The record was issued in the future.
    #[error("the record was issued in the future")]
    FromTheFuture,
    /// The record has expired.
    #[error("the record has expired")]
    Expired,
    /// The seq of the record lies in the future.
    #[error("the record's seq lies in the future")]
    FutureSeq,
    /// The node key of the binding did not sign the record.
    #[error("the record is not signed by its node key")]
    BadSignature,
}

impl RecordError {
    /// Returns `true` if every node would find the same error, independent of its clock.
    pub fn is_provable(&self) -> bool {
        match self {
            RecordError::Decode(error) => error.is_provable(),
            RecordError::Binding(error) => error.is_provable(),
            RecordError::Expired | RecordError::FromTheFuture | RecordError::FutureSeq => false,
            RecordError::WrongNetwork
            | RecordError::WrongAddress
            | RecordError::Lifetime
            | RecordError::BadSignature => true,
        }
    }
}

/// The statement of a node about itself. Times are in ms since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The network for which the record is valid.
    pub network: String,
    /// The proof that the node may speak for the agent.
    pub binding: SignedBinding,
    /// Orders the records of one generation: the time of issue in ms, or the previous seq plus one
    /// if that is higher.
    pub seq: u64,
    /// Time of issue.
    pub issued_at_ms: u64,
    /// Time at which the record expires.
    pub expires_at_ms: u64,
    /// Addresses at which peers can dial the node.
    pub addrs: Vec<Multiaddr>,
    /// Public key to which senders encrypt mail.
    pub kem: Option<Kem>,
    /// Role of the node in the network.
    pub role: Role,
    /// Display name for people. May be empty.
    pub name: String,
    /// Capabilities of the agent.
    pub capabilities: Vec<String>,
    /// Topics to which the node subscribes.
    pub topics: Vec<String>,
    /// The other topics to which the node subscribes, as [`topic_hash`], in ascending order.
    pub topic_hashes: Vec<TopicHash>,
    /// The entry of a registry that the agent claims. Only the registry can prove it.
    pub claim: Option<RegistryClaim>,
}

/// A public key to which senders encrypt mail.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Kem {
    /// Identifies the key.
    #[prost(bytes = "bytes", tag = 1)]
    pub id: Bytes,
    /// Number of the cipher suite.
    #[prost(uint32, tag = 2)]
    pub suite: u32,
    /// The public key.
    #[prost(bytes = "bytes", tag = 3)]
    pub public_key: Bytes,
    /// Time until which senders may encrypt mail to this key, in ms since 1970.
    #[prost(uint64, tag = 4)]
    pub not_after_ms: u64,
}

impl Record {
    /// Returns `true` if the record says that the node subscribes to this topic.
    pub fn has_topic(&self, topic: &str) -> bool {
        self.topics.iter().any(|own| own == topic)
            || !self.topic_hashes.is_empty() && self.topic_hashes.binary_search(&topic_hash(topic)).is_ok()
    }

    /// Returns the hashes of all topics of the record, in ascending order.
    pub fn all_topic_hashes(&self) -> Vec<TopicHash> {
        let mut hashes: Vec<TopicHash> = self.topics.iter().map(|topic| topic_hash(topic)).collect();
        hashes.extend(&self.topic_hashes);
        hashes.sort_unstable();
        hashes
    }

    /// Signs the record with the node key of its binding and returns signature ‖ body.
    ///
    /// # Errors
    /// Fails when the record exceeds a limit, because every node would reject it.
    pub fn sign(&self, key: &NodeKey) -> Result<Bytes, RecordError> {
        let wire = WireRecord::from(self);
        wire.check()?;
        let bytes = key.sign_whole(RECORD_DOMAIN, &wire.encode_to_vec());
        if bytes.len() > MAX_RECORD_BYTES {
            return Err(DecodeError::TooLarge { limit: MAX_RECORD_BYTES }.into());
        }
        Ok(bytes)
    }
}

fixed_bytes!(
    /// Hash of a signed record as received. It distinguishes two records of the same order.
    RecordHash,
    32
);

/// A record as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRecord {
    /// The signed record.
    pub record: Record,
    /// Signature ‖ body.
    pub bytes: Bytes,
    /// Hash of `bytes`. It distinguishes two records of the same order.
    pub hash: RecordHash,
}

impl SignedRecord {
    /// Decodes the output of [`Record::sign`]. Does not check whether the record is valid.
    ///
    /// # Errors
    /// Fails when the record is larger than [`MAX_RECORD_BYTES`], is not in canonical form, or has
    /// a field outside its limits.
    pub fn decode(bytes: Bytes) -> Result<Self, RecordError> {
        if bytes.len() > MAX_RECORD_BYTES {
            return Err(DecodeError::TooLarge { limit: MAX_RECORD_BYTES }.into());
        }
        let wire: WireRecord = strict_decode(&signed_body(&bytes).ok_or(DecodeError::Malformed)?)?;
        let hash = SignedRecord::hash_of(&bytes);
        Ok(SignedRecord { record: wire.try_into()?, bytes, hash })
    }

    /// Returns the hash of an encoded record.
    pub fn hash_of(bytes: &[u8]) -> RecordHash {
        RecordHash(hash_fields(&[b"p2p-node/record-hash/v1", bytes]))
    }

    /// Checks everything except the binding's signature, which the caller verifies in the crypto
    /// pool, and the highest generation and seq seen, which the caller compares with
    /// [`SignedRecord::order`].
    ///
    /// # Errors
    /// Returns the first rule that the record breaks. The order of the checks goes from cheap to
    /// expensive: network and address, binding, times, seq, signature.
    pub fn check(&self, network: &str, asked: Option<Address>, now_ms: u64) -> Result<(), RecordError> {
        let record = &self.record;
        let latest = now_ms.saturating_add(SKEW_MS);
        if record.network != network {
            return Err(RecordError::WrongNetwork);
        }
        if asked.is_some_and(|asked| asked != self.address()) {
            return Err(RecordError::WrongAddress);
        }
        record.binding.check(network, now_ms)?;
        match record.expires_at_ms.checked_sub(record.issued_at_ms) {
            Some(life) if life <= MAX_RECORD_LIFE_MS => {}
            _ => return Err(RecordError::Lifetime),
        }
        if record.issued_at_ms > latest {
            return Err(RecordError::FromTheFuture);
        }
        if record.expires_at_ms.saturating_add(SKEW_MS) < now_ms {
            return Err(RecordError::Expired);
        }
        if record.seq > latest {
            return Err(RecordError::FutureSeq);
        }
        if !verify_signed(&record.binding.binding.node_key, RECORD_DOMAIN, &self.bytes) {
            return Err(RecordError::BadSignature);
        }
        Ok(())
    }

    /// Returns `true` if the only fault of the record is that it was issued in the future: it would
    /// be valid at its own time of issue. Like [`SignedRecord::check`], this function does not
    /// verify the binding's signature.
    pub fn is_sound_but_early(&self, network: &str, asked: Option<Address>, now_ms: u64) -> bool {
        let issued_ms = self.record.issued_at_ms;
        issued_ms > now_ms.saturating_add(SKEW_MS) && self.check(network, asked, issued_ms).is_ok()
    }

    /// Returns (generation, seq). Of two records of one address, the one with the higher order is
    /// valid.
    pub fn order(&self) -> (u64, u64) {
        (self.record.binding.binding.generation, self.record.seq)
    }

    /// Returns the agent's address.
    pub fn address(&self) -> Address {
        self.record.binding.binding.account
    }

    /// Returns the PeerId of the node.
    pub fn peer_id(&self) -> PeerId {
        self.record.binding.binding.peer_id
    }
}

/// Returns the DHT key of the record of an address.
pub fn kad_key(network: &str, address: &Address) -> [u8; 32] {
    keccak_fields(&[b"p2p-node/kad/v1", network.as_bytes(), address.as_slice()])
}

#[cfg(test)]
mod tests;
