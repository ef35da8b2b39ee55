//! The limits of frames on topics by author: what a node forwards, and what a neighbour may send of
//! its own. A frame names its author before anything is verified, so only verified frames count against
//! an author. Otherwise a forger could use up the limits of others.

use std::time::Duration;

use alloy_primitives::Address;
use libp2p_identity::PeerId;
use p2p_node_wire::envelope::FrameClaim;
use p2p_node_wire::identity::binding::MAX_SKEW_SECS;
use p2p_node_wire::time::Instant;

use super::{Author, MAX_AUTHORS, MAX_PEERS, Meter, STRANGER_MESSAGES, STRANGERS, quota, units};
use crate::budget::share_of_free;
use crate::gate::rate_limiter::Quota;
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
/// Frames of all strangers together that a node forwards in [`FRAMES_SECS`] and the current second, in each
/// of four pools (see [`AuthorLimits`]): as many as messages of strangers reach a parent, 53 a second,
/// because a frame has at least one.
const ALL_STRANGERS_FRAMES: usize = (STRANGER_MESSAGES.burst * STRANGERS * BURST_SECS) as usize / 60;
/// Time for which the frames of strangers count, in full seconds before the current one.
const FRAMES_SECS: u64 = BURST_SECS as u64 - 1;
/// Bytes of all strangers together that a node forwards in this second and the one before, in each of the
/// four pools: 128 KiB a second, our choice, seven times the quota of a stranger. Each byte comes and goes
/// eight times, so a flood that fills all pools and their reserves costs a node 10 MiB a second of traffic.
const ALL_STRANGERS_BYTES: usize = 256 << 10;
/// Time for which the bytes of strangers count, in full seconds before the current one. It is short, so that
/// a flood that begins does not use up much at once.
const BYTES_SECS: u64 = 1;
/// Frames, or bytes, of one stranger for each that is free: our choice. One that is alone has two thirds:
/// as much as an honest node sends (`own_pace` asserts it). Of twenty that flood each gets three frames a
/// second, and leaves a quiet one as much.
const AUTHOR_TIMES_FREE: usize = 2;
/// Frames, or bytes, of strangers by one neighbour for each that is free: our choice, as for what waits for
/// the crypto pool. A neighbour alone has four fifths, however many authors it invents.
const NEIGHBOUR_TIMES_FREE: usize = 4;

/// Part of these limits (one 64th) up to which a stranger is quiet: our choice, four frames and 4 KiB.
const QUIET_PART: usize = 64;
/// Part of these limits (a quarter) that is for quiet strangers alone, on top: our choice. Those that flood
/// fill what they share again and again, and quiet ones come in bursts, too.
const RESERVE_PART: usize = 4;

/// Frames that nodes forward in five seconds of a stranger that is alone.
pub(crate) const FRAMES_OF_ONE_STRANGER: usize = of_one(ALL_STRANGERS_FRAMES);
/// Bytes that nodes forward in two seconds of a stranger that is alone.
pub(crate) const BYTES_OF_ONE_STRANGER: usize = of_one(ALL_STRANGERS_BYTES);

const fn of_one(limit: usize) -> usize {
    limit * AUTHOR_TIMES_FREE / (AUTHOR_TIMES_FREE + 1)
}

/// Longest time for which the network, or a suspended machine, may hold back the frames of a neighbour
/// without blame: an hour, our choice, far longer than connections outlast. A neighbour gains nothing by
/// claiming such times: the node ignores old frames.
const LONGEST_STALL: Duration = Duration::from_secs(3_600);

/// The author of a frame, and its way to this node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passage<'a> {
    pub(crate) author: Author<'a>,
    /// The neighbour that brought the frame.
    pub(crate) from: PeerId,
    pub(crate) topic: TopicKind,
}

/// A number of frames, or of bytes, in the last seconds, which authors and neighbours share.
#[derive(Debug)]
struct Pool {
    limit: usize,
    by_author: RecentUse<PeerId>,
    by_neighbour: RecentUse<PeerId>,
}

impl Pool {
    fn new(limit: usize, secs: u64) -> Self {
        Pool { limit, by_author: RecentUse::new(secs), by_neighbour: RecentUse::new(secs) }
    }

    /// Returns `true` if neither the author nor the neighbour takes more than its share of what is free.
    fn has_room(&mut self, node: &PeerId, from: &PeerId, more: usize) -> bool {
        let used = self.by_author.used() + more;
        [(&self.by_author, node, AUTHOR_TIMES_FREE), (&self.by_neighbour, from, NEIGHBOUR_TIMES_FREE)]
            .into_iter()
            .all(|(by, key, times)| {
                by.used_by(key).unwrap_or_default() + more <= share_of_free(self.limit, used, times)
            })
    }

    fn expire(&mut self, now: Instant) {
        self.by_author.expire(now);
        self.by_neighbour.expire(now);
    }

    fn record(&mut self, node: PeerId, from: PeerId, used: usize, now: Instant) {
        self.by_author.record(used, Some(node), now);
        self.by_neighbour.record(used, Some(from), now);
    }

    fn used_by(&self, node: &PeerId) -> usize {
        self.by_author.used_by(node).unwrap_or_default()
    }
}

/// What all strangers share, and the reserve of the quiet ones.
#[derive(Debug)]
struct Pools {
    shared: Pool,
    reserve: Pool,
}

impl Pools {
    fn new(limit: usize, secs: u64) -> Self {
        Pools { shared: Pool::new(limit, secs), reserve: Pool::new(limit / RESERVE_PART, secs) }
    }

    /// Returns the pool that has room for so much more, if one has.
    fn pool(&mut self, node: &PeerId, from: &PeerId, more: usize, now: Instant) -> Option<&mut Pool> {
        self.shared.expire(now);
        self.reserve.expire(now);
        if self.shared.has_room(node, from, more) {
            return Some(&mut self.shared);
        }
        let held = self.shared.used_by(node) + self.reserve.used_by(node) + more;
        let is_quiet = held <= self.shared.limit / QUIET_PART;
        (is_quiet && self.reserve.has_room(node, from, more)).then_some(&mut self.reserve)
    }

    fn used(&self) -> usize {
        self.shared.by_author.used() + self.reserve.by_author.used()
    }
}

/// Frames of strangers in the last seconds, by node and by neighbour.
#[derive(Debug)]
struct StrangerFrames {
    frames: Pools,
    bytes: Pools,
}

impl StrangerFrames {
    fn new() -> Self {
        StrangerFrames {
            frames: Pools::new(ALL_STRANGERS_FRAMES, FRAMES_SECS),
            bytes: Pools::new(ALL_STRANGERS_BYTES, BYTES_SECS),
        }
    }

    fn has_room(&mut self, node: &PeerId, from: &PeerId, bytes: usize, now: Instant) -> bool {
        self.frames.pool(node, from, 1, now).is_some() && self.bytes.pool(node, from, bytes, now).is_some()
    }

    /// Counts a frame that has room.
    fn record(&mut self, node: PeerId, from: PeerId, bytes: usize, now: Instant) {
        for (pools, used) in [(&mut self.frames, 1), (&mut self.bytes, bytes)] {
            if let Some(pool) = pools.pool(&node, &from, used, now) {
                pool.record(node, from, used, now);
            }
        }
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
    /// Four pools: by the kind of the topic, and by whether the node met the author.
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
    pub(crate) fn has_room(&mut self, frame: Passage<'_>, bytes: usize, now: Instant) -> bool {
        let author = frame.author;
        match author.tier {
            Tier::Allowed => true,
            _ if !self.forwarded.wait(author.agent, 1, units(bytes), now).is_zero() => false,
            Tier::Known => true,
            Tier::Stranger => self.strangers(frame).has_room(author.node, &frame.from, bytes, now),
        }
    }

    /// Counts a verified frame of an author. Returns `false` if it is above what nodes forward of it.
    pub(crate) fn admit(&mut self, frame: Passage<'_>, bytes: usize, now: Instant) -> bool {
        let has_room = self.has_room(frame, bytes, now);
        if has_room {
            self.charge(frame, bytes, now);
        }
        has_room
    }

    fn charge(&mut self, frame: Passage<'_>, bytes: usize, now: Instant) {
        let author = frame.author;
        if author.tier == Tier::Allowed {
            return;
        }
        self.forwarded.charge(*author.agent, 1, units(bytes), now);
        if author.tier == Tier::Stranger {
            self.strangers(frame).record(*author.node, frame.from, bytes, now);
        }
    }

    fn strangers(&mut self, frame: Passage<'_>) -> &mut StrangerFrames {
        &mut self.of_strangers[frame.topic as usize][usize::from(frame.author.is_met)]
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
        // A frame outside these times claims nothing better than the nearest of them.
        let oldest = now.unix_ms.saturating_sub(LONGEST_STALL.as_millis() as u64);
        let latest = now.unix_ms.saturating_add(MAX_SKEW_SECS * 1000);
        let claimed = Instant::from_millis(claim.created_at_ms.clamp(oldest, latest));
        let bytes = units(bytes);
        let by_arrival = [
            self.own_by_arrival.items.admit_units(from, 1, now.mono),
            self.own_by_arrival.bytes.admit_units(from, bytes, now.mono),
        ];
        let by_claim = [
            self.own_by_claim.items.admit_units(from, 1, claimed),
            self.own_by_claim.bytes.admit_units(from, bytes, claimed),
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

#[cfg(test)]
mod tests;
