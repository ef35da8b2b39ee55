//! How much a parent may do and a peer may claim, as far as no single room has to know.

use p2p_node_protocol::MAX_LINE_BYTES;

/// Largest `data` of mail: a line less its other fields (design §4).
pub const MAX_DIRECT_BYTES: usize = MAX_LINE_BYTES - (8 << 10);
/// Largest `data` of a broadcast (design §4).
pub const MAX_TOPIC_BYTES: usize = 60 << 10;
/// Commands that may wait for their answer (`reference/stdio.md` §2.3).
pub const MAX_INFLIGHT: usize = 1024;
/// Topics that a parent may subscribe to: what a peer's subscription filter lets through, less the nodes' own.
pub const MAX_SUBSCRIPTIONS: usize = 250;
/// Topics remembered of each peer; the subscription filter lets no more through.
pub(super) const MAX_PEER_TOPICS: usize = 256;
