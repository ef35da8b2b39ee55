//! The phase of the node's life.

use p2p_node_wire::time::Instant;

use crate::effect;
use crate::replies::reply_to::ReplyTo;

/// The phase of the node's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The node waits for `connect`.
    Idle,
    /// The node opens its sockets. It answers `connect`, at `report_by` at the latest, with the
    /// sockets that are open by then.
    Starting { connect: ReplyTo, report_by: Option<Instant> },
    /// The node serves every command.
    Ready,
    /// The node admits no more commands and finishes accepted work. Then it answers `shutdown`, if
    /// such a command closed it.
    Closing { reason: &'static str, shutdown: Option<ReplyTo>, deadline: Instant },
    /// The node waits until the parent has read the last lines, and until peers have received the
    /// last frames.
    Flushing { code: effect::ExitCode, deadline: Instant, stay_until: Instant },
    /// The node has requested the end of the process.
    Exited,
}
