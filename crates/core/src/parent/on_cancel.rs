//! The `cancel` command: ends a `discover`, a `send` that waits for room, or a message or broadcast
//! that is not delivered yet.

use p2p_node_protocol::{DeliveryState, ErrorCode, Id};

use crate::Core;

impl Core {
    pub(crate) fn cancel(&mut self, id: Option<Id>, target: &Id) {
        let waited = self.cancel_discovery(target) || self.cancel_waiting(target);
        let mail = self.mail.outbox.remove_where(|mail| mail.draft.request_id.as_ref() == Some(target));
        let broadcasts =
            self.gossip.broadcasts.remove_where(|broadcast| broadcast.request_id.as_ref() == Some(target));
        let cancelled = waited || !mail.is_empty() || !broadcasts.is_empty();
        for ended in mail {
            self.report_failed(ended, DeliveryState::Failed, ErrorCode::Cancelled);
        }
        for broadcast in broadcasts {
            self.report_broadcast_failed(broadcast, DeliveryState::Failed, ErrorCode::Cancelled);
        }
        self.cx.answer(id, "cancel", |answer| answer.cancelled = Some(cancelled));
    }
}
