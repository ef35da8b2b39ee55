//! What was found about bindings' signatures, so that each is recovered once.

use std::collections::{BTreeSet, VecDeque};

use p2p_node_wire::identity::BindingHash;

/// Good bindings remembered. Ours: those of the 500 agents of our largest test, renewed seven times over.
pub const MAX_GOOD_BINDINGS: usize = 4096;
/// Bad ones remembered. Ours: fewer, for none is expected; they have room of their own, because whoever makes
/// them up must not push out the good ones.
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
    /// Whether the signature is good, if it was checked.
    pub fn get(&self, hash: &BindingHash) -> Option<bool> {
        if self.good.known.contains(hash) {
            return Some(true);
        }
        self.bad.known.contains(hash).then_some(false)
    }

    /// Findings remembered.
    pub fn len(&self) -> usize {
        self.good.known.len() + self.bad.known.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Remembers what was found; forgets the oldest finding of the kind when there are too many.
    pub fn remember(&mut self, hash: BindingHash, good: bool) {
        if good { self.good.insert(hash) } else { self.bad.insert(hash) }
    }
}

/// The latest few of many hashes.
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
        hash
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
