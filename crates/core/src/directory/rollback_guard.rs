//! The rollback guard: the highest (generation, seq) of records that are no longer in the
//! directory, so that the node never accepts older records again.

use std::collections::BTreeMap;

use alloy_primitives::Address;

use crate::highest_seen::HighestSeen;

#[derive(Debug)]
struct Floor {
    row: HighestSeen,
    age: u64,
}

/// Entries by address and by age.
#[derive(Debug, Default)]
pub(super) struct RollbackGuard {
    by_address: BTreeMap<Address, Floor>,
    by_age: BTreeMap<u64, Address>,
    /// Number of entries inserted so far, which numbers them.
    came: u64,
}

impl RollbackGuard {
    /// Inserts an entry as the youngest one, unless a higher one exists.
    pub(super) fn insert(&mut self, row: HighestSeen) {
        if self.get(&row.address).is_some_and(|known| known.order() > row.order()) {
            return;
        }
        let address = row.address;
        self.remove(&address);
        self.came += 1;
        self.by_age.insert(self.came, address);
        self.by_address.insert(address, Floor { row, age: self.came });
    }

    pub(super) fn get(&self, address: &Address) -> Option<&HighestSeen> {
        self.by_address.get(address).map(|highest| &highest.row)
    }

    pub(super) fn remove(&mut self, address: &Address) {
        if let Some(highest) = self.by_address.remove(address) {
            self.by_age.remove(&highest.age);
        }
    }

    /// Evicts the oldest entries until at most `most` are left.
    pub(super) fn shrink(&mut self, most: usize) {
        while self.by_address.len() > most
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.by_address.remove(&oldest);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_address.len()
    }

    #[cfg(test)]
    pub(super) fn lens(&self) -> (usize, usize) {
        (self.by_address.len(), self.by_age.len())
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
    fn one_floor_for_each_agent_never_lowered_the_oldest_going_first() {
        let mut guard = RollbackGuard::default();
        for (address, seq) in [(1, 5), (2, 5), (1, 7), (1, 6)] {
            guard.insert(row(address, seq));
        }
        assert_eq!((guard.len(), guard.lens()), (2, (2, 2)));
        assert_eq!(guard.get(&Address::repeat_byte(1)), Some(&row(1, 7)));
        guard.shrink(1);
        assert_eq!(guard.get(&Address::repeat_byte(2)), None, "it came before the other was raised");
        guard.remove(&Address::repeat_byte(1));
        assert_eq!((guard.len(), guard.lens()), (0, (0, 0)));
    }
}
