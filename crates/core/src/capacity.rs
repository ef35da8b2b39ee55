//! Capacity of the queues for outgoing messages, and until when a `send` may wait for it.

use p2p_node_protocol::Priority;
use p2p_node_wire::time::Instant;

use crate::budget::Limit;
use crate::outgoing::OutgoingMessage;

/// Until when a `send` may wait for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The recipient has used its share of the outbox. The time moves on when the recipient
    /// acknowledges more.
    Recipient(Instant),
    /// The shared room is used up. A wait ends at this time, and at the latest [`MAX_PAUSE`] after
    /// the line accepted its last `send`.
    Shared(Instant),
}

impl Wait {
    /// Returns `true` if the time is not over yet.
    pub(crate) fn may_help(self, now: Instant) -> bool {
        let (Wait::Recipient(until) | Wait::Shared(until)) = self;
        until > now
    }
}

/// A `send` without room.
#[derive(Debug)]
pub struct NoRoom {
    /// The message.
    pub draft: OutgoingMessage,
    /// Until when it may wait.
    pub wait: Wait,
}

/// Returns the part of some room that a priority may use: low 7/8, medium 15/16, high all. So a
/// flood of other mail leaves room for what is urgent.
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
