//! The priority with which the node believes a message to be.

use alloy_primitives::Address;
use p2p_node_protocol::{Counter, Message, Priority, Trust};

use crate::cx::Cx;
use crate::gate::Gate;

impl Gate {
    /// The priority with which a message goes to the parent: too much haste is not believed, but of whom the parent trusts.
    pub(crate) fn effective_priority(&mut self, author: Address, message: &Message, cx: &mut Cx) -> Priority {
        let now = cx.now;
        if message.priority != Priority::High {
            return message.priority;
        }
        let (line, oldest) = cx.replies.output.turns();
        if self.high_priority_limiter.admit(author, message.trust == Trust::Allowed, line, oldest, now.mono) {
            return Priority::High;
        }
        cx.stats.count(Counter::MessagesTooUrgent);
        Priority::Medium
    }
}
