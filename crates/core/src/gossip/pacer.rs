//! The pacer: limits the rate of publishing. Gossipsub only reports that a queue is full, not how
//! full it is.

use std::time::Duration;

use p2p_node_wire::time::Instant;

/// Initial rate, in bytes a second: a third of the throughput of one connection (measured on a
/// 2-core machine).
const START: f64 = (32 << 20) as f64;
/// Lowest rate, in bytes a second: our choice, 16 frames of 64 KiB, so that the node notices soon
/// when queues have capacity again.
const SLOWEST: f64 = (1 << 20) as f64;
/// Highest rate, in bytes a second: our choice. Gossipsub keeps published messages for some
/// seconds; at this rate they stay below the limit of `GossipBudget` for messages of others.
pub const FASTEST: f64 = (40 << 20) as f64;
/// Growth of the rate in a second without a full queue or a slow peer.
const GAIN: f64 = 1.1;
/// Largest delay that the node makes up for. Timers wake the event loop some milliseconds late,
/// and a frame takes less than two at the highest rate.
const SLACK: Duration = Duration::from_millis(10);

/// A rate limit in bytes a second. The limit grows with time; a full queue or a slow peer halves
/// it.
#[derive(Clone, Copy, Debug)]
pub struct Pacer {
    rate: f64,
    ready_at: Instant,
    adjusted: Instant,
}

impl Default for Pacer {
    fn default() -> Self {
        Pacer { rate: START, ready_at: Instant::ZERO, adjusted: Instant::ZERO }
    }
}

impl Pacer {
    /// Returns the time at which the next frame may be published.
    pub fn ready_at(&self) -> Instant {
        self.ready_at
    }

    /// Records a published frame.
    pub fn record(&mut self, bytes: usize, now: Instant) {
        let seconds = now.saturating_since(self.adjusted).as_secs_f64().min(60.0);
        if seconds >= 1.0 {
            self.rate = (self.rate * GAIN.powf(seconds)).min(FASTEST);
            self.adjusted = now;
        }
        let from = self.ready_at.max(now.saturating_sub(SLACK));
        self.ready_at = from + Duration::from_secs_f64(bytes as f64 / self.rate);
    }

    /// Halves the rate, because a queue is full or a peer is slow.
    pub fn slow_down(&mut self, now: Instant) {
        self.rate = (self.rate / 2.0).max(SLOWEST);
        self.adjusted = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pacer_delays_flood_but_not_first_frame() {
        let mut pacer = Pacer::default();
        assert_eq!(pacer.ready_at(), Instant::ZERO);
        for _ in 0..32 {
            pacer.record(1 << 20, Instant::ZERO);
        }
        let spread = pacer.ready_at().since_start().as_secs_f64();
        assert!((0.99..1.01).contains(&spread), "{spread}");
    }

    #[test]
    fn pacer_lets_late_event_loop_catch_up_without_saving_capacity() {
        let mut pacer = Pacer::default();
        let frame = 60 << 10;
        let mut sent = 0;
        for millis in (0..1000).step_by(3) {
            let now = Instant::from_secs(5) + Duration::from_millis(millis);
            while pacer.ready_at() <= now {
                pacer.record(frame, now);
                sent += frame;
            }
        }
        let pace = FASTEST as usize;
        assert!((pace - 2 * frame..pace * 102 / 100).contains(&sent), "{sent}");
        let later = Instant::from_secs(60);
        let at_once =
            std::iter::from_fn(|| (pacer.ready_at() <= later).then(|| pacer.record(frame, later))).count();
        assert!(at_once < 10, "{at_once}");
    }

    #[test]
    fn pacer_rate_halves_to_minimum_and_grows_to_maximum() {
        let mut pacer = Pacer::default();
        for _ in 0..100 {
            pacer.slow_down(Instant::ZERO);
        }
        assert_eq!(pacer.rate, SLOWEST);
        for second in 1..200 {
            pacer.record(0, Instant::from_secs(second));
        }
        assert_eq!(pacer.rate, FASTEST);
    }
}
