//! What each key used in the last seconds, for budgets that the keys share.

use std::collections::{BTreeMap, VecDeque};

use p2p_node_wire::time::Instant;

/// What was used in one second.
#[derive(Debug)]
struct Second<K> {
    number: u64,
    used: usize,
    by_key: BTreeMap<K, usize>,
}

/// Sums of what was used in the last seconds: in all, and by key.
#[derive(Debug)]
pub(crate) struct RecentUse<K> {
    /// Number of full seconds before the current one.
    secs: u64,
    /// Oldest first.
    seconds: VecDeque<Second<K>>,
    /// Sum of `seconds`.
    used: usize,
    /// Sums of `seconds` by key.
    by_key: BTreeMap<K, usize>,
}

impl<K: Ord + Clone> RecentUse<K> {
    /// Creates the sums of the current second and of `secs` before it.
    pub(crate) fn new(secs: u64) -> Self {
        RecentUse { secs, seconds: VecDeque::new(), used: 0, by_key: BTreeMap::new() }
    }

    /// Records a use: of a key, or of none.
    pub(crate) fn record(&mut self, used: usize, key: Option<K>, now: Instant) {
        self.expire(now);
        let number = now.since_start().as_secs();
        if self.seconds.back().is_none_or(|last| last.number != number) {
            self.seconds.push_back(Second { number, used: 0, by_key: BTreeMap::new() });
        }
        if let Some(last) = self.seconds.back_mut() {
            last.used += used;
            self.used += used;
            if let Some(key) = key {
                *last.by_key.entry(key.clone()).or_default() += used;
                *self.by_key.entry(key).or_default() += used;
            }
        }
    }

    /// Removes what was used before these seconds.
    pub(crate) fn expire(&mut self, now: Instant) {
        let is_old = |second: &Second<K>| second.number + self.secs < now.since_start().as_secs();
        while self.seconds.front().is_some_and(is_old)
            && let Some(Second { used, by_key, .. }) = self.seconds.pop_front()
        {
            self.used -= used;
            for (key, used) in by_key {
                if let Some(sum) = self.by_key.get_mut(&key) {
                    *sum -= used;
                    if *sum == 0 {
                        self.by_key.remove(&key);
                    }
                }
            }
        }
    }

    /// Returns what was used in all.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Returns what a key used, or `None` if it used nothing.
    pub(crate) fn used_by(&self, key: &K) -> Option<usize> {
        self.by_key.get(key).copied()
    }

    /// Returns the number of keys that used something.
    pub(crate) fn keys(&self) -> usize {
        self.by_key.len()
    }

    /// Returns the number of seconds in which something was used.
    #[cfg(test)]
    pub(crate) fn seconds(&self) -> usize {
        self.seconds.len()
    }
}
