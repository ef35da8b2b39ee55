//! The effective priority of a received message.

use alloy_primitives::Address;
use p2p_node_protocol::{Counter, Message, Priority, Trust};

use crate::cx::Cx;
use crate::gate::Gate;

impl Gate {
    /// Returns the priority with which the node queues a message for the parent. The node demotes
    /// high priority above the limit of its author to medium, unless the parent allowed the author.
    pub(crate) fn effective_priority(&mut self, author: Address, message: &Message, cx: &mut Cx) -> Priority {
        let now = cx.now;
        if message.priority != Priority::High {
            return message.priority;
        }
        let (line, oldest) = cx.replies.clients.turns();
        if self.high_priority_limiter.admit(author, message.trust == Trust::Allowed, line, oldest, now.mono) {
            return Priority::High;
        }
        cx.stats.count(Counter::MessagesDemoted);
        Priority::Medium
    }
}
