//! Counters of events and measurements. Every drop and every rejection has a counter.

pub mod histogram;
pub(crate) mod rate_window;
pub mod traffic;

use std::collections::BTreeMap;

use p2p_node_protocol::{Counter, Priority};
use p2p_node_wire::time::Instant;

use traffic::Traffic;

/// Counters and measurements since the process started.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// What the node measured of messages.
    pub traffic: Traffic,
    counters: BTreeMap<Counter, u64>,
}

impl Stats {
    /// Adds one to a counter.
    pub fn count(&mut self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Adds `number` to a counter.
    pub fn add(&mut self, counter: Counter, number: u64) {
        *self.counters.entry(counter).or_default() += number;
    }

    /// Counts a message or a broadcast that the node queued for the parent.
    pub(crate) fn received(&mut self, counter: Counter, priority: Priority, now: Instant) {
        self.count(counter);
        self.traffic.received(priority, now);
    }

    /// Returns the value of a counter.
    pub fn get(&self, counter: Counter) -> u64 {
        self.counters.get(&counter).copied().unwrap_or_default()
    }

    /// Returns the counters that are not zero, by name.
    pub fn snapshot(&self) -> BTreeMap<String, u64> {
        self.counters.iter().map(|(counter, count)| (counter.as_str().to_owned(), *count)).collect()
    }
}
