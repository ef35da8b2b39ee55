//! A cache of checked binding signatures, so that the node checks each signature once.

use p2p_node_wire::identity::BindingHash;
use p2p_node_wire::lru_map::LruMap;

/// Largest number of cached valid bindings: our choice, the 500 agents of our largest test with
/// seven renewals each.
pub const MAX_VALID_BINDINGS: usize = 4096;
/// Largest number of cached invalid bindings: our choice. The limit is lower, because honest peers
/// send none. The limits are separate, so that invented bindings cannot evict valid ones.
pub const MAX_INVALID_BINDINGS: usize = 1024;

/// Hashes of signed bindings whose signature was checked.
#[derive(Debug, Default)]
pub struct BindingCache {
    valid: LruMap<BindingHash, ()>,
    invalid: LruMap<BindingHash, ()>,
}

impl BindingCache {
    /// Returns `true` for a valid signature, `false` for an invalid one, `None` if it was not
    /// checked.
    pub fn get(&self, hash: &BindingHash) -> Option<bool> {
        if self.valid.contains_key(hash) {
            return Some(true);
        }
        self.invalid.contains_key(hash).then_some(false)
    }

    /// Returns the number of cached results.
    pub fn len(&self) -> usize {
        self.valid.len() + self.invalid.len()
    }

    /// Returns `true` if no results are cached.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Inserts a result. Evicts the oldest result of the same kind at the limit.
    pub fn insert(&mut self, hash: BindingHash, valid: bool) {
        let (results, capacity) = if valid {
            (&mut self.valid, MAX_VALID_BINDINGS)
        } else {
            (&mut self.invalid, MAX_INVALID_BINDINGS)
        };
        // The cache evicts the oldest result, and not the least recently used one: a repeated check
        // of a signature costs less than an update of the order at every lookup.
        if !results.contains_key(&hash) {
            results.insert(hash, ());
            results.shrink_to(capacity);
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
    fn binding_cache_keeps_results_up_to_limit() {
        for (capacity, valid) in [(MAX_VALID_BINDINGS, true), (MAX_INVALID_BINDINGS, false)] {
            let mut cache = BindingCache::default();
            assert!(cache.is_empty());
            for number in 0..=capacity {
                cache.insert(hash(number), valid);
                cache.insert(hash(number), valid);
            }
            assert_eq!(cache.get(&hash(0)), None);
            assert_eq!(cache.get(&hash(1)), Some(valid));
            assert_eq!(cache.get(&hash(capacity)), Some(valid));
            assert_eq!((cache.len(), cache.is_empty()), (capacity, false));
        }
    }

    #[test]
    fn flood_of_invalid_bindings_evicts_no_valid_binding() {
        let mut cache = BindingCache::default();
        cache.insert(hash(0), true);
        for number in 1..=MAX_VALID_BINDINGS + MAX_INVALID_BINDINGS {
            cache.insert(hash(number), false);
        }
        assert_eq!(cache.get(&hash(0)), Some(true));
        assert_eq!(cache.len(), 1 + MAX_INVALID_BINDINGS);
    }
}
