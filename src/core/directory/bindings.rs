//! What was found about bindings' signatures, so that each is recovered once.

use std::collections::{BTreeMap, VecDeque};

use crate::core::identity::BindingHash;

/// Bindings remembered. Ours: those of the 500 agents of our largest test, renewed seven times over.
pub const MAX_BINDINGS: usize = 4096;

/// Hashes of signed bindings and whether the signature was good.
#[derive(Debug, Default)]
pub struct BindingCache {
    known: BTreeMap<BindingHash, bool>,
    oldest: VecDeque<BindingHash>,
}

impl BindingCache {
    /// Whether the signature is good, if it was checked.
    pub fn get(&self, hash: &BindingHash) -> Option<bool> {
        self.known.get(hash).copied()
    }

    /// Remembers what was found; forgets the oldest finding when there are too many.
    pub fn remember(&mut self, hash: BindingHash, good: bool) {
        if self.known.insert(hash, good).is_none() {
            self.oldest.push_back(hash);
        }
        if self.oldest.len() > MAX_BINDINGS
            && let Some(oldest) = self.oldest.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_kept_up_to_the_bound() {
        let mut cache = BindingCache::default();
        let hash = |number: usize| {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&number.to_le_bytes());
            hash
        };
        for number in 0..=MAX_BINDINGS {
            cache.remember(hash(number), number % 2 == 0);
        }
        assert_eq!(cache.get(&hash(0)), None);
        assert_eq!(cache.get(&hash(1)), Some(false));
        assert_eq!(cache.get(&hash(2)), Some(true));
    }
}
