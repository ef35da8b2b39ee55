//! A cache of checked binding signatures, so that the node recovers each key once.

use std::collections::{BTreeSet, VecDeque};

use p2p_node_wire::identity::BindingHash;

/// Largest number of remembered valid bindings: our choice, the 500 agents of our largest test with
/// seven renewals each.
pub const MAX_GOOD_BINDINGS: usize = 4096;
/// Largest number of remembered invalid bindings: our choice. It is lower, because honest peers
/// send none. The limits are separate, so that invented bindings cannot evict valid ones.
pub const MAX_BAD_BINDINGS: usize = 1024;

/// Hashes of signed bindings whose signature was checked.
#[derive(Debug)]
pub struct BindingCache {
    good: FifoSet,
    bad: FifoSet,
}

impl Default for BindingCache {
    fn default() -> Self {
        BindingCache { good: FifoSet::new(MAX_GOOD_BINDINGS), bad: FifoSet::new(MAX_BAD_BINDINGS) }
    }
}

impl BindingCache {
    /// Returns `true` for a valid signature, `false` for an invalid one, `None` if it was not
    /// checked.
    pub fn get(&self, hash: &BindingHash) -> Option<bool> {
        if self.good.known.contains(hash) {
            return Some(true);
        }
        self.bad.known.contains(hash).then_some(false)
    }

    /// Returns the number of remembered results.
    pub fn len(&self) -> usize {
        self.good.known.len() + self.bad.known.len()
    }

    /// Returns `true` if no results are remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Remembers a result. Evicts the oldest result of the same kind at the limit.
    pub fn remember(&mut self, hash: BindingHash, good: bool) {
        if good { self.good.insert(hash) } else { self.bad.insert(hash) }
    }
}

/// A set of bounded size that evicts the oldest hash.
#[derive(Debug)]
struct FifoSet {
    known: BTreeSet<BindingHash>,
    in_turn: VecDeque<BindingHash>,
    most: usize,
}

impl FifoSet {
    fn new(most: usize) -> Self {
        FifoSet { known: BTreeSet::new(), in_turn: VecDeque::new(), most }
    }

    fn insert(&mut self, hash: BindingHash) {
        if self.known.insert(hash) {
            self.in_turn.push_back(hash);
        }
        if self.in_turn.len() > self.most
            && let Some(oldest) = self.in_turn.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: usize) -> BindingHash {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_le_bytes());
        BindingHash(hash)
    }

    #[test]
    fn findings_are_kept_up_to_the_bound() {
        for (most, good) in [(MAX_GOOD_BINDINGS, true), (MAX_BAD_BINDINGS, false)] {
            let mut cache = BindingCache::default();
            assert!(cache.is_empty());
            for number in 0..=most {
                cache.remember(hash(number), good);
                cache.remember(hash(number), good);
            }
            assert_eq!(cache.get(&hash(0)), None);
            assert_eq!(cache.get(&hash(1)), Some(good));
            assert_eq!(cache.get(&hash(most)), Some(good));
            assert_eq!((cache.len(), cache.is_empty()), (most, false));
        }
    }

    #[test]
    fn a_flood_of_bad_ones_pushes_no_good_one_out() {
        let mut cache = BindingCache::default();
        cache.remember(hash(0), true);
        for number in 1..=MAX_GOOD_BINDINGS + MAX_BAD_BINDINGS {
            cache.remember(hash(number), false);
        }
        assert_eq!(cache.get(&hash(0)), Some(true));
        assert_eq!(cache.len(), 1 + MAX_BAD_BINDINGS);
    }
}
