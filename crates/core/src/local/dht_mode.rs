//! The DHT mode: whether this node stores the records of others and answers their lookups.

use p2p_node_protocol::Role;

/// How the node decides whether it serves the DHT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DhtMode {
    /// The node uses the servers of others.
    #[default]
    Client,
    /// The node is a server.
    Server,
    /// The node is a server while others can dial it.
    Auto,
}

/// Error: the text names no [`DhtMode`].
#[derive(Debug, thiserror::Error)]
#[error("the value must be client, server or auto")]
pub struct UnknownDhtMode;

impl std::str::FromStr for DhtMode {
    type Err = UnknownDhtMode;

    fn from_str(text: &str) -> Result<Self, UnknownDhtMode> {
        match text {
            "client" => Ok(Self::Client),
            "server" => Ok(Self::Server),
            "auto" => Ok(Self::Auto),
            _ => Err(UnknownDhtMode),
        }
    }
}

impl DhtMode {
    /// Returns the default mode of a node with this role.
    pub fn of(role: Role) -> Self {
        match role {
            Role::Bootstrap => DhtMode::Server,
            Role::Full | Role::Light | Role::Unknown => DhtMode::Client,
        }
    }

    /// Returns `true` if a node serves the DHT. `is_reachable` states that others can dial it.
    pub fn serves(self, is_reachable: bool) -> bool {
        match self {
            DhtMode::Client => false,
            DhtMode::Server => true,
            DhtMode::Auto => is_reachable,
        }
    }
}
