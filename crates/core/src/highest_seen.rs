//! The highest (generation, seq) of an agent's records, as the store keeps it.

use alloy_primitives::Address;
use p2p_node_wire::record::{RecordHash, SignedRecord};

/// The highest order seen of an agent's records, in memory and in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HighestSeen {
    /// The agent's address.
    pub address: Address,
    /// Generation of the record's binding. The generation revokes lower ones.
    pub generation: u64,
    /// The record's seq. The seq supersedes lower values of the same generation.
    pub seq: u64,
    /// [`SignedRecord::hash`]. The hash distinguishes records of the same order.
    pub hash: RecordHash,
}

impl HighestSeen {
    /// Returns (generation, seq), like [`SignedRecord::order`].
    pub fn order(&self) -> (u64, u64) {
        (self.generation, self.seq)
    }
}

impl From<&SignedRecord> for HighestSeen {
    fn from(record: &SignedRecord) -> Self {
        let (generation, seq) = record.order();
        HighestSeen { address: record.address(), generation, seq, hash: record.hash }
    }
}
