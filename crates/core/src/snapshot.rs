//! A snapshot of the node, for the `status` answer, metrics and tests.

use std::collections::BTreeMap;
use std::time::Duration;

use alloy_primitives::Address;
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use p2p_node_protocol::StatusReport;

use crate::client_id::ClientId;
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
    /// Topics to which the parent subscribed.
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
            topics: gossip.subscribed.iter().cloned().collect(),
            outbox: mail.outbox.len(),
            outbox_bytes: mail.outbox.bytes(),
            queued_broadcasts: gossip.broadcasts.queued(),
            counters: cx.stats.snapshot(),
        }
    }

    /// Returns the answer to `status`. Omits addresses and topics that do not fit into a line
    /// of the client.
    pub(crate) fn report(self, client: ClientId, cx: &Cx) -> StatusReport {
        let mut room = cx.room_for_lists(Some(client));
        let addrs = self.addrs.iter().map(ToString::to_string).filter(|addr| room.fits(addr)).collect();
        let published = self.published.iter().map(ToString::to_string);
        let published_addrs = published.filter(|addr| room.fits(addr)).collect();
        let topics = self.topics.into_iter().filter(|topic| room.fits(topic)).collect();
        StatusReport {
            peer_id: self.peer_id.to_string(),
            address: self.address.to_string(),
            uptime_ms: self.uptime.as_millis() as u64,
            peers: self.peers,
            relayed_peers: self.relayed,
            servers: self.servers,
            agents: self.agents,
            topics,
            addrs,
            published_addrs,
            outbox: self.outbox,
            outbox_bytes: self.outbox_bytes,
            queued_broadcasts: self.queued_broadcasts,
            counters: self.counters,
        }
    }
}
