//! `cancel`: a `discover` that still looks, a `send` that waits for room, or what one left undelivered.

use p2p_node_protocol::{DeliveryState, ErrorCode, Id};

use crate::Core;

impl Core {
    pub(crate) fn cancel(&mut self, id: Option<Id>, target: &Id) {
        let waited = self.cancel_discovery(target) || self.cancel_waiting(target);
        let mail = self.mail.outbox.take_out_if(|mail| mail.draft.request_id.as_ref() == Some(target));
        let broadcasts =
            self.gossip.broadcasts.take_out_if(|broadcast| broadcast.request_id.as_ref() == Some(target));
        let cancelled = waited || !mail.is_empty() || !broadcasts.is_empty();
        for ended in mail {
            self.tell_mail_lost(ended, DeliveryState::Failed, ErrorCode::Cancelled);
        }
        for broadcast in broadcasts {
            self.tell_broadcast_lost(broadcast, DeliveryState::Failed, ErrorCode::Cancelled);
        }
        self.answer(id, "cancel", |answer| answer.cancelled = Some(cancelled));
    }
}
