//! A cache of checked binding signatures, so that the node recovers each key once.

use p2p_node_wire::identity::BindingHash;
use p2p_node_wire::lru_map::LruMap;

/// Largest number of remembered valid bindings: our choice, the 500 agents of our largest test with
/// seven renewals each.
pub const MAX_GOOD_BINDINGS: usize = 4096;
/// Largest number of remembered invalid bindings: our choice. It is lower, because honest peers
/// send none. The limits are separate, so that invented bindings cannot evict valid ones.
pub const MAX_BAD_BINDINGS: usize = 1024;

/// Hashes of signed bindings whose signature was checked.
#[derive(Debug, Default)]
pub struct BindingCache {
    good: LruMap<BindingHash, ()>,
    bad: LruMap<BindingHash, ()>,
}

impl BindingCache {
    /// Returns `true` for a valid signature, `false` for an invalid one, `None` if it was not
    /// checked.
    pub fn get(&self, hash: &BindingHash) -> Option<bool> {
        if self.good.contains_key(hash) {
            return Some(true);
        }
        self.bad.contains_key(hash).then_some(false)
    }

    /// Returns the number of remembered results.
    pub fn len(&self) -> usize {
        self.good.len() + self.bad.len()
    }

    /// Returns `true` if no results are remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Remembers a result. Evicts the oldest result of the same kind at the limit.
    pub fn remember(&mut self, hash: BindingHash, good: bool) {
        let (results, most) =
            if good { (&mut self.good, MAX_GOOD_BINDINGS) } else { (&mut self.bad, MAX_BAD_BINDINGS) };
        // No result is ever touched, so the oldest one is evicted, however often it was used: one
        // more check of a signature costs less than another order at every lookup.
        if !results.contains_key(&hash) {
            results.insert(hash, ());
            results.shrink_to(most);
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
