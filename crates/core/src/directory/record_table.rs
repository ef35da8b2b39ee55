//! The record table: the newest verified record of each agent.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::Address;
use libp2p_identity::PeerId;
use p2p_node_wire::identity::binding::{MAX_SKEW_SECS, is_future_generation};
use p2p_node_wire::lru_map::LruMap;
use p2p_node_wire::record::SignedRecord;
use p2p_node_wire::time::Now;

use crate::directory::rollback_guard::RollbackGuard;
use crate::highest_seen::HighestSeen;

/// Largest number of agents in the table: our choice, 20 times our largest test. Each takes up to
/// 3.5 KiB.
pub const MAX_AGENTS: usize = 10_000;
/// Largest number of evicted agents whose order the node remembers while the table is full: our
/// choice, as many again, at 150 bytes each. Unused capacity of the table adds to it, so that all
/// orders from a store fit at the next start.
pub const MAX_HIGHEST_SEEN: usize = 10_000;

/// Largest number of agents in use that an eviction skips: our choice, the connections of a
/// bootstrap node and as many agents with queued messages.
const MAX_SPARED: usize = 2000;

/// The order of a record compared with the known one of its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The agent is unknown.
    New,
    /// The record supersedes the known one.
    Newer,
    /// The record is the known one.
    Same,
    /// The record is superseded.
    Stale,
    /// The record has the same order as the known one, but other content.
    Conflict,
}

/// The change that a record made to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The agent is new in the table.
    New,
    /// The agent moved to another node or to other addresses.
    Moved,
    /// The agent stays where it was.
    Refreshed,
}

/// Returns the order to which a stored order counts now. A part that lies in the future was
/// accepted while our clock was ahead, so it counts as 0 until its time has come.
fn order_by_now((generation, seq): (u64, u64), now_ms: u64) -> (u64, u64) {
    match () {
        () if is_future_generation(generation, now_ms) => (0, 0),
        () if seq > now_ms.saturating_add(MAX_SKEW_SECS * 1000) => (generation, 0),
        () => (generation, seq),
    }
}

/// The records by address.
#[derive(Debug, Default)]
pub struct RecordTable {
    entries: LruMap<Address, SignedRecord>,
    by_peer: BTreeMap<PeerId, Address>,
    by_end: BTreeSet<(u64, Address)>,
    rollback_guard: RollbackGuard,
}

impl RecordTable {
    /// Creates an empty table with these highest orders, oldest first.
    pub fn new(rollback_guard: Vec<HighestSeen>) -> Self {
        let mut table = RecordTable::default();
        for row in rollback_guard {
            table.rollback_guard.insert(row);
        }
        table.trim();
        table
    }

    /// Compares a record that is not verified yet with the known one.
    pub fn compare(&self, record: &SignedRecord, now_ms: u64) -> Order {
        let known_order = |order| order_by_now(order, now_ms);
        let address = record.address();
        let highest = self.rollback_guard.get(&address);
        if highest.is_some_and(|highest| known_order(highest.order()) > record.order()) {
            return Order::Stale;
        }
        if let Some(known) = self.entries.get(&address) {
            return match record.order().cmp(&known_order(known.order())) {
                Ordering::Greater => Order::Newer,
                Ordering::Less => Order::Stale,
                Ordering::Equal if record.bytes == known.bytes => Order::Same,
                Ordering::Equal => Order::Conflict,
            };
        }
        match highest {
            Some(highest)
                if known_order(highest.order()) == record.order() && record.hash != highest.hash =>
            {
                Order::Conflict
            }
            // The same record may return after it was evicted.
            Some(_) | None => Order::New,
        }
    }

    /// Returns the lowest generation that the node still accepts from an agent.
    pub fn lowest_generation(&self, address: &Address, now_ms: u64) -> u64 {
        let entry = self.entries.get(address).map(SignedRecord::order);
        let known = [entry, self.rollback_guard.get(address).map(HighestSeen::order)].into_iter().flatten();
        known.map(|order| order_by_now(order, now_ms).0).max().unwrap_or_default()
    }

    /// Inserts a verified record that is new or newer. Expired records are evicted first. If the
    /// table is still full, the node evicts the least recently used agent, sparing those `in_use`
    /// as long as there are others.
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
            self.make_room(in_use);
        }
        let change = match &old {
            None => Change::New,
            Some(old) if old.peer_id() == peer && old.record.addrs == record.record.addrs => {
                Change::Refreshed
            }
            Some(_) => Change::Moved,
        };
        // A higher order than that of the new record lies in the future by our clock, which may be
        // the one that is wrong, so the node keeps it.
        if let Some(old) = old.filter(|old| old.order().0 > record.order().0) {
            self.rollback_guard.insert(HighestSeen::from(&old));
        }
        if self.rollback_guard.get(&address).is_some_and(|highest| highest.generation <= record.order().0) {
            self.rollback_guard.remove(&address);
        }
        self.by_peer.insert(peer, address);
        self.by_end.insert((record.record.expires_at_ms, address));
        self.entries.insert(address, record);
        self.trim();
        change
    }

    /// Marks the agent as used, so that other agents are evicted first.
    pub fn touch(&mut self, address: &Address) {
        self.entries.touch(address);
    }

    fn make_room(&mut self, in_use: impl Fn(&SignedRecord) -> bool) {
        for _ in 0..MAX_SPARED {
            let Some((oldest, _)) = self.entries.oldest().filter(|(_, record)| in_use(record)) else { break };
            // The agent moves to the end, so that the next eviction does not inspect it again
            // first.
            self.touch(&oldest.clone());
        }
        if let Some((oldest, _)) = self.entries.oldest() {
            self.forget(&oldest.clone());
        }
    }

    fn forget_expired(&mut self, now_ms: u64) {
        while let Some((end, address)) = self.by_end.first().copied()
            && end <= now_ms
        {
            self.forget(&address);
        }
    }

    /// Removes a record and keeps its order.
    fn forget(&mut self, address: &Address) {
        let Some(record) = self.remove(address) else { return };
        self.rollback_guard.insert(HighestSeen::from(&record));
        self.trim();
    }

    fn trim(&mut self) {
        self.rollback_guard.shrink(MAX_AGENTS + MAX_HIGHEST_SEEN - self.entries.len());
    }

    fn remove(&mut self, address: &Address) -> Option<SignedRecord> {
        let record = self.entries.remove(address)?;
        self.by_end.remove(&(record.record.expires_at_ms, *address));
        // A node may speak for several agents; the table finds the latest of them by PeerId.
        if self.by_peer.get(&record.peer_id()) == Some(address) {
            self.by_peer.remove(&record.peer_id());
        }
        Some(record)
    }

    /// Returns the agent's record, unless it has expired.
    pub fn get(&self, address: &Address, now_ms: u64) -> Option<&SignedRecord> {
        let record = self.entries.get(address)?;
        (record.record.expires_at_ms > now_ms).then_some(record)
    }

    /// Returns the record of the agent that runs on this node.
    pub fn by_peer(&self, peer: &PeerId, now_ms: u64) -> Option<&SignedRecord> {
        self.get(self.by_peer.get(peer)?, now_ms)
    }

    /// Returns every record that has not expired.
    pub fn iter(&self, now_ms: u64) -> impl Iterator<Item = &SignedRecord> {
        self.entries.values().filter(move |record| record.record.expires_at_ms > now_ms)
    }

    /// Returns the number of agents. Expired records count until the next insertion.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the number of evicted agents whose highest order is remembered.
    pub fn rollback_rows(&self) -> usize {
        self.rollback_guard.len()
    }

    /// Returns `true` if the table is empty.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests;
