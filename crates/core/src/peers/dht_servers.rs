//! The connected DHT servers.

use std::collections::BTreeSet;
use std::time::Duration;

use libp2p_identity::PeerId;
use p2p_node_wire::time::Instant;

/// Shortest interval between two rounds of work for new servers. Without it a peer that reconnects
/// again and again would make the node repeat its lookups each time. Our choice: long enough for
/// all servers of a start to connect.
const USE_PERIOD: Duration = Duration::from_secs(5);

/// The connected servers, and the time of the next round of work for new ones.
#[derive(Debug, Default)]
pub struct DhtServers {
    connected: BTreeSet<PeerId>,
    due: Option<Instant>,
    used: Option<Instant>,
}

impl DhtServers {
    /// Records that a peer serves the DHT.
    pub fn known(&mut self, peer: PeerId, now: Instant) {
        if self.connected.insert(peer) {
            let at = self.used.map_or(now, |used| now.max(used + USE_PERIOD));
            self.due.get_or_insert(at);
        }
    }

    /// Records that a peer is no longer connected.
    pub fn lost(&mut self, peer: &PeerId) {
        self.connected.remove(peer);
    }

    /// Returns `true` if a round of work for new servers is due, and schedules no other until
    /// another server connects.
    pub fn take_due(&mut self, now: Instant) -> bool {
        let due = self.due.take_if(|due| *due <= now).is_some();
        if due {
            self.used = Some(now);
        }
        due
    }

    /// Returns the time of the next round.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Returns the number of servers.
    pub fn len(&self) -> usize {
        self.connected.len()
    }

    /// Returns `true` if there are no servers.
    pub fn is_empty(&self) -> bool {
        self.connected.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_used_at_once_and_those_who_come_and_go_now_and_then() {
        let (mut servers, peer) = (DhtServers::default(), PeerId::random());
        servers.known(peer, Instant::ZERO);
        assert!(servers.take_due(Instant::ZERO));
        assert_eq!((servers.len(), servers.next_deadline()), (1, None));
        let mut used = 0;
        for tenth in 1..=100 {
            let now = Instant::from_millis(100 * tenth);
            servers.lost(&peer);
            servers.known(peer, now);
            used += usize::from(servers.take_due(now));
        }
        assert_eq!(used, 2);
        servers.lost(&peer);
        assert!(servers.is_empty());
    }
}
