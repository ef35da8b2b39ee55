//! What nodes say to each other: identities, bindings, records, frames, acks, and how mail is encrypted.
//!
//! Everything here is pure: no clock, randomness, async or I/O. A third party can verify a node's frames with this crate alone;
//! `docs/wire-protocol.md` describes the same in words.

pub mod envelope;
pub mod identity;
pub mod message_id;
pub mod record;
pub mod seal;
pub mod strict;
pub mod time;
