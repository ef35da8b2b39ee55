//! The encoding of a record.

use bytes::Bytes;
use multiaddr::Multiaddr;
use p2p_node_protocol::Role;
use prost::Message;

use super::registry_claim::WireClaim;
use super::{
    Kem, MAX_RECORD_ADDR_BYTES, MAX_RECORD_ADDRS, MAX_RECORD_BYTES, MAX_RECORD_KEM_ID_BYTES,
    MAX_RECORD_NAME_BYTES, MAX_RECORD_TAG_BYTES, MAX_RECORD_TAGS, MAX_RECORD_TOPIC_HASHES, Record,
    RecordError, WireRole,
};
use crate::identity::SignedBinding;
use crate::identity::binding::{MAX_BINDING_BYTES, is_network_name};
use crate::strict::{DecodeError, Shape, WIRE_VERSION, Wire, ensure, known_version, listed};
use crate::topic_hash::{TOPIC_HASH_BYTES, decode_topic_hashes, encode_topic_hashes};

/// `Record` in `docs/wire-protocol.md`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct WireRecord {
    #[prost(uint32, tag = 1)]
    pub(super) version: u32,
    #[prost(string, tag = 2)]
    pub(super) network: String,
    #[prost(bytes = "bytes", tag = 3)]
    pub(super) binding: Bytes,
    #[prost(uint64, tag = 4)]
    pub(super) seq: u64,
    #[prost(uint64, tag = 5)]
    pub(super) issued_at_ms: u64,
    #[prost(uint64, tag = 6)]
    pub(super) expires_at_ms: u64,
    #[prost(bytes = "bytes", repeated, tag = 7)]
    pub(super) addrs: Vec<Bytes>,
    #[prost(message, optional, tag = 8)]
    pub(super) kem: Option<Kem>,
    #[prost(enumeration = "WireRole", tag = 9)]
    pub(super) role: i32,
    #[prost(string, tag = 10)]
    pub(super) name: String,
    #[prost(string, repeated, tag = 11)]
    pub(super) capabilities: Vec<String>,
    #[prost(string, repeated, tag = 12)]
    pub(super) topics: Vec<String>,
    #[prost(bytes = "bytes", tag = 13)]
    pub(super) topic_hashes: Bytes,
    #[prost(message, optional, tag = 14)]
    pub(super) claim: Option<WireClaim>,
}

impl Wire for WireRecord {
    const MAX_BYTES: usize = MAX_RECORD_BYTES;
    const SHAPE: Shape = Shape { fields: 14, messages: &[(8, &Shape::flat(4)), (14, &Shape::flat(3))] };
    const HAS_VERSION: bool = true;

    fn check(&self) -> Result<(), DecodeError> {
        known_version(self.version)?;
        ensure(is_network_name(&self.network), "network")?;
        ensure((1..=MAX_BINDING_BYTES).contains(&self.binding.len()), "binding")?;
        let addr_bytes: usize = self.addrs.iter().map(Bytes::len).sum();
        ensure(self.addrs.len() <= MAX_RECORD_ADDRS && addr_bytes <= MAX_RECORD_ADDR_BYTES, "addrs")?;
        ensure(self.addrs.iter().all(|addr| !addr.is_empty()), "addrs")?;
        if let Some(kem) = &self.kem {
            ensure((1..=MAX_RECORD_KEM_ID_BYTES).contains(&kem.id.len()), "kem")?;
            ensure(!kem.public_key.is_empty(), "kem")?;
        }
        listed(WireRole::is_valid(self.role))?;
        ensure(self.name.len() <= MAX_RECORD_NAME_BYTES && is_printable(&self.name), "name")?;
        let tags = || self.capabilities.iter().chain(&self.topics);
        ensure(tags().count() <= MAX_RECORD_TAGS, "capabilities")?;
        ensure(tags().map(String::len).sum::<usize>() <= MAX_RECORD_TAG_BYTES, "capabilities")?;
        ensure(tags().all(|tag| !tag.is_empty() && is_printable(tag)), "capabilities")?;
        ensure(self.topic_hashes.len() <= MAX_RECORD_TOPIC_HASHES * TOPIC_HASH_BYTES, "topic_hashes")?;
        ensure(decode_topic_hashes(&self.topic_hashes).is_some(), "topic_hashes")?;
        ensure(self.claim.as_ref().is_none_or(WireClaim::is_valid), "claim")
    }
}

/// Returns `true` if the text has no control characters. These strings reach terminals and logs.
fn is_printable(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

impl From<&Record> for WireRecord {
    fn from(record: &Record) -> Self {
        WireRecord {
            version: WIRE_VERSION,
            network: record.network.clone(),
            binding: record.binding.encode(),
            seq: record.seq,
            issued_at_ms: record.issued_at_ms,
            expires_at_ms: record.expires_at_ms,
            addrs: record.addrs.iter().map(|addr| addr.to_vec().into()).collect(),
            kem: record.kem.clone(),
            role: WireRole::from(record.role).into(),
            name: record.name.clone(),
            capabilities: record.capabilities.clone(),
            topics: record.topics.clone(),
            topic_hashes: encode_topic_hashes(&record.topic_hashes),
            claim: record.claim.as_ref().map(WireClaim::from),
        }
    }
}

impl TryFrom<WireRecord> for Record {
    type Error = RecordError;

    fn try_from(wire: WireRecord) -> Result<Self, RecordError> {
        let role = Role::from(wire.role());
        let addrs = wire.addrs.iter().map(|addr| Multiaddr::try_from(addr.to_vec()));
        Ok(Record {
            network: wire.network,
            binding: SignedBinding::decode(&wire.binding)?,
            seq: wire.seq,
            issued_at_ms: wire.issued_at_ms,
            expires_at_ms: wire.expires_at_ms,
            addrs: addrs.collect::<Result<_, _>>().map_err(|_| DecodeError::Field("addrs"))?,
            kem: wire.kem,
            role,
            name: wire.name,
            capabilities: wire.capabilities,
            topics: wire.topics,
            topic_hashes: decode_topic_hashes(&wire.topic_hashes).unwrap_or_default(),
            claim: wire.claim.as_ref().and_then(WireClaim::claim),
        })
    }
}
