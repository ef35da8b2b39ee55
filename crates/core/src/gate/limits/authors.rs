//! The limits of frames on topics by author: what a node forwards, and what a neighbour may send of
//! its own. A frame names its author before anything is verified, so only verified frames count against
//! an author. Otherwise a forger could use up the limits of others.

use std::time::Duration;

use alloy_primitives::Address;
use libp2p_identity::PeerId;
use p2p_node_wire::envelope::FrameClaim;
use p2p_node_wire::envelope::frame::MAX_FRAME_AGE_MS;
use p2p_node_wire::identity::binding::MAX_SKEW_SECS;
use p2p_node_wire::time::Instant;

use super::{Author, MAX_AUTHORS, MAX_PEERS, Meter, STRANGER_MESSAGES, STRANGERS, quota, units};
use crate::gate::rate_limiter::{Quota, RateLimiter};
use crate::gate::reputation::Conduct;
use crate::gate::tier::Tier;
use crate::input::Now;
use crate::recent_use::RecentUse;
use crate::usage::Usage;

/// Burst of the frames of an author, in seconds: as long as gossipsub keeps frames, because those that
/// were lost on the way arrive later, together.
const BURST_SECS: u32 = 5;
/// Frames of one author that a node forwards and delivers: 20 a second, our choice; a frame carries up
/// to 60 KiB of messages.
pub const AUTHOR_FRAMES: Quota = quota(20 * BURST_SECS, Duration::from_millis(50), MAX_AUTHORS);
/// Bytes of these frames: 2 MiB a second, our choice.
pub const AUTHOR_BYTES: Quota =
    quota((2 << 20) * BURST_SECS, Duration::from_nanos(1_000_000_000 / (2 << 20)), MAX_AUTHORS);
/// Frames of all strangers together that a node forwards in [`FRAMES_SECS`]: as many as messages of
/// strangers reach a parent (53 a second), because a frame has at least one. As for messages, there are as
/// many again of those that the node never met, and of the nodes' own topics.
const ALL_STRANGERS_FRAMES: usize = (STRANGER_MESSAGES.burst * STRANGERS * BURST_SECS) as usize / 60;
/// Time for which the frames of strangers count, in full seconds before the current one.
const FRAMES_SECS: u64 = BURST_SECS as u64 - 1;
/// Bytes of all strangers together that a node forwards in this second and the one before: 128 KiB a second,
/// our choice, seven times the quota of a stranger. Each byte comes and goes eight times, so a flood costs a
/// node 2 MiB a second of traffic at most.
const ALL_STRANGERS_BYTES: usize = 256 << 10;
/// Time for which the bytes of strangers count, in full seconds before the current one. It is short, so that
/// a flood that begins does not use up much at once.
const BYTES_SECS: u64 = 1;
/// Frames, or bytes, of one stranger for each that is free: our choice. One that is alone has two thirds:
/// more than an honest node sends. Of twenty that flood each gets three frames a second, and leaves a quiet
/// one as much. (Choudhury and Hahne's dynamic threshold.)
const SHARE_OF_FREE: usize = 2;

/// Part of these limits (one 64th) up to which a stranger is quiet: our choice, four frames and 4 KiB.
const QUIET_PART: usize = 64;
/// Part of these limits (a quarter) that is for quiet strangers alone, on top: our choice. Those that flood
/// fill what they share again and again, and quiet ones come in bursts, too.
const RESERVE_PART: usize = 4;

/// Frames of strangers in the last seconds, by node.
#[derive(Debug)]
struct StrangerFrames {
    frames: RecentUse<PeerId>,
    bytes: RecentUse<PeerId>,
}

impl StrangerFrames {
    fn new() -> Self {
        StrangerFrames { frames: RecentUse::new(FRAMES_SECS), bytes: RecentUse::new(BYTES_SECS) }
    }

    fn has_room(&mut self, node: &PeerId, bytes: usize, now: Instant) -> bool {
        let has_room = |use_: &mut RecentUse<PeerId>, more: usize, limit: usize| {
            use_.expire(now);
            let (used, held) = (use_.used() + more, use_.used_by(node).unwrap_or_default() + more);
            let is_quiet = held <= limit / QUIET_PART && used <= with_reserve(limit);
            is_quiet || held <= limit.saturating_sub(used) * SHARE_OF_FREE
        };
        has_room(&mut self.frames, 1, ALL_STRANGERS_FRAMES)
            && has_room(&mut self.bytes, bytes, ALL_STRANGERS_BYTES)
    }

    fn record(&mut self, node: PeerId, bytes: usize, now: Instant) {
        self.frames.record(1, Some(node), now);
        self.bytes.record(bytes, Some(node), now);
    }
}

/// For whom a frame is: the nodes themselves have topics, and a flood of the others must not stop their mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TopicKind {
    OfNodes,
    OfAgents,
}

/// The limits of frames on topics.
#[derive(Debug)]
pub(crate) struct AuthorLimits {
    forwarded: Meter<Address>,
    /// By topic, of those that the node met and of others.
    of_strangers: [[StrangerFrames; 2]; 2],
    own_by_arrival: Meter<PeerId>,
    own_by_claim: Meter<PeerId>,
}

impl Default for AuthorLimits {
    fn default() -> Self {
        let of_neighbours = |quota: Quota| Quota { max_keys: MAX_PEERS, ..quota };
        let own = || Meter::new(of_neighbours(AUTHOR_FRAMES), of_neighbours(AUTHOR_BYTES));
        AuthorLimits {
            forwarded: Meter::new(AUTHOR_FRAMES, AUTHOR_BYTES),
            of_strangers: [(); 2].map(|()| [(); 2].map(|()| StrangerFrames::new())),
            own_by_arrival: own(),
            own_by_claim: own(),
        }
    }
}

impl AuthorLimits {
    /// Returns `true` if a frame that names this author is within what nodes forward of it. Of an
    /// allowed author, bytes alone are limited, by the gossip budget.
    pub(crate) fn has_room(
        &mut self,
        author: Author<'_>,
        topic: TopicKind,
        bytes: usize,
        now: Instant,
    ) -> bool {
        match author.tier {
            Tier::Allowed => true,
            _ if !self.forwarded.wait(author.agent, 1, units(bytes), now).is_zero() => false,
            Tier::Known => true,
            Tier::Stranger => self.strangers(author, topic).has_room(author.node, bytes, now),
        }
    }

    /// Counts a verified frame of an author.
    pub(crate) fn charge(&mut self, author: Author<'_>, topic: TopicKind, bytes: usize, now: Instant) {
        if author.tier == Tier::Allowed {
            return;
        }
        self.forwarded.charge(*author.agent, 1, units(bytes), now);
        if author.tier == Tier::Stranger {
            self.strangers(author, topic).record(*author.node, bytes, now);
        }
    }

    fn strangers(&mut self, author: Author<'_>, topic: TopicKind) -> &mut StrangerFrames {
        &mut self.of_strangers[topic as usize][usize::from(author.is_met)]
    }

    /// Counts a frame that names the neighbour that sent it as its author. Returns what the neighbour
    /// did if the frame is above the limits of an author, to which a node keeps its own frames.
    ///
    /// The connection proves that the neighbour wrote the frame. It may have written the frame long before,
    /// and the network may have delayed many of them. So a frame counts as above the limits only if it is
    /// by its arrival, and also by the time that it claims. Jumps of clocks fail the second check alone.
    pub(crate) fn check_own_frame(
        &mut self,
        from: PeerId,
        claim: &FrameClaim,
        bytes: usize,
        now: Now,
    ) -> Option<Conduct> {
        // A frame outside the accepted times claims nothing better than the nearest of them.
        let oldest = now.unix_ms.saturating_sub(MAX_FRAME_AGE_MS);
        let latest = now.unix_ms.saturating_add(MAX_SKEW_SECS * 1000);
        let claimed = Instant::from_millis(claim.created_at_ms.clamp(oldest, latest));
        let bytes = units(bytes);
        let by_arrival = [
            take(&mut self.own_by_arrival.items, from, 1, now.mono),
            take(&mut self.own_by_arrival.bytes, from, bytes, now.mono),
        ];
        let by_claim = [
            take(&mut self.own_by_claim.items, from, 1, claimed),
            take(&mut self.own_by_claim.bytes, from, bytes, claimed),
        ];
        let [frames, bytes] = [0, 1].map(|index| !by_arrival[index] && !by_claim[index]);
        match (frames, bytes) {
            (_, true) => Some(Conduct::BandwidthExceeded),
            (true, false) => Some(Conduct::MessageRateExceeded),
            (false, false) => None,
        }
    }

    /// Returns the size of each collection, with its limit.
    pub(crate) fn usage(&self) -> impl Iterator<Item = Usage> {
        let strangers = self.of_strangers.iter().flatten();
        let frames = strangers.clone().map(|strangers| strangers.frames.used()).max().unwrap_or_default();
        let bytes = strangers.map(|strangers| strangers.bytes.used()).max().unwrap_or_default();
        [
            ("authors of frames", self.forwarded.len(), MAX_AUTHORS),
            ("recent frames of strangers", frames, with_reserve(ALL_STRANGERS_FRAMES)),
            ("recent bytes of strangers", bytes, with_reserve(ALL_STRANGERS_BYTES)),
            ("neighbours with own frames", self.own_by_arrival.len().max(self.own_by_claim.len()), MAX_PEERS),
        ]
        .map(|(name, size, limit)| Usage { name, size, limit })
        .into_iter()
    }
}

/// Returns a limit with what is for quiet strangers alone.
const fn with_reserve(limit: usize) -> usize {
    limit + limit / RESERVE_PART
}

/// Counts units of a key if they are within its quota. Returns `false` if they are not.
fn take(limiter: &mut RateLimiter<PeerId>, key: PeerId, units: u32, now: Instant) -> bool {
    let has_room = limiter.wait(&key, units, now).is_some_and(|wait| wait.is_zero());
    if has_room {
        limiter.charge(key, units, now);
    }
    has_room
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: Address = Address::repeat_byte(1);
    const NOW: Instant = Instant::from_secs(100);

    fn forward(limits: &mut AuthorLimits, author: Author<'_>, bytes: usize, now: Instant) -> bool {
        let has_room = limits.has_room(author, TopicKind::OfAgents, bytes, now);
        if has_room {
            limits.charge(author, TopicKind::OfAgents, bytes, now);
        }
        has_room
    }

    #[test]
    fn forwarding_limits_frames_and_bytes_of_each_author_but_allowed_ones() {
        let mut limits = AuthorLimits::default();
        let node = PeerId::random();
        let author = |tier| Author { agent: &ANN, node: &node, tier, is_met: true };
        let mut count =
            |tier, bytes, now| (0..2_000).filter(|_| forward(&mut limits, author(tier), bytes, now)).count();
        assert_eq!(count(Tier::Known, 100, NOW), 100);
        assert_eq!(count(Tier::Stranger, 100, NOW + Duration::from_secs(1)), 20);
        assert_eq!(count(Tier::Allowed, 100, NOW), 2_000);
        let later = NOW + Duration::from_secs(60);
        assert_eq!(count(Tier::Known, 1 << 20, later), 10, "five seconds of 2 MiB");
    }

    #[test]
    fn strangers_that_flood_share_what_a_parent_takes_of_strangers_and_leave_room_for_quiet_ones() {
        let of_one = |limits: &mut AuthorLimits, number: u8, now| {
            let node = p2p_node_wire::identity::NodeKey::from_seed([number; 32]).peer_id();
            let agent = Address::repeat_byte(number);
            let author = Author { agent: &agent, node: &node, tier: Tier::Stranger, is_met: true };
            forward(limits, author, 100, now)
        };
        for floods in [1, 5, 10, 20] {
            let mut limits = AuthorLimits::default();
            let mut forwarded = 0;
            for millis in (0..60_000).step_by(10) {
                let now = NOW + Duration::from_millis(millis);
                forwarded += (0..floods).filter(|number| of_one(&mut limits, *number, now)).count();
            }
            let most = 53.min(20 * usize::from(floods));
            let each_second = forwarded / 60;
            assert!((most * 3 / 4..=most + 4).contains(&each_second), "{floods}: {each_second}");
            let end = NOW + Duration::from_secs(60);
            let quiet = (0..40).filter(|number| of_one(&mut limits, 100 + number % 20, end)).count();
            assert_eq!(quiet, 40, "{floods}: two frames of each of twenty quiet strangers");
            assert!(limits.usage().all(|usage| usage.size <= usage.limit));
        }
    }

    #[test]
    fn strangers_share_bytes_and_leave_room_for_small_frames_and_for_the_topics_of_nodes() {
        let mut limits = AuthorLimits::default();
        let nodes: Vec<PeerId> = (0..20).map(|_| PeerId::random()).collect();
        let author = |node| Author { agent: &ANN, node, tier: Tier::Stranger, is_met: true };
        for (bytes, alone) in [(60 << 10, 2), (1 << 10, 170)] {
            let mut limits = AuthorLimits::default();
            let room = |limits: &mut AuthorLimits| {
                let strangers = limits.strangers(author(&nodes[0]), TopicKind::OfAgents);
                let has_room = strangers.has_room(&nodes[0], bytes, NOW);
                strangers.bytes.record(if has_room { bytes } else { 0 }, Some(nodes[0]), NOW);
                has_room
            };
            assert_eq!((0..1_000).filter(|_| room(&mut limits)).count(), alone);
        }
        let strangers = &mut limits.of_strangers[TopicKind::OfAgents as usize][1];
        for _ in 0..100 {
            for node in &nodes {
                if strangers.has_room(node, 17 << 10, NOW) {
                    strangers.record(*node, 17 << 10, NOW);
                }
            }
        }
        assert!(!strangers.has_room(&nodes[0], 17 << 10, NOW));
        let quiet = PeerId::random();
        let sent = (0..8).filter(|_| forward(&mut limits, author(&quiet), 600, NOW)).count();
        assert_eq!(sent, 8, "a quiet stranger");
        assert!(limits.has_room(author(&nodes[0]), TopicKind::OfNodes, 60 << 10, NOW));
        let later = NOW + Duration::from_secs(2);
        assert!(limits.has_room(author(&nodes[0]), TopicKind::OfAgents, 60 << 10, later));
    }

    fn own_frames(limits: &mut AuthorLimits, created_at_ms: u64, bytes: usize, now: Now) -> Option<Conduct> {
        let peer_id = PeerId::from_bytes(&[&[0, 36, 8, 1, 18, 32][..], &[7; 32]].concat()).unwrap();
        let claim = FrameClaim { account: ANN, peer_id, created_at_ms };
        limits.check_own_frame(peer_id, &claim, bytes, now)
    }

    fn at(millis: u64) -> Now {
        Now { mono: Instant::from_millis(1_000_000 + millis), unix_ms: 1_700_000_000_000 + millis }
    }

    #[test]
    fn neighbour_that_floods_with_its_own_frames_or_bytes_is_to_blame() {
        let mut limits = AuthorLimits::default();
        let blame = |limits: &mut AuthorLimits, bytes| {
            (0..200)
                .filter_map(|number| own_frames(limits, at(number * 5).unix_ms, bytes, at(number * 5)))
                .last()
        };
        assert_eq!(blame(&mut limits, 100), Some(Conduct::MessageRateExceeded));
        assert_eq!(blame(&mut AuthorLimits::default(), 1 << 20), Some(Conduct::BandwidthExceeded));
        // Nor does it help to claim that the frames are old.
        let old = |number: u64| own_frames(&mut limits, 0, 100, at(2_000 + number * 5));
        assert_eq!((0..200).filter_map(old).last(), Some(Conduct::MessageRateExceeded));
    }

    /// A node sends a burst of 88 frames and 17 a second; see `own_pace`.
    #[test]
    fn neighbour_that_keeps_its_pace_is_never_to_blame_after_a_stall_or_a_jump_of_a_clock() {
        let created = |number: u64| number.saturating_sub(88) * 57;
        for (stalled_ms, jump_back_ms) in [(0, 0), (110_000, 0), (0, 60_000)] {
            let mut limits = AuthorLimits::default();
            for number in 0..3_000 {
                let sent = created(number);
                // The network holds all frames of the stall back and delivers them at once.
                let arrival = at(sent.max(stalled_ms));
                let jumped = if sent > 60_000 { jump_back_ms } else { 0 };
                let claimed = at(sent).unix_ms - jumped;
                assert_eq!(own_frames(&mut limits, claimed, 100, arrival), None, "{stalled_ms} {number}");
            }
        }
    }
}
