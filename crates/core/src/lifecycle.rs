//! How far the node has come, and whom it is connected to.

use std::collections::BTreeSet;
use std::time::Duration;

use p2p_node_protocol::Id;

use crate::effect;

/// How far the node's life has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waits for `connect`.
    Idle,
    /// Opens its sockets, to answer this `connect`; asks for what there is of them at the latest then.
    Starting { id: Option<Id>, report_by: Option<Duration> },
    /// Serves every command.
    Ready,
    /// Admits nothing more and finishes what it accepted.
    Closing { reason: &'static str, shutdown: Option<Id>, deadline: Duration },
    /// Waits for the parent to read the last lines, and for peers to get what was said to them last.
    Flushing { code: effect::ExitCode, deadline: Duration, stay_until: Duration },
    /// Has asked to be ended.
    Exited,
}

/// What is known of a connected peer.
#[derive(Debug, Default)]
pub(super) struct Peer {
    pub(super) topics: BTreeSet<String>,
    pub(super) connected_at: Duration,
    /// Whether it subscribed to mail by gossip before.
    pub(super) has_heard: bool,
    pub(super) slow_at: Option<Duration>,
}
