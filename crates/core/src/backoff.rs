//! Exponential backoff with full jitter.

use std::time::Duration;

use p2p_node_wire::time::Instant;

/// Upper bound of the first pause: our choice, long enough for a connection to be set up again and
/// too short for a person to notice.
pub const BACKOFF_START: Duration = Duration::from_millis(500);
/// Upper bound of every later pause: our choice. The node tries a peer that is reachable again
/// within a minute.
pub const BACKOFF_CAP: Duration = Duration::from_secs(60);

/// Number of times that the first upper bound doubles while a recipient answers but has no
/// capacity. The bound is then 4 s, because a slow program frees capacity at any moment.
const MAX_DEFER_DOUBLINGS: u32 = 3;

/// The core's only randomness: a SplitMix64 sequence from a seed. It spreads retries and serves no
/// other purpose, so it may be predictable.
#[derive(Clone, Debug)]
pub struct Jitter {
    state: u64,
}

impl Jitter {
    /// Creates the sequence of a seed.
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

    /// Returns a random duration from 0 to `ceiling` (full jitter).
    pub fn full_jitter(&mut self, ceiling: Duration) -> Duration {
        let fraction = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        ceiling.mul_f64(fraction)
    }

    /// Returns a seed for another random sequence.
    pub fn seed(&mut self) -> u64 {
        self.next()
    }

    /// Returns a random index below `length`, which must not be 0.
    pub fn index(&mut self, length: usize) -> usize {
        (self.next() % length.max(1) as u64) as usize
    }

    /// Returns a random duration from 90 % to 110 % of `period`.
    pub fn spread(&mut self, period: Duration) -> Duration {
        period.mul_f64(0.9) + self.full_jitter(period.mul_f64(0.2))
    }
}

/// How the pauses of a backoff are spread, so that many nodes do not retry at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// From zero to the upper bound (full jitter).
    Full,
    /// From 90 % to 110 % of the upper bound.
    Around,
}

/// The pauses of a backoff: the upper bound begins with `start` and doubles with each failure up
/// to `cap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffPolicy {
    /// Upper bound of the first pause.
    pub start: Duration,
    /// Upper bound of every later pause.
    pub cap: Duration,
    /// How the pause depends on the upper bound.
    pub spread: Spread,
    /// `true` if failures during a pause count. Otherwise these failures and the failure that
    /// began the pause count as one, because concurrent attempts fail for the same reason.
    pub counts_during_pause: bool,
}

/// The policy of retries to agents.
const RETRIES: BackoffPolicy = BackoffPolicy {
    start: BACKOFF_START,
    cap: BACKOFF_CAP,
    spread: Spread::Full,
    counts_during_pause: false,
};

/// The number of failures in a row, and the time of the next attempt.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    failures: u32,
    not_before: Instant,
}

impl Backoff {
    /// Records a failure. Failures before the next attempt is due count as one. `floor` is the
    /// shortest pause, for callers that know from the peer when to try again.
    pub fn fail(&mut self, now: Instant, floor: Duration, jitter: &mut Jitter) {
        self.fail_by(&RETRIES, now, floor, jitter);
    }

    /// Works like [`Backoff::fail`], with the pauses of `policy`.
    pub fn fail_by(&mut self, policy: &BackoffPolicy, now: Instant, floor: Duration, jitter: &mut Jitter) {
        if now < self.not_before && !policy.counts_during_pause {
            self.not_before = self.not_before.max(now + floor);
            return;
        }
        let ceiling = policy.start.saturating_mul(1 << self.failures.min(16)).min(policy.cap);
        self.failures = self.failures.saturating_add(1);
        let pause = match policy.spread {
            Spread::Full => jitter.full_jitter(ceiling),
            Spread::Around => jitter.spread(ceiling),
        };
        self.not_before = now + floor + pause;
    }

    /// Records that the peer answered but has no capacity. Works like [`Backoff::fail`] with a
    /// lower upper bound.
    pub fn defer(&mut self, now: Instant, floor: Duration, jitter: &mut Jitter) {
        self.failures = self.failures.min(MAX_DEFER_DOUBLINGS);
        self.fail(now, floor, jitter);
    }

    /// Records a success, or an event after which an immediate attempt is worthwhile.
    pub fn reset(&mut self) {
        *self = Backoff::default();
    }

    /// Returns `true` if an attempt has failed since the last reset.
    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Returns the time of the next attempt, or zero if nothing failed.
    pub fn not_before(&self) -> Instant {
        self.not_before
    }

    /// Returns `true` if the next attempt is due.
    pub fn ready(&self, now: Instant) -> bool {
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
        assert!(backoff.ready(Instant::ZERO));
        let mut longest = Duration::ZERO;
        let mut now = Instant::ZERO;
        for _ in 0..64 {
            backoff.fail(now, Duration::ZERO, &mut jitter);
            let wait = backoff.not_before() - now;
            longest = longest.max(wait);
            assert!(wait <= BACKOFF_CAP);
            now = backoff.not_before();
        }
        assert!(longest > BACKOFF_CAP / 2, "64 tries with full jitter reach the upper half");
        backoff.reset();
        assert!(backoff.ready(Instant::ZERO));
    }

    #[test]
    fn first_backoff_pause_lies_between_floor_and_ceiling() {
        let mut jitter = Jitter::new(1);
        for _ in 0..100 {
            let mut backoff = Backoff::default();
            backoff.fail(Instant::from_secs(5), Duration::from_secs(1), &mut jitter);
            let wait = backoff.not_before() - Duration::from_secs(5);
            assert!(wait >= Instant::from_secs(1) && wait <= Instant::from_secs(1) + BACKOFF_START);
        }
    }
}
