//! The answer to `status`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Bandwidth, Distribution, HealthPenalty, Latencies, MessageCounts, RegistryState, Role, TopicReport,
};

/// State of the DHT.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DhtState {
    /// `server` if the node stores records for others, else `client`.
    pub mode: String,
    /// Number of servers in the routing table.
    pub table: usize,
}

/// The answer to `status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct StatusReport {
    /// The node's PeerId.
    pub peer_id: String,
    /// The agent's checksummed address.
    pub address: String,
    /// Time since the process started, in ms.
    pub uptime_ms: u64,
    /// Number of connected peers.
    pub peers: usize,
    /// Number of connected peers that the node reaches only through a relay.
    #[serde(default)]
    pub relayed_peers: usize,
    /// Number of connected DHT servers.
    pub servers: usize,
    /// Number of agents in the directory, without this one.
    pub agents: usize,
    /// Topics to which the parent subscribed.
    pub topics: Vec<String>,
    /// Multiaddrs on which the node listens.
    pub addrs: Vec<String>,
    /// Multiaddrs at which others can dial the node, as its record says.
    #[serde(default)]
    pub published_addrs: Vec<String>,
    /// Number of accepted messages that have not ended.
    pub outbox: usize,
    /// Bytes of these messages.
    pub outbox_bytes: usize,
    /// Number of broadcasts that wait for a subscriber.
    pub queued_broadcasts: usize,
    /// Counters since the start, by name.
    pub counters: BTreeMap<String, u64>,
    /// Role of the node.
    #[serde(default)]
    pub role: Role,
    /// Health score, from 0 to 100.
    #[serde(default)]
    pub health_score: f64,
    /// What lowers the health score.
    #[serde(default)]
    pub causes: Vec<HealthPenalty>,
    /// State of the DHT.
    #[serde(default)]
    pub dht: DhtState,
    /// Multiaddrs at which the node is sure that others can dial it.
    #[serde(default)]
    pub external_addrs: Vec<String>,
    /// Multiaddrs at which others reach the node through a relay.
    #[serde(default)]
    pub relayed_addrs: Vec<String>,
    /// Numbers of connected peers by role, where their records are known.
    #[serde(default)]
    pub peers_by_role: BTreeMap<String, usize>,
    /// Topics that the parent subscribed to or that have broadcasts.
    #[serde(default)]
    pub topic_details: Vec<TopicReport>,
    /// Number of messages and broadcasts that wait for the parent to read them.
    #[serde(default)]
    pub inbox: usize,
    /// Messages since the start.
    #[serde(default)]
    pub messages: MessageCounts,
    /// Latencies since the start.
    #[serde(default)]
    pub latency: Latencies,
    /// Bytes of payload by protocol, since the start.
    #[serde(default)]
    pub bandwidth: BTreeMap<String, Bandwidth>,
    /// Numbers of known nodes by what they are.
    #[serde(default)]
    pub distribution: Distribution,
    /// Load of the node, from 0 to 1.
    #[serde(default)]
    pub load: f64,
    /// The counters of limits that took effect, by name.
    #[serde(default)]
    pub limits_hit: BTreeMap<String, u64>,
    /// Number of bans that hold.
    #[serde(default)]
    pub bans: usize,
    /// State of the registry; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<RegistryState>,
}
