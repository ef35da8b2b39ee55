//! Mail between two agents: accepted, encrypted, acknowledged and persisted.

pub(crate) mod encryption;
pub mod inbound;
pub mod outbound;
pub(crate) mod pending_writes;
