//! The high-priority limiter: each author may send enough high-priority messages for votes and
//! alarms, but not for a flood.

use std::collections::BTreeMap;
use std::time::Duration;

use alloy_primitives::Address;
use p2p_node_wire::time::Instant;

use super::rate_limiter::{AtLimit, Quota, RateLimiter};

/// Number of high-priority messages that one author may send at once: our choice, enough for votes
/// in some twenty discussions.
pub const BURST: u32 = 20;
/// Time in which an author earns one more high-priority message: 5 a second, our choice.
pub const INTERVAL: Duration = Duration::from_millis(200);
/// Largest number of tracked authors: our choice. Each takes 64 bytes.
pub const MAX_AUTHORS: usize = 4096;

/// Decides which high-priority messages of each author keep their priority. An author whose line
/// was demoted to medium stays demoted until that line has left the queue; otherwise a later line
/// would overtake it.
#[derive(Debug)]
pub struct HighPriorityLimiter {
    limiter: RateLimiter<Address>,
    /// The last demoted line of each author.
    demoted: BTreeMap<Address, u64>,
    /// The last demoted line of the authors for whom `demoted` has no capacity.
    others_demoted: Option<u64>,
}

impl Default for HighPriorityLimiter {
    fn default() -> Self {
        let quota =
            Quota { burst: BURST, interval: INTERVAL, max_keys: MAX_AUTHORS, at_limit: AtLimit::Refuse };
        HighPriorityLimiter {
            limiter: RateLimiter::new(quota),
            demoted: BTreeMap::new(),
            others_demoted: None,
        }
    }
}

impl HighPriorityLimiter {
    /// Returns `true` if a high-priority message of `author` keeps its priority. `trusted` authors
    /// have no rate limit. `line` is the number of the message among all lines, `oldest` the number
    /// of the first medium line in the queue.
    pub fn admit(
        &mut self,
        author: Address,
        trusted: bool,
        line: u64,
        oldest: Option<u64>,
        now: Instant,
    ) -> bool {
        let waits = |demoted: u64| oldest.is_some_and(|oldest| demoted >= oldest);
        if self.demoted.get(&author).copied().is_some_and(waits) {
            self.demoted.insert(author, line);
            return false;
        }
        let is_tracked = self.limiter.tracks(&author) || self.demoted.contains_key(&author);
        if !is_tracked && self.others_demoted.is_some_and(waits) {
            self.others_demoted = Some(line);
            return false;
        }
        self.demoted.remove(&author);
        if trusted || self.limiter.admit(author, now) {
            return true;
        }
        if self.demoted.len() >= MAX_AUTHORS {
            self.demoted.retain(|_, line| waits(*line));
        }
        if self.demoted.len() < MAX_AUTHORS {
            self.demoted.insert(author, line);
        } else {
            self.others_demoted = Some(line);
        }
        false
    }

    /// Returns `true` if the rate limit permits another high-priority message of `author`. Ignores
    /// demoted lines in the queue.
    pub fn would_admit(&self, author: &Address, trusted: bool, now: Instant) -> bool {
        trusted || self.limiter.would_admit(author, now)
    }

    /// Returns the number of authors that the limiter tracks.
    pub fn len(&self) -> usize {
        self.limiter.len().max(self.demoted.len())
    }

    /// Returns `true` if the limiter tracks no author.
    pub fn is_empty(&self) -> bool {
        self.limiter.is_empty() && self.demoted.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: Address = Address::repeat_byte(1);

    /// Returns how many of `number` messages keep their priority if every line leaves at once.
    fn admitted(limiter: &mut HighPriorityLimiter, author: Address, number: u64, now: Instant) -> usize {
        (0..number).filter(|_| limiter.admit(author, false, 1, None, now)).count()
    }

    #[test]
    fn author_keeps_high_priority_for_burst_then_rate() {
        let mut limiter = HighPriorityLimiter::default();
        assert!(limiter.would_admit(&ALICE, false, Instant::ZERO));
        assert_eq!(admitted(&mut limiter, ALICE, 100, Instant::ZERO), 20);
        assert!(
            !limiter.would_admit(&ALICE, false, Instant::ZERO)
                && limiter.would_admit(&ALICE, true, Instant::ZERO)
        );
        assert!(
            limiter.would_admit(&ALICE, false, Instant::after_start(INTERVAL)),
            "one message for each interval"
        );
        assert_eq!(admitted(&mut limiter, Address::repeat_byte(2), 100, Instant::ZERO), 20);
        assert_eq!(admitted(&mut limiter, ALICE, 100, Instant::from_secs(1)), 5);
        assert_eq!(admitted(&mut limiter, ALICE, 100, Instant::from_secs(60)), 20);
    }

    #[test]
    fn author_stays_demoted_while_demoted_line_is_queued() {
        let mut limiter = HighPriorityLimiter::default();
        assert_eq!(admitted(&mut limiter, ALICE, 20, Instant::ZERO), 20);
        assert!(!limiter.admit(ALICE, false, 21, None, Instant::ZERO));
        let later = Instant::from_secs(60);
        assert!(!limiter.admit(ALICE, false, 30, Some(21), later), "the demoted line is queued");
        assert!(!limiter.admit(ALICE, false, 31, Some(22), later), "the second demoted line is queued");
        assert!(limiter.admit(ALICE, false, 40, Some(32), later));
    }

    #[test]
    fn trusted_author_has_no_rate_limit_but_waits_for_demoted_line() {
        let mut limiter = HighPriorityLimiter::default();
        assert_eq!(admitted(&mut limiter, ALICE, 30, Instant::ZERO), 20);
        assert!(!limiter.admit(ALICE, false, 30, Some(21), Instant::ZERO));
        assert!(!limiter.admit(ALICE, true, 31, Some(30), Instant::ZERO), "the demoted line is queued");
        assert!((32..100).all(|line| limiter.admit(ALICE, true, line, None, Instant::ZERO)));
    }

    #[test]
    fn author_above_tracking_limit_is_demoted() {
        let mut limiter = HighPriorityLimiter::default();
        let author = |number: usize| Address::left_padding_from(&number.to_be_bytes());
        for number in 0..MAX_AUTHORS {
            assert!(limiter.admit(author(number), false, 1, None, Instant::ZERO));
        }
        assert!(!limiter.admit(author(MAX_AUTHORS), false, 7, None, Instant::ZERO));
        assert_eq!(limiter.len(), MAX_AUTHORS);
        let later = Instant::from_secs(1);
        assert!(!limiter.admit(author(MAX_AUTHORS), false, 8, Some(7), later), "the demoted line is queued");
        assert!(
            limiter.admit(author(MAX_AUTHORS), false, 9, Some(9), later),
            "the limiter dropped idle authors"
        );
        assert_eq!(limiter.len(), 1);
    }
}
