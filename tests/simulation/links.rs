//! Connections through which nothing comes.

use std::time::Duration;

use p2p_node_testing::network::Pair;
use p2p_node_testing::network::links::{close, is_silent};

use crate::world::{ScheduledEvent, World};

/// Minimum and maximum time after which both ends close a silent connection: the interval and the
/// timeout of the pings, of which libp2p ignores the first failure.
const SILENCE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(50));

impl World {
    /// Both ends of a connection have waited for each other in vain, if that is still so.
    pub fn silent(&mut self, pair: Pair, epoch: u64) {
        if self.network.is_open(pair, epoch) && is_silent(self, pair) {
            close(self, pair, "nothing comes through");
        }
    }

    /// Connections through which nothing comes end when their ends notice.
    pub fn notice_cuts(&mut self) {
        let links = self.network.links.iter();
        let cut: Vec<(Pair, u64)> = links
            .filter(|(pair, _)| is_silent(self, **pair))
            .map(|(pair, link)| (*pair, link.epoch()))
            .collect();
        for (pair, epoch) in cut {
            let delay = self.rng.between(SILENCE.0, SILENCE.1);
            self.at(self.now + delay, ScheduledEvent::Silent(pair, epoch));
        }
    }
}
