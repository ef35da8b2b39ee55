//! When the node asks a source for candidates while it has few connections.

use std::time::Duration;

use p2p_node_wire::time::Instant;

use crate::backoff::Jitter;

/// Shortest interval between two requests: our choice. A node that lost its peers finds others
/// within seconds.
const MIN_INTERVAL: Duration = Duration::from_secs(2);
/// Longest interval between two requests: our choice, as long as that of Kademlia's walks.
const MAX_INTERVAL: Duration = Duration::from_secs(60);

/// The schedule of a source: at the start, and then with intervals that grow, because a source
/// without candidates stays so.
#[derive(Debug)]
pub(crate) struct Schedule {
    next: Instant,
    last: Option<Instant>,
    interval: Duration,
}

impl Default for Schedule {
    fn default() -> Self {
        Schedule { next: Instant::ZERO, last: None, interval: MIN_INTERVAL }
    }
}

impl Schedule {
    /// Returns the time of the next request.
    pub(crate) fn next(&self) -> Instant {
        self.next
    }

    /// Schedules a request soon, because a connection ended or the source has changed.
    pub(crate) fn hasten(&mut self) {
        self.interval = MIN_INTERVAL;
        self.next = self.next.min(self.last.map_or(Instant::ZERO, |last| last + MIN_INTERVAL));
    }

    /// Returns `true` if a request is due, and schedules the next one.
    pub(crate) fn poll(&mut self, now: Instant, jitter: &mut Jitter) -> bool {
        let due = self.next <= now;
        if due {
            self.last = Some(now);
            self.next = now + jitter.spread(self.interval);
            self.interval = (self.interval * 2).min(MAX_INTERVAL);
        }
        due
    }
}
