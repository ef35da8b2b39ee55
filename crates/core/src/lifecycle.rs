//! The phase of the node's life, and the state of a connected peer.

use std::collections::BTreeSet;

use p2p_node_protocol::Id;
use p2p_node_wire::time::Instant;

use crate::effect;

/// The phase of the node's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The node waits for `connect`.
    Idle,
    /// The node opens its sockets. It answers the `connect` of this `id`, at `report_by` at the
    /// latest, with the sockets that are open by then.
    Starting { id: Option<Id>, report_by: Option<Instant> },
    /// The node serves every command.
    Ready,
    /// The node admits no more commands and finishes accepted work.
    Closing { reason: &'static str, shutdown: Option<Id>, deadline: Instant },
    /// The node waits until the parent has read the last lines, and until peers have received the
    /// last frames.
    Flushing { code: effect::ExitCode, deadline: Instant, stay_until: Instant },
    /// The node has requested the end of the process.
    Exited,
}

/// The state of a connected peer.
#[derive(Debug, Default)]
pub(super) struct Peer {
    pub(super) topics: BTreeSet<String>,
    pub(super) connected_at: Instant,
    /// `true` if the peer has subscribed to mail by gossip on this connection.
    pub(super) has_heard: bool,
    pub(super) slow_at: Option<Instant>,
}
