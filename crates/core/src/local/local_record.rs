//! Our own record: when it is made anew, and when and where it is told.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use p2p_node_protocol::Role;

use crate::backoff::{Backoff, Jitter};
use crate::directory::rollback_guard::HighestSeen;
use crate::input::Now;
use p2p_node_wire::identity::binding::MAX_SKEW_SECS;
use p2p_node_wire::identity::{BindingError, NodeKey, SignedBinding};
use p2p_node_wire::record::{
    Kem, MAX_RECORD_ADDR_BYTES, MAX_RECORD_ADDRS, MAX_RECORD_LIFE_MS, MAX_RECORD_TAG_BYTES, MAX_RECORD_TAGS,
    Record, RecordError, SignedRecord,
};

/// A record is made anew so often (design §3).
const REFRESH: Duration = Duration::from_secs(600);
/// Changes are gathered for so long (design §3).
const DEBOUNCE: Duration = Duration::from_secs(2);
/// Shortest period of announcements (design §6).
const ANNOUNCE: Duration = Duration::from_secs(300);
/// What announcements wait for each agent known, so that the whole network makes less than one a second (design §6).
const ANNOUNCE_PER_AGENT: Duration = Duration::from_secs(2);
/// How long gossipsub takes the same bytes for a repetition (its duplicate cache, and some).
const FORGOTTEN: Duration = Duration::from_secs(125);
/// After the first to hear announcements has come, more follow: one announcement serves them all. Ours.
const HEARD_DEBOUNCE: Duration = Duration::from_millis(50);
/// How far ahead of its reader's clock a record may be, in ms (design §3).
const MAX_SKEW_MS: u64 = MAX_SKEW_SECS * 1000;
/// Records of ours that are remembered as such. Ours: ten hours of refreshing.
const MAX_ISSUED: usize = 64;
/// Conflicting records that were told of.
const MAX_CONFLICTS: usize = 64;

/// What is to be told now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Put the record into the DHT.
    pub publish: bool,
    /// Publish it on the announcements topic.
    pub announce: bool,
}

/// Our own record.
#[derive(Debug)]
pub struct LocalRecord {
    binding: SignedBinding,
    name: String,
    role: Role,
    addrs: Option<Vec<Multiaddr>>,
    topics: Vec<String>,
    kem: Option<Kem>,
    current: Option<SignedRecord>,
    /// The highest order of a record of ours, by this process or one before it.
    last: (u64, u64),
    issued: VecDeque<[u8; 32]>,
    /// Nodes that the parent knows to announce our address, oldest first.
    conflicts: VecDeque<PeerId>,
    /// When the record is made next; none before there are addresses.
    issue_at: Option<Duration>,
    publish_at: Option<Duration>,
    announce_at: Option<Duration>,
    /// Whether the next record says something new: a mere refreshment is announced in its turn only.
    changed: bool,
    heard: bool,
    last_announced: Option<Duration>,
    outdone_before: bool,
    put_backoff: Backoff,
}

impl LocalRecord {
    /// No record yet: it is made when there are addresses. `floor` is what is remembered of an earlier process; our records are
    /// above it even if the clock was set back since.
    pub fn new(binding: SignedBinding, name: String, role: Role, floor: Option<&HighestSeen>) -> Self {
        // A new generation numbers anew: a seq from a clock that was ahead would keep it from being believed.
        let generation = binding.binding.generation;
        let seq = floor.filter(|floor| floor.generation == generation).map_or(0, |floor| floor.seq);
        LocalRecord {
            last: (generation, seq),
            binding,
            name,
            role,
            addrs: None,
            topics: Vec::new(),
            kem: None,
            current: None,
            issued: VecDeque::new(),
            conflicts: VecDeque::new(),
            issue_at: None,
            publish_at: None,
            announce_at: None,
            changed: false,
            heard: false,
            last_announced: None,
            outdone_before: false,
            put_backoff: Backoff::default(),
        }
    }

    /// Where we can be reached, as far as the record has room.
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

    /// To which key mail may be sealed.
    pub fn set_kem(&mut self, kem: Option<Kem>, now: Now) {
        if self.kem != kem {
            self.kem = kem;
            self.changed(now);
        }
    }

    /// What we subscribe to, in order as far as the record has room; how many topics it has no room for.
    pub fn set_topics(&mut self, topics: &BTreeSet<String>, now: Now) -> usize {
        let (mut bytes, mut number, mut left_out) = (0, 0, 0);
        let fits = |topic: &&String| {
            let room = number < MAX_RECORD_TAGS && bytes + topic.len() <= MAX_RECORD_TAG_BYTES;
            if room {
                bytes += topic.len();
                number += 1;
            } else {
                left_out += 1;
            }
            room
        };
        let public = topics.iter().filter(|topic| !crate::is_reserved(topic));
        let topics: Vec<String> = public.filter(fits).cloned().collect();
        if self.topics != topics {
            self.topics = topics;
            self.changed(now);
        }
        left_out
    }

    /// What is told of us was dated by another clock.
    pub fn clock_jumped(&mut self, now: Now) {
        self.changed(now);
        self.issue_at = self.issue_at.map(|_| now.mono);
    }

    /// A process before this one had a record with this seq: ours must be above it.
    pub fn raise_seq(&mut self, seq: u64, now: Now) {
        self.last.1 = self.last.1.max(seq);
        self.outdone_before = true;
        self.clock_jumped(now);
    }

    /// Whether that has happened: a second time it is another process that runs.
    pub fn was_outdone(&self) -> bool {
        self.outdone_before
    }

    /// Another node announces our address too, by a record with this seq: ours goes above it and is told anew, so that the other learns of us.
    pub fn contest(&mut self, seq: u64, now: Now) {
        self.last.1 = self.last.1.max(seq);
        self.changed(now);
    }

    /// The binding was renewed.
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

    /// Makes the record anew if it is time; whether it did.
    ///
    /// # Errors
    /// When its parts do not fit together, or the binding has expired; it is tried again in `REFRESH`.
    pub fn reissue(&mut self, now: Now, key: &NodeKey, jitter: &mut Jitter) -> Result<bool, RecordError> {
        let (Some(at), Some(addrs)) = (self.issue_at, &self.addrs) else { return Ok(false) };
        if now.mono < at {
            return Ok(false);
        }
        self.issue_at = Some(now.mono + jitter.around(REFRESH));
        // A seq so far ahead is one that nobody can have believed: the clock was wrong when it was given.
        let believed = Some(self.last.1).filter(|seq| *seq <= now.unix_ms.saturating_add(MAX_SKEW_MS));
        let seq = believed.map_or(now.unix_ms, |seq| now.unix_ms.max(seq.saturating_add(1)));
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
            capabilities: Vec::new(),
            topics: self.topics.clone(),
        };
        let signed = SignedRecord::decode(record.sign(key)?)?;
        self.last = signed.order();
        self.issued.push_back(signed.hash);
        if self.issued.len() > MAX_ISSUED {
            self.issued.pop_front();
        }
        self.current = Some(signed);
        self.publish_at = Some(now.mono);
        if std::mem::take(&mut self.changed) && self.heard {
            self.announce_at = Some(now.mono);
        }
        Ok(true)
    }

    /// Generation and seq above which no record of ours is.
    pub fn order(&self) -> (u64, u64) {
        self.last
    }

    /// The record as it stands.
    pub fn current(&self) -> Option<&SignedRecord> {
        self.current.as_ref()
    }

    /// Whether it is one that this process made.
    pub fn is_ours(&self, record: &SignedRecord) -> bool {
        self.issued.contains(&record.hash)
    }

    /// Notes that another process announces our address. Returns `true` for the first record of each node: a node makes a new
    /// record every few minutes.
    pub fn conflicts_with(&mut self, record: &SignedRecord) -> bool {
        let peer = record.peer_id();
        if self.conflicts.contains(&peer) {
            return false;
        }
        self.conflicts.push_back(peer);
        if self.conflicts.len() > MAX_CONFLICTS {
            self.conflicts.pop_front();
        }
        true
    }

    /// A DHT server has become known.
    pub fn server_known(&mut self, now: Now) {
        self.put_backoff.reset();
        self.publish_at = Some(now.mono);
    }

    /// A server took the record.
    pub fn put_succeeded(&mut self) {
        self.put_backoff.reset();
    }

    /// No server took the record.
    pub fn put_failed(&mut self, now: Now, jitter: &mut Jitter) {
        self.put_backoff.fail(now.mono, Duration::from_secs(1), jitter);
        let again = self.put_backoff.not_before();
        self.publish_at = Some(self.publish_at.map_or(again, |at| at.min(again)));
    }

    /// Another peer hears announcements. What was announced a moment ago is announced again when gossipsub has forgotten it: those
    /// behind that peer may not have heard it.
    pub fn announcements_heard(&mut self, now: Now, agents: usize) {
        self.heard = true;
        let gap = FORGOTTEN.max(ANNOUNCE_PER_AGENT.saturating_mul(agents as u32));
        let at = self.last_announced.map_or(Duration::ZERO, |last| last + gap).max(now.mono + HEARD_DEBOUNCE);
        self.announce_at = Some(self.announce_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// What is to be told now; the caller tells it. `agents` is how many are known.
    pub fn due(&mut self, now: Now, agents: usize, jitter: &mut Jitter) -> Due {
        let Some(current) = &self.current else { return Due::default() };
        let valid = current.record.expires_at_ms > now.unix_ms;
        let is_due = |at: Option<Duration>| at.is_some_and(|at| at <= now.mono);
        let due = Due { publish: is_due(self.publish_at), announce: is_due(self.announce_at) };
        if due.publish {
            self.publish_at = Some(now.mono + jitter.around(REFRESH));
        }
        if due.announce {
            self.last_announced = Some(now.mono);
            let period = ANNOUNCE.max(ANNOUNCE_PER_AGENT.saturating_mul(agents as u32));
            self.announce_at = Some(now.mono + jitter.around(period));
        }
        // Nobody would take a record that is over.
        if valid { due } else { Due::default() }
    }

    /// When there is something to do next.
    pub fn next_deadline(&self) -> Option<Duration> {
        // Without a record there is nothing to tell, whatever is due.
        let telling = if self.current.is_some() { [self.publish_at, self.announce_at] } else { [None, None] };
        telling.into_iter().chain([self.issue_at]).flatten().min()
    }
}

#[cfg(test)]
mod tests;
