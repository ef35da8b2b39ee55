//! The clock jump detector: finds jumps of the wall clock, so that the node corrects times from the
//! wall clock.
//!
//! `Now::mono` counts suspended time, so a suspend moves both clocks and is not a jump. A jump
//! moves the wall clock alone (ADR 0004).

use p2p_node_protocol::{Counter, Level};
use p2p_node_wire::identity::binding::MAX_SKEW_SECS;
use serde_json::json;

use crate::cx::Cx;
use crate::input::Now;
use crate::local::Local;

/// Smallest jump that matters, in ms. After a smaller one peers still accept all times that the
/// node has issued.
const MIN_JUMP_MS: u64 = MAX_SKEW_SECS * 1000;

/// Compares the wall clock with the monotonic one.
#[derive(Debug)]
pub(crate) struct ClockJumpDetector {
    last: Now,
}

impl ClockJumpDetector {
    pub(crate) fn new(now: Now) -> Self {
        ClockJumpDetector { last: now }
    }

    /// Returns the jump of the wall clock since the last call, in ms, if it is large enough to
    /// matter. Smaller steps accumulate.
    fn jump(&mut self, now: Now) -> Option<i64> {
        let passed = now.mono.saturating_since(self.last.mono).as_millis() as u64;
        let expected = self.last.unix_ms.saturating_add(passed);
        if now.unix_ms.abs_diff(expected) < MIN_JUMP_MS {
            return None;
        }
        self.last = now;
        Some(now.unix_ms.wrapping_sub(expected) as i64)
    }
}

impl Local {
    /// Corrects the times of our record, our binding, our KEM keys and our start after a jump.
    /// Otherwise the node would reject new frames as older than its process, and peers would reject
    /// its record as issued in the future, or its KEM key as expired.
    /// Returns the jump, in ms.
    pub(crate) fn check_clock_jump(&mut self, cx: &mut Cx) -> Option<i64> {
        let now = cx.now;
        let jump = self.clock_jump.jump(now)?;
        cx.stats.count(Counter::ClockJumps);
        cx.identity.started_ms = cx.identity.started_ms.saturating_add_signed(jump);
        self.keyring.clock_jumped(jump);
        self.record.set_kem(self.keyring.current(), now);
        self.record.clock_jumped(now);
        self.binding_watch.clock_jumped(now);
        self.clock_skew.clock_jumped();
        let seconds = jump / 1000;
        let message = format!(
            "the clock of this machine jumped by {seconds} s; the node corrects its record, binding and keys"
        );
        cx.log_with(Level::Warn, "clock", message, json!({ "jumpMs": jump }));
        Some(jump)
    }
}

#[cfg(test)]
mod tests {

    use p2p_node_wire::time::Instant;

    use super::*;

    fn at(mono_ms: u64, unix_ms: u64) -> Now {
        Now { mono: Instant::from_millis(mono_ms), unix_ms }
    }

    #[test]
    fn clock_jump_is_detected_once_in_both_directions() {
        let start = 1_790_000_000_000;
        let mut clock = ClockJumpDetector::new(at(0, start));
        assert_eq!(clock.jump(at(60_000, start + 60_000)), None);
        assert_eq!(clock.jump(at(60_001, start + 60_001 + MIN_JUMP_MS)), Some(MIN_JUMP_MS as i64));
        assert_eq!(clock.jump(at(60_002, start + 60_002 + MIN_JUMP_MS)), None);
        assert_eq!(clock.jump(at(60_003, start - 3_600_000)), Some(-3_600_000 - 60_003 - MIN_JUMP_MS as i64));
        assert_eq!(clock.jump(at(60_004, start - 3_600_000)), None);
    }

    #[test]
    fn slow_clock_drift_accumulates_to_jump() {
        let mut clock = ClockJumpDetector::new(at(0, 1_000_000));
        let jumps = (1..=100).filter_map(|step| clock.jump(at(step * 1000, 1_000_000 + step * 2000)));
        assert_eq!(jumps.collect::<Vec<_>>(), [30_000, 30_000, 30_000]);
    }
}
