//! How busy the machine is, as the node feels it: how late it runs a timer. A node that is late forwards
//! fewer frames of strangers, so that the mail of its own parent does not wait for them.

use std::time::Duration;

use p2p_node_wire::time::Instant;

/// Time between two looks at the clock, while frames of strangers come: our choice. Often enough to act
/// within half a second, and no work for a node on which nothing happens.
const INTERVAL: Duration = Duration::from_millis(100);
/// Mean lateness above which the machine is overloaded: our choice. Mail and its `ack` wait for the loops of
/// two nodes, and each loop more than once, so four milliseconds make twenty for a parent. Timers have a
/// resolution of one millisecond.
const LATE: Duration = Duration::from_millis(4);
/// Most that one check counts for: our choice, so that one pause of the process, as for a slow disk, is no
/// overload.
const MOST: Duration = Duration::from_millis(12);
/// Weight of the newest check in the mean: a quarter, our choice.
const WEIGHT: u32 = 4;
/// Number of calm checks after which the node forwards twice as much again: our choice, a second. It falls
/// faster than it rises, as TCP does, because the load comes back with what is forwarded.
const CALM_CHECKS: u32 = 10;
/// Largest number of times that the limits are halved: our choice. An eighth of 53 frames a second costs
/// little, and is enough for a stranger that sends four a second on a machine that is busy with other work.
const MAX_LEVEL: u32 = 3;

/// The load of the machine.
#[derive(Debug, Default)]
pub(crate) struct Overload {
    /// Time of the next check, while frames of strangers come or the limits are lowered.
    next: Option<Instant>,
    /// `true` if a frame of a stranger came since the last check.
    is_used: bool,
    mean: Duration,
    calm: u32,
    level: u32,
}

impl Overload {
    /// Notes a frame of a stranger.
    pub(super) fn note_use(&mut self, now: Instant) {
        self.is_used = true;
        self.next.get_or_insert(now + INTERVAL);
    }

    /// Returns how often the limits of all strangers together are halved.
    pub(super) fn level(&self) -> u32 {
        self.level
    }

    /// Returns the time of the next check.
    pub(crate) fn next_check(&self) -> Option<Instant> {
        self.next
    }

    /// Looks at the clock if it is time to. Returns `true` if the node forwards less from now on.
    pub(crate) fn check(&mut self, now: Instant) -> bool {
        let Some(due) = self.next.filter(|due| *due <= now) else { return false };
        let late = now.saturating_since(due).min(MOST);
        self.mean = (self.mean * (WEIGHT - 1) + late) / WEIGHT;
        let is_overloaded = self.mean > LATE;
        self.calm = if self.mean < LATE / 2 { self.calm + 1 } else { 0 };
        let before = self.level;
        if is_overloaded {
            self.level = (self.level + 1).min(MAX_LEVEL);
        } else if self.calm == CALM_CHECKS {
            self.calm = 0;
            self.level = self.level.saturating_sub(1);
        }
        let goes_on = std::mem::take(&mut self.is_used) || self.level > 0;
        self.next = goes_on.then_some(now + INTERVAL);
        self.level > before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_secs(100);

    /// Lets checks run so late, one after the other, and returns the level after each.
    fn levels(overload: &mut Overload, late_ms: &[u64]) -> Vec<u32> {
        let mut now = overload.next.unwrap_or(START);
        late_ms
            .iter()
            .map(|late| {
                overload.note_use(now);
                now = overload.next.expect("a check") + Duration::from_millis(*late);
                overload.check(now);
                overload.level()
            })
            .collect()
    }

    #[test]
    fn a_node_that_is_late_halves_its_limits_at_each_check_and_doubles_them_each_calm_second() {
        let mut overload = Overload::default();
        assert_eq!(levels(&mut overload, &[1; 50]), [0; 50]);
        assert_eq!(levels(&mut overload, &[30; 8]), [0, 1, 2, 3, 3, 3, 3, 3]);
        assert!(overload.mean > LATE);
        let calm = levels(&mut overload, &[1; 80]);
        assert!(calm.windows(2).all(|two| two[0] >= two[1]), "{calm:?}");
        let rises = calm.windows(2).filter(|two| two[0] > two[1]).count();
        assert_eq!((rises, calm.last()), (3, Some(&0)));
        let (first, last) = (calm.iter().position(|it| *it == 2), calm.iter().position(|it| *it == 0));
        assert_eq!((first, last), (Some(16), Some(36)), "a second for each step");
    }

    #[test]
    fn one_long_pause_is_no_overload_and_two_are() {
        assert_eq!(levels(&mut Overload::default(), &[5_000, 0, 0, 0]), [0; 4]);
        assert_eq!(levels(&mut Overload::default(), &[5_000, 5_000]), [0, 1]);
    }

    #[test]
    fn a_node_looks_at_the_clock_only_while_strangers_send_or_its_limits_are_lowered() {
        let mut overload = Overload::default();
        assert_eq!((overload.next_check(), overload.check(START)), (None, false));
        levels(&mut overload, &[0]);
        let last = overload.next_check().expect("one more");
        assert!(!overload.check(last - Duration::from_millis(1)), "too early");
        assert_eq!(overload.next_check(), Some(last));
        overload.check(last);
        assert_eq!(overload.next_check(), None);
        levels(&mut overload, &[40; 3]);
        assert!(overload.level() > 0);
        while let Some(at) = overload.next_check() {
            overload.check(at);
        }
        assert_eq!(overload.level(), 0);
    }
}
