//! The work that the node does when DHT servers connect.

use std::time::Duration;

use p2p_node_wire::time::Instant;

/// Shortest interval between two rounds of work for new servers. Without it a peer that reconnects
/// again and again would make the node repeat its lookups each time. Our choice: long enough for
/// all servers of a start to connect.
const MIN_INTERVAL: Duration = Duration::from_secs(5);

/// The schedule of work for new DHT servers.
#[derive(Debug, Default)]
pub(crate) struct DhtServers {
    due: Option<Instant>,
    last_round: Option<Instant>,
}

impl DhtServers {
    /// Schedules a round of work, because another server has connected.
    pub(crate) fn connected(&mut self, now: Instant) {
        let at = self.last_round.map_or(now, |last_round| now.max(last_round + MIN_INTERVAL));
        self.due.get_or_insert(at);
    }

    /// Returns `true` if a round of work for new servers is due, and schedules no other until
    /// another server connects.
    pub(crate) fn poll_due(&mut self, now: Instant) -> bool {
        let due = self.due.take_if(|due| *due <= now).is_some();
        if due {
            self.last_round = Some(now);
        }
        due
    }

    /// Returns the time of the next round.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dht_server_work_runs_at_once_then_once_per_interval() {
        let mut servers = DhtServers::default();
        servers.connected(Instant::ZERO);
        assert!(servers.poll_due(Instant::ZERO));
        assert_eq!(servers.next_deadline(), None);
        let mut last_round = 0;
        for tenth in 1..=100 {
            let now = Instant::from_millis(100 * tenth);
            servers.connected(now);
            last_round += usize::from(servers.poll_due(now));
        }
        assert_eq!(last_round, 2);
    }
}
