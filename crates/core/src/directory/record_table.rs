//! The directory: the newest verified record of each agent.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alloy_primitives::Address;
use libp2p_identity::PeerId;

use crate::directory::rollback_guard::{HighestSeen, RollbackGuard};
use p2p_node_wire::identity::binding::{MAX_SKEW_SECS, is_future_generation};
use p2p_node_wire::record::SignedRecord;
use p2p_node_wire::time::Now;

/// Agents in the directory. Ours: 20 times our largest test, at 2.5 KiB each.
pub const MAX_AGENTS: usize = 10_000;
/// Agents no longer in it whose last order is remembered while it is full; room that it does not need is theirs too, so that
/// all that a store kept of it finds room at the next start. Ours: as many again, at 150 bytes each.
pub const MAX_FLOORS: usize = 10_000;

/// Agents in use that are passed over when one has to go. Ours: the connections of a bootstrap node, and some with mail.
const MAX_SPARED: usize = 2000;

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

/// What an order counts for that was believed once. What lies in the future was believed while our clock was ahead.
fn order_by_now((generation, seq): (u64, u64), now_ms: u64) -> (u64, u64) {
    match () {
        () if is_future_generation(generation, now_ms) => (0, 0),
        () if seq > now_ms.saturating_add(MAX_SKEW_SECS * 1000) => (generation, 0),
        () => (generation, seq),
    }
}

/// Records by address.
#[derive(Debug, Default)]
pub struct RecordTable {
    entries: BTreeMap<Address, Entry>,
    by_peer: BTreeMap<PeerId, Address>,
    by_use: BTreeSet<(Duration, Address)>,
    by_end: BTreeSet<(u64, Address)>,
    floors: RollbackGuard,
}

impl RecordTable {
    /// An empty book that knows what must not be believed any more, oldest first.
    pub fn new(floors: Vec<HighestSeen>) -> Self {
        let mut book = RecordTable::default();
        for row in floors {
            book.floors.insert(row);
        }
        book.trim();
        book
    }

    /// Compares a record, not verified yet, with what is known.
    pub fn compare(&self, record: &SignedRecord, now_ms: u64) -> Order {
        let known_order = |order| order_by_now(order, now_ms);
        let address = record.address();
        let floor = self.floors.get(&address);
        if floor.is_some_and(|floor| known_order(floor.order()) > record.order()) {
            return Order::Stale;
        }
        if let Some(known) = self.entries.get(&address).map(|entry| &entry.record) {
            return match record.order().cmp(&known_order(known.order())) {
                Ordering::Greater => Order::Newer,
                Ordering::Less => Order::Stale,
                Ordering::Equal if record.bytes == known.bytes => Order::Same,
                Ordering::Equal => Order::Conflict,
            };
        }
        match floor {
            Some(floor) if known_order(floor.order()) == record.order() && record.hash != floor.hash => {
                Order::Conflict
            }
            // The record itself may come back after it had to make room.
            Some(_) | None => Order::New,
        }
    }

    /// The least generation that may still speak for an agent.
    pub fn floor(&self, address: &Address, now_ms: u64) -> u64 {
        let entry = self.entries.get(address).map(|entry| entry.record.order());
        let known = [entry, self.floors.get(address).map(HighestSeen::order)].into_iter().flatten();
        known.map(|order| order_by_now(order, now_ms).0).max().unwrap_or_default()
    }

    /// Puts in a verified record that is new or newer. What has expired leaves; if the book is full all the same,
    /// so does the agent that was used least recently, of those not `in_use` as far as there are others.
    pub fn insert(
        &mut self,
        record: SignedRecord,
        in_use: impl Fn(&SignedRecord) -> bool,
        now: Now,
    ) -> Change {
        self.forget_expired(now.unix_ms);
        let (address, peer) = (record.address(), record.peer_id());
        let old = self.remove(&address);
        if self.entries.len() >= MAX_AGENTS {
            self.make_room(in_use, now.mono);
        }
        let change = match &old {
            None => Change::New,
            Some(old) if old.peer_id() == peer && old.record.addrs == record.record.addrs => {
                Change::Refreshed
            }
            Some(_) => Change::Moved,
        };
        // What is above it is from the future by our clock, which may be the one that is wrong.
        if let Some(old) = old.filter(|old| old.order().0 > record.order().0) {
            self.floors.insert(HighestSeen::from(&old));
        }
        if self.floors.get(&address).is_some_and(|floor| floor.generation <= record.order().0) {
            self.floors.remove(&address);
        }
        self.by_peer.insert(peer, address);
        self.by_use.insert((now.mono, address));
        self.by_end.insert((record.record.expires_at_ms, address));
        self.entries.insert(address, Entry { record, last_used: now.mono });
        self.trim();
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

    fn make_room(&mut self, in_use: impl Fn(&SignedRecord) -> bool, now: Duration) {
        for _ in 0..MAX_SPARED {
            let Some((_, oldest)) = self.by_use.first().copied() else { return };
            let spare = self.entries.get(&oldest).is_some_and(|entry| in_use(&entry.record));
            if !spare {
                break;
            }
            // It is not looked at again before all others.
            self.touch(&oldest, now);
        }
        if let Some((_, oldest)) = self.by_use.first().copied() {
            self.forget(&oldest);
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
        self.floors.insert(HighestSeen::from(&record));
        self.trim();
    }

    fn trim(&mut self) {
        self.floors.shrink(MAX_AGENTS + MAX_FLOORS - self.entries.len());
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
mod tests;
