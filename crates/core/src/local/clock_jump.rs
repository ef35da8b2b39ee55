//! The wall clock, which may jump: what was dated by it before is put right when it does.
//!
//! `Now::mono` runs on while the machine is suspended, so a suspend moves both clocks and is no jump; a step of the wall clock alone is.

use p2p_node_protocol::Counter;
use p2p_node_protocol::Level;

use crate::Core;
use crate::input::Now;
use p2p_node_wire::identity::binding::MAX_SKEW_SECS;

/// A jump by less leaves all that we have dated within what peers accept (design §3).
const LEAST_JUMP_MS: u64 = MAX_SKEW_SECS * 1000;

/// Watches the wall clock by the other one.
#[derive(Debug)]
pub(crate) struct ClockJumpDetector {
    last: Now,
}

impl ClockJumpDetector {
    pub(crate) fn new(now: Now) -> Self {
        ClockJumpDetector { last: now }
    }

    /// By how much the wall clock has jumped since it was looked at last, in ms, if by enough to matter. Smaller steps add
    /// up until they do.
    fn jump(&mut self, now: Now) -> Option<i64> {
        let passed = now.mono.saturating_sub(self.last.mono).as_millis() as u64;
        let expected = self.last.unix_ms.saturating_add(passed);
        if now.unix_ms.abs_diff(expected) < LEAST_JUMP_MS {
            return None;
        }
        self.last = now;
        Some(now.unix_ms.wrapping_sub(expected) as i64)
    }
}

impl Core {
    /// After a jump our record, our binding, the dates of our KEM keys and the time of our start are those of another time: frames of now
    /// would look older than this process, and nobody would believe a record from the future or seal mail to a key that looks over.
    pub(crate) fn check_clock_jump(&mut self, now: Now) {
        let Some(jump) = self.local.clock_jump.jump(now) else { return };
        self.cx.stats.count(Counter::ClockJumps);
        self.local.identity.started_ms = self.local.identity.started_ms.saturating_add_signed(jump);
        self.local.keyring.clock_jumped(jump);
        self.local.record.set_kem(self.local.keyring.current(), now);
        self.local.record.clock_jumped(now);
        self.local.binding_watch.clock_jumped(now);
        self.gate.replay.clock_jumped(jump);
        self.local.clock_skew.clock_jumped();
        let seconds = jump / 1000;
        self.log(Level::Warn, "clock", format!("this machine's clock jumped by {seconds} s"));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(mono_ms: u64, unix_ms: u64) -> Now {
        Now { mono: Duration::from_millis(mono_ms), unix_ms }
    }

    #[test]
    fn jumps_are_seen_both_ways_and_once() {
        let start = 1_790_000_000_000;
        let mut clock = ClockJumpDetector::new(at(0, start));
        assert_eq!(clock.jump(at(60_000, start + 60_000)), None);
        assert_eq!(clock.jump(at(60_001, start + 60_001 + LEAST_JUMP_MS)), Some(LEAST_JUMP_MS as i64));
        assert_eq!(clock.jump(at(60_002, start + 60_002 + LEAST_JUMP_MS)), None);
        assert_eq!(
            clock.jump(at(60_003, start - 3_600_000)),
            Some(-3_600_000 - 60_003 - LEAST_JUMP_MS as i64)
        );
        assert_eq!(clock.jump(at(60_004, start - 3_600_000)), None);
    }

    #[test]
    fn a_clock_that_creeps_is_put_right_in_the_end() {
        let mut clock = ClockJumpDetector::new(at(0, 1_000_000));
        let jumps = (1..=100).filter_map(|step| clock.jump(at(step * 1000, 1_000_000 + step * 2000)));
        assert_eq!(jumps.collect::<Vec<_>>(), [30_000, 30_000, 30_000]);
    }
}
