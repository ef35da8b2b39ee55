//! Other nodes: connections, dials, bootstrap peers and DHT servers.

pub mod bootstrap;
pub(crate) mod candidate;
pub mod dht_servers;
pub(crate) mod dialer;
pub(crate) mod on_network;

use std::collections::{BTreeMap, BTreeSet};

use libp2p_identity::PeerId;

use crate::cx::Cx;
use crate::directory::Directory;
use crate::lifecycle::Peer;
use crate::timers::TimerTable;
use crate::usage::Usage;
use bootstrap::Bootstraps;
use dht_servers::DhtServers;
use dialer::Dialer;

/// The state of connections to other nodes.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    /// The nodes through which this node joins the network.
    pub(crate) bootstrap: Bootstraps,
    /// The connected nodes that serve the DHT.
    pub(crate) dht_servers: DhtServers,
    /// The connected nodes.
    pub(crate) connected: BTreeMap<PeerId, Peer>,
    /// The nodes that are being dialled.
    pub(crate) dialing: BTreeSet<PeerId>,
    /// The schedule of dials to agents' nodes.
    pub(crate) dialer: Dialer,
}

impl Peers {
    /// Enters the timers of connections.
    pub(crate) fn timers(&self, timers: &mut TimerTable, directory: &Directory, cx: &Cx) {
        timers.enter("bootstrap peers", self.bootstrap.next_deadline());
        timers.enter("DHT servers", self.dht_servers.next_deadline());
        timers.enter("dialer", self.connecting_deadline(directory, cx));
        timers.enter("subscriptions of peers", self.silence_deadline());
    }

    /// Returns the size of each collection, with its limit.
    pub(crate) fn usage(&self) -> Vec<Usage> {
        [
            ("bootstrap peers", self.bootstrap.len(), bootstrap::MAX_BOOTSTRAPS),
            ("peers whose topics are awaited", self.dialer.expected(), dialer::MAX_EXPECTED),
            ("dials that back off", self.dialer.backoffs(), dialer::MAX_BACKOFFS),
        ]
        .into_iter()
        .map(|(name, size, limit)| Usage { name, size, limit })
        .collect()
    }
}

#[cfg(test)]
mod tests;
