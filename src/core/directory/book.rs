//! The directory: the newest verified record of each agent.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alloy::primitives::Address;
use libp2p::PeerId;

use super::record::SignedRecord;
use crate::core::input::Now;

/// Agents in the directory. Ours: 20 times our largest test, at 2.5 KiB each.
pub const MAX_AGENTS: usize = 10_000;
/// Agents no longer in it whose last order is remembered. Ours: as many again, at 100 bytes each.
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

/// What is left of a record that is no longer in the book.
#[derive(Debug)]
struct Floor {
    order: (u64, u64),
    hash: [u8; 32],
    left: u64,
}

/// Records by address.
#[derive(Debug, Default)]
pub struct Book {
    entries: BTreeMap<Address, Entry>,
    by_peer: BTreeMap<PeerId, Address>,
    by_use: BTreeSet<(Duration, Address)>,
    by_end: BTreeSet<(u64, Address)>,
    floors: BTreeMap<Address, Floor>,
    floors_by_age: BTreeMap<u64, Address>,
    /// Records that have left so far: numbers the floors.
    left: u64,
}

impl Book {
    /// Compares a record, not verified yet, with what is known.
    pub fn compare(&self, record: &SignedRecord) -> Order {
        let address = record.address();
        if let Some(known) = self.entries.get(&address).map(|entry| &entry.record) {
            return match record.order().cmp(&known.order()) {
                Ordering::Greater => Order::Newer,
                Ordering::Less => Order::Stale,
                Ordering::Equal if record.bytes == known.bytes => Order::Same,
                Ordering::Equal => Order::Conflict,
            };
        }
        let Some(floor) = self.floors.get(&address) else { return Order::New };
        match record.order().cmp(&floor.order) {
            Ordering::Less => Order::Stale,
            Ordering::Equal if record.hash != floor.hash => Order::Conflict,
            // The record itself may come back after it had to make room.
            Ordering::Equal | Ordering::Greater => Order::New,
        }
    }

    /// The least generation that may still speak for an agent.
    pub fn floor(&self, address: &Address) -> u64 {
        let entry = self.entries.get(address).map(|entry| entry.record.order());
        entry
            .or_else(|| self.floors.get(address).map(|floor| floor.order))
            .map_or(0, |(generation, _)| generation)
    }

    /// Puts in a verified record that is new or newer. What has expired leaves; if the book is full all the same,
    /// so does the agent that was used least recently.
    pub fn insert(&mut self, record: SignedRecord, now: Now) -> Change {
        self.forget_expired(now.unix_ms);
        let (address, peer) = (record.address(), record.peer_id());
        let old = self.remove(&address);
        if self.entries.len() >= MAX_AGENTS
            && let Some((_, oldest)) = self.by_use.first().copied()
        {
            self.forget(&oldest);
        }
        let change = match old {
            None => Change::New,
            Some(old) if old.peer_id() == peer && old.record.addrs == record.record.addrs => {
                Change::Refreshed
            }
            Some(_) => Change::Moved,
        };
        if let Some(floor) = self.floors.remove(&address) {
            self.floors_by_age.remove(&floor.left);
        }
        self.by_peer.insert(peer, address);
        self.by_use.insert((now.mono, address));
        self.by_end.insert((record.record.expires_at_ms, address));
        self.entries.insert(address, Entry { record, last_used: now.mono });
        change
    }

    /// Notes that we have to do with this agent, so that strangers make room before it does.
    pub fn touch(&mut self, address: &Address, now: Duration) {
        if let Some(entry) = self.entries.get_mut(address) {
            self.by_use.remove(&(entry.last_used, *address));
            entry.last_used = now;
            self.by_use.insert((now, *address));
        }
    }

    fn forget_expired(&mut self, now_ms: u64) {
        while let Some((end, address)) = self.by_end.first().copied()
            && end <= now_ms
        {
            self.forget(&address);
        }
    }

    /// Takes a record out and leaves its floor.
    fn forget(&mut self, address: &Address) {
        let Some(record) = self.remove(address) else { return };
        self.left += 1;
        let floor = Floor { order: record.order(), hash: record.hash, left: self.left };
        self.floors_by_age.insert(floor.left, *address);
        self.floors.insert(*address, floor);
        if self.floors.len() > MAX_FLOORS
            && let Some((_, oldest)) = self.floors_by_age.pop_first()
        {
            self.floors.remove(&oldest);
        }
    }

    fn remove(&mut self, address: &Address) -> Option<SignedRecord> {
        let Entry { record, last_used } = self.entries.remove(address)?;
        self.by_use.remove(&(last_used, *address));
        self.by_end.remove(&(record.record.expires_at_ms, *address));
        // A node may speak for several agents; the one that came last is found by it.
        if self.by_peer.get(&record.peer_id()) == Some(address) {
            self.by_peer.remove(&record.peer_id());
        }
        Some(record)
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

    /// Agents in it. Those whose record has expired count until the next one is put in.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Agents no longer in it whose last order is remembered.
    pub fn floors(&self) -> usize {
        self.floors.len()
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
    const LIFE_MS: u64 = 60_000;

    fn at(mono_ms: u64) -> Now {
        Now { mono: Duration::from_millis(mono_ms), unix_ms: NOW_MS + mono_ms }
    }

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
            expires_at_ms: NOW_MS + LIFE_MS,
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

    /// The record of another agent, with a signature that does not fit: the book does not look at it.
    fn stranger(number: usize, template: &SignedRecord, expires_at_ms: u64) -> SignedRecord {
        let mut record = template.clone();
        let mut account = [0xAB; 20];
        account[..8].copy_from_slice(&(number as u64).to_be_bytes());
        record.record.binding.binding.account = Address::from(account);
        record.record.expires_at_ms = expires_at_ms;
        record
    }

    #[test]
    fn the_highest_order_wins_and_equal_orders_conflict() {
        let mut book = Book::default();
        let first = record(&agent(), &node(1), 1, 5, "");
        assert_eq!(book.compare(&first), Order::New);
        assert_eq!(book.insert(first.clone(), at(0)), Change::New);
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
        book.insert(record(&agent(), &node(1), 0, 1, ""), at(0));
        assert_eq!(book.insert(record(&agent(), &node(2), 0, 2, ""), at(0)), Change::Moved);
        assert_eq!(book.insert(record(&agent(), &node(2), 0, 3, ""), at(0)), Change::Refreshed);
        assert!(book.by_peer(&node(1).peer_id(), NOW_MS).is_none());
        assert!(book.by_peer(&node(2).peer_id(), NOW_MS).is_some());
    }

    #[test]
    fn an_agent_that_leaves_a_node_does_not_take_another_one_along() {
        let mut book = Book::default();
        let other = AgentKey::from_bytes(&[0x33; 32]).unwrap();
        book.insert(record(&agent(), &node(1), 0, 1, ""), at(0));
        book.insert(record(&other, &node(1), 0, 1, ""), at(0));
        book.insert(record(&agent(), &node(2), 0, 2, ""), at(0));
        let found = book.by_peer(&node(1).peer_id(), NOW_MS).map(SignedRecord::address);
        assert_eq!(found, Some(other.address()));
    }

    #[test]
    fn expired_records_are_not_given_out_but_still_bar_older_ones() {
        let mut book = Book::default();
        let first = record(&agent(), &node(1), 2, 5, "");
        book.insert(first.clone(), at(0));
        assert!(book.get(&agent().address(), NOW_MS + LIFE_MS - 1).is_some());
        assert!(book.get(&agent().address(), NOW_MS + LIFE_MS).is_none());
        assert!(book.by_peer(&node(1).peer_id(), NOW_MS + LIFE_MS).is_none());
        assert_eq!(book.iter(NOW_MS + LIFE_MS).count(), 0);
        assert_eq!(book.compare(&record(&agent(), &node(1), 2, 4, "")), Order::Stale);

        book.insert(stranger(1, &first, u64::MAX), at(LIFE_MS));
        assert_eq!(book.len(), 1, "the expired one has left");
        assert_eq!(book.compare(&record(&agent(), &node(1), 2, 4, "")), Order::Stale);
        assert_eq!(book.compare(&record(&agent(), &node(1), 2, 5, "other")), Order::Conflict);
        assert_eq!(book.compare(&first), Order::New);
        assert_eq!(book.compare(&record(&agent(), &node(1), 2, 6, "")), Order::New);
        assert_eq!(book.floor(&agent().address()), 2);
    }

    #[test]
    fn a_full_book_forgets_who_was_used_least_recently_but_not_its_order() {
        let mut book = Book::default();
        let template = record(&agent(), &node(1), 3, 5, "");
        book.insert(template.clone(), at(0));
        for number in 1..MAX_AGENTS {
            book.insert(stranger(number, &template, u64::MAX), at(number as u64));
        }
        assert_eq!(book.len(), MAX_AGENTS);
        book.touch(&agent().address(), at(20_000).mono);
        let second = stranger(1, &template, u64::MAX);
        book.insert(stranger(MAX_AGENTS, &template, u64::MAX), at(20_001));
        assert_eq!(book.len(), MAX_AGENTS);
        assert!(book.get(&agent().address(), NOW_MS).is_some());
        assert!(book.get(&second.address(), NOW_MS).is_none());
        assert_eq!(book.floor(&second.address()), 3);
        let newer = SignedRecord { record: Record { seq: 6, ..second.record.clone() }, ..second };
        assert_eq!(book.insert(newer, at(20_002)), Change::New);
        assert_eq!(book.len(), MAX_AGENTS);
    }

    #[test]
    fn in_a_full_book_the_expired_make_room_first() {
        let mut book = Book::default();
        let template = record(&agent(), &node(1), 0, 5, "");
        for number in 0..MAX_AGENTS {
            let end = if number == MAX_AGENTS - 1 { NOW_MS + 15_000 } else { u64::MAX };
            book.insert(stranger(number, &template, end), at(number as u64));
        }
        book.insert(template.clone(), at(15_000));
        assert_eq!(book.len(), MAX_AGENTS);
        assert!(book.get(&stranger(0, &template, 0).address(), NOW_MS).is_some());
        assert!(book.get(&stranger(MAX_AGENTS - 1, &template, 0).address(), NOW_MS).is_none());
    }

    #[test]
    fn orders_are_remembered_up_to_the_bound_the_oldest_going_first() {
        let mut book = Book::default();
        let template = record(&agent(), &node(1), 1, 5, "");
        for number in 0..=MAX_FLOORS {
            book.insert(stranger(number, &template, NOW_MS + 1), at(0));
            book.forget_expired(NOW_MS + 1);
        }
        assert!(book.is_empty());
        assert_eq!((book.floors.len(), book.floors_by_age.len()), (MAX_FLOORS, MAX_FLOORS));
        assert_eq!(book.floor(&stranger(0, &template, 0).address()), 0);
        assert_eq!(book.floor(&stranger(1, &template, 0).address()), 1);
        assert_eq!(book.floor(&stranger(MAX_FLOORS, &template, 0).address()), 1);
    }
}
