//! The work that the node does when DHT servers connect.

use std::time::Duration;

use p2p_node_wire::time::Instant;

/// Shortest interval between two rounds of work for new servers. Without it a peer that reconnects
/// again and again would make the node repeat its lookups each time. Our choice: long enough for
/// all servers of a start to connect.
const USE_PERIOD: Duration = Duration::from_secs(5);

/// The schedule of work for new DHT servers.
#[derive(Debug, Default)]
pub(crate) struct DhtServers {
    due: Option<Instant>,
    used: Option<Instant>,
}

impl DhtServers {
    /// Schedules a round of work, because another server has connected.
    pub(crate) fn connected(&mut self, now: Instant) {
        let at = self.used.map_or(now, |used| now.max(used + USE_PERIOD));
        self.due.get_or_insert(at);
    }

    /// Returns `true` if a round of work for new servers is due, and schedules no other until
    /// another server connects.
    pub(crate) fn poll_due(&mut self, now: Instant) -> bool {
        let due = self.due.take_if(|due| *due <= now).is_some();
        if due {
            self.used = Some(now);
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
    fn dht_servers_are_used_at_once_and_then_at_most_once_a_period() {
        let mut servers = DhtServers::default();
        servers.connected(Instant::ZERO);
        assert!(servers.poll_due(Instant::ZERO));
        assert_eq!(servers.next_deadline(), None);
        let mut used = 0;
        for tenth in 1..=100 {
            let now = Instant::from_millis(100 * tenth);
            servers.connected(now);
            used += usize::from(servers.poll_due(now));
        }
        assert_eq!(used, 2);
    }
}
