//! What priority a message has whose sender names none: that of its kind.

use p2p_node_protocol::Priority;

/// Kinds that go first: the votes, proposals and critical mail of the ChaosChain seeds (`000`, `001`: "Highest Priority"), and what the
/// TOS seed (`002`) gives an urgency of 0.9 or more.
pub const HIGH: [&str; 5] = ["block_announce", "block_proposal", "consensus_vote", "critical", "vote"];

/// Kinds that wait, and are shed first: the statistics, history and non-critical messages of the ChaosChain seeds ("Low Priority"), and
/// what the TOS seed gives an urgency of 0.2 or less.
pub const LOW: [&str; 7] = [
    "historical_data",
    "history",
    "network_statistics",
    "non_critical",
    "peer_exchange",
    "ping",
    "statistics",
];

/// The priority of a kind. Alliances, memes and status updates are medium in the seeds, and so is everything that they do not name.
pub fn priority_of(kind: &str) -> Priority {
    if HIGH.contains(&kind) {
        Priority::High
    } else if LOW.contains(&kind) {
        Priority::Low
    } else {
        Priority::Medium
    }
}
