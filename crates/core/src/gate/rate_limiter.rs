//! A rate limiter for keys of any kind, such as authors, peers or addresses.

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_node_wire::time::Instant;

/// The rate limit of each key.
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    /// Number of events that a key may cause at once.
    pub burst: u32,
    /// Time in which a key earns one more event.
    pub interval: Duration,
    /// Largest number of tracked keys. At the limit, events of other keys are rejected.
    pub max_keys: usize,
}

/// Limits the rate of events of each key with the generic cell rate algorithm, which stores one
/// point in time for each key.
#[derive(Debug)]
pub struct RateLimiter<K> {
    quota: Quota,
    /// The theoretical arrival time of each key: the time at which the full burst is available
    /// again.
    tat: BTreeMap<K, Instant>,
}

impl<K: Ord> RateLimiter<K> {
    /// Creates a limiter that tracks no key.
    pub fn new(quota: Quota) -> Self {
        RateLimiter { quota, tat: BTreeMap::new() }
    }

    /// Returns `true` if one more event of `key` is within its quota, and counts the event.
    pub fn admit(&mut self, key: K, now: Instant) -> bool {
        if !self.reserve_key(&key, now) {
            return false;
        }
        let tat = self.tat.entry(key).or_default();
        let next = (*tat).max(now) + self.quota.interval;
        let is_admitted = next <= now + self.quota.interval * self.quota.burst;
        if is_admitted {
            *tat = next;
        }
        is_admitted
    }

    /// Returns `true` if [`RateLimiter::admit`] would, without counting an event.
    pub fn would_admit(&self, key: &K, now: Instant) -> bool {
        let latest = now + self.quota.interval * (self.quota.burst - 1);
        match self.tat.get(key) {
            Some(tat) => *tat <= latest,
            None => self.tat.len() < self.quota.max_keys || self.tat.values().any(|at| *at <= now),
        }
    }

    /// Returns `true` if the limiter can track `key`. At the limit, first drops the keys whose full
    /// burst is available again.
    pub fn reserve_key(&mut self, key: &K, now: Instant) -> bool {
        if self.tat.contains_key(key) {
            return true;
        }
        if self.tat.len() >= self.quota.max_keys {
            self.tat.retain(|_, tat| *tat > now);
        }
        self.tat.len() < self.quota.max_keys
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

    const QUOTA: Quota = Quota { burst: 3, interval: Duration::from_secs(1), max_keys: 2 };

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
                prop_assert_eq!(limiter.admit(1, now), expected);
                tokens -= if expected { 1_000 } else { 0 };
            }
        }
    }
}
