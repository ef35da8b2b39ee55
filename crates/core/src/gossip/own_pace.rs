//! The pace of own broadcasts: a node that knows the limits of others sends no more than they take, so
//! that its broadcasts wait here, where the parent notices, and are not dropped there.

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_node_wire::time::Instant;

use crate::cx::Cx;
use crate::directory::Directory;
use crate::gate::Gate;
use crate::gate::limits::{AUTHOR_BYTES, AUTHOR_FRAMES, STRANGER_BYTES, STRANGER_MESSAGES};
use crate::gate::rate_limiter::{AtLimit, Quota, RateLimiter};
use crate::gate::tier::Tier;
use crate::gossip::Gossip;
use crate::gossip::broadcast_queue::MAX_TOPICS;
use crate::peers::Peers;

/// Part of what others take (one eighth) that the node does not use: our choice. Frames that were
/// delayed on the way arrive together with later ones.
const MARGIN: u32 = 8;
/// Bytes of the own frames of a node that its subscribers do not know: a burst of a frame of the largest size
/// and 48 KiB a second. Our choice: nodes on the way forward 170 KiB in two seconds of a stranger that is alone.
const STRANGER_FRAME_BYTES: Quota = Quota {
    burst: 64 << 10,
    interval: Duration::from_nanos(1_000_000_000 / (48 << 10)),
    max_keys: 1,
    at_limit: AtLimit::Forget,
};
/// How long the tier of a topic holds: our choice. Its subscribers come and go, and the node looks at
/// all of them.
const TIER_LIFE: Duration = Duration::from_secs(1);
/// How long after its last broadcast a topic keeps its tier: our choice, longer than a `send` waits.
const IDLE: Duration = Duration::from_secs(60);

/// What the subscribers of a topic take from this agent.
#[derive(Clone, Copy, Debug)]
struct TopicTier {
    /// The highest tier of this agent at a subscriber.
    tier: Tier,
    /// The lowest tier of this agent at a subscriber.
    lowest: Tier,
    updated: Instant,
    used: Instant,
}

/// The pace of own broadcasts. Nodes limit each author over all topics, so there is one pace.
#[derive(Debug)]
pub(crate) struct OwnPace {
    messages: RateLimiter<()>,
    bytes: RateLimiter<()>,
    author_bytes: RateLimiter<()>,
    frames: RateLimiter<()>,
    frame_bytes: RateLimiter<()>,
    /// `false` if everyone counts as allowed.
    applies: bool,
    /// The topics of the latest broadcasts. Empty while no limits apply.
    topics: BTreeMap<String, TopicTier>,
    /// When a broadcast that found no room may find some.
    wakeup: Option<Instant>,
}

impl OwnPace {
    /// Returns `true` if limits apply to this node.
    pub(crate) fn is_limited(&self) -> bool {
        self.applies
    }

    pub(crate) fn new(applies: bool) -> Self {
        let limiter = |quota| RateLimiter::new(with_margin(quota));
        OwnPace {
            applies,
            messages: limiter(STRANGER_MESSAGES),
            bytes: limiter(STRANGER_BYTES),
            author_bytes: limiter(AUTHOR_BYTES),
            frames: limiter(AUTHOR_FRAMES),
            frame_bytes: RateLimiter::new(STRANGER_FRAME_BYTES),
            topics: BTreeMap::new(),
            wakeup: None,
        }
    }
}

/// Returns the earliest time of the next unit.
fn at(limiter: &RateLimiter<()>) -> Instant {
    Instant::ZERO + limiter.wait(&(), 1, Instant::ZERO).unwrap_or_default()
}

fn with_margin(quota: Quota) -> Quota {
    Quota {
        burst: quota.burst - quota.burst / MARGIN,
        interval: quota.interval + quota.interval / MARGIN,
        max_keys: 1,
        ..quota
    }
}

impl OwnPace {
    /// Returns the highest tier of this agent at the subscribers of a topic.
    fn tier(&self, topic: &str) -> Tier {
        self.topics.get(topic).map_or(Tier::Allowed, |topic| topic.tier)
    }

    /// Returns `true` if every subscriber of a topic allows this agent. A subscriber that does not would
    /// blame this node for frames above the limits of an author.
    fn all_allow(&self, topic: &str) -> bool {
        self.topics.get(topic).is_none_or(|topic| topic.lowest == Tier::Allowed)
    }

    /// Returns the time until a broadcast of this size may be accepted.
    pub(crate) fn wait(&self, topic: &str, bytes: usize, now: Instant) -> Duration {
        let units = bytes as u32;
        let waits = match self.tier(topic) {
            Tier::Stranger => [self.messages.wait(&(), 1, now), self.bytes.wait(&(), units, now)],
            Tier::Allowed if self.all_allow(topic) => [None, None],
            Tier::Known | Tier::Allowed => [self.author_bytes.wait(&(), units, now), None],
        };
        waits.into_iter().flatten().max().unwrap_or_default()
    }

    /// Notes that a broadcast to a topic waits for the pace.
    pub(crate) fn wake_after(&mut self, wait: Duration, topic: &str, now: Instant) {
        self.wakeup = Some(now + wait);
        if let Some(topic) = self.topics.get_mut(topic) {
            topic.used = now;
        }
    }

    /// Returns the time at which a broadcast that waits may find room.
    pub(crate) fn wakeup(&self) -> Option<Instant> {
        self.wakeup
    }

    /// Counts an accepted broadcast.
    pub(crate) fn charge(&mut self, topic: &str, bytes: usize, now: Instant) {
        if self.tier(topic) < Tier::Allowed {
            self.messages.charge((), 1, now);
            self.bytes.charge((), bytes as u32, now);
        }
        if !self.all_allow(topic) {
            self.author_bytes.charge((), bytes as u32, now);
        }
    }

    /// Returns the earliest time of the next frame on a topic.
    pub(crate) fn frame_ready_at(&self, topic: &str) -> Instant {
        match self.tier(topic) {
            _ if self.all_allow(topic) => Instant::ZERO,
            Tier::Stranger => self.next_frame_of_stranger_at(),
            Tier::Known | Tier::Allowed => at(&self.frames),
        }
    }

    /// Returns the earliest time of the next frame at nodes that do not know this agent.
    fn next_frame_of_stranger_at(&self) -> Instant {
        at(&self.frames).max(at(&self.frame_bytes))
    }

    /// Returns the number of topics.
    pub(crate) fn topics(&self) -> usize {
        self.topics.len()
    }
}

impl Gossip {
    /// Updates what the subscribers of the topic of a `send` take from this agent.
    pub(crate) fn pace_topic(
        &mut self,
        topic: Option<&str>,
        gate: &Gate,
        directory: &Directory,
        peers: &Peers,
        cx: &Cx,
    ) {
        let now = cx.now.mono;
        let Some(topic) = topic.filter(|_| self.pace.applies) else { return };
        if let Some(known) = self.pace.topics.get_mut(topic) {
            known.used = now;
            if now < known.updated + TIER_LIFE {
                return;
            }
        }
        if self.pace.topics.len() >= MAX_TOPICS {
            self.pace.topics.retain(|_, topic| now < topic.updated + TIER_LIFE);
        }
        if self.pace.topics.len() < MAX_TOPICS || self.pace.topics.contains_key(topic) {
            let (lowest, tier) = tiers_at_subscribers(topic, gate, directory, peers, cx);
            let tiers = TopicTier { tier, lowest, updated: now, used: now };
            self.pace.topics.insert(topic.to_owned(), tiers);
        }
    }

    /// Updates the tiers of the topics whose broadcasts may wait.
    pub(crate) fn update_pace(&mut self, gate: &Gate, directory: &Directory, peers: &Peers, cx: &Cx) {
        let now = cx.now.mono;
        self.pace.wakeup.take_if(|at| *at <= now);
        self.pace.topics.retain(|_, topic| now < topic.used + IDLE);
        for (name, topic) in &mut self.pace.topics {
            if now >= topic.updated + TIER_LIFE {
                (topic.lowest, topic.tier) = tiers_at_subscribers(name, gate, directory, peers, cx);
                topic.updated = now;
            }
        }
    }

    /// Counts an own frame of gossip: of broadcasts to a topic, or of mail or acks for one node.
    pub(crate) fn record_own_frame(&mut self, bytes: usize, topic: Option<&str>, now: Instant) {
        self.pacer.record(bytes, now);
        self.pace.frames.charge((), 1, now);
        if topic.is_none_or(|topic| self.pace.tier(topic) == Tier::Stranger) {
            self.pace.frame_bytes.charge((), bytes as u32, now);
        }
    }

    /// Returns the earliest time of the next frame of mail by gossip.
    pub(crate) fn mail_ready_at(&self) -> Instant {
        self.pacer.ready_at().max(self.acks_ready_at())
    }

    /// Returns the earliest time of the next frame with acks by gossip.
    pub(crate) fn acks_ready_at(&self) -> Instant {
        if self.pace.applies { self.pace.next_frame_of_stranger_at() } else { Instant::ZERO }
    }
}

/// Returns the lowest and the highest tier of this agent at the connected subscribers of a topic. The node
/// cannot know them: who is allowed here is taken to allow this agent, and who sent mail knows it. The
/// highest says how many messages, because one stranger that subscribes must not slow down a topic for all
/// others. The lowest says how many frames and bytes, because nobody takes more from whom it does not allow.
fn tiers_at_subscribers(
    topic: &str,
    gate: &Gate,
    directory: &Directory,
    peers: &Peers,
    cx: &Cx,
) -> (Tier, Tier) {
    let tiers =
        peers.subscribers_of(topic).map(|peer| gate.tier_at(directory.agent_of(peer, cx).as_ref(), peer));
    let of_none = (Tier::Stranger, Tier::Stranger);
    tiers.map(|tier| (tier, tier)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap_or(of_none)
}
