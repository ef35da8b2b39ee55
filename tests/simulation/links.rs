//! Silent connections.

use std::time::Duration;

use p2p_node_testing::network::Pair;
use p2p_node_testing::network::links::{close, is_silent};

use crate::world::{ScheduledEvent, World};

/// Minimum and maximum time after which both ends close a silent connection: the interval and the
/// timeout of the pings, of which libp2p ignores the first failure.
const SILENCE_TIMEOUT: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(50));

impl World {
    /// Ends a connection that is still silent after the ping timeout.
    pub fn end_if_silent(&mut self, pair: Pair, epoch: u64) {
        if self.network.is_open(pair, epoch) && is_silent(self, pair) {
            close(self, pair, "ping timeout");
        }
    }

    /// Schedules the end of all silent connections.
    pub fn schedule_silent_ends(&mut self) {
        let links = self.network.links.iter();
        let cut: Vec<(Pair, u64)> = links
            .filter(|(pair, _)| is_silent(self, **pair))
            .map(|(pair, link)| (*pair, link.epoch()))
            .collect();
        for (pair, epoch) in cut {
            let delay = self.rng.between(SILENCE_TIMEOUT.0, SILENCE_TIMEOUT.1);
            self.schedule_event(self.now + delay, ScheduledEvent::Silent(pair, epoch));
        }
    }
}
