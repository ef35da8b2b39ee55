//! Other nodes: connections, dials, bootstrap peers and DHT servers.

pub mod bootstrap;
pub mod dht_servers;
pub(crate) mod dialer;
pub(crate) mod on_network;

use std::collections::{BTreeMap, BTreeSet};

use libp2p_identity::PeerId;

use crate::lifecycle::Peer;
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
