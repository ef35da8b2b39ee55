//! The default priority of a message: the priority of its kind.

use p2p_node_protocol::Priority;

/// Kinds of high priority. Source: the ChaosChain documents give votes, proposals and critical
/// messages "Highest Priority", and the TOS document gives the others an urgency of 0.9 or more.
pub const HIGH: [&str; 5] = ["block_announce", "block_proposal", "consensus_vote", "critical", "vote"];

/// Kinds of low priority, which the node sends last and drops first. Source: the ChaosChain
/// documents give statistics, history and non-critical messages "Low Priority", and the TOS
/// document gives the others an urgency of 0.2 or less.
pub const LOW: [&str; 7] = [
    "historical_data",
    "history",
    "network_statistics",
    "non_critical",
    "peer_exchange",
    "ping",
    "statistics",
];

/// Returns the priority of a kind. In the source documents alliances, memes and status updates are
/// medium. So is every kind that the documents do not name.
pub fn priority_of(kind: &str) -> Priority {
    if HIGH.contains(&kind) {
        Priority::High
    } else if LOW.contains(&kind) {
        Priority::Low
    } else {
        Priority::Medium
    }
}
