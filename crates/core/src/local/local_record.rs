//! Our own record: schedules when the node issues it, puts it into the DHT and announces it.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use p2p_node_protocol::Role;
use p2p_node_wire::identity::binding::MAX_SKEW_SECS;
use p2p_node_wire::identity::{BindingError, NodeKey, SignedBinding};
use p2p_node_wire::record::{
    Kem, MAX_RECORD_ADDR_BYTES, MAX_RECORD_ADDRS, MAX_RECORD_LIFE_MS, MAX_RECORD_TAG_BYTES, MAX_RECORD_TAGS,
    MAX_RECORD_TOPIC_HASHES, Record, RecordError, RecordHash, RegistryClaim, SignedRecord, TopicHash,
    topic_hash,
};
use p2p_node_wire::time::Instant;

use crate::backoff::{Backoff, Jitter};
use crate::highest_seen::HighestSeen;
use crate::input::Now;

/// Interval between two issues of the record: our choice. A record lives for 24 h, so an outage of
/// some hours does no harm.
const REFRESH: Duration = Duration::from_secs(600);
/// Delay after a change, so that one record covers several changes: our choice.
const DEBOUNCE: Duration = Duration::from_secs(2);
/// Shortest interval between two announcements: our choice.
const ANNOUNCE: Duration = Duration::from_secs(300);
/// Part of the interval between announcements for each agent, so that a network of up to 1,800 agents
/// announces less than once a second.
const ANNOUNCE_PER_AGENT: Duration = Duration::from_secs(2);
/// Longest interval between two announcements: our choice. An agent whose record left a node is announced
/// to it again within an hour, whatever number of agents somebody invents.
const MAX_ANNOUNCE: Duration = Duration::from_secs(3600);
/// Time after which gossipsub forwards the same bytes again: the time of its duplicate cache, and a
/// margin.
const GOSSIP_DEDUP_TIME: Duration = Duration::from_secs(125);
/// Delay of the announcement after a peer subscribes to announcements, so that one announcement
/// reaches all peers of a start: our choice.
const SUBSCRIBE_DEBOUNCE: Duration = Duration::from_millis(50);
/// Time by which a record may be ahead of its reader's clock, in ms.
const MAX_SKEW_MS: u64 = MAX_SKEW_SECS * 1000;
/// Number of our own records that the node recognises: our choice, ten hours of reissues.
const MAX_ISSUED: usize = 64;
/// Largest number of nodes whose conflicting records the node reports: our choice.
const MAX_CONFLICTS: usize = 64;
// A record has every topic to which a parent may subscribe.
const _: () = assert!(crate::MAX_SUBSCRIPTIONS <= MAX_RECORD_TOPIC_HASHES);

/// The actions that are due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Put the record into the DHT.
    pub publish: bool,
    /// Publish the record on the announcements topic.
    pub announce: bool,
}

/// Our own record and its schedule.
#[derive(Debug)]
pub struct LocalRecord {
    binding: SignedBinding,
    name: String,
    role: Role,
    addrs: Option<Vec<Multiaddr>>,
    capabilities: Vec<String>,
    topics: Vec<String>,
    kem: Option<Kem>,
    claim: Option<RegistryClaim>,
    current: Option<SignedRecord>,
    /// The (generation, seq) of our latest record, of this process or an earlier one.
    last: (u64, u64),
    /// The seqs of our latest records. Peers may have rejected the highest seq, because a clock
    /// that was ahead produced it.
    known_seqs: VecDeque<u64>,
    /// Hashes of our latest records.
    issued: VecDeque<RecordHash>,
    /// Nodes reported to the parent because they announce our address, oldest first.
    conflicts: VecDeque<PeerId>,
    /// Time of the next issue. `None` before the node has addresses.
    issue_at: Option<Instant>,
    publish_at: Option<Instant>,
    announce_at: Option<Instant>,
    /// `true` if the next record has new content. A reissue without changes is announced only at
    /// its regular time.
    changed: bool,
    /// `true` if a peer has subscribed to announcements.
    has_subscribers: bool,
    last_announced: Option<Instant>,
    /// `true` if the node raised its seq above that of an earlier process.
    raised_seq: bool,
    put_backoff: Backoff,
}

impl LocalRecord {
    /// Creates the state without a record; the node issues one when it has addresses. `highest`
    /// is the highest order of an earlier process. New records exceed this order even if the clock
    /// was set back.
    pub fn new(binding: SignedBinding, name: String, role: Role, highest: Option<&HighestSeen>) -> Self {
        // A new generation starts its seq again. A seq from a clock that was ahead would make peers
        // reject the record.
        let generation = binding.binding.generation;
        let seq = highest.filter(|highest| highest.generation == generation).map(|highest| highest.seq);
        LocalRecord {
            last: (generation, seq.unwrap_or_default()),
            known_seqs: seq.into_iter().collect(),
            binding,
            name,
            role,
            addrs: None,
            capabilities: Vec::new(),
            topics: Vec::new(),
            kem: None,
            claim: None,
            current: None,
            issued: VecDeque::new(),
            conflicts: VecDeque::new(),
            issue_at: None,
            publish_at: None,
            announce_at: None,
            changed: false,
            has_subscribers: false,
            last_announced: None,
            raised_seq: false,
            put_backoff: Backoff::default(),
        }
    }

    /// Adds the entry of a registry that the agent claims.
    pub fn with_claim(self, claim: Option<RegistryClaim>) -> Self {
        LocalRecord { claim, ..self }
    }

    /// Sets the addresses at which peers can dial the node. Omits those that do not fit into the
    /// record.
    pub fn set_addrs(&mut self, mut addrs: Vec<Multiaddr>, now: Now) {
        let mut bytes = 0;
        addrs.retain(|addr| {
            let room = bytes + addr.len() <= MAX_RECORD_ADDR_BYTES;
            bytes += if room { addr.len() } else { 0 };
            room
        });
        addrs.truncate(MAX_RECORD_ADDRS);
        if self.addrs.as_ref() != Some(&addrs) {
            self.addrs = Some(addrs);
            self.changed(now);
        }
    }

    /// Sets the public key to which senders encrypt mail.
    pub fn set_kem(&mut self, kem: Option<Kem>, now: Now) {
        if self.kem != kem {
            self.kem = kem;
            self.changed(now);
        }
    }

    /// Sets the subscribed topics, in order. Returns the number of topics that the record names only
    /// by their hashes.
    pub fn set_topics(&mut self, topics: &BTreeSet<String>, now: Now) -> usize {
        let public = topics.iter().filter(|topic| !crate::topics::is_node_topic(topic));
        let topics: Vec<String> = public.cloned().collect();
        if self.topics != topics {
            self.topics = topics;
            self.changed(now);
        }
        self.topics.len() - self.fitting_topics().len()
    }

    /// Sets the capabilities of the agent. Returns the number of topics that the record names only by
    /// their hashes, because their names do not fit beside the capabilities.
    pub fn set_capabilities(&mut self, capabilities: Vec<String>, now: Now) -> usize {
        if self.capabilities != capabilities {
            self.capabilities = capabilities;
            self.changed(now);
        }
        self.topics.len() - self.fitting_topics().len()
    }

    /// Returns the topics that fit into the record beside the capabilities.
    fn fitting_topics(&self) -> Vec<String> {
        let mut bytes: usize = self.capabilities.iter().map(String::len).sum();
        let mut number = self.capabilities.len();
        let fits = |topic: &&String| {
            let room = number < MAX_RECORD_TAGS && bytes + topic.len() <= MAX_RECORD_TAG_BYTES;
            if room {
                bytes += topic.len();
                number += 1;
            }
            room
        };
        self.topics.iter().filter(fits).cloned().collect()
    }

    /// Returns the hashes of the topics whose names do not fit into the record.
    fn hashed_topics(&self) -> Vec<TopicHash> {
        let named: BTreeSet<String> = self.fitting_topics().into_iter().collect();
        let hashed = self.topics.iter().filter(|topic| !named.contains(*topic));
        let mut hashes: Vec<TopicHash> = hashed.map(|topic| topic_hash(topic)).collect();
        hashes.sort_unstable();
        hashes.dedup();
        hashes
    }

    /// Issues the record again, because the clock that dated it jumped.
    pub fn clock_jumped(&mut self, now: Now) {
        self.changed(now);
        self.issue_at = self.issue_at.map(|_| now.mono);
    }

    /// Raises our seq above that of an earlier process of this node.
    pub fn raise_seq(&mut self, seq: u64, now: Now) {
        self.record_seq(seq);
        self.raised_seq = true;
        self.clock_jumped(now);
    }

    /// Returns `true` if [`LocalRecord::raise_seq`] was called. A second such record comes from
    /// another running process.
    pub fn has_raised_seq(&self) -> bool {
        self.raised_seq
    }

    /// Raises our seq above that of another node that announces our address, and announces our
    /// record again, so that the other node detects the conflict.
    pub fn contest(&mut self, seq: u64, now: Now) {
        self.record_seq(seq);
        self.changed(now);
    }

    /// Records that peers may know a record of ours with this seq.
    fn record_seq(&mut self, seq: u64) {
        self.last.1 = self.last.1.max(seq);
        push_bounded(&mut self.known_seqs, seq, MAX_ISSUED);
    }

    /// Replaces the binding after its renewal.
    pub fn set_binding(&mut self, binding: SignedBinding, now: Now) {
        self.binding = binding;
        self.changed(now);
    }

    fn changed(&mut self, now: Now) {
        self.changed = true;
        if self.addrs.is_none() {
            return;
        }
        let at = if self.current.is_none() { now.mono } else { now.mono + DEBOUNCE };
        self.issue_at = Some(self.issue_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Issues a new record if one is due. Returns `true` for a new record.
    ///
    /// # Errors
    /// Fails when the record exceeds a limit or the binding has expired. The node tries again after
    /// `REFRESH`.
    pub fn reissue(&mut self, now: Now, key: &NodeKey, jitter: &mut Jitter) -> Result<bool, RecordError> {
        let (Some(at), Some(addrs)) = (self.issue_at, &self.addrs) else { return Ok(false) };
        if now.mono < at {
            return Ok(false);
        }
        self.issue_at = Some(now.mono + jitter.spread(REFRESH));
        // Peers rejected each seq above `latest`, because our clock was wrong at that time. Peers
        // accepted the other seqs, so the new seq must exceed them.
        let latest = now.unix_ms.saturating_add(MAX_SKEW_MS);
        let accepted = self.known_seqs.iter().copied().filter(|seq| *seq <= latest).max();
        let seq = accepted.map_or(now.unix_ms, |seq| now.unix_ms.max(seq.saturating_add(1)));
        let binding_end_ms = self.binding.binding.not_after.saturating_mul(1000);
        if binding_end_ms <= now.unix_ms {
            return Err(BindingError::Expired.into());
        }
        let record = Record {
            network: self.binding.binding.network.clone(),
            binding: self.binding.clone(),
            seq,
            issued_at_ms: now.unix_ms,
            expires_at_ms: now.unix_ms.saturating_add(MAX_RECORD_LIFE_MS).min(binding_end_ms),
            addrs: addrs.clone(),
            kem: self.kem.clone(),
            role: self.role,
            name: self.name.clone(),
            capabilities: self.capabilities.clone(),
            topics: self.fitting_topics(),
            topic_hashes: self.hashed_topics(),
            claim: self.claim,
        };
        let signed = SignedRecord::decode(record.sign(key)?)?;
        self.last = signed.order();
        push_bounded(&mut self.known_seqs, seq, MAX_ISSUED);
        push_bounded(&mut self.issued, signed.hash, MAX_ISSUED);
        self.current = Some(signed);
        self.publish_at = Some(now.mono);
        if std::mem::take(&mut self.changed) && self.has_subscribers {
            self.announce_at = Some(now.mono);
        }
        Ok(true)
    }

    /// Returns the (generation, seq) that a record must exceed to supersede ours.
    pub fn order(&self) -> (u64, u64) {
        self.last
    }

    /// Returns the current record.
    pub fn current(&self) -> Option<&SignedRecord> {
        self.current.as_ref()
    }

    /// Returns `true` if this process issued the record.
    pub fn is_ours(&self, record: &SignedRecord) -> bool {
        self.issued.contains(&record.hash)
    }

    /// Records that another process announces our address. Returns `true` for the first record of
    /// each node, because a node issues a new record every few minutes.
    pub fn record_conflict(&mut self, record: &SignedRecord) -> bool {
        let peer = record.peer_id();
        if self.conflicts.contains(&peer) {
            return false;
        }
        push_bounded(&mut self.conflicts, peer, MAX_CONFLICTS);
        true
    }

    /// Schedules a put into the DHT, because a server connected.
    pub fn on_dht_server(&mut self, now: Now) {
        self.put_backoff.reset();
        self.publish_at = Some(now.mono);
    }

    /// Records that the record was read back from the DHT.
    pub fn put_succeeded(&mut self) {
        self.put_backoff.reset();
    }

    /// Schedules another put, because no server stored the record.
    pub fn put_failed(&mut self, now: Now, jitter: &mut Jitter) {
        self.put_backoff.fail(now.mono, Duration::from_secs(1), jitter);
        let again = self.put_backoff.not_before();
        self.publish_at = Some(self.publish_at.map_or(again, |at| at.min(again)));
    }

    /// Schedules an announcement, because a peer subscribed to announcements. If the record was
    /// announced recently, the announcement waits until gossipsub forwards the same bytes again,
    /// because nodes behind that peer may have missed it.
    pub fn announcements_subscribed(&mut self, now: Now, agents: usize) {
        self.has_subscribers = true;
        let gap = GOSSIP_DEDUP_TIME.max(announce_period(agents));
        let at =
            self.last_announced.map_or(Instant::ZERO, |last| last + gap).max(now.mono + SUBSCRIBE_DEBOUNCE);
        self.announce_at = Some(self.announce_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Returns the actions that are due; the caller executes them. `agents` is the number of known
    /// agents.
    pub fn due(&mut self, now: Now, agents: usize, jitter: &mut Jitter) -> Due {
        let Some(current) = &self.current else { return Due::default() };
        let valid = current.record.expires_at_ms > now.unix_ms;
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now.mono);
        let due = Due { publish: is_due(self.publish_at), announce: is_due(self.announce_at) };
        if due.publish {
            self.publish_at = Some(now.mono + jitter.spread(REFRESH));
        }
        if due.announce {
            self.last_announced = Some(now.mono);
            let period = ANNOUNCE.max(announce_period(agents));
            self.announce_at = Some(now.mono + jitter.spread(period));
        }
        // Peers would reject an expired record.
        if valid { due } else { Due::default() }
    }

    /// Returns the time of the next action.
    pub fn next_deadline(&self) -> Option<Instant> {
        // Without a record there is nothing to publish or announce.
        let publications =
            if self.current.is_some() { [self.publish_at, self.announce_at] } else { [None, None] };
        publications.into_iter().chain([self.issue_at]).flatten().min()
    }
}

/// Returns the interval between two announcements in a network of this size.
fn announce_period(agents: usize) -> Duration {
    ANNOUNCE_PER_AGENT.saturating_mul(u32::try_from(agents).unwrap_or(u32::MAX)).min(MAX_ANNOUNCE)
}

/// Appends to a queue and removes the oldest element above `capacity`.
fn push_bounded<T>(latest: &mut VecDeque<T>, new: T, capacity: usize) {
    latest.push_back(new);
    if latest.len() > capacity {
        latest.pop_front();
    }
}

#[cfg(test)]
mod tests;
