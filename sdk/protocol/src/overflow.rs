//! The event `overflow`.

use serde::{Deserialize, Serialize};

/// `overflow`: the number of dropped lines since the last `overflow`, and in total.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Overflow {
    /// Since the last `overflow`.
    pub dropped: DropCounts,
    /// Since the start.
    pub total: DropCounts,
}

/// Numbers of dropped lines, by type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct DropCounts {
    /// Broadcasts.
    pub broadcasts: u64,
    /// Messages of other agents for a client that reads slower than the others of its node. Only
    /// several clients of one node lose them so.
    pub mail: u64,
    /// Broadcasts whose lines would have been longer than the `maxLineBytes` of `connect`.
    pub oversized: u64,
    /// Peer events (`peer_discovered`, `peer_connected`, `peer_disconnected`, `peer_banned`,
    /// `peer_unbanned`) for which there was no room.
    pub peer_events: u64,
    /// Logs.
    pub log: u64,
}
