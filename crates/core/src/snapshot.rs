//! A snapshot of the node, for its metrics.

use std::time::Duration;

use crate::report::Sources;

/// What the metrics of the node say besides its counters and the sizes of its collections.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Time since the process started.
    pub uptime: Duration,
    /// Health score of the network, from 0 to 100.
    pub health_score: f64,
    /// Number of connected peers that the node reaches only through a relay.
    pub relayed: usize,
    /// Number of connected peers.
    pub peers: usize,
    /// Number of connected DHT servers.
    pub servers: usize,
    /// Number of known agents.
    pub agents: usize,
    /// Number of topics to which clients subscribed.
    pub topics: usize,
    /// Number of messages in the outbox.
    pub outbox: usize,
    /// Bytes of messages in the outbox.
    pub outbox_bytes: usize,
    /// Number of broadcasts that wait for subscribers.
    pub queued_broadcasts: usize,
}

impl Snapshot {
    pub(crate) fn of(sources: &Sources<'_>) -> Self {
        let Sources { directory, peers, gossip, mail, cx, .. } = sources;
        Snapshot {
            uptime: cx.now.mono.since_start(),
            health_score: sources.health_score(),
            relayed: peers.table.connections().filter(|(_, connection)| connection.is_relayed).count(),
            peers: peers.table.connections_len(),
            servers: peers.table.servers_len(),
            agents: directory.records.len(),
            topics: gossip.subscribed.len(),
            outbox: mail.outbox.len(),
            outbox_bytes: mail.outbox.bytes(),
            queued_broadcasts: gossip.broadcasts.queued(),
        }
    }
}
