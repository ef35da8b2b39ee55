//! The role of a node, as a record encodes it.

use p2p_node_protocol::Role;
use prost::Enumeration;

/// The role of a node on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum WireRole {
    /// A full node.
    Full = 0,
    /// A bootstrap node.
    Bootstrap = 1,
    /// A light node.
    Light = 2,
}

impl From<Role> for WireRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Full | Role::Unknown => WireRole::Full,
            Role::Bootstrap => WireRole::Bootstrap,
            Role::Light => WireRole::Light,
        }
    }
}

impl From<WireRole> for Role {
    fn from(role: WireRole) -> Self {
        match role {
            WireRole::Full => Role::Full,
            WireRole::Bootstrap => Role::Bootstrap,
            WireRole::Light => Role::Light,
        }
    }
}
