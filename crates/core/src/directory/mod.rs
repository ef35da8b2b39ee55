//! The directory: verified records of agents by address.

pub mod bindings;
pub mod lookups;
pub(crate) mod on_record;
pub(crate) mod record_refusal;
pub mod record_table;
pub mod rollback_guard;

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
