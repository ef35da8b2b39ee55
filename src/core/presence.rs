//! Our own record: when it is made anew, and when and where it is told.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use libp2p::Multiaddr;
use p2p_node_protocol::Role;

use super::directory::record::{
    MAX_RECORD_ADDRS, MAX_RECORD_LIFE_MS, MAX_RECORD_TAG_BYTES, Record, RecordError, SignedRecord,
};
use super::identity::{NodeKey, SignedBinding};
use super::input::Now;
use super::policy::retry::{Backoff, Jitter};

/// A record is made anew so often (design §3).
const REFRESH: Duration = Duration::from_secs(600);
/// Changes are gathered for so long (design §3).
const DEBOUNCE: Duration = Duration::from_secs(2);
/// Shortest period of announcements (design §6).
const ANNOUNCE: Duration = Duration::from_secs(300);
/// What announcements wait for each agent known, so that the whole network makes less than one a second (design §6).
const ANNOUNCE_PER_AGENT: Duration = Duration::from_secs(2);
/// After the first to hear announcements has come, more follow: one announcement serves them all. Ours.
const HEARD_DEBOUNCE: Duration = Duration::from_millis(50);
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
pub struct Presence {
    binding: SignedBinding,
    name: String,
    role: Role,
    addrs: Option<Vec<Multiaddr>>,
    topics: Vec<String>,
    current: Option<SignedRecord>,
    last_seq: u64,
    issued: VecDeque<[u8; 32]>,
    conflicts: VecDeque<[u8; 32]>,
    /// When the record is made next; none before there are addresses.
    issue_at: Option<Duration>,
    publish_at: Option<Duration>,
    announce_at: Option<Duration>,
    heard: bool,
    put_backoff: Backoff,
}

impl Presence {
    /// No record yet: it is made when there are addresses.
    pub fn new(binding: SignedBinding, name: String, role: Role) -> Self {
        Presence {
            binding,
            name,
            role,
            addrs: None,
            topics: Vec::new(),
            current: None,
            last_seq: 0,
            issued: VecDeque::new(),
            conflicts: VecDeque::new(),
            issue_at: None,
            publish_at: None,
            announce_at: None,
            heard: false,
            put_backoff: Backoff::default(),
        }
    }

    /// Where we can be reached.
    pub fn set_addrs(&mut self, mut addrs: Vec<Multiaddr>, now: Now) {
        addrs.truncate(MAX_RECORD_ADDRS);
        if self.addrs.as_ref() != Some(&addrs) {
            self.addrs = Some(addrs);
            self.changed(now);
        }
    }

    /// What we subscribe to, as far as the record has room.
    pub fn set_topics(&mut self, topics: &BTreeSet<String>, now: Now) {
        let mut bytes = 0;
        let fits = |topic: &&String| {
            let room = bytes + topic.len() <= MAX_RECORD_TAG_BYTES && !super::is_reserved(topic);
            bytes += if room { topic.len() } else { 0 };
            room
        };
        let topics: Vec<String> = topics.iter().filter(fits).cloned().collect();
        if self.topics != topics {
            self.topics = topics;
            self.changed(now);
        }
    }

    /// The binding was renewed.
    pub fn set_binding(&mut self, binding: SignedBinding, now: Now) {
        self.binding = binding;
        self.changed(now);
    }

    fn changed(&mut self, now: Now) {
        if self.addrs.is_none() {
            return;
        }
        let at = if self.current.is_none() { now.mono } else { now.mono + DEBOUNCE };
        self.issue_at = Some(self.issue_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Makes the record anew if it is time.
    ///
    /// # Errors
    /// When its parts do not fit together; it is tried again in `REFRESH`.
    pub fn issue(&mut self, now: Now, key: &NodeKey, jitter: &mut Jitter) -> Result<(), RecordError> {
        let (Some(at), Some(addrs)) = (self.issue_at, &self.addrs) else { return Ok(()) };
        if now.mono < at {
            return Ok(());
        }
        self.issue_at = Some(now.mono + jitter.around(REFRESH));
        let seq = now.unix_ms.max(self.last_seq + 1);
        let binding_end_ms = self.binding.binding.not_after.saturating_mul(1000);
        let record = Record {
            network: self.binding.binding.network.clone(),
            binding: self.binding.clone(),
            seq,
            issued_at_ms: now.unix_ms,
            expires_at_ms: (now.unix_ms + MAX_RECORD_LIFE_MS).min(binding_end_ms),
            addrs: addrs.clone(),
            kem: None,
            role: self.role,
            name: self.name.clone(),
            capabilities: Vec::new(),
            topics: self.topics.clone(),
        };
        let signed = SignedRecord::decode(record.sign(key)?)?;
        self.last_seq = seq;
        self.issued.push_back(signed.hash);
        if self.issued.len() > MAX_ISSUED {
            self.issued.pop_front();
        }
        self.current = Some(signed);
        self.publish_at = Some(now.mono);
        if self.heard {
            self.announce_at = Some(now.mono);
        }
        Ok(())
    }

    /// The record as it stands.
    pub fn current(&self) -> Option<&SignedRecord> {
        self.current.as_ref()
    }

    /// Whether it is one that this process made.
    pub fn is_ours(&self, record: &SignedRecord) -> bool {
        self.issued.contains(&record.hash)
    }

    /// Whether a foreign record of our address has not been told of yet.
    pub fn conflicts_with(&mut self, record: &SignedRecord) -> bool {
        if self.conflicts.contains(&record.hash) {
            return false;
        }
        self.conflicts.push_back(record.hash);
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

    /// No server took the record.
    pub fn put_failed(&mut self, now: Now, jitter: &mut Jitter) {
        self.put_backoff.fail(now.mono, Duration::from_secs(1), jitter);
        let again = self.put_backoff.not_before();
        self.publish_at = Some(self.publish_at.map_or(again, |at| at.min(again)));
    }

    /// A peer hears announcements.
    pub fn announcements_heard(&mut self, now: Now) {
        self.heard = true;
        let at = now.mono + HEARD_DEBOUNCE;
        self.announce_at = Some(self.announce_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// What is to be told now; the caller tells it. `agents` is how many are known.
    pub fn due(&mut self, now: Now, agents: usize, jitter: &mut Jitter) -> Due {
        if self.current.is_none() {
            return Due::default();
        }
        let is_due = |at: Option<Duration>| at.is_some_and(|at| at <= now.mono);
        let due = Due { publish: is_due(self.publish_at), announce: is_due(self.announce_at) };
        if due.publish {
            self.publish_at = Some(now.mono + jitter.around(REFRESH));
        }
        if due.announce {
            let period = ANNOUNCE.max(ANNOUNCE_PER_AGENT.saturating_mul(agents as u32));
            self.announce_at = Some(now.mono + jitter.around(period));
        }
        due
    }

    /// When there is something to do next.
    pub fn next_deadline(&self) -> Option<Duration> {
        [self.issue_at, self.publish_at, self.announce_at].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::identity::testing::{NOW_SECS, agent, binding, node};

    fn at(seconds: f64) -> Now {
        let mono = Duration::from_secs_f64(seconds);
        Now { mono, unix_ms: NOW_SECS * 1000 + mono.as_millis() as u64 }
    }

    fn presence() -> (Presence, Jitter) {
        (Presence::new(agent().bind(binding()).unwrap(), "alice".into(), Role::Full), Jitter::new(1))
    }

    fn addr(port: u16) -> Multiaddr {
        format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()
    }

    #[test]
    fn the_first_record_is_made_and_published_at_once_and_announced_when_heard() {
        let (mut presence, mut jitter) = presence();
        presence.issue(at(0.0), &node(), &mut jitter).unwrap();
        assert!(presence.current().is_none(), "there are no addresses yet");
        presence.set_addrs(vec![addr(1)], at(0.0));
        presence.issue(at(0.0), &node(), &mut jitter).unwrap();
        assert!(presence.current().is_some());
        assert_eq!(presence.due(at(0.0), 0, &mut jitter), Due { publish: true, announce: false });
        assert_eq!(presence.due(at(0.0), 0, &mut jitter), Due::default());
        presence.announcements_heard(at(1.0));
        assert!(presence.due(at(1.1), 0, &mut jitter).announce);
    }

    #[test]
    fn changes_are_gathered_and_orders_ascend() {
        let (mut presence, mut jitter) = presence();
        presence.set_addrs(vec![addr(1)], at(0.0));
        presence.issue(at(0.0), &node(), &mut jitter).unwrap();
        let first = presence.current().unwrap().clone();
        presence.set_topics(&BTreeSet::from(["jobs".to_owned()]), at(0.0));
        presence.issue(at(1.9), &node(), &mut jitter).unwrap();
        assert_eq!(presence.current().unwrap().bytes, first.bytes);
        let late = Now { unix_ms: at(0.0).unix_ms - 5, ..at(2.0) };
        presence.issue(late, &node(), &mut jitter).unwrap();
        let second = presence.current().unwrap();
        assert_eq!(second.record.topics, ["jobs"]);
        assert!(second.order() > first.order(), "even when the clock goes back");
        assert!(presence.is_ours(&first) && presence.is_ours(second));
    }

    #[test]
    fn it_is_refreshed_about_every_ten_minutes() {
        let (mut presence, mut jitter) = presence();
        presence.set_addrs(vec![addr(1)], at(0.0));
        presence.issue(at(0.0), &node(), &mut jitter).unwrap();
        let first = presence.current().unwrap().bytes.clone();
        presence.issue(at(539.0), &node(), &mut jitter).unwrap();
        assert_eq!(presence.current().unwrap().bytes, first);
        presence.issue(at(661.0), &node(), &mut jitter).unwrap();
        assert_ne!(presence.current().unwrap().bytes, first);
        assert!(presence.due(at(661.0), 0, &mut jitter).publish);
    }

    #[test]
    fn a_failed_put_is_repeated_and_a_new_server_is_told_at_once() {
        let (mut presence, mut jitter) = presence();
        presence.set_addrs(vec![addr(1)], at(0.0));
        presence.issue(at(0.0), &node(), &mut jitter).unwrap();
        assert!(presence.due(at(0.0), 0, &mut jitter).publish);
        presence.put_failed(at(0.0), &mut jitter);
        assert!(!presence.due(at(0.5), 0, &mut jitter).publish);
        assert!(presence.due(at(2.0), 0, &mut jitter).publish);
        presence.server_known(at(2.1));
        assert!(presence.due(at(2.1), 0, &mut jitter).publish);
    }

    #[test]
    fn announcements_thin_out_as_the_network_grows() {
        let (mut presence, mut jitter) = presence();
        presence.set_addrs(vec![addr(1)], at(0.0));
        presence.announcements_heard(at(0.0));
        presence.issue(at(0.1), &node(), &mut jitter).unwrap();
        assert!(presence.due(at(0.1), 500, &mut jitter).announce);
        assert!(!presence.due(at(800.0), 500, &mut jitter).announce);
        assert!(presence.due(at(1101.0), 500, &mut jitter).announce);
    }

    #[test]
    fn topics_take_the_room_there_is() {
        let (mut presence, mut jitter) = presence();
        presence.set_addrs(vec![addr(1)], at(0.0));
        let topics: BTreeSet<String> = (0..10).map(|index| format!("{index}{}", "x".repeat(99))).collect();
        presence.set_topics(&topics, at(0.0));
        presence.issue(at(0.0), &node(), &mut jitter).unwrap();
        assert_eq!(presence.current().unwrap().record.topics.len(), 5);
    }
}
