//! Lookups of agents, in the DHT and at peers.

use std::collections::{BTreeMap, VecDeque};

use alloy_primitives::Address;
use p2p_node_wire::lru_map::LruMap;

use crate::input::Token;

/// Largest number of concurrent lookups, from the CHORUS node package (`MaxConcurrentDHT`).
pub const MAX_LOOKUPS: usize = 16;
/// Largest number of queued lookups: our choice.
pub const MAX_QUEUED_LOOKUPS: usize = 1024;

/// The result of requesting a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enqueue {
    /// The caller starts the lookup.
    Started,
    /// The lookup runs already, or is queued.
    Queued,
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
    /// `true` if the DHT has answered with the record that the directory has, or with one that waits
    /// for its check.
    pub answered: bool,
}

impl Lookup {
    fn new(address: Address) -> Self {
        Lookup { address, found: false, answered: false }
    }
}

/// All lookups.
#[derive(Debug, Default)]
pub struct Lookups {
    running: BTreeMap<Token, Lookup>,
    queued: VecDeque<(Token, Address)>,
    /// The latest `MAX_QUEUED_LOOKUPS` agents whose lookups failed since a DHT server last
    /// connected.
    failed: LruMap<Address, ()>,
}

impl Lookups {
    /// Requests a lookup of an agent under `token`, unless a lookup of this agent runs or is
    /// queued.
    pub fn enqueue(&mut self, address: Address, token: Token) -> Enqueue {
        if self.running.values().any(|lookup| lookup.address == address)
            || self.queued.iter().any(|(_, queued)| *queued == address)
        {
            return Enqueue::Queued;
        }
        if self.running.len() < MAX_LOOKUPS {
            self.running.insert(token, Lookup::new(address));
            return Enqueue::Started;
        }
        if self.queued.len() >= MAX_QUEUED_LOOKUPS {
            return Enqueue::Full;
        }
        self.queued.push_back((token, address));
        Enqueue::Queued
    }

    /// Returns the address of a running lookup.
    pub fn address(&self, token: Token) -> Option<Address> {
        self.running.get(&token).map(|lookup| lookup.address)
    }

    /// Records that the DHT has answered with a record of this agent.
    pub fn mark_answered(&mut self, address: &Address) {
        for lookup in self.running.values_mut().filter(|lookup| lookup.address == *address) {
            lookup.answered = true;
        }
    }

    /// Returns the agent of a running lookup without a record.
    pub fn unanswered(&self, token: Token) -> Option<Address> {
        let lookup = self.running.get(&token).filter(|lookup| !lookup.found && !lookup.answered)?;
        Some(lookup.address)
    }

    /// Records that a record of the agent has arrived from any source. A running lookup continues,
    /// because a later answer may be newer; a queued one is dropped.
    pub fn mark_found(&mut self, address: &Address) {
        self.running
            .values_mut()
            .filter(|lookup| lookup.address == *address)
            .for_each(|lookup| lookup.found = true);
        self.queued.retain(|(_, queued)| queued != address);
        self.failed.remove(address);
    }

    /// Ends a lookup. Returns it, and the next lookup to start.
    pub fn finish(&mut self, token: Token) -> (Option<Lookup>, Option<(Token, Address)>) {
        let ended = self.running.remove(&token);
        if let Some(Lookup { address, found: false, .. }) = ended
            && !self.failed.contains_key(&address)
        {
            self.failed.insert(address, ());
            self.failed.shrink_to(MAX_QUEUED_LOOKUPS);
        }
        let next = if self.running.len() < MAX_LOOKUPS { self.queued.pop_front() } else { None };
        if let Some((token, address)) = next {
            self.running.insert(token, Lookup::new(address));
        }
        (ended, next)
    }

    /// Returns the number of running lookups.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Returns the number of queued lookups.
    pub fn queued(&self) -> usize {
        self.queued.len()
    }

    /// Removes and returns the agents whose lookups failed. A new DHT server may have their
    /// records.
    pub fn drain_failed(&mut self) -> Vec<Address> {
        let failed = std::mem::take(&mut self.failed);
        failed.iter_by_use().map(|(address, ())| *address).collect()
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
        Lookup { found, ..Lookup::new(agent(number)) }
    }

    #[test]
    fn lookups_run_concurrently_up_to_limit_then_queue() {
        let mut lookups = Lookups::default();
        for number in 0..MAX_LOOKUPS + MAX_QUEUED_LOOKUPS + 5 {
            let outcome = lookups.enqueue(agent(number), number as Token);
            let expected = match number {
                _ if number < MAX_LOOKUPS => Enqueue::Started,
                _ if number < MAX_LOOKUPS + MAX_QUEUED_LOOKUPS => Enqueue::Queued,
                _ => Enqueue::Full,
            };
            assert_eq!(outcome, expected);
        }
        assert_eq!(lookups.enqueue(agent(0), 9999), Enqueue::Queued, "the lookup of agent 0 runs already");
        let (ended, next) = lookups.finish(3);
        assert_eq!(ended, Some(lookup(3, false)));
        assert_eq!(next, Some((MAX_LOOKUPS as Token, agent(MAX_LOOKUPS))));
        assert_eq!(lookups.unanswered(MAX_LOOKUPS as Token), Some(agent(MAX_LOOKUPS)));
        assert_eq!(lookups.drain_failed(), [agent(3)]);
        assert!(lookups.drain_failed().is_empty());
        assert_eq!(lookups.finish(3), (None, None));
    }

    #[test]
    fn found_agent_is_not_looked_up_again() {
        let mut lookups = Lookups::default();
        for number in 0..MAX_LOOKUPS + 2 {
            lookups.enqueue(agent(number), number as Token);
        }
        lookups.mark_found(&agent(0));
        lookups.mark_found(&agent(MAX_LOOKUPS));
        assert_eq!(lookups.unanswered(0), None);
        assert_eq!(lookups.address(0), Some(agent(0)), "more answers may arrive");
        lookups.mark_answered(&agent(0));
        let last = MAX_LOOKUPS + 1;
        assert_eq!(
            lookups.finish(0),
            (Some(Lookup { answered: true, ..lookup(0, true) }), Some((last as Token, agent(last))))
        );
        assert_eq!(lookups.unanswered(1), Some(agent(1)));
        lookups.mark_answered(&agent(1));
        assert_eq!(lookups.unanswered(1), None, "the known record is an answer as well");
        assert_eq!(lookups.finish(1), (Some(Lookup { answered: true, ..lookup(1, false) }), None));
        assert_eq!(lookups.finish(2), (Some(lookup(2, false)), None));
        lookups.mark_found(&agent(1));
        assert_eq!(lookups.drain_failed(), [agent(2)]);
    }

    #[test]
    fn failed_lookups_are_remembered_up_to_limit() {
        let mut lookups = Lookups::default();
        for number in 0..=MAX_QUEUED_LOOKUPS {
            assert_eq!(lookups.enqueue(agent(number), number as Token), Enqueue::Started);
            lookups.finish(number as Token);
        }
        let drained = lookups.drain_failed();
        assert_eq!((drained.len(), drained[0]), (MAX_QUEUED_LOOKUPS, agent(1)));
    }
}
