//! Answers of the node to commands.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::forward_compat::known_or_none;
use crate::{Id, Role, Route};

/// `result`: `id`, `command`, and what that command answers.
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
    /// `send` of mail: `accepted`, which means that it is in the outbox and that a `delivery` will
    /// tell its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<String>,
    /// `send` of mail: the route asked for.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "known_or_none")]
    pub route: Option<Route>,
    /// `send` to a topic: subscribers connected to this node that it went to; 0 while it is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<usize>,
    /// `discover`: how many agents were found. `peers`: how many peers are connected, also those
    /// that `connected` has no room for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
    /// `peers`: those that are connected, as many as fit in a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected: Option<Vec<ConnectedPeer>>,
    /// `peers`: the addresses and PeerIds that are blocked, as many as fit in a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<Vec<String>>,
    /// `peers`: the addresses and PeerIds that are allowed, as many as fit in a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<Vec<String>>,
    /// `cancel`: whether there was anything left to give up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled: Option<bool>,
    /// `ping`: the node's clock, in ms since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_ms: Option<u64>,
    /// `status`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Box<StatusReport>>,
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
            connected: None,
            blocked: None,
            allowed: None,
            cancelled: None,
            time_ms: None,
            status: None,
        }
    }
}

/// A connected peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// The answer to `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Number of connected DHT servers.
    pub servers: usize,
    /// Number of agents in the directory, without this one.
    pub agents: usize,
    /// Topics to which the parent subscribed.
    pub topics: Vec<String>,
    /// Multiaddrs on which the node listens.
    pub addrs: Vec<String>,
    /// Number of accepted messages that have not ended.
    pub outbox: usize,
    /// Bytes of these messages.
    pub outbox_bytes: usize,
    /// Number of broadcasts that wait for a subscriber.
    pub queued_broadcasts: usize,
    /// Counters since the start, by name.
    pub counters: BTreeMap<String, u64>,
}
