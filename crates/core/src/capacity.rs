//! Capacity of the queues for outgoing messages, and the time for which a `send` may wait for
//! capacity.

use p2p_node_protocol::Priority;
use p2p_node_wire::time::Instant;

use crate::budget::Limit;
use crate::outgoing::OutgoingMessage;

/// The end of the time for which a `send` may wait for capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The recipient has used its share of the outbox. The time is extended when the
    /// recipient acknowledges more.
    Recipient(Instant),
    /// The shared capacity is used up. The wait ends at this time, and at the latest [`crate::MAX_PAUSE`]
    /// after the line accepted its last `send`.
    Shared(Instant),
}

impl Wait {
    /// Returns `true` if the time is not over.
    pub(crate) fn may_help(self, now: Instant) -> bool {
        let (Wait::Recipient(until) | Wait::Shared(until)) = self;
        until > now
    }
}

/// A `send` for which there is no capacity.
#[derive(Debug)]
pub struct NoRoom {
    /// The message.
    pub draft: OutgoingMessage,
    /// The time for which the message may wait.
    pub wait: Wait,
}

/// Returns the part of a capacity that a priority may use: low 7/8, medium 15/16, high all. A flood
/// of low and medium priority therefore leaves capacity for high priority.
pub fn capacity_for(room: usize, priority: Priority) -> usize {
    match priority {
        Priority::Low => room - room / 8,
        Priority::Medium => room - room / 16,
        Priority::High => room,
    }
}

/// Returns the part of a limit that a priority may use.
pub fn limit_for(limit: Limit, priority: Priority) -> Limit {
    Limit { count: capacity_for(limit.count, priority), bytes: capacity_for(limit.bytes, priority) }
}
