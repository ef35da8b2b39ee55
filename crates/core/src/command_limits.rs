//! Limits of the commands of a parent, and of the topics of a peer.

use crate::budget::Limit;
use std::time::Duration;

use p2p_node_protocol::Limits;
pub use p2p_node_protocol::MAX_SUBSCRIPTIONS;

/// Largest `data` of a message to an agent, in bytes.
pub const MAX_DIRECT_BYTES: usize = Limits::STANDARD.max_direct_bytes;
/// Largest `data` of a broadcast, in bytes.
pub const MAX_TOPIC_BYTES: usize = Limits::STANDARD.max_topic_bytes;
/// Largest number of unanswered commands.
pub const MAX_INFLIGHT: usize = Limits::STANDARD.max_inflight;
/// Largest number of agents for whose answers the requests of a client wait.
pub const MAX_REQUESTS: usize = Limits::STANDARD.max_requests;
/// Largest number of requests of other agents that wait for an answer of this agent. Our choice: three agents
/// with as many as one may have, and some for others. Each takes about 200 bytes.
pub const MAX_TICKETS: usize = 32_768;
/// Largest total `data` of unanswered `send` commands, in bytes.
pub const MAX_INFLIGHT_BYTES: usize = Limits::STANDARD.max_inflight_bytes;
/// Longest time for which the node leaves stdin unread, and for which a `send` waits for a
/// recipient or queue that makes no progress.
pub const MAX_PAUSE: Duration = Duration::from_millis(Limits::STANDARD.max_pause_ms);
/// Largest number of topics of a peer, in all. The swarm ignores the rest. Our choice: the
/// subscriptions of a parent, the node topics, and some for those of later versions.
pub const MAX_PEER_TOPICS: usize = 512;
// A node never subscribes to more topics than its peers accept.
const _: () = assert!(MAX_SUBSCRIPTIONS + crate::topics::NODE_TOPICS.len() < MAX_PEER_TOPICS);

/// Both limits of unanswered `send` commands.
pub(crate) const INFLIGHT: Limit = Limit { count: MAX_INFLIGHT, bytes: MAX_INFLIGHT_BYTES };
