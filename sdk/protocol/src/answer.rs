//! Answers of the node to commands.

use serde::{Deserialize, Serialize};

use crate::forward_compat::known_or_none;
use crate::{Id, NetworkReport, Role, Route, StatusReport};

/// `result`: `id`, `command`, and the fields of that command.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// The id of the command.
    pub id: Id,
    /// Type of the command.
    pub command: String,
    /// `send`: id of the message, unique in the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// `send` of mail: `accepted`. The mail is in the outbox, and a `delivery` will report its
    /// final state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<String>,
    /// `send` of mail: the requested route.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "known_or_none")]
    pub route: Option<Route>,
    /// `send` to a topic: number of connected subscribers that got the broadcast; 0 while the
    /// broadcast is queued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<usize>,
    /// `discover`: number of agents found. `peers`: number of connected peers, including those that
    /// `connected` omits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
    /// `request` to a list: `true` if all agents answered. `discover`: `true` if the agents found are all that match, as far as the network knows;
    /// `false` if some may be missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete: Option<bool>,
    /// `peers`: the connected peers, as many as fit in a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected: Option<Vec<ConnectedPeer>>,
    /// `peers`: the blocked addresses and PeerIds, as many as fit in a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<Vec<String>>,
    /// `peers`: the allowed addresses and PeerIds, as many as fit in a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<Vec<String>>,
    /// `request`: number of agents that answered. Their answers came before, as `response`s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<usize>,
    /// `request` to a list: the agents without an answer, as many as fit in a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<Vec<String>>,
    /// `respond`: number of parts that the handler may send in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credit: Option<u32>,
    /// `cancel`: `true` if it ended a command, a request or a message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled: Option<bool>,
    /// `ping`: the node's clock, in ms since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_ms: Option<u64>,
    /// `status`: the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Box<StatusReport>>,
    /// `report`: the network, as the node knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Box<NetworkReport>>,
    /// A command with a name of ENS: the checksummed address that the name has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// `registry`: the entry of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<Box<RegistryEntry>>,
}

impl Answer {
    /// Returns the answer of a command that succeeded, without data.
    pub fn new(id: Id, command: &str) -> Self {
        Answer {
            id,
            command: command.to_owned(),
            message_id: None,
            delivery: None,
            route: None,
            peers: None,
            count: None,
            complete: None,
            connected: None,
            blocked: None,
            allowed: None,
            answers: None,
            missing: None,
            credit: None,
            cancelled: None,
            time_ms: None,
            status: None,
            report: None,
            address: None,
            registry: None,
        }
    }
}

/// What the registry on the chain says of an agent. The texts are claims of the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RegistryEntry {
    /// Checksummed address of the agent.
    pub address: String,
    /// Name of the agent in ENS, if that name has this address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ens_name: Option<String>,
    /// `true` if the agent registered, and did not deactivate itself.
    pub is_registered: bool,
    /// `true` if the owner of the registry blocked the agent.
    pub is_blocked: bool,
    /// Name of the agent, at most 128 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Metadata of the agent, at most 2,048 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
    /// Reputation, from 0 to 100 as a rule, if the registry has one of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reputation: Option<u64>,
    /// Time of the registration, in ms since 1970; 0 for an agent that never registered.
    pub registered_at_ms: u64,
}

/// A connected peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ConnectedPeer {
    /// PeerId of the node.
    pub peer_id: String,
    /// Checksummed address of its agent, if its record is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Display name; a claim of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Role of the node, if its record is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Duration of the connection, in ms.
    pub connected_for_ms: u64,
    /// Score of the peer: 79 for an unknown one, at most 125. It ranks whom the node dials and keeps.
    #[serde(default)]
    pub score: u32,
    /// Reputation from 0 to 1, the lower one of the node and its agent. Below 0.3 the node bans them.
    #[serde(default)]
    pub reputation: f64,
    /// Round trip time in ms, rounded up, if the node has measured it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_ms: Option<u64>,
    /// How much of this node the peer may use.
    #[serde(default)]
    pub tier: Tier,
    /// Transport connections, oldest first.
    #[serde(default)]
    pub links: Vec<PeerLink>,
    /// Reasons for which the node keeps the connection when it has too many.
    #[serde(default)]
    pub kept_for: Vec<KeptFor>,
    /// Messages to this agent that came over the connection.
    #[serde(default)]
    pub messages_in: u64,
    /// Messages of this agent that the node sent over the connection, repeated ones included.
    #[serde(default)]
    pub messages_out: u64,
}

/// How much of a node an agent may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Tier {
    /// The node knows nothing of the agent but its keys.
    #[default]
    Stranger,
    /// The parent sent mail to the agent, or the registry names it.
    Known,
    /// The parent allowed the agent or its node, or the node has no limits.
    Allowed,
    /// A value that this version of the crate does not know. The node never writes it.
    #[serde(other)]
    #[cfg_attr(feature = "schema", schemars(skip))]
    Unknown,
}

/// A transport connection to a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PeerLink {
    /// Which of the two nodes dialled.
    pub direction: LinkDirection,
    /// Transport of the connection.
    pub transport: LinkTransport,
    /// Multiaddr of the other end.
    pub remote_address: String,
    /// Age in ms.
    pub age_ms: u64,
}

/// Which node dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum LinkDirection {
    /// The peer dialled.
    Inbound,
    /// This node dialled.
    Outbound,
    /// A value that this version of the crate does not know. The node never writes it.
    #[serde(other)]
    #[cfg_attr(feature = "schema", schemars(skip))]
    Unknown,
}

/// Transport of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum LinkTransport {
    /// TCP.
    Tcp,
    /// QUIC.
    Quic,
    /// A relay carries the connection.
    Relay,
    /// A value that this version of the crate does not know. The node never writes it.
    #[serde(other)]
    #[cfg_attr(feature = "schema", schemars(skip))]
    Unknown,
}

/// Reason for which the node keeps a connection when it has too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum KeptFor {
    /// The peer is a bootstrap peer.
    Bootstrap,
    /// The peer was one of the two longest connections of the last process that this node dialled.
    Anchor,
    /// Others reach this node through the peer.
    Relay,
    /// The peer has a reservation at this node as its relay.
    Reservation,
    /// The peer is one of the eight DHT servers that have been connected longest.
    Server,
    /// Messages to the agent wait or are in flight, or messages from it wait for an acknowledgement.
    Mail,
    /// A topic of this agent would have too few connected subscribers without the peer.
    Topic,
    /// The agent or its node is allowed.
    Allowed,
    /// The connection is young.
    Young,
    /// A value that this version of the crate does not know. The node never writes it.
    #[serde(other)]
    #[cfg_attr(feature = "schema", schemars(skip))]
    Unknown,
}
