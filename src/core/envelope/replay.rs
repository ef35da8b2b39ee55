//! Which frames were seen: a sliding window of counters for every process of every node.

use std::collections::BTreeMap;
use std::time::Duration;

/// Counters that a window covers (design §4).
pub const WINDOW_BITS: u64 = 1024;

/// Most windows, each about 200 bytes: one for every agent of a network of thousands, in less than 1 MiB.
pub const MAX_WINDOWS: usize = 4096;

/// Most windows of one node key. A supervisor that restarts a node every 20 s stays below it; a node that
/// invents processes fills its own share and nobody else's.
pub const MAX_BOOTS_PER_KEY: usize = 16;

/// How long an unused window is kept. Longer than the 2.5 minutes from 30 s ahead to 2 minutes back in which a
/// frame is accepted, so that no frame outlives the window that remembers it.
pub const WINDOW_IDLE: Duration = Duration::from_secs(5 * 60);

const WORDS: usize = (WINDOW_BITS / 64) as usize;

/// What the windows say about a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// Never seen.
    Fresh,
    /// Seen.
    Seen,
    /// So far behind that it cannot be told.
    TooOld,
    /// There is no room to remember it, so it must not be accepted.
    Full,
}

/// All windows. `now` is the monotonic clock.
#[derive(Clone, Debug, Default)]
pub struct ReplayWindows {
    windows: BTreeMap<([u8; 32], u64), Window>,
    /// No window was used last before this; so nothing is looked for that cannot be there.
    least_recent: Duration,
}

impl ReplayWindows {
    /// What [`ReplayWindows::commit`] would say; remembers nothing, because nothing is proven yet. Only where
    /// room must first be made for a new window may `commit` find that there is none.
    pub fn check(&self, key: &[u8; 32], boot: u64, counter: u64, now: Duration) -> Replay {
        match self.windows.get(&(*key, boot)) {
            Some(window) => window.look(counter),
            None if self.boots_of(key) >= MAX_BOOTS_PER_KEY && !self.may_sweep(now) => Replay::Full,
            None if self.windows.len() >= MAX_WINDOWS && !self.may_sweep(now) => Replay::Full,
            None => Replay::Fresh,
        }
    }

    /// Remembers the counter of an authentic frame. Its answer is the one that counts: another copy may have
    /// been committed since `check`. Only a `Fresh` frame may be used.
    pub fn commit(&mut self, key: &[u8; 32], boot: u64, counter: u64, now: Duration) -> Replay {
        let name = (*key, boot);
        if let Some(window) = self.windows.get_mut(&name) {
            return window.mark(counter, now);
        }
        let full = |windows: &Self| {
            windows.windows.len() >= MAX_WINDOWS || windows.boots_of(key) >= MAX_BOOTS_PER_KEY
        };
        if full(self) && self.may_sweep(now) {
            self.sweep(now);
        }
        if full(self) {
            return Replay::Full;
        }
        if self.windows.is_empty() {
            self.least_recent = now;
        }
        self.windows.insert(name, Window::starting_at(counter, now));
        Replay::Fresh
    }

    /// How many windows there are.
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    fn boots_of(&self, key: &[u8; 32]) -> usize {
        self.windows.range((*key, 0)..=(*key, u64::MAX)).count()
    }

    fn may_sweep(&self, now: Duration) -> bool {
        now.saturating_sub(self.least_recent) > WINDOW_IDLE
    }

    fn sweep(&mut self, now: Duration) {
        self.windows.retain(|_, window| now.saturating_sub(window.used) <= WINDOW_IDLE);
        self.least_recent = self.windows.values().map(|window| window.used).min().unwrap_or(now);
    }
}

/// The highest counter seen, and which of those below it were: bit `n % 1024` stands for counter `n`.
#[derive(Clone, Debug)]
struct Window {
    highest: u64,
    seen: [u64; WORDS],
    used: Duration,
}

impl Window {
    fn starting_at(counter: u64, now: Duration) -> Self {
        let mut window = Window { highest: counter, seen: [0; WORDS], used: now };
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

    fn mark(&mut self, counter: u64, now: Duration) -> Replay {
        let replay = self.look(counter);
        if replay == Replay::Fresh {
            self.advance(counter);
            self.set(counter);
            self.used = now;
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
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; 32] = [1; 32];
    const START: Duration = Duration::from_secs(1000);

    fn key(number: usize) -> [u8; 32] {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_be_bytes());
        key
    }

    #[test]
    fn a_counter_is_fresh_once() {
        let mut windows = ReplayWindows::default();
        for counter in [5, 7, 6, 0, 2000, 1999] {
            assert_eq!(windows.check(&KEY, 1, counter, START), Replay::Fresh);
            assert_eq!(windows.commit(&KEY, 1, counter, START), Replay::Fresh);
            assert_eq!(windows.check(&KEY, 1, counter, START), Replay::Seen);
            assert_eq!(windows.commit(&KEY, 1, counter, START), Replay::Seen);
        }
    }

    #[test]
    fn the_window_has_a_sharp_end() {
        let mut windows = ReplayWindows::default();
        windows.commit(&KEY, 1, 5000, START);
        assert_eq!(windows.check(&KEY, 1, 5000 - 1023, START), Replay::Fresh);
        assert_eq!(windows.check(&KEY, 1, 5000 - 1024, START), Replay::TooOld);
        assert_eq!(windows.commit(&KEY, 1, 5000 - 1024, START), Replay::TooOld);
        assert_eq!(windows.commit(&KEY, 1, u64::MAX, START), Replay::Fresh);
        assert_eq!(windows.commit(&KEY, 1, u64::MAX - 1, START), Replay::Fresh);
        assert_eq!(windows.commit(&KEY, 1, 5001, START), Replay::TooOld);
    }

    #[test]
    fn processes_and_nodes_have_windows_of_their_own() {
        let mut windows = ReplayWindows::default();
        windows.commit(&KEY, 1, 5, START);
        assert_eq!(windows.check(&KEY, 2, 5, START), Replay::Fresh);
        assert_eq!(windows.check(&[2; 32], 1, 5, START), Replay::Fresh);
    }

    #[test]
    fn the_number_of_windows_is_bounded_and_idle_ones_make_room() {
        let mut windows = ReplayWindows::default();
        for number in 0..MAX_WINDOWS {
            assert_eq!(windows.commit(&key(number), 1, 1, START), Replay::Fresh);
        }
        let newcomer = key(MAX_WINDOWS);
        assert_eq!(windows.check(&newcomer, 1, 1, START), Replay::Full);
        assert_eq!(windows.commit(&newcomer, 1, 1, START), Replay::Full);
        // Those who are known go on, and by that keep their window.
        assert_eq!(windows.commit(&key(0), 1, 2, START + WINDOW_IDLE), Replay::Fresh);
        assert_eq!(windows.commit(&newcomer, 1, 1, START + WINDOW_IDLE), Replay::Full);
        let later = START + WINDOW_IDLE + Duration::from_millis(1);
        assert_eq!(windows.check(&newcomer, 1, 1, later), Replay::Fresh);
        assert_eq!(windows.commit(&newcomer, 1, 1, later), Replay::Fresh);
        assert_eq!(windows.len(), 2);
        assert_eq!(windows.check(&key(0), 1, 2, later), Replay::Seen);
    }

    #[test]
    fn commit_has_the_last_word_on_room() {
        let mut windows = ReplayWindows::default();
        for number in 0..MAX_WINDOWS {
            windows.commit(&key(number), 1, 1, START);
        }
        let later = START + WINDOW_IDLE + Duration::from_millis(1);
        for number in 0..MAX_WINDOWS {
            windows.commit(&key(number), 1, 2, later);
        }
        assert_eq!(windows.commit(&KEY, 1, 1, later), Replay::Full);
        assert_eq!(windows.check(&KEY, 1, 1, later), Replay::Full);
    }

    #[test]
    fn a_node_that_invents_processes_fills_only_its_own_share() {
        let mut windows = ReplayWindows::default();
        for boot in 0..MAX_BOOTS_PER_KEY as u64 {
            assert_eq!(windows.commit(&KEY, boot, 1, START), Replay::Fresh);
        }
        assert_eq!(windows.check(&KEY, u64::MAX, 1, START), Replay::Full);
        assert_eq!(windows.commit(&KEY, u64::MAX, 1, START), Replay::Full);
        assert_eq!(windows.commit(&[2; 32], 1, 1, START), Replay::Fresh);
        let later = START + WINDOW_IDLE + Duration::from_millis(1);
        assert_eq!(windows.commit(&KEY, u64::MAX, 1, later), Replay::Fresh);
    }

    proptest! {
        #[test]
        fn a_window_agrees_with_remembering_everything(
            steps in prop::collection::vec(prop_oneof![9 => -1100..700i64, 1 => -5000..5000i64], 1..400),
        ) {
            let mut windows = ReplayWindows::default();
            let mut seen = BTreeSet::new();
            for step in steps {
                // Around the highest so far, so that the window slides, wraps and is jumped over.
                let counter = seen.last().map_or(0, |highest: &u64| highest.saturating_add_signed(step));
                let expected = match seen.last() {
                    Some(&highest) if highest >= counter + WINDOW_BITS => Replay::TooOld,
                    _ if seen.contains(&counter) => Replay::Seen,
                    _ => Replay::Fresh,
                };
                prop_assert_eq!(windows.commit(&KEY, 1, counter, START), expected);
                if expected == Replay::Fresh {
                    seen.insert(counter);
                }
            }
        }
    }
}
