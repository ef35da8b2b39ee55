//! A snapshot of the node, for metrics and tests.

use std::collections::BTreeMap;
use std::time::Duration;

use alloy_primitives::Address;
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;

use crate::cx::Cx;
use crate::directory::Directory;
use crate::gossip::Gossip;
use crate::local::Local;
use crate::mail::Mail;
use crate::peers::Peers;

/// A copy of the state of the node at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Our PeerId.
    pub peer_id: PeerId,
    /// Our agent's address.
    pub address: Address,
    /// Time since the process started.
    pub uptime: Duration,
    /// Addresses on which the node listens, with `/p2p/`.
    pub addrs: Vec<Multiaddr>,
    /// Addresses of its record.
    pub published: Vec<Multiaddr>,
    /// Number of connected peers that the node reaches only through a relay.
    pub relayed: usize,
    /// Number of connected peers.
    pub peers: usize,
    /// Number of connected DHT servers.
    pub servers: usize,
    /// Number of known agents.
    pub agents: usize,
    /// Topics to which clients subscribed.
    pub topics: Vec<String>,
    /// Number of messages in the outbox.
    pub outbox: usize,
    /// Bytes of messages in the outbox.
    pub outbox_bytes: usize,
    /// Number of broadcasts that wait for subscribers.
    pub queued_broadcasts: usize,
    /// Counters that are not zero, by name.
    pub counters: BTreeMap<String, u64>,
}

impl Snapshot {
    pub(crate) fn of(
        local: &Local,
        directory: &Directory,
        peers: &Peers,
        gossip: &Gossip,
        mail: &Mail,
        cx: &Cx,
    ) -> Self {
        Snapshot {
            peer_id: cx.identity.peer,
            address: cx.identity.address,
            uptime: cx.now.mono.since_start(),
            addrs: local.listening(cx),
            published: local.addresses.published(cx.now.mono),
            relayed: peers.table.connections().filter(|(_, connection)| connection.is_relayed).count(),
            peers: peers.table.connections_len(),
            servers: peers.table.servers_len(),
            agents: directory.records.len(),
            topics: gossip.subscribed.topics().into_iter().collect(),
            outbox: mail.outbox.len(),
            outbox_bytes: mail.outbox.bytes(),
            queued_broadcasts: gossip.broadcasts.queued(),
            counters: cx.stats.snapshot(),
        }
    }
}
