//! The routes of messages.

use serde::{Deserialize, Serialize};

/// Route of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Route {
    /// Direct if the recipient is connected or can be dialed, otherwise by gossip.
    #[default]
    Auto,
    /// Over a connection to the recipient only.
    Direct,
    /// Through the topic `agent-messages` only.
    Gossip,
}
