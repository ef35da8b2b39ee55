//! What has happened so far, counted by name. Every drop and refusal has a counter here.

use std::collections::BTreeMap;

/// Counters since the process started.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    counters: BTreeMap<&'static str, u64>,
}

impl Stats {
    /// Counts one.
    pub fn count(&mut self, name: &'static str) {
        self.add(name, 1);
    }

    /// Counts several.
    pub fn add(&mut self, name: &'static str, number: u64) {
        *self.counters.entry(name).or_default() += number;
    }

    /// How often it was counted.
    pub fn get(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or_default()
    }

    /// All counters that are not zero.
    pub fn snapshot(&self) -> BTreeMap<String, u64> {
        self.counters.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }
}
