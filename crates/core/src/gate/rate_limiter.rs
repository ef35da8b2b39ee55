//! A rate limiter for keys of any kind, such as authors, peers or addresses.

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_node_wire::time::Instant;

/// What a limiter does with a key that it does not track when it tracks as many as it may, and none
/// has its full burst available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtLimit {
    /// Rejects its events.
    Refuse,
    /// Forgets the keys that have used least of their quotas. Each may use that little once more; a
    /// newcomer is never locked out.
    Forget,
}

/// The rate limit of each key, in units: events or bytes.
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    /// Number of units that a key may use at once.
    pub burst: u32,
    /// Time in which a key earns one more unit.
    pub interval: Duration,
    /// Largest number of tracked keys.
    pub max_keys: usize,
    /// What becomes of further keys.
    pub at_limit: AtLimit,
}

/// Part of the keys (one eighth) that a full limiter forgets at once, so that a flood of new keys does
/// not cost a search for each: our choice.
const FORGOTTEN_PART: usize = 8;

/// Limits the rate of events of each key with the generic cell rate algorithm, which stores one
/// point in time for each key.
#[derive(Debug)]
pub struct RateLimiter<K> {
    quota: Quota,
    /// The theoretical arrival time of each key: the time at which the full burst is available
    /// again.
    tat: BTreeMap<K, Instant>,
}

impl<K: Ord + Clone> RateLimiter<K> {
    /// Creates a limiter that tracks no key.
    pub fn new(quota: Quota) -> Self {
        RateLimiter { quota, tat: BTreeMap::new() }
    }

    /// Returns `true` if one more event of `key` is within its quota, and counts the event.
    pub fn admit(&mut self, key: K, now: Instant) -> bool {
        self.admit_units(key, 1, now)
    }

    /// Returns `true` if these units of `key` are within its quota, and counts them.
    pub fn admit_units(&mut self, key: K, units: u32, now: Instant) -> bool {
        let is_admitted = self.wait(&key, units, now).is_some_and(|wait| wait.is_zero());
        if is_admitted {
            self.charge(key, units, now);
        }
        is_admitted
    }

    /// Returns `true` if [`RateLimiter::admit`] would, without counting an event.
    pub fn would_admit(&self, key: &K, now: Instant) -> bool {
        self.wait(key, 1, now).is_some_and(|wait| wait.is_zero())
    }

    /// Returns the time until `units` of `key` are within its quota: zero if they are now, `None` if
    /// the limiter refuses the key. More units than the burst need the full burst.
    pub fn wait(&self, key: &K, units: u32, now: Instant) -> Option<Duration> {
        match self.tat.get(key) {
            Some(tat) => {
                let spare = self.quota.burst.saturating_sub(units);
                Some(tat.saturating_since(now + self.quota.interval * spare))
            }
            None if self.has_place(now) => Some(Duration::ZERO),
            None => None,
        }
    }

    /// Returns how many units of `key` are within its quota now.
    pub fn available(&self, key: &K, now: Instant) -> u32 {
        let used = self.tat.get(key).map_or(Duration::ZERO, |tat| tat.saturating_since(now));
        let used = used.as_nanos().div_ceil(self.quota.interval.as_nanos().max(1));
        self.quota.burst.saturating_sub(used.try_into().unwrap_or(u32::MAX))
    }

    /// Counts units of `key`, also above its quota.
    pub fn charge(&mut self, key: K, units: u32, now: Instant) {
        if !self.reserve_key(&key, now) {
            return;
        }
        let tat = self.tat.entry(key).or_default();
        *tat = (*tat).max(now) + self.quota.interval * units;
    }

    fn has_place(&self, now: Instant) -> bool {
        self.quota.at_limit == AtLimit::Forget
            || self.tat.len() < self.quota.max_keys
            || self.tat.values().any(|at| *at <= now)
    }

    /// Returns `true` if the limiter can track `key`. At the limit, first drops the keys whose full
    /// burst is available again.
    fn reserve_key(&mut self, key: &K, now: Instant) -> bool {
        if self.tat.contains_key(key) {
            return true;
        }
        if self.tat.len() >= self.quota.max_keys {
            self.tat.retain(|_, tat| *tat > now);
        }
        if self.tat.len() >= self.quota.max_keys && self.quota.at_limit == AtLimit::Forget {
            self.forget_least_used();
        }
        self.tat.len() < self.quota.max_keys
    }

    fn forget_least_used(&mut self) {
        let mut times: Vec<Instant> = self.tat.values().copied().collect();
        let index = times.len() / FORGOTTEN_PART;
        if index < times.len() {
            let (_, last, _) = times.select_nth_unstable(index);
            let last = *last;
            self.tat.retain(|_, tat| *tat > last);
        }
    }

    /// Returns `true` if the limiter tracks `key`.
    pub fn tracks(&self, key: &K) -> bool {
        self.tat.contains_key(key)
    }

    /// Returns the number of keys that the limiter tracks.
    pub fn len(&self) -> usize {
        self.tat.len()
    }

    /// Returns `true` if the limiter tracks no key.
    pub fn is_empty(&self) -> bool {
        self.tat.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const QUOTA: Quota =
        Quota { burst: 3, interval: Duration::from_secs(1), max_keys: 2, at_limit: AtLimit::Refuse };

    #[test]
    fn rate_limiter_admits_burst_then_one_event_per_interval() {
        let mut limiter = RateLimiter::new(QUOTA);
        let now = Instant::from_secs(100);
        assert_eq!((0..10).filter(|_| limiter.admit(1, now)).count(), 3);
        assert!(!limiter.would_admit(&1, now) && limiter.would_admit(&1, now + QUOTA.interval));
        assert_eq!((0..10).filter(|_| limiter.admit(1, now + 2 * QUOTA.interval)).count(), 2);
        assert!(limiter.admit(2, now), "each key has its own quota");
    }

    #[test]
    fn new_key_is_rejected_at_limit_until_another_key_is_idle() {
        let mut limiter = RateLimiter::new(QUOTA);
        assert!(limiter.admit(1, Instant::ZERO) && limiter.admit(2, Instant::ZERO));
        assert!(!limiter.would_admit(&3, Instant::ZERO) && !limiter.admit(3, Instant::ZERO));
        assert_eq!(limiter.len(), QUOTA.max_keys);
        let later = Instant::after_start(QUOTA.interval);
        assert!(limiter.would_admit(&3, later) && limiter.admit(3, later));
        assert_eq!(limiter.len(), 1);
    }

    #[test]
    fn flood_of_keys_locks_no_newcomer_out_and_frees_no_heavy_user() {
        let quota = Quota { max_keys: 64, at_limit: AtLimit::Forget, ..QUOTA };
        let mut limiter = RateLimiter::new(quota);
        let now = Instant::from_secs(9);
        assert_eq!((0..10).filter(|_| limiter.admit(0, now)).count(), 3);
        for key in 1..10_000 {
            assert!(limiter.admit(key, now), "{key}");
            assert!(limiter.len() <= quota.max_keys);
        }
        assert!(!limiter.admit(0, now), "the key that used its burst is remembered");
    }

    #[test]
    fn wait_and_available_agree_with_charged_units() {
        let mut limiter = RateLimiter::new(QUOTA);
        let now = Instant::from_secs(100);
        let secs = |wait| Some(Duration::from_secs(wait));
        assert_eq!((limiter.wait(&1, 3, now), limiter.wait(&1, 9, now)), (secs(0), secs(0)));
        limiter.charge(1, 2, now);
        assert_eq!((limiter.wait(&1, 1, now), limiter.wait(&1, 3, now)), (secs(0), secs(2)));
        assert_eq!((limiter.available(&1, now), limiter.available(&2, now)), (1, 3));
        limiter.charge(1, 9, now);
        assert_eq!((limiter.available(&1, now), limiter.wait(&1, 1, now)), (0, secs(9)));
        assert_eq!(limiter.wait(&1, 9, now), secs(11), "more units than the burst need the full burst");
    }

    proptest! {
        /// Compares the limiter with a naive model: a token bucket for each key.
        #[test]
        fn rate_limiter_equals_token_bucket_model(steps in proptest::collection::vec(0..2_500_u64, 1..60)) {
            let mut limiter = RateLimiter::new(QUOTA);
            let (mut now, mut tokens) = (Instant::ZERO, 3_000_u64);
            for step in steps {
                now += Duration::from_millis(step);
                tokens = (tokens + step).min(3_000);
                let expected = tokens >= 1_000;
                prop_assert_eq!(limiter.would_admit(&1, now), expected);
                prop_assert_eq!(u64::from(limiter.available(&1, now)), tokens / 1_000);
                prop_assert_eq!(limiter.admit(1, now), expected);
                tokens -= if expected { 1_000 } else { 0 };
            }
        }
    }
}
