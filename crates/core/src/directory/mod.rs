//! What is known about agents: verified records by address.

pub mod bindings;
pub mod lookups;
pub(crate) mod on_record;
pub mod record_table;
pub mod rollback_guard;

use std::collections::BTreeSet;

use alloy_primitives::Address;

use lookups::Queries;
use record_table::Book;
use rollback_guard::FloorRow;

/// What is known about agents.
#[derive(Debug)]
pub(crate) struct Directory {
    /// The newest verified record of each agent.
    pub(crate) records: Book,
    /// Lookups in the DHT.
    pub(crate) lookups: Queries,
    /// Agents with two records of one order, of which the parent has heard.
    pub(crate) reported_conflicts: BTreeSet<Address>,
}

impl Directory {
    pub(crate) fn new(highest_seen: Vec<FloorRow>) -> Self {
        Directory {
            records: Book::new(highest_seen),
            lookups: Queries::default(),
            reported_conflicts: BTreeSet::new(),
        }
    }
}
