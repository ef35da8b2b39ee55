//! The nodes that this one is connected to, or wants to be.

pub mod bootstrap;
pub mod dht_servers;
pub(crate) mod dialer;
pub(crate) mod on_network;

use std::collections::{BTreeMap, BTreeSet};

use libp2p_identity::PeerId;

use crate::lifecycle::Peer;
use bootstrap::Bootstraps;
use dht_servers::Servers;
use dialer::Connecting;

/// Other nodes.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    /// Nodes to join through.
    pub(crate) bootstrap: Bootstraps,
    /// Nodes that serve the DHT.
    pub(crate) dht_servers: Servers,
    /// Nodes that this one is connected to.
    pub(crate) connected: BTreeMap<PeerId, Peer>,
    /// Nodes that are being dialled.
    pub(crate) dialing: BTreeSet<PeerId>,
    /// Which nodes may be dialled again, and when.
    pub(crate) dialer: Connecting,
}
