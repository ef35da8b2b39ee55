//! The directory: verified records of agents by address.

pub mod bindings;
pub mod lookups;
pub(crate) mod on_record;
pub(crate) mod record_refusal;
pub mod record_table;
pub mod rollback_guard;

use crate::usage::Usage;
use std::collections::BTreeSet;

use alloy_primitives::Address;

use lookups::Lookups;
use record_table::RecordTable;
use rollback_guard::HighestSeen;

/// The state of the directory.
#[derive(Debug)]
pub(crate) struct Directory {
    /// The newest verified record of each agent.
    pub(crate) records: RecordTable,
    /// Lookups in the DHT.
    pub(crate) lookups: Lookups,
    /// Agents with two records of the same order that the node has reported to the parent.
    pub(crate) reported_conflicts: BTreeSet<Address>,
}

impl Directory {
    pub(crate) fn new(highest_seen: Vec<HighestSeen>) -> Self {
        Directory {
            records: RecordTable::new(highest_seen),
            lookups: Lookups::default(),
            reported_conflicts: BTreeSet::new(),
        }
    }
}

impl Directory {
    /// Returns the size of each collection, with its limit.
    pub(crate) fn usage(&self) -> Vec<Usage> {
        [
            ("agents", self.records.len(), record_table::MAX_AGENTS),
            ("floors", self.records.floors(), record_table::MAX_AGENTS + record_table::MAX_FLOORS),
            ("lookups that run", self.lookups.running(), lookups::MAX_QUERIES),
            ("lookups that wait", self.lookups.waiting(), lookups::MAX_WAITING),
            ("conflicts told", self.reported_conflicts.len(), on_record::MAX_CONFLICTS_TOLD),
        ]
        .into_iter()
        .map(|(name, size, limit)| Usage { name, size, limit })
        .collect()
    }
}
