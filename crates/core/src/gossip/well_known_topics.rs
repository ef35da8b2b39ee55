//! The topics on which nodes speak, beside those of agents.

/// Records of agents, on join and on change.
pub const ANNOUNCEMENTS: &str = "agent-announcements";
/// Mail by gossip, and broadcasts for those who subscribe.
pub const MESSAGES: &str = "agent-messages";
/// How nodes are.
pub const STATUS: &str = "node-status";
/// Topics on which only nodes publish.
pub const RESERVED_TOPICS: [&str; 2] = [ANNOUNCEMENTS, STATUS];
/// Topics that every node subscribes to.
pub(crate) const NODE_TOPICS: [&str; 3] = [ANNOUNCEMENTS, MESSAGES, STATUS];

/// Whether agents have no say in who hears it.
pub(crate) fn is_reserved(topic: &str) -> bool {
    NODE_TOPICS.contains(&topic)
}
