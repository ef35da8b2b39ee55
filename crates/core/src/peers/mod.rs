//! Other nodes: connections, dials, bootstrap peers and DHT servers.

pub mod bootstrap;
pub(crate) mod candidate;
pub(crate) mod dht_servers;
pub(crate) mod dialer;
pub(crate) mod local_network;
pub(crate) mod on_network;
pub mod relays;
pub(crate) mod table;

use crate::cx::Cx;
use crate::directory::Directory;
use crate::local::Local;
use crate::timers::TimerTable;
use crate::usage::Usage;
use dht_servers::DhtServers;
use dialer::Dialer;
use local_network::LocalNetwork;
use relays::Relays;
use table::PeerTable;

/// The state of connections to other nodes.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    /// The peers that the node dials, is connected to, or must not dial yet.
    pub(crate) table: PeerTable,
    /// The schedule of work for new DHT servers.
    pub(crate) dht_servers: DhtServers,
    /// The schedule of dials to agents' nodes.
    pub(crate) dialer: Dialer,
    /// The candidates that mDNS found.
    pub(crate) local_network: LocalNetwork,
    /// The relays that this node uses and could use.
    pub(crate) relays: Relays,
}

impl Peers {
    /// Enters the timers of connections.
    pub(crate) fn timers(&self, timers: &mut TimerTable, local: &Local, directory: &Directory, cx: &Cx) {
        timers.enter("bootstrap peers", self.table.next_redial());
        timers.enter("DHT servers", self.dht_servers.next_deadline());
        timers.enter("dialer", self.selection_deadline(directory, cx));
        timers.enter("subscriptions of peers", self.subscriptions_deadline());
        timers.enter("local network", self.local_network_deadline());
        timers.enter("relays", self.relays_deadline(local, cx));
    }

    /// Does the work that is due: dials bootstrap peers, asks relays, disconnects useless peers.
    pub(crate) fn handle_timeout(&mut self, local: &mut Local, cx: &mut Cx) {
        self.dial_bootstrap_peers(cx);
        self.dial_local_network(cx);
        self.reserve_relays(local, cx);
        self.disconnect_unsubscribed_peers(cx);
    }

    /// Returns the size of each collection, with its limit.
    pub(crate) fn usage(&self) -> Vec<Usage> {
        let (offers, reservations, pauses) = self.relays.lens();
        [
            ("peers", self.table.len(), table::MAX_PEERS),
            ("bootstrap peers", self.table.bootstraps_len(), bootstrap::MAX_BOOTSTRAPS),
            (
                "peers with awaited subscriptions",
                self.dialer.awaiting_subscriptions(),
                dialer::MAX_AWAITING_SUBSCRIPTIONS,
            ),
            ("peers with a dial pause", self.table.pauses_len(), dialer::MAX_BACKOFFS),
            ("local candidates", self.local_network.len(), local_network::MAX_LOCAL_CANDIDATES),
            ("offered relays", offers, relays::MAX_OFFERS),
            ("relay reservations", reservations, relays::MAX_RELAYS),
            ("relays with a pause", pauses, relays::MAX_RELAY_PAUSES),
        ]
        .into_iter()
        .map(|(name, size, limit)| Usage { name, size, limit })
        .collect()
    }
}

#[cfg(test)]
mod tests;
