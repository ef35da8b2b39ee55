//! The wire protocol between nodes: identities, bindings, records, frames, acks and encryption.
//!
//! This crate is pure: no clock, no randomness, no async, no I/O. A third party can verify a node's
//! frames with this crate alone. `docs/wire-protocol.md` describes the protocol.

pub mod envelope;
pub mod identity;
pub mod kad;
pub mod lru_map;
pub mod message_id;
mod newtype;
pub mod record;
pub mod seal;
pub mod strict;
pub mod time;
pub mod topic_hash;
pub mod trace_context;
