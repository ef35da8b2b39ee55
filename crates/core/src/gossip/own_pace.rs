//! The pace of own broadcasts: a node that knows the limits of others sends no more than they take, so
//! that its broadcasts wait here, where the parent notices, and are not dropped there.

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_node_wire::envelope::limits::MAX_GOSSIP_FRAME_BYTES;
use p2p_node_wire::time::Instant;

use crate::cx::Cx;
use crate::directory::Directory;
use crate::gate::Gate;
use crate::gate::address_scope::AddressScope;
use crate::gate::limits::{
    AUTHOR_BYTES, AUTHOR_FRAMES, BYTES_OF_ONE_STRANGER, FRAMES_OF_ONE_STRANGER, STRANGER_BYTES,
    STRANGER_MESSAGES,
};
use crate::gate::rate_limiter::{AtLimit, Quota, RateLimiter};
use crate::gate::tier::Tier;
use crate::gossip::Gossip;
use crate::gossip::broadcast_queue::MAX_TOPICS;
use crate::peers::Peers;

/// Part of what others take (one eighth) that the node does not use: our choice. Frames that were
/// delayed on the way arrive together with later ones.
const MARGIN: u32 = 8;
/// Own frames: below what a neighbour is blamed for.
const FRAMES: Quota = with_margin(AUTHOR_FRAMES);
/// Bytes a second of the own frames of a node that its subscribers do not know: our choice.
const STRANGER_FRAME_RATE: usize = 48 << 10;
/// Bytes of these frames: a burst of 8 KiB, our choice. A frame leaves if some of it is left, so one of the
/// largest size may follow the burst at once.
const STRANGER_FRAME_BYTES: Quota = Quota {
    burst: 8 << 10,
    interval: Duration::from_nanos(1_000_000_000 / STRANGER_FRAME_RATE as u64),
    max_keys: 1,
    at_limit: AtLimit::Forget,
};
// Nodes on the way forward all frames and bytes of a stranger that keeps this pace and is alone: the burst,
// and what the five and two seconds add for which they count.
const _: () = assert!(
    FRAMES.burst as u128 + Duration::from_secs(5).as_nanos() / FRAMES.interval.as_nanos()
        <= FRAMES_OF_ONE_STRANGER as u128
);
const _: () = assert!(
    STRANGER_FRAME_BYTES.burst as usize + MAX_GOSSIP_FRAME_BYTES + 2 * STRANGER_FRAME_RATE
        <= BYTES_OF_ONE_STRANGER
);
// The bytes of own frames need no pace of their own: those of the largest size stay below the limits of an
// author, too.
const _: () = assert!(FRAMES.burst as usize * MAX_GOSSIP_FRAME_BYTES <= AUTHOR_BYTES.burst as usize);
const _: () =
    assert!(MAX_GOSSIP_FRAME_BYTES as u128 * AUTHOR_BYTES.interval.as_nanos() <= FRAMES.interval.as_nanos());
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
    updated: Instant,
    used: Instant,
}

/// The pace of own broadcasts. Nodes limit each author over all topics, so there is one pace.
#[derive(Debug)]
pub(crate) struct OwnPace {
    messages: RateLimiter<()>,
    bytes: RateLimiter<()>,
    frames: RateLimiter<()>,
    frame_bytes: RateLimiter<()>,
    /// `false` if everyone counts as allowed.
    applies: bool,
    /// `true` if own frames keep to the limits of others, who may have some although this node has none.
    paces_frames: bool,
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

    /// Creates the pace of a node with or without limits. Nodes without limits keep to those of others, too,
    /// but not in the scope loopback, where one owner has all nodes, and their default is to have none.
    pub(crate) fn new(applies: bool, scope: AddressScope) -> Self {
        let limiter = |quota| RateLimiter::new(with_margin(quota));
        OwnPace {
            applies,
            paces_frames: applies || scope != AddressScope::Loopback,
            messages: limiter(STRANGER_MESSAGES),
            bytes: limiter(STRANGER_BYTES),
            frames: RateLimiter::new(FRAMES),
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

const fn with_margin(quota: Quota) -> Quota {
    let nanos = quota.interval.as_nanos() as u64;
    Quota {
        burst: quota.burst - quota.burst / MARGIN,
        interval: Duration::from_nanos(nanos + nanos / MARGIN as u64),
        max_keys: 1,
        at_limit: quota.at_limit,
    }
}

impl OwnPace {
    /// Returns the highest tier of this agent at the subscribers of a topic. At those of a topic that the node
    /// does not track it is a stranger, so that no topic escapes the pace.
    fn tier(&self, topic: &str) -> Tier {
        let unknown = if self.applies { Tier::Stranger } else { Tier::Allowed };
        self.topics.get(topic).map_or(unknown, |topic| topic.tier)
    }

    /// Returns the time until a broadcast of this size may be accepted.
    pub(crate) fn wait(&self, topic: &str, bytes: usize, now: Instant) -> Duration {
        let units = bytes as u32;
        let waits = match self.tier(topic) {
            Tier::Stranger => [self.messages.wait(&(), 1, now), self.bytes.wait(&(), units, now)],
            // Those of others wait in the queue of their topic, for its next frame.
            Tier::Known | Tier::Allowed => [None, None],
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
    }

    /// Returns the earliest time of the next frame on a topic. A subscriber that this agent allows may not
    /// allow it, and would blame this node for frames above the limits of an author. So they hold for all.
    pub(crate) fn frame_ready_at(&self, topic: &str) -> Instant {
        match self.tier(topic) {
            Tier::Stranger => self.next_frame_of_stranger_at(),
            Tier::Known | Tier::Allowed => self.next_frame_at(),
        }
    }

    /// Returns the earliest time of the next frame.
    fn next_frame_at(&self) -> Instant {
        if self.paces_frames { at(&self.frames) } else { Instant::ZERO }
    }

    /// Returns the earliest time of the next frame at nodes that do not know this agent.
    fn next_frame_of_stranger_at(&self) -> Instant {
        self.next_frame_at().max(at(&self.frame_bytes))
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
            let tier = tier_at_subscribers(topic, gate, directory, peers, cx);
            self.pace.topics.insert(topic.to_owned(), TopicTier { tier, updated: now, used: now });
        }
    }

    /// Updates the tiers of the topics whose broadcasts may wait.
    pub(crate) fn update_pace(&mut self, gate: &Gate, directory: &Directory, peers: &Peers, cx: &Cx) {
        let now = cx.now.mono;
        self.pace.wakeup.take_if(|at| *at <= now);
        self.pace.topics.retain(|_, topic| now < topic.used + IDLE);
        for (name, topic) in &mut self.pace.topics {
            if now >= topic.updated + TIER_LIFE {
                topic.tier = tier_at_subscribers(name, gate, directory, peers, cx);
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
        if self.pace.applies { self.pace.next_frame_of_stranger_at() } else { self.pace.next_frame_at() }
    }
}

/// Returns the highest tier of this agent at the connected subscribers of a topic. The node cannot know it:
/// an agent that is allowed here is taken to allow this one, and one that sent mail knows it. The highest says
/// how many messages, because one stranger that subscribes must not slow down a topic for all others.
fn tier_at_subscribers(topic: &str, gate: &Gate, directory: &Directory, peers: &Peers, cx: &Cx) -> Tier {
    let tier = |peer| gate.tier_at(directory.agent_of(peer, cx).as_ref(), peer);
    peers.subscribers_of(topic).map(tier).max().unwrap_or(Tier::Stranger)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Core;
    use crate::testing::core_with;

    #[test]
    fn topic_that_the_node_does_not_track_keeps_the_pace_of_a_stranger() {
        for (applies, most) in [(true, 88), (false, 1_000)] {
            let mut core = core_with(|config| config.limits_apply = applies);
            let Core { gossip, gate, directory, peers, cx, .. } = &mut core;
            for number in 0..=MAX_TOPICS {
                gossip.pace_topic(Some(&number.to_string()), gate, directory, peers, cx);
            }
            let untracked = MAX_TOPICS.to_string();
            assert!(!gossip.pace.topics.contains_key(&untracked) && gossip.pace.topics() <= MAX_TOPICS);
            let now = cx.now.mono;
            let one = |_: &u32| {
                let has_room = gossip.pace.wait(&untracked, 1, now).is_zero();
                gossip.pace.charge(&untracked, 1, now);
                has_room
            };
            assert_eq!((0..1_000).take_while(one).count(), most);
            (0..1_000).for_each(|_| gossip.record_own_frame(1, Some(&untracked), now));
            assert_eq!(gossip.pace.frame_ready_at(&untracked) > now, applies);
        }
    }
}
