//! The rollback guard: the highest (generation, seq) of records that are no longer in the
//! directory, so that the node never accepts older records again.

use alloy_primitives::Address;
use p2p_node_wire::lru_map::LruMap;

use crate::highest_seen::HighestSeen;

/// The rows by address. The order of use is the order of insertion.
#[derive(Debug, Default)]
pub(super) struct RollbackGuard {
    rows: LruMap<Address, HighestSeen>,
}

impl RollbackGuard {
    /// Inserts a row as the youngest one, unless a higher one exists.
    pub(super) fn insert(&mut self, row: HighestSeen) {
        if self.get(&row.address).is_none_or(|known| known.order() <= row.order()) {
            self.rows.insert(row.address, row);
        }
    }

    pub(super) fn get(&self, address: &Address) -> Option<&HighestSeen> {
        self.rows.get(address)
    }

    pub(super) fn remove(&mut self, address: &Address) {
        self.rows.remove(address);
    }

    /// Evicts the oldest rows until at most `capacity` rows are left.
    pub(super) fn shrink_to(&mut self, capacity: usize) {
        self.rows.shrink_to(capacity);
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }
}

#[cfg(test)]
mod tests {
    use p2p_node_wire::record::RecordHash;

    use super::*;

    fn row(address: u8, seq: u64) -> HighestSeen {
        HighestSeen {
            address: Address::repeat_byte(address),
            generation: 1,
            seq,
            hash: RecordHash([seq as u8; 32]),
        }
    }

    #[test]
    fn rollback_guard_keeps_highest_row_of_each_agent_and_evicts_oldest() {
        let mut guard = RollbackGuard::default();
        for (address, seq) in [(1, 5), (2, 5), (1, 7), (1, 6)] {
            guard.insert(row(address, seq));
        }
        assert_eq!(guard.len(), 2);
        assert_eq!(guard.get(&Address::repeat_byte(1)), Some(&row(1, 7)));
        guard.shrink_to(1);
        assert_eq!(guard.get(&Address::repeat_byte(2)), None, "its row is older than the raised row");
        guard.remove(&Address::repeat_byte(1));
        assert_eq!(guard.len(), 0);
    }
}
