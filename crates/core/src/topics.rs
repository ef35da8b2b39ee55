//! The topics on which nodes publish, in addition to those of agents.

use p2p_node_wire::envelope::limits;

/// Records of agents, published on join and on change.
pub const ANNOUNCEMENTS: &str = "agent-announcements";
/// Mail by gossip, and broadcasts of agents to all subscribers.
pub const MESSAGES: &str = "agent-messages";
/// Status of nodes.
pub const STATUS: &str = "node-status";
/// Topics on which only nodes publish.
pub const RESERVED_TOPICS: [&str; 2] = [ANNOUNCEMENTS, STATUS];
/// Topics of the nodes. Each node subscribes to those that it needs, with or without a `subscribe`
/// of its agent.
pub const NODE_TOPICS: [&str; 3] = [ANNOUNCEMENTS, MESSAGES, STATUS];

/// Returns `true` for a topic of the nodes.
pub(crate) fn is_node_topic(topic: &str) -> bool {
    NODE_TOPICS.contains(&topic)
}

/// Returns the reason if the name of a topic is invalid.
pub(crate) fn check_topic(topic: &str) -> Result<(), String> {
    if topic.is_empty() || topic.len() > limits::MAX_NAME_BYTES {
        return Err(format!("a topic must have 1 to {} bytes", limits::MAX_NAME_BYTES));
    }
    match topic.chars().any(char::is_control) {
        true => Err("a topic must not contain control characters".to_owned()),
        false => Ok(()),
    }
}
