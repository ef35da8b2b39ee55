//! The record table: the newest verified record of each agent.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use alloy_primitives::Address;
use libp2p_identity::PeerId;
use p2p_node_wire::identity::binding::{MAX_SKEW_SECS, is_future_generation};
use p2p_node_wire::lru_map::LruMap;
use p2p_node_wire::record::{SignedRecord, TopicHash};
use p2p_node_wire::time::Now;

use crate::directory::rollback_guard::RollbackGuard;
use crate::highest_seen::HighestSeen;

/// Largest number of agents in the table: our choice, 20 times our largest test. Each takes up to
/// 6.6 KiB, and 2 KiB for the hashes of its topics.
pub const MAX_AGENTS: usize = 10_000;
/// Largest number of evicted agents whose order the node remembers while the table is full: our
/// choice, as many again, at 150 bytes each. Unused capacity of the table adds to it, so that all
/// orders from a store fit at the next start.
pub const MAX_HIGHEST_SEEN: usize = 10_000;

/// Largest number of agents in use that an eviction skips: our choice, the connections of a
/// bootstrap node and as many agents with queued messages.
const MAX_EVICTION_SCAN: usize = 2000;

/// Largest total size of the records, in bytes: [`MAX_AGENTS`] of 2.4 KiB. A usual record has 2 KiB.
pub const MAX_RECORD_BYTES: usize = 24 << 20;
/// Largest number of agents of one node: our choice. A node speaks for one agent, and after a change
/// of its key for another. Without the limit one connection could fill the table.
pub const MAX_AGENTS_OF_NODE: usize = 8;

/// The freshness of a record: its order compared with the known order of its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// The agent is unknown.
    New,
    /// The record supersedes the known record.
    Newer,
    /// The record is the known record.
    Same,
    /// The known record supersedes this record.
    Stale,
    /// The record has the same order as the known record, but other content.
    Conflict,
}

/// The update that a record made to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// The agent is new in the table.
    New,
    /// The agent moved to another node or to other addresses.
    Moved,
    /// Node and addresses of the agent are the same.
    Refreshed,
}

/// Returns the effective value of a stored order at this time. The node accepted a part that lies
/// in the future while its clock was ahead, so this part counts as 0 until its time.
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
    /// Total size of the records, in bytes.
    bytes: usize,
    /// The agents of each node, the latest last.
    by_peer: BTreeMap<PeerId, Vec<Address>>,
    /// The agents whose node never sent this node its record itself, in the order of use. A record
    /// from others proves that somebody made a key, and no more.
    hearsay: LruMap<Address, ()>,
    /// Agents that the table evicted since the last call of `drain_evicted`.
    evicted: Vec<Address>,
    by_expiry: BTreeSet<(u64, Address)>,
    /// The hashes of the topics of each agent that has topics, in ascending order.
    topic_hashes: BTreeMap<Address, Vec<TopicHash>>,
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

    /// Compares a record that is not verified yet with the known record.
    pub fn compare(&self, record: &SignedRecord, now_ms: u64) -> Freshness {
        let known_order = |order| order_by_now(order, now_ms);
        let address = record.address();
        let highest = self.rollback_guard.get(&address);
        if highest.is_some_and(|highest| known_order(highest.order()) > record.order()) {
            return Freshness::Stale;
        }
        if let Some(known) = self.entries.get(&address) {
            return match record.order().cmp(&known_order(known.order())) {
                Ordering::Greater => Freshness::Newer,
                Ordering::Less => Freshness::Stale,
                Ordering::Equal if record.bytes == known.bytes => Freshness::Same,
                Ordering::Equal => Freshness::Conflict,
            };
        }
        match highest {
            Some(highest)
                if known_order(highest.order()) == record.order() && record.hash != highest.hash =>
            {
                Freshness::Conflict
            }
            // The same record may return after it was evicted.
            Some(_) | None => Freshness::New,
        }
    }

    /// Returns the lowest generation that the node still accepts from an agent.
    pub fn lowest_generation(&self, address: &Address, now_ms: u64) -> u64 {
        let entry = self.entries.get(address).map(SignedRecord::order);
        let known = [entry, self.rollback_guard.get(address).map(HighestSeen::order)].into_iter().flatten();
        known.map(|order| order_by_now(order, now_ms).0).max().unwrap_or_default()
    }

    /// Inserts a verified record that is new or newer. `is_hearsay` states that another node sent
    /// it. Evicts expired records first. If the table is still full, evicts the least recently used
    /// agent that is not `in_use`: one known by hearsay, if there is any. If all inspected agents
    /// are in use, evicts the least recently used one.
    pub fn insert(
        &mut self,
        record: SignedRecord,
        is_hearsay: bool,
        in_use: impl Fn(&SignedRecord) -> bool,
        now: Now,
    ) -> Update {
        self.evict_expired(now.unix_ms);
        let (address, peer) = (record.address(), record.peer_id());
        let is_hearsay = is_hearsay && !self.is_met(&address);
        let old = self.remove(&address);
        while self.entries.len() >= MAX_AGENTS || self.bytes + record.bytes.len() > MAX_RECORD_BYTES {
            self.evict_least_recent(&in_use);
        }
        if let Some(of_node) = self.by_peer.get(&peer)
            && of_node.len() >= MAX_AGENTS_OF_NODE
            && let Some(first) = of_node.first().copied()
        {
            self.evict(&first);
        }
        let update = match &old {
            None => Update::New,
            Some(old) if old.peer_id() == peer && old.record.addrs == record.record.addrs => {
                Update::Refreshed
            }
            Some(_) => Update::Moved,
        };
        // An old order above the new one lies in the future by our clock. Our clock may be wrong,
        // so the node keeps the old order.
        if let Some(old) = old.filter(|old| old.order().0 > record.order().0) {
            self.rollback_guard.insert(HighestSeen::from(&old));
        }
        if self.rollback_guard.get(&address).is_some_and(|highest| highest.generation <= record.order().0) {
            self.rollback_guard.remove(&address);
        }
        self.by_peer.entry(peer).or_default().push(address);
        if is_hearsay {
            self.hearsay.insert(address, ());
        }
        self.by_expiry.insert((record.record.expires_at_ms, address));
        let hashes = record.record.all_topic_hashes();
        if !hashes.is_empty() {
            self.topic_hashes.insert(address, hashes);
        }
        self.bytes += record.bytes.len();
        self.entries.insert(address, record);
        self.trim();
        update
    }

    /// Marks the agent as used, so that other agents are evicted first.
    pub fn touch(&mut self, address: &Address) {
        self.entries.touch(address);
        self.hearsay.touch(address);
    }

    /// Records that the agent's node itself connected, so that agents known by hearsay are evicted
    /// first.
    pub fn meet(&mut self, address: &Address) {
        self.hearsay.remove(address);
    }

    /// Returns `true` if the table has the agent, and the agent's node itself connected.
    pub fn is_met(&self, address: &Address) -> bool {
        self.entries.contains_key(address) && !self.hearsay.contains_key(address)
    }

    /// Returns the number of agents whose node itself connected.
    pub fn met_len(&self) -> usize {
        self.entries.len() - self.hearsay.len()
    }

    /// Returns the agents that the table evicted since the last call.
    pub fn drain_evicted(&mut self) -> Vec<Address> {
        std::mem::take(&mut self.evicted)
    }

    fn evict_least_recent(&mut self, in_use: impl Fn(&SignedRecord) -> bool) {
        for _ in 0..MAX_EVICTION_SCAN {
            let Some(oldest) = self.next_to_evict() else { return };
            if !self.entries.get(&oldest).is_some_and(&in_use) {
                break;
            }
            // The agent moves to the end, so that the next eviction inspects other agents first.
            self.touch(&oldest);
        }
        if let Some(oldest) = self.next_to_evict() {
            self.evict(&oldest);
        }
    }

    fn next_to_evict(&self) -> Option<Address> {
        let by_hearsay = self.hearsay.oldest().map(|(address, ())| *address);
        by_hearsay.or_else(|| self.entries.oldest().map(|(address, _)| *address))
    }

    fn evict_expired(&mut self, now_ms: u64) {
        while let Some((end, address)) = self.by_expiry.first().copied()
            && end <= now_ms
        {
            self.evict(&address);
        }
    }

    /// Removes a record and inserts its order into the rollback guard.
    fn evict(&mut self, address: &Address) {
        let Some(record) = self.remove(address) else { return };
        self.rollback_guard.insert(HighestSeen::from(&record));
        self.evicted.push(*address);
        self.trim();
    }

    /// Evicts the oldest rows of the rollback guard above its limit.
    fn trim(&mut self) {
        self.rollback_guard.shrink_to(MAX_AGENTS + MAX_HIGHEST_SEEN - self.entries.len());
    }

    fn remove(&mut self, address: &Address) -> Option<SignedRecord> {
        let record = self.entries.remove(address)?;
        self.bytes -= record.bytes.len();
        self.by_expiry.remove(&(record.record.expires_at_ms, *address));
        self.topic_hashes.remove(address);
        self.hearsay.remove(address);
        if let Some(of_node) = self.by_peer.get_mut(&record.peer_id()) {
            of_node.retain(|one| one != address);
            if of_node.is_empty() {
                self.by_peer.remove(&record.peer_id());
            }
        }
        Some(record)
    }

    /// Returns the agent's record, unless it has expired.
    pub fn get(&self, address: &Address, now_ms: u64) -> Option<&SignedRecord> {
        let record = self.entries.get(address)?;
        (record.record.expires_at_ms > now_ms).then_some(record)
    }

    /// Returns the record of the agent that runs on this node: the latest if there are several.
    pub fn by_peer(&self, peer: &PeerId, now_ms: u64) -> Option<&SignedRecord> {
        self.get(self.by_peer.get(peer)?.last()?, now_ms)
    }

    /// Returns every record that has not expired.
    pub fn iter(&self, now_ms: u64) -> impl Iterator<Item = &SignedRecord> {
        self.entries.values().filter(move |record| record.record.expires_at_ms > now_ms)
    }

    /// Returns every record that has not expired, behind an address and in the order of addresses,
    /// with the hashes of its topics.
    pub fn behind(
        &self,
        address: Option<Address>,
        now_ms: u64,
    ) -> impl Iterator<Item = (&SignedRecord, &[TopicHash])> {
        let start = address.map_or(Bound::Unbounded, Bound::Excluded);
        let records = self.entries.range((start, Bound::Unbounded)).map(|(_, record)| record);
        let hashes = |record: &SignedRecord| self.topic_hashes.get(&record.address());
        records
            .filter(move |record| record.record.expires_at_ms > now_ms)
            .map(move |record| (record, hashes(record).map(Vec::as_slice).unwrap_or_default()))
    }

    /// Returns the number of agents. Expired records count until the next insertion.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the total size of the records, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
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
