//! A map in the order of last use.

use std::collections::BTreeMap;
use std::ops::RangeBounds;

/// A map that remembers in which order its entries were last used, so that its owner can evict the
/// least recently used one. An insertion and [`LruMap::touch`] are uses; a lookup is none, so a map
/// that is never touched evicts in the order of insertion.
///
/// The map has no limit of its own. Its owner decides what to evict, and when. Its order depends
/// only on the calls: it uses no hashes, no clock and no random numbers.
#[derive(Clone, Debug)]
pub struct LruMap<K, V> {
    entries: BTreeMap<K, Entry<V>>,
    by_use: BTreeMap<u64, K>,
    /// Number of uses so far, which numbers them.
    uses: u64,
}

#[derive(Clone, Debug)]
struct Entry<V> {
    value: V,
    last_use: u64,
}

impl<K, V> Default for LruMap<K, V> {
    fn default() -> Self {
        LruMap { entries: BTreeMap::new(), by_use: BTreeMap::new(), uses: 0 }
    }
}

impl<K: Ord + Clone, V> LruMap<K, V> {
    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns `true` if there are no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns `true` if there is an entry with this key.
    pub fn contains_key(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    /// Returns a value. This is not a use.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// Returns a value to change. This is not a use.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|entry| &mut entry.value)
    }

    /// Inserts an entry as the most recently used one. Returns the value that it replaces.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let old = self.remove(&key);
        self.uses += 1;
        self.by_use.insert(self.uses, key.clone());
        self.entries.insert(key, Entry { value, last_use: self.uses });
        old
    }

    /// Makes an entry the most recently used one, and returns its value.
    pub fn touch(&mut self, key: &K) -> Option<&mut V> {
        let entry = self.entries.get_mut(key)?;
        let key = self.by_use.remove(&entry.last_use)?;
        self.uses += 1;
        entry.last_use = self.uses;
        self.by_use.insert(self.uses, key);
        Some(&mut entry.value)
    }

    /// Makes an entry the most recently used one, and returns its value. Inserts the default value
    /// if there is no entry.
    pub fn touch_or_default(&mut self, key: &K) -> &mut V
    where
        V: Default,
    {
        self.uses += 1;
        let new = || Entry { value: V::default(), last_use: self.uses };
        let entry = self.entries.entry(key.clone()).or_insert_with(new);
        self.by_use.remove(&entry.last_use);
        entry.last_use = self.uses;
        self.by_use.insert(self.uses, key.clone());
        &mut entry.value
    }

    /// Removes an entry and returns its value.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let entry = self.entries.remove(key)?;
        self.by_use.remove(&entry.last_use);
        Some(entry.value)
    }

    /// Returns the least recently used entry.
    pub fn oldest(&self) -> Option<(&K, &V)> {
        self.iter_by_use().next()
    }

    /// Returns the least recently used entry with a key in the range and a value that `fits`.
    pub fn oldest_in(&self, keys: impl RangeBounds<K>, fits: impl Fn(&V) -> bool) -> Option<(&K, &V)> {
        let fitting = self.entries.range(keys).filter(|(_, entry)| fits(&entry.value));
        let (key, entry) = fitting.min_by_key(|(_, entry)| entry.last_use)?;
        Some((key, &entry.value))
    }

    /// Evicts the least recently used entries until at most `most` are left.
    pub fn shrink_to(&mut self, most: usize) {
        while self.entries.len() > most
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.entries.remove(&oldest);
        }
    }

    /// Returns all entries, the least recently used one first.
    pub fn iter_by_use(&self) -> impl Iterator<Item = (&K, &V)> {
        self.by_use.values().filter_map(|key| Some((key, self.get(key)?)))
    }

    /// Returns the entries with a key in the range, in the order of their keys.
    pub fn range(&self, keys: impl RangeBounds<K>) -> impl Iterator<Item = (&K, &V)> {
        self.entries.range(keys).map(|(key, entry)| (key, &entry.value))
    }

    /// Returns all values, in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.values().map(|entry| &entry.value)
    }

    /// Returns all values to change, in the order of their keys.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.values_mut().map(|entry| &mut entry.value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn by_use(map: &LruMap<u8, usize>) -> Vec<(u8, usize)> {
        map.iter_by_use().map(|(key, value)| (*key, *value)).collect()
    }

    #[test]
    fn the_least_recently_used_entries_go_first() {
        let mut map = LruMap::default();
        for key in [3, 1, 2] {
            assert_eq!(map.insert(key, 0), None);
        }
        assert_eq!(map.oldest(), Some((&3, &0)));
        assert_eq!(map.get(&3), Some(&0), "a lookup is not a use");
        assert_eq!(map.oldest_in(1..3, |_| true), Some((&1, &0)));
        map.touch(&3);
        assert_eq!(map.insert(1, 7), Some(0), "an insertion is a use");
        assert_eq!(by_use(&map), [(2, 0), (3, 0), (1, 7)]);
        assert_eq!(map.values().collect::<Vec<_>>(), [&7, &0, &0], "in the order of the keys");
        map.values_mut().for_each(|value| *value += 1);
        map.shrink_to(1);
        assert_eq!(by_use(&map), [(1, 8)]);
        assert!(map.contains_key(&1) && !map.contains_key(&2));
        assert!(map.touch(&2).is_none() && map.remove(&2).is_none());
    }

    proptest! {
        /// Compares the map with a list, the least recently used entry first.
        #[test]
        fn any_calls_give_what_a_list_gives(
            calls in prop::collection::vec((0..6_u8, 0..8_u8), 0..80),
        ) {
            let (mut map, mut list) = (LruMap::default(), Vec::<(u8, usize)>::new());
            for (number, (call, key)) in calls.into_iter().enumerate() {
                let at = list.iter().position(|(known, _)| *known == key);
                let known = at.map(|at| list[at].1);
                match call {
                    0 | 1 => {
                        list.retain(|(known, _)| *known != key);
                        list.push((key, number));
                        prop_assert_eq!(map.insert(key, number), known);
                    }
                    2 => {
                        at.into_iter().for_each(|at| list[at..].rotate_left(1));
                        prop_assert_eq!(map.touch(&key).copied(), known);
                    }
                    3 => {
                        list.retain(|(known, _)| *known != key);
                        prop_assert_eq!(map.remove(&key), known);
                    }
                    4 => {
                        list.retain(|(known, _)| *known != key);
                        list.push((key, known.unwrap_or_default()));
                        prop_assert_eq!(*map.touch_or_default(&key), known.unwrap_or_default());
                    }
                    _ => {
                        list.drain(..list.len().saturating_sub(key.into()));
                        map.shrink_to(key.into());
                    }
                }
                prop_assert_eq!(by_use(&map), &list[..]);
                prop_assert_eq!((map.len(), map.by_use.len()), (list.len(), list.len()));
                let oldest = list.iter().find(|(known, _)| (2..6).contains(known));
                prop_assert_eq!(map.oldest_in(2..6, |_| true).map(|(key, value)| (*key, *value)), oldest.copied());
            }
        }
    }
}
