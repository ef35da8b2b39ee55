//! Which frames were seen: a sliding window of counters for every process of every node.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::time::Now;

/// What the sender of a frame is told whose counter was seen, or is below the window: it has used the counter before.
pub const REPLAYED: &str = "REPLAYED";
/// What the sender of a frame is told that cannot be remembered, or not be told from one that a window knew which had to go.
pub const UNREMEMBERED: &str = "UNREMEMBERED";

/// Counters that a window covers (design §4).
pub const WINDOW_BITS: u64 = 1024;

/// Most windows, each about 200 bytes: one for every agent of a network of thousands, in less than 1 MiB.
pub const MAX_WINDOWS: usize = 4096;

/// Most windows of one node key. One that was started again more often in short order has only the latest remembered; a node that invents
/// processes fills its own share and nobody else's.
pub const MAX_BOOTS_PER_KEY: usize = 16;

/// How long an unused window of a key with many is kept. Longer than the 2.5 minutes from 30 s ahead to 2 minutes back in which
/// a frame is accepted, so that no frame outlives the window that remembers it.
pub const WINDOW_IDLE: Duration = Duration::from_secs(5 * 60);

/// Most keys of which it is remembered that earlier processes of theirs were forgotten: as many as can have all their windows full at once.
pub const MAX_OUTLIVED: usize = MAX_WINDOWS / MAX_BOOTS_PER_KEY;

const WORDS: usize = (WINDOW_BITS / 64) as usize;

/// What the windows say about a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// Never seen.
    Fresh,
    /// Seen.
    Seen,
    /// So far behind the others of its process that it cannot be told.
    TooOld,
    /// As old as the windows that had to go.
    Forgotten,
    /// The node has had too many processes to remember another, so it must not be accepted.
    Full,
}

impl Replay {
    /// What the sender is told, unless the frame is fresh.
    pub fn code(self) -> Option<&'static str> {
        match self {
            Replay::Fresh => None,
            Replay::Seen | Replay::TooOld => Some(REPLAYED),
            Replay::Forgotten | Replay::Full => Some(UNREMEMBERED),
        }
    }
}

/// What tells a frame from every other of its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameId {
    /// The node.
    pub key: [u8; 32],
    /// Its process.
    pub boot: u64,
    /// The frame's number in it.
    pub counter: u64,
    /// When it was made, by the node's clock, in ms since 1970.
    pub created_ms: u64,
}

type Name = ([u8; 32], u64);

/// All windows. When there is no room for another, the one that was used longest ago goes, and nothing that is older than that
/// use is fresh any more unless a window knows it: so those who make up nodes may push out windows, but keep nobody out.
#[derive(Clone, Debug, Default)]
pub struct ReplayWindows {
    windows: BTreeMap<Name, Window>,
    by_use: BTreeSet<(Duration, Name)>,
    /// Of node keys that have had more processes than are remembered: what those that went have said is not newer than this.
    outlived: BTreeMap<[u8; 32], Outlived>,
    /// When the windows that went were used last, at most, in ms since 1970 by our clock.
    floor_ms: u64,
}

impl ReplayWindows {
    /// What [`ReplayWindows::commit`] would say; remembers nothing, because nothing is proven yet.
    pub fn check(&self, stamp: &FrameId, now: Now) -> Replay {
        match self.windows.get(&(stamp.key, stamp.boot)) {
            Some(window) => window.look(stamp.counter),
            None if stamp.created_ms <= self.floor_ms => Replay::Forgotten,
            None if self.outlived.get(&stamp.key).is_some_and(|gone| stamp.created_ms <= gone.made_ms) => {
                Replay::Forgotten
            }
            None if self.idle_boot(stamp, now).is_err() => Replay::Full,
            None => Replay::Fresh,
        }
    }

    /// Remembers an authentic frame. Its answer is the one that counts: another copy may have been committed since `check`. Only
    /// a `Fresh` frame may be used.
    pub fn commit(&mut self, stamp: &FrameId, now: Now) -> Replay {
        let name = (stamp.key, stamp.boot);
        if let Some(window) = self.windows.get_mut(&name) {
            let used = window.used;
            let replay = window.mark(stamp, now);
            if replay == Replay::Fresh {
                self.by_use.remove(&(used, name));
                self.by_use.insert((now.mono, name));
            }
            return replay;
        }
        let replay = self.check(stamp, now);
        if replay == Replay::Fresh {
            if let Ok(Some(idle)) = self.idle_boot(stamp, now) {
                self.outlive(idle, now.mono);
            }
            while self.windows.len() >= MAX_WINDOWS
                && let Some((_, oldest)) = self.by_use.first().copied()
            {
                self.forget(oldest);
            }
            self.by_use.insert((now.mono, name));
            self.windows.insert(name, Window::starting_at(stamp, now));
        }
        replay
    }

    /// Keys of which earlier processes were forgotten.
    pub fn outlived(&self) -> usize {
        self.outlived.len()
    }

    /// Our clock has jumped by so much: what was noted by it is of another time. What was noted by the clocks of others stays.
    pub fn clock_jumped(&mut self, jump_ms: i64) {
        self.floor_ms = self.floor_ms.saturating_add_signed(jump_ms);
        for window in self.windows.values_mut() {
            window.used_ms = window.used_ms.saturating_add_signed(jump_ms);
        }
    }

    /// How many windows there are.
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// Which window of this key has to go for that of another process, if any; an error when none may.
    fn idle_boot(&self, stamp: &FrameId, now: Now) -> Result<Option<Name>, ()> {
        let boots = || self.windows.range((stamp.key, 0)..=(stamp.key, u64::MAX));
        if boots().count() < MAX_BOOTS_PER_KEY {
            return Ok(None);
        }
        // What a process says after it was started is newer than all that those before it said, and what the one that goes has said is
        // older than that, whenever it is heard again.
        if boots().all(|(_, window)| window.made_ms < stamp.created_ms) {
            return Ok(boots().min_by_key(|(_, window)| window.made_ms).map(|(name, _)| *name));
        }
        let oldest = boots().min_by_key(|(_, window)| window.used);
        let idle = oldest.filter(|(_, window)| now.mono.saturating_sub(window.used) > WINDOW_IDLE);
        idle.map(|(name, _)| Some(*name)).ok_or(())
    }

    /// Forgets a window for that of a later process of the same key: nobody else, and no later process, is kept out by that, whatever the node's
    /// clock says.
    fn outlive(&mut self, name: Name, now: Duration) {
        let Some(window) = self.windows.remove(&name) else { return };
        self.by_use.remove(&(window.used, name));
        self.outlived.retain(|_, gone| now.saturating_sub(gone.at) <= WINDOW_IDLE);
        if self.outlived.len() >= MAX_OUTLIVED && !self.outlived.contains_key(&name.0) {
            // As when a window has to make room for that of another key.
            self.floor_ms = self.floor_ms.max(window.used_ms);
            return;
        }
        let gone = self.outlived.entry(name.0).or_insert(Outlived { at: now, made_ms: 0 });
        *gone = Outlived { at: now, made_ms: gone.made_ms.max(window.made_ms) };
    }

    fn forget(&mut self, name: Name) {
        if let Some(window) = self.windows.remove(&name) {
            self.by_use.remove(&(window.used, name));
            self.floor_ms = self.floor_ms.max(window.used_ms);
        }
    }
}

/// What is left of the windows of processes that made room for later ones of the same key.
#[derive(Clone, Copy, Debug)]
struct Outlived {
    /// When the last of them went, by `Now::mono`: when no frame of theirs can be young enough any more, nothing has to be left.
    at: Duration,
    /// When the latest of their frames was made, by the node's clock.
    made_ms: u64,
}

/// The highest counter seen, and which of those below it were: bit `n % 1024` stands for counter `n`.
#[derive(Clone, Debug)]
struct Window {
    highest: u64,
    seen: [u64; WORDS],
    /// By `Now::mono`.
    used: Duration,
    /// The same by our wall clock.
    used_ms: u64,
    /// When the latest of its frames was made, by the node's clock.
    made_ms: u64,
}

impl Window {
    fn starting_at(stamp: &FrameId, now: Now) -> Self {
        let FrameId { counter, created_ms, .. } = *stamp;
        let mut window = Window {
            highest: counter,
            seen: [0; WORDS],
            used: now.mono,
            used_ms: now.unix_ms,
            made_ms: created_ms,
        };
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
            self.made_ms = self.made_ms.max(stamp.created_ms);
            self.used = now.mono;
            self.used_ms = now.unix_ms;
        }
        replay
    }

    /// Makes `counter` the highest, forgetting those that leave the window for the ones that enter it.
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
