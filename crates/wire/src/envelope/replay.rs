//! Replay protection: a sliding window of frame counters for every process of every node.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::identity::NodePublicKey;
use crate::lru_map::LruMap;
use crate::time::{Instant, Now};

/// Refusal code: the recipient has seen the counter of the frame, or the counter is below the
/// window.
pub const REPLAYED: &str = "REPLAYED";
/// Refusal code: the recipient cannot remember the frame, or cannot tell it from a frame of an
/// evicted window.
pub const UNREMEMBERED: &str = "UNREMEMBERED";

/// Number of counters that a window covers: 1,024, far more than the frames of one process that are
/// in flight at a time.
pub const WINDOW_BITS: u64 = 1024;

/// Largest number of windows: one for every agent of a network of thousands. Each takes about 200
/// bytes, together less than 1 MiB.
pub const MAX_WINDOWS: usize = 4096;

/// Largest number of windows of one node key. After more restarts in a short time the node tracks
/// only the latest processes. A node that invents processes uses up its own share only.
pub const MAX_BOOTS_PER_KEY: usize = 16;

/// Idle time after which a window of a key that has all its windows may be evicted. It is longer
/// than the 2.5 minutes (30 s ahead to 2 minutes back) in which a frame is accepted, so no frame
/// outlives the window that remembers it.
pub const WINDOW_IDLE: Duration = Duration::from_secs(5 * 60);

/// Largest number of keys with evicted windows of earlier processes: as many keys as can have all
/// their windows in use at once.
pub const MAX_OUTLIVED: usize = MAX_WINDOWS / MAX_BOOTS_PER_KEY;

const WORDS: usize = (WINDOW_BITS / 64) as usize;

/// The result of a check against the windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// The counter is new.
    Fresh,
    /// The counter was seen before.
    Seen,
    /// The counter is below the window of its process, so the node cannot know if it was seen.
    TooOld,
    /// The frame is as old as frames of evicted windows.
    Forgotten,
    /// The key has too many processes to track another, so the frame must not be accepted.
    Full,
}

impl Replay {
    /// Returns the refusal code for the sender, or `None` if the frame is fresh.
    pub fn code(self) -> Option<&'static str> {
        match self {
            Replay::Fresh => None,
            Replay::Seen | Replay::TooOld => Some(REPLAYED),
            Replay::Forgotten | Replay::Full => Some(UNREMEMBERED),
        }
    }
}

/// Identity of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameId {
    /// Node key of the sender.
    pub key: NodePublicKey,
    /// Random number of the sender's process.
    pub boot: u64,
    /// Number of the frame in that process.
    pub counter: u64,
    /// Time at which the sender made the frame, by the sender's clock, in ms since 1970.
    pub created_ms: u64,
}

type Name = (NodePublicKey, u64);

/// The windows of all processes. When a new window needs space, the node evicts the least recently
/// used one, and from then on rejects frames without a window that are not newer than that use. So
/// a node that invents keys can evict windows, but cannot make the others accept a replay or shut
/// anybody out.
#[derive(Clone, Debug, Default)]
pub struct ReplayWindows {
    windows: LruMap<Name, Window>,
    /// By node key: the latest frame time of processes whose windows were evicted for later
    /// processes of the same key.
    outlived: BTreeMap<NodePublicKey, Outlived>,
    /// Latest time at which an evicted window was used, in ms since 1970 by our clock.
    floor_ms: u64,
}

impl ReplayWindows {
    /// Returns what [`ReplayWindows::commit`] would return, without remembering the frame, because
    /// its signature is not verified yet.
    pub fn check(&self, stamp: &FrameId, now: Now) -> Replay {
        match self.windows.get(&(stamp.key, stamp.boot)) {
            Some(window) => window.look(stamp.counter),
            None if stamp.created_ms <= self.floor_ms => Replay::Forgotten,
            None if self.outlived.get(&stamp.key).is_some_and(|gone| stamp.created_ms <= gone.created_ms) => {
                Replay::Forgotten
            }
            None if self.evictable_window(stamp, now).is_err() => Replay::Full,
            None => Replay::Fresh,
        }
    }

    /// Remembers an authentic frame. Only this result is final, because another copy may have been
    /// committed since `check`. The caller may use the frame only if the result is `Fresh`.
    pub fn commit(&mut self, stamp: &FrameId, now: Now) -> Replay {
        let name = (stamp.key, stamp.boot);
        if let Some(window) = self.windows.get_mut(&name) {
            let replay = window.mark(stamp, now);
            if replay == Replay::Fresh {
                self.windows.touch(&name);
            }
            return replay;
        }
        let replay = self.check(stamp, now);
        if replay == Replay::Fresh {
            if let Ok(Some(idle)) = self.evictable_window(stamp, now) {
                self.outlive(idle, now.mono);
            }
            while self.windows.len() >= MAX_WINDOWS
                && let Some((oldest, _)) = self.windows.oldest()
            {
                self.forget(*oldest);
            }
            self.windows.insert(name, Window::starting_at(stamp, now));
        }
        replay
    }

    /// Returns the number of keys with evicted windows of earlier processes.
    pub fn outlived(&self) -> usize {
        self.outlived.len()
    }

    /// Shifts the times noted by our clock after that clock jumped by `jump_ms`. Times noted by
    /// other clocks stay.
    pub fn clock_jumped(&mut self, jump_ms: i64) {
        self.floor_ms = self.floor_ms.saturating_add_signed(jump_ms);
        for window in self.windows.values_mut() {
            window.used_ms = window.used_ms.saturating_add_signed(jump_ms);
        }
    }

    /// Returns the number of windows.
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// Returns `true` if there are no windows.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// Returns the window of this key to evict for another process, if any is needed, or an error
    /// if none may be evicted.
    fn evictable_window(&self, stamp: &FrameId, now: Now) -> Result<Option<Name>, ()> {
        let all = (stamp.key, 0)..=(stamp.key, u64::MAX);
        let boots = || self.windows.range(all.clone());
        if boots().count() < MAX_BOOTS_PER_KEY {
            return Ok(None);
        }
        // A restarted process makes frames that are newer than all frames of the processes before
        // it. So a window may be evicted at once if the new frame is newer than every frame of this
        // key: old frames stay recognisable by their age.
        if boots().all(|(_, window)| window.created_ms < stamp.created_ms) {
            return Ok(boots().min_by_key(|(_, window)| window.created_ms).map(|(name, _)| *name));
        }
        let idle = self
            .windows
            .oldest_in(all, |_| true)
            .filter(|(_, window)| now.mono.saturating_since(window.used) > WINDOW_IDLE);
        idle.map(|(name, _)| Some(*name)).ok_or(())
    }

    /// Evicts a window for a later process of the same key. This rejects neither frames of other
    /// keys nor of later processes, whatever the node's clock says.
    fn outlive(&mut self, name: Name, now: Instant) {
        let Some(window) = self.windows.remove(&name) else { return };
        self.outlived.retain(|_, gone| now.saturating_since(gone.at) <= WINDOW_IDLE);
        if self.outlived.len() >= MAX_OUTLIVED && !self.outlived.contains_key(&name.0) {
            // The table is full, so the limit for all keys is raised, as after an eviction for
            // another key.
            self.floor_ms = self.floor_ms.max(window.used_ms);
            return;
        }
        let gone = self.outlived.entry(name.0).or_insert(Outlived { at: now, created_ms: 0 });
        *gone = Outlived { at: now, created_ms: gone.created_ms.max(window.created_ms) };
    }

    fn forget(&mut self, name: Name) {
        if let Some(window) = self.windows.remove(&name) {
            self.floor_ms = self.floor_ms.max(window.used_ms);
        }
    }
}

/// Summary of the evicted windows of one key.
#[derive(Clone, Copy, Debug)]
struct Outlived {
    /// Time of the last eviction. After [`WINDOW_IDLE`] no evicted frame is young
    /// enough to be accepted, so the entry can go.
    at: Instant,
    /// Time of the latest frame of the evicted windows, by the node's clock.
    created_ms: u64,
}

/// The highest counter seen, and a bitmap of the counters below it: bit `n % 1024` stands for
/// counter `n`.
#[derive(Clone, Debug)]
struct Window {
    highest: u64,
    seen: [u64; WORDS],
    /// Time of the last use.
    used: Instant,
    /// Time of the last use, by our wall clock.
    used_ms: u64,
    /// Time of the latest frame, by the node's clock.
    created_ms: u64,
}

impl Window {
    fn starting_at(stamp: &FrameId, now: Now) -> Self {
        let FrameId { counter, created_ms, .. } = *stamp;
        let mut window =
            Window { highest: counter, seen: [0; WORDS], used: now.mono, used_ms: now.unix_ms, created_ms };
        window.set(counter);
        window
    }

    fn look(&self, counter: u64) -> Replay {
        if counter > self.highest {
            Replay::Fresh
        } else if self.highest - counter >= WINDOW_BITS {
            Replay::TooOld
        } else if self.seen[word(counter)] & bit(counter) != 0 {
            Replay::Seen
        } else {
            Replay::Fresh
        }
    }

    fn mark(&mut self, stamp: &FrameId, now: Now) -> Replay {
        let replay = self.look(stamp.counter);
        if replay == Replay::Fresh {
            self.advance(stamp.counter);
            self.set(stamp.counter);
            self.created_ms = self.created_ms.max(stamp.created_ms);
            self.used = now.mono;
            self.used_ms = now.unix_ms;
        }
        replay
    }

    /// Makes `counter` the highest one and clears the bits of the counters that enter the window.
    fn advance(&mut self, counter: u64) {
        if counter <= self.highest {
            return;
        }
        if counter - self.highest >= WINDOW_BITS {
            self.seen = [0; WORDS];
        } else {
            for entering in self.highest + 1..=counter {
                self.seen[word(entering)] &= !bit(entering);
            }
        }
        self.highest = counter;
    }

    fn set(&mut self, counter: u64) {
        self.seen[word(counter)] |= bit(counter);
    }
}

fn word(counter: u64) -> usize {
    (counter % WINDOW_BITS / 64) as usize
}

fn bit(counter: u64) -> u64 {
    1 << (counter % 64)
}

#[cfg(test)]
mod tests;
