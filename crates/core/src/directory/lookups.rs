//! Lookups of agents in the DHT.

use std::collections::{BTreeMap, VecDeque};

use alloy_primitives::Address;
use p2p_node_wire::lru_map::LruMap;

use crate::input::Token;

/// Largest number of concurrent lookups, from the CHORUS node package (`MaxConcurrentDHT`).
pub const MAX_QUERIES: usize = 16;
/// Largest number of queued lookups: our choice.
pub const MAX_WAITING: usize = 1024;

/// The result of requesting a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The caller must start the lookup.
    Start,
    /// The lookup runs already, or is queued.
    Waits,
    /// The queue is full.
    Full,
}

/// A lookup that runs or has just ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// The agent's address.
    pub address: Address,
    /// `true` if a record of the agent has arrived from any source since the lookup started.
    pub found: bool,
}

/// All lookups.
#[derive(Debug, Default)]
pub struct Lookups {
    running: BTreeMap<Token, Lookup>,
    waiting: VecDeque<(Token, Address)>,
    /// Agents whose lookups failed since a DHT server last connected: the latest `MAX_WAITING`.
    missed: LruMap<Address, ()>,
}

impl Lookups {
    /// Requests a lookup of an agent, under `token` unless the lookup already exists.
    pub fn want(&mut self, address: Address, token: Token) -> Wanted {
        if self.running.values().any(|lookup| lookup.address == address)
            || self.waiting.iter().any(|(_, waiting)| *waiting == address)
        {
            return Wanted::Waits;
        }
        if self.running.len() < MAX_QUERIES {
            self.running.insert(token, Lookup { address, found: false });
            return Wanted::Start;
        }
        if self.waiting.len() >= MAX_WAITING {
            return Wanted::Full;
        }
        self.waiting.push_back((token, address));
        Wanted::Waits
    }

    /// Returns the address of a running lookup.
    pub fn address(&self, token: Token) -> Option<Address> {
        self.running.get(&token).map(|lookup| lookup.address)
    }

    /// Records that a record of the agent has arrived from any source. A running lookup continues,
    /// because a later answer may be newer; a queued one is dropped.
    pub fn found(&mut self, address: &Address) {
        self.running
            .values_mut()
            .filter(|lookup| lookup.address == *address)
            .for_each(|lookup| lookup.found = true);
        self.waiting.retain(|(_, waiting)| waiting != address);
        self.missed.remove(address);
    }

    /// Ends a lookup. Returns it, and the next lookup to start.
    pub fn ended(&mut self, token: Token) -> (Option<Lookup>, Option<(Token, Address)>) {
        let ended = self.running.remove(&token);
        if let Some(Lookup { address, found: false }) = ended
            && !self.missed.contains_key(&address)
        {
            self.missed.insert(address, ());
            self.missed.shrink_to(MAX_WAITING);
        }
        let next = if self.running.len() < MAX_QUERIES { self.waiting.pop_front() } else { None };
        if let Some((token, address)) = next {
            self.running.insert(token, Lookup { address, found: false });
        }
        (ended, next)
    }

    /// Returns the number of running lookups.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Returns the number of queued lookups.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Removes and returns the agents whose lookups failed, because a new DHT server may know them.
    pub fn wake_all(&mut self) -> Vec<Address> {
        let missed = std::mem::take(&mut self.missed);
        missed.iter_by_use().map(|(address, ())| *address).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(number: usize) -> Address {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        Address::from(bytes)
    }

    fn lookup(number: usize, found: bool) -> Lookup {
        Lookup { address: agent(number), found }
    }

    #[test]
    fn lookups_run_side_by_side_up_to_the_bound_and_then_in_turn() {
        let mut queries = Lookups::default();
        for number in 0..MAX_QUERIES + MAX_WAITING + 5 {
            let wanted = queries.want(agent(number), number as Token);
            let expected = match number {
                _ if number < MAX_QUERIES => Wanted::Start,
                _ if number < MAX_QUERIES + MAX_WAITING => Wanted::Waits,
                _ => Wanted::Full,
            };
            assert_eq!(wanted, expected);
        }
        assert_eq!(queries.want(agent(0), 9999), Wanted::Waits, "it runs already");
        let (ended, next) = queries.ended(3);
        assert_eq!(ended, Some(lookup(3, false)));
        assert_eq!(next, Some((MAX_QUERIES as Token, agent(MAX_QUERIES))));
        assert_eq!(queries.address(MAX_QUERIES as Token), Some(agent(MAX_QUERIES)));
        assert_eq!(queries.wake_all(), [agent(3)]);
        assert!(queries.wake_all().is_empty());
        assert_eq!(queries.ended(3), (None, None));
    }

    #[test]
    fn whoever_was_found_is_not_looked_up_again() {
        let mut queries = Lookups::default();
        for number in 0..MAX_QUERIES + 2 {
            queries.want(agent(number), number as Token);
        }
        queries.found(&agent(0));
        queries.found(&agent(MAX_QUERIES));
        assert_eq!(queries.address(0), Some(agent(0)), "more answers may come");
        let last = MAX_QUERIES + 1;
        assert_eq!(queries.ended(0), (Some(lookup(0, true)), Some((last as Token, agent(last)))));
        assert_eq!(queries.ended(1), (Some(lookup(1, false)), None));
        assert_eq!(queries.ended(2), (Some(lookup(2, false)), None));
        queries.found(&agent(1));
        assert_eq!(queries.wake_all(), [agent(2)]);
    }

    #[test]
    fn the_latest_misses_are_remembered_up_to_the_bound() {
        let mut queries = Lookups::default();
        for number in 0..=MAX_WAITING {
            assert_eq!(queries.want(agent(number), number as Token), Wanted::Start);
            queries.ended(number as Token);
        }
        let woken = queries.wake_all();
        assert_eq!((woken.len(), woken[0]), (MAX_WAITING, agent(1)));
    }
}
