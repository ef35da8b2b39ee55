//! A budget that neighbours share: none of them takes all of it.

use std::collections::BTreeMap;

use libp2p_identity::PeerId;

use crate::budget::{Budget, Limit, share_of_free};

/// What a neighbour may hold for each item or byte that is free: our choice. A neighbour alone takes four
/// fifths, two take four ninths each.
const TIMES_FREE: usize = 4;

/// The items of a collection, in all and by neighbour. Neighbours without items take no memory.
#[derive(Debug, Default)]
pub(crate) struct SharedBudget {
    all: Budget,
    by_neighbour: BTreeMap<PeerId, Budget>,
}

impl SharedBudget {
    /// Returns the number of items.
    pub(crate) fn count(&self) -> usize {
        self.all.count()
    }

    /// Returns what is in use.
    pub(crate) fn all(&self) -> Budget {
        self.all
    }

    /// Returns what a neighbour uses.
    pub(crate) fn of(&self, neighbour: &PeerId) -> Budget {
        self.by_neighbour.get(neighbour).copied().unwrap_or_default()
    }

    /// Returns `true` if one more item of this size keeps the neighbour within its share of `limit`.
    pub(crate) fn fits(&self, neighbour: &PeerId, bytes: usize, limit: Limit) -> bool {
        let share = Limit {
            count: share_of_free(limit.count, self.all.count(), TIMES_FREE),
            bytes: share_of_free(limit.bytes, self.all.bytes(), TIMES_FREE),
        };
        self.all.fits(bytes, limit) && self.of(neighbour).fits(bytes, share)
    }

    /// Adds an item of a neighbour.
    pub(crate) fn add(&mut self, neighbour: PeerId, bytes: usize) {
        self.all.add(bytes);
        self.by_neighbour.entry(neighbour).or_default().add(bytes);
    }

    /// Removes all items of a neighbour.
    pub(crate) fn remove_all(&mut self, neighbour: &PeerId) {
        if let Some(held) = self.by_neighbour.remove(neighbour) {
            self.all -= held;
        }
    }

    /// Removes an item of a neighbour, which must have been added.
    pub(crate) fn remove(&mut self, neighbour: &PeerId, bytes: usize) {
        self.all.remove(bytes);
        if let Some(held) = self.by_neighbour.get_mut(neighbour) {
            held.remove(bytes);
            if held.is_empty() {
                self.by_neighbour.remove(neighbour);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit { count: 100, bytes: 10_000 };

    fn neighbour(number: u8) -> PeerId {
        p2p_node_wire::identity::NodeKey::from_seed([number; 32]).peer_id()
    }

    fn fill(budget: &mut SharedBudget, neighbour: PeerId, bytes: usize) -> usize {
        let mut added = 0;
        while budget.fits(&neighbour, bytes, LIMIT) {
            budget.add(neighbour, bytes);
            added += 1;
        }
        added
    }

    #[test]
    fn neighbour_takes_neither_all_items_nor_all_bytes() {
        for (bytes, most) in [(1, 80), (1_000, 8)] {
            let mut budget = SharedBudget::default();
            assert_eq!(fill(&mut budget, neighbour(1), bytes), most);
            assert!(fill(&mut budget, neighbour(2), bytes) > 0, "another still finds room");
        }
    }

    #[test]
    fn removed_items_leave_nothing_behind() {
        let mut budget = SharedBudget::default();
        let number = fill(&mut budget, neighbour(1), 10);
        (0..number).for_each(|_| budget.remove(&neighbour(1), 10));
        assert_eq!((budget.count(), budget.by_neighbour.len()), (0, 0));
        assert_eq!(fill(&mut budget, neighbour(2), 10), number);
    }
}
