//! How much a parent may do and a peer may claim, as far as no single room has to know.

use std::time::Duration;

use p2p_node_protocol::Limits;

/// Largest `data` of mail.
pub const MAX_DIRECT_BYTES: usize = Limits::STANDARD.max_direct_bytes;
/// Largest `data` of a broadcast.
pub const MAX_TOPIC_BYTES: usize = Limits::STANDARD.max_topic_bytes;
/// Commands that may wait for their answer.
pub const MAX_INFLIGHT: usize = Limits::STANDARD.max_inflight;
/// Bytes of `data` of the `send`s among them.
pub const MAX_INFLIGHT_BYTES: usize = Limits::STANDARD.max_inflight_bytes;
/// The longest that stdin is left unread, and that a `send` waits for a recipient or a queue in which nothing moves.
pub const MAX_PAUSE: Duration = Duration::from_millis(Limits::STANDARD.max_pause_ms);
/// Messages that one `ack` may name. Ours: as many as commands may wait, in a line of 64 KiB.
pub(crate) const MAX_ACKED_AT_ONCE: usize = 1024;
/// Topics that a parent may subscribe to: what a peer's subscription filter lets through, less the nodes' own.
pub const MAX_SUBSCRIPTIONS: usize = 250;
/// Topics remembered of each peer; the subscription filter lets no more through.
pub(crate) const MAX_PEER_TOPICS: usize = 256;
