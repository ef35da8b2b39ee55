//! The rate limits of what peers and authors may use, by tier. An allowed agent has none of them.

mod authors;

use std::time::Duration;

use alloy_primitives::Address;
use libp2p_identity::PeerId;
use p2p_node_wire::time::Instant;

use crate::gate::rate_limiter::{AtLimit, Quota, RateLimiter};
use crate::gate::tier::Tier;
use crate::usage::Usage;
use authors::AuthorLimits;
pub use authors::{AUTHOR_BYTES, AUTHOR_FRAMES};
pub(crate) use authors::{BYTES_OF_ONE_STRANGER, FRAMES_OF_ONE_STRANGER, Passage, TopicKind};

/// Messages of one stranger, by mail and as much again by broadcasts: 100 a minute, from the TOS
/// document.
pub const STRANGER_MESSAGES: Quota = quota(100, Duration::from_millis(600), MAX_AUTHORS);
/// Bytes of the payloads of these messages: 1 MiB a minute, from the TOS document.
pub const STRANGER_BYTES: Quota = quota(1 << 20, Duration::from_nanos(60_000_000_000 >> 20), MAX_AUTHORS);
/// Number of strangers that may use their full quotas at the same time: our choice. Keys cost nothing,
/// so the quota of each stranger alone bounds nothing; 32 strangers leave a parent room for the agents
/// that it knows.
const STRANGERS: u32 = 32;
/// Messages of all strangers together: of those whose node itself connected, and as many of those that
/// the node never met. Broadcasts of invented agents need no connection, so they must not use up what
/// agents need that are there.
const ALL_STRANGERS_MESSAGES: Quota = shared(STRANGER_MESSAGES);
/// Bytes of all strangers together.
const ALL_STRANGERS_BYTES: Quota = shared(STRANGER_BYTES);
/// Gossip that a node reads from one neighbour: 2,000 frames and announcements a second, our choice.
/// Their signatures take a tenth of a processor, and 100 authors at their limits fit.
const NEIGHBOUR_GOSSIP: Quota = quota(4_000, Duration::from_micros(500), MAX_PEERS);
/// Frames of mail of one peer: 1,000 a second, our choice, twice what a node sends that waits 2 ms
/// between two frames.
const PEER_MAIL: Quota = quota(2_000, Duration::from_millis(1), MAX_PEERS);
/// Decryptions with a KEM key for one peer: one a second, our choice. An honest peer needs one for each
/// connection, and one in ten minutes.
const KEY_EXCHANGES: Quota = quota(16, Duration::from_secs(1), MAX_PEERS);
/// Records that one peer may put into this DHT server: our choice, twice what a node publishes whose
/// record changes all the time.
const PUTS: Quota = quota(60, Duration::from_secs(1), MAX_PEERS);

/// Frames of one neighbour, of those that the node ignores before it verified them, whose signatures it
/// verifies all the same: four a second, our choice. Enough to find a forger in a second, and together
/// less than a fiftieth of a processor for 100 neighbours.
const SPOT_CHECKS: Quota = quota(8, Duration::from_millis(250), MAX_PEERS);

/// Largest number of authors that each limiter tracks: our choice. Each takes less than 100 bytes.
const MAX_AUTHORS: usize = 4096;
/// Largest number of peers that each limiter tracks: the connections of a bootstrap node, and as many
/// that ended a short time ago.
const MAX_PEERS: usize = 4_000;
/// Part of its burst (a quarter) after which a stranger should send again: our choice, so that the
/// node neither wakes senders for each message nor lets them wait for the whole burst.
const WORTHWHILE_PART: u32 = 4;

const fn quota(burst: u32, interval: Duration, max_keys: usize) -> Quota {
    Quota { burst, interval, max_keys, at_limit: AtLimit::Forget }
}

const fn shared(of_one: Quota) -> Quota {
    let interval = Duration::from_nanos(of_one.interval.as_nanos() as u64 / STRANGERS as u64);
    // One key for the strangers that the node met, and one for all others.
    Quota { burst: of_one.burst * STRANGERS, interval, max_keys: 2, at_limit: AtLimit::Forget }
}

/// A limit in messages or frames, and in bytes.
#[derive(Debug)]
struct Meter<K> {
    items: RateLimiter<K>,
    bytes: RateLimiter<K>,
}

impl<K: Ord + Clone> Meter<K> {
    fn new(items: Quota, bytes: Quota) -> Self {
        Meter { items: RateLimiter::new(items), bytes: RateLimiter::new(bytes) }
    }

    /// Returns the time until these items have room.
    fn wait(&self, key: &K, items: u32, bytes: u32, now: Instant) -> Duration {
        let waits = [self.items.wait(key, items, now), self.bytes.wait(key, bytes, now)];
        waits.into_iter().flatten().max().unwrap_or_default()
    }

    fn charge(&mut self, key: K, items: u32, bytes: u32, now: Instant) {
        self.items.charge(key.clone(), items, now);
        self.bytes.charge(key, bytes, now);
    }

    fn len(&self) -> usize {
        self.items.len().max(self.bytes.len())
    }
}

/// The limits of strangers for one kind of messages: for each agent, for each node, because a node may
/// speak for any number of agents, and for all together that the node met, or did not meet.
#[derive(Debug)]
pub(crate) struct StrangerLimits {
    agents: Meter<Address>,
    nodes: Meter<PeerId>,
    /// By whether the node met them.
    all: Meter<bool>,
}

impl StrangerLimits {
    fn new() -> Self {
        StrangerLimits {
            agents: Meter::new(STRANGER_MESSAGES, STRANGER_BYTES),
            nodes: Meter::new(STRANGER_MESSAGES, STRANGER_BYTES),
            all: Meter::new(ALL_STRANGERS_MESSAGES, ALL_STRANGERS_BYTES),
        }
    }

    fn wait_for(&self, from: Author<'_>, messages: u32, bytes: u32, now: Instant) -> Duration {
        let of_agent = self.agents.wait(from.agent, messages, bytes, now);
        let of_node = self.nodes.wait(from.node, messages, bytes, now);
        of_agent.max(of_node).max(self.all.wait(&from.is_met, messages, bytes, now))
    }

    /// Returns `true` if a message is within the limits of its author.
    pub(crate) fn has_room(&self, from: Author<'_>, bytes: usize, now: Instant) -> bool {
        from.tier > Tier::Stranger || self.wait_for(from, 1, units(bytes), now).is_zero()
    }

    /// Counts a message of an author.
    pub(crate) fn charge(&mut self, from: Author<'_>, bytes: usize, now: Instant) {
        if from.tier > Tier::Stranger {
            return;
        }
        self.agents.charge(*from.agent, 1, units(bytes), now);
        self.nodes.charge(*from.node, 1, units(bytes), now);
        self.all.charge(from.is_met, 1, units(bytes), now);
    }

    /// Returns the time after which an author should send these messages again: when they have room, or
    /// a good part of what an author may send at once.
    pub(crate) fn retry_after(
        &self,
        from: Author<'_>,
        messages: usize,
        bytes: usize,
        now: Instant,
    ) -> Duration {
        let messages = units(messages).min(STRANGER_MESSAGES.burst / WORTHWHILE_PART);
        let bytes = units(bytes).min(STRANGER_BYTES.burst / WORTHWHILE_PART);
        self.wait_for(from, messages, bytes, now)
    }

    fn len(&self) -> usize {
        self.agents.len().max(self.nodes.len())
    }
}

/// The author of messages, with its tier.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Author<'a> {
    pub(crate) agent: &'a Address,
    pub(crate) node: &'a PeerId,
    pub(crate) tier: Tier,
    /// `true` if a node of the agent itself connected.
    pub(crate) is_met: bool,
}

/// All rate limits by tier.
#[derive(Debug)]
pub(crate) struct Limits {
    /// Messages of mail from strangers.
    pub(crate) mail: StrangerLimits,
    /// Broadcasts of strangers.
    pub(crate) broadcasts: StrangerLimits,
    /// Frames of authors on topics.
    pub(crate) authors: AuthorLimits,
    neighbour_gossip: RateLimiter<PeerId>,
    peer_mail: RateLimiter<PeerId>,
    key_exchanges: RateLimiter<PeerId>,
    puts: RateLimiter<PeerId>,
    spot_checks: RateLimiter<PeerId>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            mail: StrangerLimits::new(),
            broadcasts: StrangerLimits::new(),
            authors: AuthorLimits::default(),
            neighbour_gossip: RateLimiter::new(NEIGHBOUR_GOSSIP),
            peer_mail: RateLimiter::new(PEER_MAIL),
            key_exchanges: RateLimiter::new(KEY_EXCHANGES),
            puts: RateLimiter::new(PUTS),
            spot_checks: RateLimiter::new(SPOT_CHECKS),
        }
    }
}

impl Limits {
    /// Counts a gossip message from a neighbour. Returns `false` if it is above the limit.
    pub(crate) fn admit_gossip(&mut self, from: PeerId, tier: Tier, now: Instant) -> bool {
        tier == Tier::Allowed || self.neighbour_gossip.admit(from, now)
    }

    /// Returns `true` if the node should verify a frame from a neighbour that it ignores anyway.
    pub(crate) fn admit_spot_check(&mut self, from: PeerId, now: Instant) -> bool {
        self.spot_checks.admit(from, now)
    }

    /// Counts a frame of mail from a peer. Returns the time until the peer should send it again if it is
    /// above the limit.
    pub(crate) fn admit_mail_frame(
        &mut self,
        from: PeerId,
        tier: Tier,
        now: Instant,
    ) -> Result<(), Duration> {
        admit(&mut self.peer_mail, from, tier, now)
    }

    /// Counts a decryption with a KEM key for a peer, as [`Limits::admit_mail_frame`] counts frames.
    pub(crate) fn admit_key_exchange(
        &mut self,
        from: PeerId,
        tier: Tier,
        now: Instant,
    ) -> Result<(), Duration> {
        admit(&mut self.key_exchanges, from, tier, now)
    }

    /// Counts a record that a peer puts into this DHT server. Returns `false` if it is above the limit.
    pub(crate) fn admit_put(&mut self, from: PeerId, tier: Tier, now: Instant) -> bool {
        admit(&mut self.puts, from, tier, now).is_ok()
    }

    /// Returns the size of each limiter, with its limit.
    pub(crate) fn usage(&self) -> impl Iterator<Item = Usage> {
        [
            ("strangers with mail", self.mail.len(), MAX_AUTHORS),
            ("strangers with broadcasts", self.broadcasts.len(), MAX_AUTHORS),
            ("neighbours with gossip", self.neighbour_gossip.len(), MAX_PEERS),
            ("neighbours with spot checks", self.spot_checks.len(), MAX_PEERS),
            ("peers with mail frames", self.peer_mail.len(), MAX_PEERS),
            ("peers with key exchanges", self.key_exchanges.len(), MAX_PEERS),
            ("peers with puts", self.puts.len(), MAX_PEERS),
        ]
        .map(|(name, size, limit)| Usage { name, size, limit })
        .into_iter()
        .chain(self.authors.usage())
    }
}

fn admit(limiter: &mut RateLimiter<PeerId>, from: PeerId, tier: Tier, now: Instant) -> Result<(), Duration> {
    if tier == Tier::Allowed || limiter.admit(from, now) {
        return Ok(());
    }
    Err(limiter.wait(&from, 1, now).unwrap_or_default())
}

/// Returns a number of bytes or messages as units of a quota.
fn units(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: Address = Address::repeat_byte(1);
    const NOW: Instant = Instant::from_secs(100);

    fn sent(limits: &mut StrangerLimits, from: Author<'_>, bytes: usize, now: Instant) -> usize {
        let one = |_: &u32| {
            let has_room = limits.has_room(from, bytes, now);
            if has_room {
                limits.charge(from, bytes, now);
            }
            has_room
        };
        (0..1_000).take_while(one).count()
    }

    #[test]
    fn stranger_sends_a_hundred_messages_or_a_mebibyte_a_minute_and_others_more() {
        let mut limits = StrangerLimits::new();
        let (node, other) = (PeerId::random(), PeerId::random());
        let stranger = Author { agent: &ANN, node: &node, tier: Tier::Stranger, is_met: true };
        assert_eq!(sent(&mut limits, stranger, 10, NOW), 100);
        let of_node = Author { agent: &Address::repeat_byte(2), ..stranger };
        assert_eq!(sent(&mut limits, of_node, 10, NOW), 0, "another agent of the same node");
        let by_other_node = Author { node: &other, ..stranger };
        assert_eq!(sent(&mut limits, by_other_node, 10, NOW), 0, "the same agent on another node");
        let large = Author { agent: &Address::repeat_byte(3), node: &other, ..stranger };
        assert_eq!(sent(&mut limits, large, 256 << 10, NOW), 4);
        for tier in [Tier::Known, Tier::Allowed] {
            assert_eq!(sent(&mut limits, Author { tier, ..stranger }, 10, NOW), 1_000);
        }
    }

    #[test]
    fn retry_time_is_when_a_good_part_has_room() {
        let mut limits = StrangerLimits::new();
        let node = PeerId::random();
        let stranger = Author { agent: &ANN, node: &node, tier: Tier::Stranger, is_met: true };
        for _ in 0..100 {
            limits.charge(stranger, 10, NOW);
        }
        let wait = |messages| limits.retry_after(stranger, messages, 10, NOW);
        assert_eq!(
            (wait(1), wait(25), wait(5_000)),
            (Duration::from_millis(600), Duration::from_secs(15), Duration::from_secs(15))
        );
        let later = NOW + wait(1);
        assert!(!limits.has_room(stranger, 10, NOW) && limits.has_room(stranger, 10, later));
    }

    #[test]
    fn any_number_of_strangers_shares_one_quota_and_leaves_that_of_met_ones() {
        let mut limits = StrangerLimits::new();
        let mut all = |is_met| -> usize {
            let of_one = |number| {
                let (agent, node) = (Address::repeat_byte(number), PeerId::random());
                let stranger = Author { agent: &agent, node: &node, tier: Tier::Stranger, is_met };
                sent(&mut limits, stranger, 10, NOW)
            };
            if is_met { (100..200).map(of_one).sum() } else { (0..100).map(of_one).sum() }
        };
        assert_eq!((all(false), all(true)), (3_200, 3_200));
    }

    #[test]
    fn peers_have_limits_of_frames_key_exchanges_and_puts() {
        let mut limits = Limits::default();
        let (one, other) = (PeerId::random(), PeerId::random());
        let gossip = |limits: &mut Limits, peer, tier| {
            (0..9_000).filter(|_| limits.admit_gossip(peer, tier, NOW)).count()
        };
        assert_eq!(gossip(&mut limits, one, Tier::Known), 4_000);
        assert_eq!(
            (gossip(&mut limits, one, Tier::Allowed), gossip(&mut limits, other, Tier::Stranger)),
            (9_000, 4_000)
        );
        assert_eq!(
            (0..9_000).filter(|_| limits.admit_mail_frame(one, Tier::Known, NOW).is_ok()).count(),
            2_000
        );
        assert_eq!(limits.admit_mail_frame(one, Tier::Known, NOW), Err(Duration::from_millis(1)));
        let exchanges = (0..99).filter(|_| limits.admit_key_exchange(one, Tier::Stranger, NOW).is_ok());
        assert_eq!(exchanges.count(), 16);
        assert_eq!((0..99).filter(|_| limits.admit_put(one, Tier::Stranger, NOW)).count(), 60);
        assert!(limits.admit_put(other, Tier::Stranger, NOW));
        assert!(limits.usage().all(|usage| usage.size <= usage.limit));
    }
}
