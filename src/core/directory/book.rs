//! The directory: the newest verified record of each agent.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alloy::primitives::Address;
use libp2p::PeerId;

use super::record::SignedRecord;

/// Agents in the directory. Ours: 20 times our largest test, at 2.5 KiB each.
pub const MAX_AGENTS: usize = 10_000;
/// Orders remembered of agents that are no longer in it.
pub const MAX_FLOORS: usize = 10_000;

/// How a record compares with what is known of its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Nothing is known.
    New,
    /// It supersedes what is known.
    Newer,
    /// It is what is known.
    Same,
    /// It was superseded.
    Stale,
    /// It has the same order as what is known, and other content.
    Conflict,
}

/// What a record changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The agent was not known.
    New,
    /// It is at another node or at other addresses.
    Moved,
    /// It is where it was.
    Refreshed,
}

#[derive(Debug)]
struct Entry {
    record: SignedRecord,
    last_used: Duration,
}

/// Records by address.
#[derive(Debug, Default)]
pub struct Book {
    entries: BTreeMap<Address, Entry>,
    by_peer: BTreeMap<PeerId, Address>,
    by_use: BTreeSet<(Duration, Address)>,
    floors: BTreeMap<Address, (u64, u64)>,
    floors_by_age: std::collections::VecDeque<Address>,
}

impl Book {
    /// Compares a record, not verified yet, with what is known.
    pub fn compare(&self, record: &SignedRecord) -> Order {
        let address = record.address();
        let Some(entry) = self.entries.get(&address) else {
            let below = self.floors.get(&address).is_some_and(|floor| record.order() < *floor);
            return if below { Order::Stale } else { Order::New };
        };
        match record.order().cmp(&entry.record.order()) {
            Ordering::Greater => Order::Newer,
            Ordering::Less => Order::Stale,
            Ordering::Equal if record.bytes == entry.record.bytes => Order::Same,
            Ordering::Equal => Order::Conflict,
        }
    }

    /// The least generation that may still speak for an agent.
    pub fn floor(&self, address: &Address) -> u64 {
        let entry = self.entries.get(address).map(|entry| entry.record.order());
        entry.or_else(|| self.floors.get(address).copied()).map_or(0, |(generation, _)| generation)
    }

    /// Puts in a verified record that is new or newer.
    pub fn insert(&mut self, record: SignedRecord, now: Duration) -> Change {
        let (address, peer) = (record.address(), record.peer_id());
        if !self.entries.contains_key(&address) {
            while self.entries.len() >= MAX_AGENTS {
                let Some((_, oldest)) = self.by_use.first().copied() else { break };
                self.forget(&oldest);
            }
        }
        let addrs = record.record.addrs.clone();
        let old = self.entries.insert(address, Entry { record, last_used: now });
        self.by_use.insert((now, address));
        let change = match old {
            None => Change::New,
            Some(old) => {
                if old.last_used != now {
                    self.by_use.remove(&(old.last_used, address));
                }
                let same_node = old.record.peer_id() == peer;
                if !same_node {
                    self.by_peer.remove(&old.record.peer_id());
                }
                if same_node && old.record.record.addrs == addrs { Change::Refreshed } else { Change::Moved }
            }
        };
        self.by_peer.insert(peer, address);
        change
    }

    fn forget(&mut self, address: &Address) {
        let Some(entry) = self.entries.remove(address) else { return };
        self.by_use.remove(&(entry.last_used, *address));
        if self.by_peer.get(&entry.record.peer_id()) == Some(address) {
            self.by_peer.remove(&entry.record.peer_id());
        }
        if self.floors.insert(*address, entry.record.order()).is_none() {
            self.floors_by_age.push_back(*address);
        }
        if self.floors_by_age.len() > MAX_FLOORS
            && let Some(oldest) = self.floors_by_age.pop_front()
        {
            self.floors.remove(&oldest);
        }
    }

    /// The agent's record, unless it has expired.
    pub fn get(&self, address: &Address, now_ms: u64) -> Option<&SignedRecord> {
        let record = &self.entries.get(address)?.record;
        (record.record.expires_at_ms > now_ms).then_some(record)
    }

    /// The record of the agent whose node this is.
    pub fn by_peer(&self, peer: &PeerId, now_ms: u64) -> Option<&SignedRecord> {
        self.get(self.by_peer.get(peer)?, now_ms)
    }

    /// Every record that has not expired.
    pub fn iter(&self, now_ms: u64) -> impl Iterator<Item = &SignedRecord> {
        self.entries
            .values()
            .map(|entry| &entry.record)
            .filter(move |record| record.record.expires_at_ms > now_ms)
    }

    /// Agents in it, those whose record has expired included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::directory::record::Record;
    use crate::core::identity::testing::{NOW_SECS, agent, binding};
    use crate::core::identity::{AgentKey, Binding, NodeKey};
    use p2p_node_protocol::Role;

    const NOW_MS: u64 = NOW_SECS * 1000;

    fn record(account: &AgentKey, node: &NodeKey, generation: u64, seq: u64, name: &str) -> SignedRecord {
        let binding = Binding {
            account: account.address(),
            peer_id: node.peer_id(),
            node_key: node.public(),
            generation,
            ..binding()
        };
        let record = Record {
            network: "dev".to_owned(),
            binding: account.bind(binding).unwrap(),
            seq,
            issued_at_ms: NOW_MS,
            expires_at_ms: NOW_MS + 1000,
            addrs: Vec::new(),
            kem: None,
            role: Role::Full,
            name: name.to_owned(),
            capabilities: Vec::new(),
            topics: Vec::new(),
        };
        SignedRecord::decode(record.sign(node).unwrap()).unwrap()
    }

    fn node(byte: u8) -> NodeKey {
        NodeKey::from_seed([byte; 32])
    }

    #[test]
    fn the_highest_order_wins_and_equal_orders_conflict() {
        let mut book = Book::default();
        let first = record(&agent(), &node(1), 1, 5, "");
        assert_eq!(book.compare(&first), Order::New);
        assert_eq!(book.insert(first.clone(), Duration::ZERO), Change::New);
        assert_eq!(book.compare(&first), Order::Same);
        assert_eq!(book.compare(&record(&agent(), &node(1), 1, 5, "other")), Order::Conflict);
        assert_eq!(book.compare(&record(&agent(), &node(1), 1, 4, "")), Order::Stale);
        assert_eq!(book.compare(&record(&agent(), &node(1), 0, 9, "")), Order::Stale);
        assert_eq!(book.compare(&record(&agent(), &node(1), 2, 1, "")), Order::Newer);
        assert_eq!(book.floor(&agent().address()), 1);
    }

    #[test]
    fn an_agent_that_moves_to_another_node_leaves_the_old_one() {
        let mut book = Book::default();
        book.insert(record(&agent(), &node(1), 0, 1, ""), Duration::ZERO);
        assert_eq!(book.insert(record(&agent(), &node(2), 0, 2, ""), Duration::ZERO), Change::Moved);
        assert_eq!(book.insert(record(&agent(), &node(2), 0, 3, ""), Duration::ZERO), Change::Refreshed);
        assert!(book.by_peer(&node(1).peer_id(), NOW_MS).is_none());
        assert!(book.by_peer(&node(2).peer_id(), NOW_MS).is_some());
    }

    #[test]
    fn expired_records_are_not_given_out_but_still_bar_older_ones() {
        let mut book = Book::default();
        book.insert(record(&agent(), &node(1), 0, 5, ""), Duration::ZERO);
        assert!(book.get(&agent().address(), NOW_MS + 1000).is_none());
        assert_eq!(book.iter(NOW_MS + 1000).count(), 0);
        assert_eq!(book.compare(&record(&agent(), &node(1), 0, 4, "")), Order::Stale);
    }

    #[test]
    fn a_full_book_forgets_the_oldest_agent_but_not_its_order() {
        let mut book = Book::default();
        let template = record(&agent(), &node(1), 3, 5, "");
        book.insert(template.clone(), Duration::ZERO);
        for index in 0..MAX_AGENTS {
            let mut other = template.clone();
            let mut account = [0xAB; 20];
            account[..8].copy_from_slice(&(index as u64).to_be_bytes());
            other.record.binding.binding.account = Address::from(account);
            book.insert(other, Duration::from_secs(1 + index as u64));
        }
        assert_eq!(book.len(), MAX_AGENTS);
        assert!(book.get(&agent().address(), NOW_MS).is_none());
        assert_eq!(book.compare(&record(&agent(), &node(1), 2, 5, "")), Order::Stale);
        assert_eq!(book.floor(&agent().address()), 3);
    }
}
