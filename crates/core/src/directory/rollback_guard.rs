//! The rollback guard: the highest (generation, seq) of records that are no longer in the
//! directory, so that the node never accepts older records again.

use alloy_primitives::Address;
use p2p_node_wire::lru_map::LruMap;

use crate::highest_seen::HighestSeen;

/// The rows by address. The order of use is the order of insertion.
///
/// Anybody can make any number of agents, and each leaves a row. A row of generation 0 revokes no
/// key, so it never evicts a row that does.
#[derive(Debug, Default)]
pub(super) struct RollbackGuard {
    /// The rows of generation 0.
    plain: LruMap<Address, HighestSeen>,
    /// The rows of higher generations, which revoke lower ones.
    revoking: LruMap<Address, HighestSeen>,
}

impl RollbackGuard {
    /// Inserts a row as the youngest one, unless a higher one exists.
    pub(super) fn insert(&mut self, row: HighestSeen) {
        if self.get(&row.address).is_none_or(|known| known.order() <= row.order()) {
            self.remove(&row.address);
            let rows = if row.generation == 0 { &mut self.plain } else { &mut self.revoking };
            rows.insert(row.address, row);
        }
    }

    pub(super) fn get(&self, address: &Address) -> Option<&HighestSeen> {
        self.revoking.get(address).or_else(|| self.plain.get(address))
    }

    pub(super) fn remove(&mut self, address: &Address) {
        self.plain.remove(address);
        self.revoking.remove(address);
    }

    /// Evicts rows until at most `capacity` rows are left: those of generation 0 first, the oldest
    /// first.
    pub(super) fn shrink_to(&mut self, capacity: usize) {
        self.plain.shrink_to(capacity.saturating_sub(self.revoking.len()));
        self.revoking.shrink_to(capacity);
    }

    pub(super) fn len(&self) -> usize {
        self.plain.len() + self.revoking.len()
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

    #[test]
    fn row_that_revokes_a_key_outlasts_rows_that_revoke_none() {
        let mut guard = RollbackGuard::default();
        guard.insert(row(1, 5));
        for address in 2..=9 {
            guard.insert(HighestSeen { generation: 0, ..row(address, 9) });
            guard.shrink_to(3);
        }
        assert_eq!((guard.len(), guard.get(&Address::repeat_byte(1))), (3, Some(&row(1, 5))));
        assert!(
            guard.get(&Address::repeat_byte(8)).is_some() && guard.get(&Address::repeat_byte(9)).is_some()
        );
        guard.insert(row(9, 1));
        assert_eq!(guard.len(), 3, "a row moves when its agent revokes a key");
        guard.shrink_to(1);
        assert_eq!(guard.get(&Address::repeat_byte(9)), Some(&row(9, 1)), "the oldest of the rest goes");
    }
}
