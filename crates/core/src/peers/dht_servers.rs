//! DHT servers: which of them enter the routing table of Kademlia, and the work that the node does when
//! servers connect.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use p2p_node_protocol::Counter;
use p2p_node_wire::kad::kad_bucket;
use p2p_node_wire::time::Instant;

use crate::cx::Cx;
use crate::effect::NetworkCommand;
use crate::peers::Peers;
use crate::peers::subnet::Subnet;

/// Shortest interval between two rounds of work for new servers. Without it a peer that reconnects
/// again and again would make the node repeat its lookups each time. Our choice: long enough for
/// all servers of a start to connect.
const MIN_INTERVAL: Duration = Duration::from_secs(5);

/// Largest number of servers of one subnet in a bucket, from py-libp2p's plan for the diversity of buckets. A
/// lookup then leaves each subnet after two steps.
const MAX_OF_SUBNET: usize = 2;
/// Largest number of servers in a bucket: the k of Kademlia in libp2p.
const MAX_IN_BUCKET: usize = 20;
/// Largest number of servers in the routing table: our choice. The bucket of a random peer is below 20 in a
/// network of a million servers.
pub(crate) const MAX_ROUTED: usize = 20 * MAX_IN_BUCKET;

/// A server in the routing table.
#[derive(Debug)]
struct Routed {
    bucket: u32,
    subnets: BTreeSet<Subnet>,
}

/// The DHT servers in the routing table, and the schedule of work for new ones.
#[derive(Debug, Default)]
pub(crate) struct DhtServers {
    due: Option<Instant>,
    last_round: Option<Instant>,
    routed: BTreeMap<PeerId, Routed>,
}

/// Whether a server enters the routing table.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    /// The server enters, in the place of this one if it is set.
    Admitted(Option<PeerId>),
    Refused,
}

impl DhtServers {
    /// Returns the number of servers in the routing table.
    pub(crate) fn len(&self) -> usize {
        self.routed.len()
    }

    /// Decides about a server that is not in the routing table. Where a limit is reached, a server that
    /// `may_go` makes room.
    fn entry_of(&self, server: &Routed, may_go: impl Fn(&PeerId) -> bool) -> Entry {
        let in_bucket = || self.routed.iter().filter(|(_, routed)| routed.bucket == server.bucket);
        let of_subnet = |subnet: &Subnet| -> Vec<PeerId> {
            in_bucket().filter(|(_, routed)| routed.subnets.contains(subnet)).map(|(peer, _)| *peer).collect()
        };
        let full_subnet = server.subnets.iter().map(of_subnet).find(|peers| peers.len() >= MAX_OF_SUBNET);
        let rivals: Vec<PeerId> = match full_subnet {
            Some(peers) => peers,
            None if in_bucket().count() >= MAX_IN_BUCKET => in_bucket().map(|(peer, _)| *peer).collect(),
            None if self.routed.len() >= MAX_ROUTED => self.routed.keys().copied().collect(),
            None => return Entry::Admitted(None),
        };
        match rivals.into_iter().find(may_go) {
            Some(rival) => Entry::Admitted(Some(rival)),
            None => Entry::Refused,
        }
    }

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

impl Peers {
    /// Handles the DHT mode of a peer, by its last identify exchange. `addrs` are those of a server.
    pub(crate) fn on_dht_mode(&mut self, peer: PeerId, serves: bool, addrs: Vec<Multiaddr>, cx: &mut Cx) {
        let is_new = self.table.set_serves_dht(peer, serves);
        if !serves {
            if self.dht_servers.routed.remove(&peer).is_some() {
                cx.network(NetworkCommand::RemoveServer { peer });
            }
            return;
        }
        if is_new && self.is_admitted(&peer) {
            self.dht_servers.connected(cx.now.mono);
        }
        self.route_through(peer, addrs, cx);
    }

    /// Adds a server to the routing table, unless its bucket has enough servers of its subnet. So whoever has
    /// one subnet never fills a bucket. The subnet is where the connection leads, because a server can claim
    /// any address. Bootstrap peers are always added, because the operator named them.
    fn route_through(&mut self, peer: PeerId, addrs: Vec<Multiaddr>, cx: &mut Cx) {
        if !self.dht_servers.routed.contains_key(&peer) {
            let subnets = self.table.connection(&peer).map(|known| known.links.subnets()).unwrap_or_default();
            let is_bootstrap = self.table.is_bootstrap(&peer);
            let server = Routed { bucket: kad_bucket(&cx.identity.peer, &peer), subnets };
            let may_go =
                |rival: &PeerId| self.table.connection(rival).is_none() && !self.table.is_bootstrap(rival);
            match self.dht_servers.entry_of(&server, may_go) {
                Entry::Admitted(None) => {}
                Entry::Admitted(Some(rival)) => {
                    self.dht_servers.routed.remove(&rival);
                    cx.network(NetworkCommand::RemoveServer { peer: rival });
                }
                Entry::Refused if is_bootstrap && self.dht_servers.routed.len() < MAX_ROUTED => {}
                Entry::Refused => return cx.stats.count(Counter::ServersNotRouted),
            }
            self.dht_servers.routed.insert(peer, server);
        }
        cx.network(NetworkCommand::AddServer { peer, addrs });
    }
}

#[cfg(test)]
mod tests;
