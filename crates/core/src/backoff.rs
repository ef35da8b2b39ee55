//! When to try again: exponential backoff with full jitter.

use std::time::Duration;

/// First ceiling of a backoff (design §7).
pub const BACKOFF_START: Duration = Duration::from_millis(500);
/// Last ceiling of a backoff (design §7).
pub const BACKOFF_CAP: Duration = Duration::from_secs(60);

/// Doublings of the first ceiling for a recipient that answers and has no room. Ours: 4 s, for a program that takes its mail
/// slowly makes room at any moment.
const MAX_DEFER_DOUBLINGS: u32 = 3;

/// The core's only randomness: a SplitMix64 sequence from a seed. It spreads retries and serves nothing
/// else, so it need not be hard to predict.
#[derive(Clone, Debug)]
pub struct Jitter {
    state: u64,
}

impl Jitter {
    /// The sequence that belongs to a seed.
    pub fn new(seed: u64) -> Self {
        Jitter { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Something between nothing and `ceiling`.
    pub fn up_to(&mut self, ceiling: Duration) -> Duration {
        let fraction = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        ceiling.mul_f64(fraction)
    }

    /// An index below `length`, which is not 0.
    pub fn below(&mut self, length: usize) -> usize {
        (self.next() % length.max(1) as u64) as usize
    }

    /// Something between nine and eleven tenths of `period`.
    pub fn around(&mut self, period: Duration) -> Duration {
        period.mul_f64(0.9) + self.up_to(period.mul_f64(0.2))
    }
}

/// How often something failed in a row, and when it may be tried again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    failures: u32,
    not_before: Duration,
}

impl Backoff {
    /// Notes a failure; several that come together count as one. `floor` is the least to wait, for those who were told a time.
    pub fn fail(&mut self, now: Duration, floor: Duration, jitter: &mut Jitter) {
        if now < self.not_before {
            self.not_before = self.not_before.max(now + floor);
            return;
        }
        let ceiling = BACKOFF_START.saturating_mul(1 << self.failures.min(16)).min(BACKOFF_CAP);
        self.failures = self.failures.saturating_add(1);
        self.not_before = now + floor + jitter.up_to(ceiling);
    }

    /// Notes that the other side answered, but had no room; as [`Backoff::fail`], with a lower ceiling.
    pub fn defer(&mut self, now: Duration, floor: Duration, jitter: &mut Jitter) {
        self.failures = self.failures.min(MAX_DEFER_DOUBLINGS);
        self.fail(now, floor, jitter);
    }

    /// Notes a success, or news that make a try worthwhile at once.
    pub fn reset(&mut self) {
        *self = Backoff::default();
    }

    /// Whether something has failed since.
    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// When it may be tried again, by `Now::mono`; zero when nothing failed.
    pub fn not_before(&self) -> Duration {
        self.not_before
    }

    /// Whether it may be tried now.
    pub fn ready(&self, now: Duration) -> bool {
        now >= self.not_before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_to_its_cap_and_resets() {
        let mut jitter = Jitter::new(7);
        let mut backoff = Backoff::default();
        assert!(backoff.ready(Duration::ZERO));
        let mut longest = Duration::ZERO;
        let mut now = Duration::ZERO;
        for _ in 0..64 {
            backoff.fail(now, Duration::ZERO, &mut jitter);
            let wait = backoff.not_before() - now;
            longest = longest.max(wait);
            assert!(wait <= BACKOFF_CAP);
            now = backoff.not_before();
        }
        assert!(longest > BACKOFF_CAP / 2, "64 tries with full jitter reach the upper half");
        backoff.reset();
        assert!(backoff.ready(Duration::ZERO));
    }

    #[test]
    fn the_first_wait_stays_under_its_ceiling_and_over_its_floor() {
        let mut jitter = Jitter::new(1);
        for _ in 0..100 {
            let mut backoff = Backoff::default();
            backoff.fail(Duration::from_secs(5), Duration::from_secs(1), &mut jitter);
            let wait = backoff.not_before() - Duration::from_secs(5);
            assert!(wait >= Duration::from_secs(1) && wait <= Duration::from_secs(1) + BACKOFF_START);
        }
    }
}
