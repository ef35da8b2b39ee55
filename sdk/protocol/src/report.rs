//! The network report: what `report` answers, and what pages and tools show.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Priority, Role};

/// The answer to `report`: the network, as this node knows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct NetworkReport {
    /// The node's clock, in ms since 1970.
    pub time_ms: u64,
    /// The metrics of the network and the health score.
    pub metrics: ReportMetrics,
    /// The nodes that this node knows, and the connections between them.
    pub topology: Topology,
    /// Messages of this node since its start.
    pub messages: MessageCounts,
    /// Latencies that this node measured since its start.
    pub latency: Latencies,
    /// Bytes of this node by protocol, since its start.
    pub bandwidth: BTreeMap<String, Bandwidth>,
    /// Topics of this node.
    pub topics: Vec<TopicReport>,
    /// Numbers of known nodes by what they are.
    pub distribution: Distribution,
    /// Performance indicators of the network.
    pub performance: Performance,
    /// Load of this node, from 0 to 1: the largest share that is in use of its connections, its outbox and
    /// its memory for gossip.
    pub load: f64,
    /// The counters of limits that took effect, by name.
    pub limits_hit: BTreeMap<String, u64>,
    /// Number of bans that hold.
    pub bans: usize,
    /// State of the registry; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<RegistryState>,
}

/// The metrics of the network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ReportMetrics {
    /// Number of other nodes that this node knows of in the last hour.
    pub total_peers: usize,
    /// Number of them that it heard of in the last 5 minutes.
    pub active_peers: usize,
    /// Mean round trip time to the active peers that the node pings, in ms; absent if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
    /// Messages a second that this node sent and received in the last 60 s.
    pub message_rate: f64,
    /// Share of the active nodes that have the capability `consensus`; absent if no known node has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consensus_participation: Option<f64>,
    /// Health score, from 0 to 100.
    pub health_score: f64,
    /// What lowers the score.
    pub causes: Vec<HealthPenalty>,
}

/// What lowers the health score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct HealthPenalty {
    /// The cause.
    pub cause: HealthCause,
    /// Points that it costs.
    pub penalty: f64,
    /// The value that causes it.
    pub value: f64,
    /// The cause in a sentence, for people.
    pub text: String,
}

/// A cause of a lower health score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HealthCause {
    /// Fewer than 10 active peers.
    FewPeers,
    /// A mean round trip time above 1 s.
    HighLatency,
    /// Less than half of the active nodes take part in consensus.
    LowParticipation,
    /// More than 5 % of the messages were dropped.
    MessageDrops,
    /// A value that this version of the crate does not know. The node never writes it.
    #[serde(other)]
    #[cfg_attr(feature = "schema", schemars(skip))]
    Unknown,
}

/// Nodes and connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Topology {
    /// The nodes: this one, connected ones, then the others.
    pub nodes: Vec<ReportNode>,
    /// The connections: those of this node, and those that the statuses of others name. Each once.
    pub edges: Vec<Edge>,
    /// `false` if nodes or connections are left out, because the line would be too long.
    pub complete: bool,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ReportNode {
    /// PeerId of the node.
    pub peer_id: String,
    /// Checksummed address of its agent, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Display name; a claim of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Role, as the node states it.
    pub role: Role,
    /// Version of the binary; a claim of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Capabilities; a claim of the agent.
    pub capabilities: Vec<String>,
    /// Region, for a peer of the region file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// `true` for this node.
    pub is_self: bool,
    /// `true` if this node is connected to it.
    pub is_connected: bool,
    /// `true` if it is connected, or if this node heard of it in the last 5 minutes and no dial failed since.
    pub is_active: bool,
    /// Time at which this node first heard its status or connected to it, in ms since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_seen_ms: Option<u64>,
    /// Time at which this node last heard of it, in ms since 1970.
    pub last_seen_ms: u64,
    /// Round trip time in ms, if this node has measured it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
    /// Health score; for other nodes a claim of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_score: Option<f64>,
    /// Reputation from 0 to 1 at this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reputation: Option<f64>,
    /// Number of its connected peers; for other nodes a claim of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<usize>,
    /// Time since its process started, in ms; for other nodes a claim of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_ms: Option<u64>,
    /// `proven` if a signature proves which agent the node speaks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<BindingState>,
    /// Multiaddrs of the node; a claim of the agent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addrs: Vec<String>,
}

/// Whether a signature proves the agent of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum BindingState {
    /// A signature of the agent names the node.
    Proven,
    /// This node has no record of the agent.
    Unproven,
    /// A value that this version of the crate does not know. The node never writes it.
    #[serde(other)]
    #[cfg_attr(feature = "schema", schemars(skip))]
    Unknown,
}

/// A connection between two nodes. It has no direction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Edge {
    /// PeerId of one end.
    pub source: String,
    /// PeerId of the other end.
    pub target: String,
}

/// Messages of this node since its start: mail and broadcasts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct MessageCounts {
    /// Accepted from the parent.
    pub sent: u64,
    /// Queued for the parent.
    pub received: u64,
    /// Mail that ended as `delivered`.
    pub delivered: u64,
    /// Ended as `expired`.
    pub expired: u64,
    /// Lost: ended as `failed` or `rejected`, or dropped by this node before its parent read them.
    pub dropped: u64,
    /// Received again.
    pub duplicate: u64,
    /// The same by priority.
    pub by_priority: PriorityCounts,
}

/// Messages by priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PriorityCounts {
    /// High priority.
    pub high: TrafficCounts,
    /// Medium priority.
    pub medium: TrafficCounts,
    /// Low priority.
    pub low: TrafficCounts,
}

impl PriorityCounts {
    /// Returns the counts of a priority.
    pub fn of_mut(&mut self, priority: Priority) -> &mut TrafficCounts {
        match priority {
            Priority::High => &mut self.high,
            Priority::Medium => &mut self.medium,
            Priority::Low => &mut self.low,
        }
    }
}

/// Messages of one priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TrafficCounts {
    /// Accepted from the parent.
    pub sent: u64,
    /// Queued for the parent.
    pub received: u64,
    /// Mail that ended as `delivered`.
    pub delivered: u64,
}

/// Latencies that the node measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Latencies {
    /// From the acceptance of mail to its `delivered`.
    pub ack_ms: Percentiles,
    /// Round trips of pings.
    pub ping_ms: Percentiles,
}

/// Percentiles of durations in ms, at most an eighth too high.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Percentiles {
    /// Half of the durations are at most this long; absent without durations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50: Option<f64>,
    /// 95 % of the durations are at most this long; absent without durations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95: Option<f64>,
    /// 99 % of the durations are at most this long; absent without durations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99: Option<f64>,
    /// Number of durations.
    pub count: u64,
}

/// Bytes in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Bandwidth {
    /// Bytes that arrived.
    pub in_bytes: u64,
    /// Bytes that left.
    pub out_bytes: u64,
}

/// A topic of this node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct TopicReport {
    /// The topic.
    pub topic: String,
    /// Number of peers in the mesh of the topic.
    pub mesh_peers: usize,
    /// Number of connected peers that subscribe to the topic.
    pub subscribers: usize,
    /// Broadcasts queued for the parent since the start.
    pub received: u64,
    /// Broadcasts accepted from the parent since the start.
    pub sent: u64,
    /// Broadcasts a second in both directions in the last 60 s.
    pub rate: f64,
}

/// Numbers of known nodes, this one included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Distribution {
    /// By role.
    pub by_role: BTreeMap<String, usize>,
    /// By capability, the 64 most frequent ones.
    pub by_capability: BTreeMap<String, usize>,
    /// By version, the 64 most frequent ones.
    pub by_version: BTreeMap<String, usize>,
    /// By region, for peers of the region file.
    pub by_region: BTreeMap<String, usize>,
}

/// Performance indicators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Performance {
    /// Messages a second for each active peer; 0 without peers.
    pub network_efficiency: f64,
    /// Share of the active nodes that take part in consensus; absent if no known node does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consensus_health: Option<f64>,
    /// Share of the active peers whose connection quality is above 0.8; 1 without peers.
    pub connection_stability: f64,
    /// Share of the messages that were not dropped; 1 without messages.
    pub message_success_rate: f64,
}

/// State of the registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RegistryState {
    /// What the node makes of the registry: `off`, `warn` or `enforce`.
    pub policy: String,
    /// `false` while no RPC server answers.
    pub is_reachable: bool,
    /// Number of agents whose entries the node remembers.
    pub agents: usize,
}
