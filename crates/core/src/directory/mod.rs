//! The directory: verified records of agents by address.

pub(crate) mod confirmation;
pub mod lookups;
pub(crate) mod on_record;
pub(crate) mod record_rejection;
pub mod record_table;
pub mod rollback_guard;

use std::collections::BTreeMap;

use alloy_primitives::Address;
use bytes::Bytes;
use libp2p_identity::PeerId;

use crate::cx::Cx;
use crate::highest_seen::HighestSeen;
use crate::local::Local;
use crate::usage::Usage;
use lookups::Lookups;
use p2p_node_wire::identity::NodePublicKey;
use p2p_node_wire::lru_map::LruMap;
use p2p_node_wire::time::Instant;
use record_table::RecordTable;

/// The state of the directory.
#[derive(Debug)]
pub(crate) struct Directory {
    /// The newest verified record of each agent.
    pub(crate) records: RecordTable,
    /// Lookups in the DHT.
    pub(crate) lookups: Lookups,
    /// Agents with two records of the same order that the node has reported to the parent.
    pub(crate) reported_conflicts: BTreeMap<Address, (u64, u64)>,
    /// `true` if the node does not follow the announcements, so that it knows some agents only.
    pub(crate) is_partial: bool,
    /// The last lookup of each agent that the node heard from.
    confirmed: LruMap<Address, Instant>,
}

impl Directory {
    pub(crate) fn new(highest_seen: Vec<HighestSeen>) -> Self {
        Directory {
            records: RecordTable::new(highest_seen),
            lookups: Lookups::default(),
            reported_conflicts: BTreeMap::new(),
            is_partial: false,
            confirmed: LruMap::default(),
        }
    }

    /// Returns the size of each collection, with its limit.
    pub(crate) fn usage(&self) -> Vec<Usage> {
        [
            ("agents", self.records.len(), record_table::MAX_AGENTS),
            ("bytes of records", self.records.bytes(), record_table::MAX_RECORD_BYTES),
            (
                "highest seen records",
                self.records.rollback_rows(),
                record_table::MAX_AGENTS + record_table::MAX_HIGHEST_SEEN,
            ),
            ("running lookups", self.lookups.running(), lookups::MAX_LOOKUPS),
            ("queued lookups", self.lookups.queued(), lookups::MAX_QUEUED_LOOKUPS),
            ("confirmed agents", self.confirmed.len(), confirmation::MAX_CONFIRMED),
            ("reported conflicts", self.reported_conflicts.len(), on_record::MAX_REPORTED_CONFLICTS),
        ]
        .into_iter()
        .map(|(name, size, limit)| Usage { name, size, limit })
        .collect()
    }

    /// Returns the lowest generation that an account may still use. The directory contains every
    /// agent except our own.
    pub(crate) fn minimum_generation(&self, account: &Address, local: &Local, cx: &Cx) -> u64 {
        if *account == cx.identity.address {
            local.record.order().0
        } else {
            self.records.lowest_generation(account, cx.now.unix_ms)
        }
    }

    /// Returns the agent of a node, if the directory has its record.
    pub(crate) fn agent_of(&self, peer: &PeerId, cx: &Cx) -> Option<Address> {
        self.records.by_peer(peer, cx.now.unix_ms).map(|record| record.address())
    }

    pub(crate) fn kem_of(&self, address: &Address, cx: &Cx) -> Option<Bytes> {
        let now = cx.now;
        let record = self.records.get(address, now.unix_ms)?;
        record.record.kem.as_ref().map(|kem| kem.id.clone())
    }

    pub(crate) fn current_node_key(&self, address: &Address, cx: &Cx) -> Option<NodePublicKey> {
        let now = cx.now;
        self.records.get(address, now.unix_ms).map(|record| record.record.binding.binding.node_key)
    }
}

#[cfg(test)]
mod tests;
