//! The `cancel` command: ends a `discover`, a request, a `send` that waits for room, or a message or
//! broadcast that is not delivered yet.

use p2p_node_protocol::{DeliveryState, ErrorCode, Id};

use crate::cx::Cx;
use crate::gossip::Gossip;
use crate::gossip::broadcasting::report_broadcast_failed;
use crate::mail::Mail;
use crate::parent::Parent;
use crate::replies::reply_to::ReplyTo;
use crate::requests::Requests;

impl Parent {
    pub(crate) fn cancel(
        &mut self,
        to: ReplyTo,
        target: &Id,
        gossip: &mut Gossip,
        mail: &mut Mail,
        requests: &mut Requests,
        cx: &mut Cx,
    ) {
        let client = to.client;
        let waited = self.cancel_discovery(client, target, cx)
            || self.cancel_waiting(client, target, cx)
            || self.cancel_file_send(client, target, cx)
            || self.cancel_name_wait(client, target, cx)
            || requests.cancel(client, target, mail, cx);
        let messages = mail.outbox.remove_where(|mail| mail.draft.command.is(client, target));
        let broadcasts =
            gossip.broadcasts.remove_where(|broadcast| broadcast.draft.command.is(client, target));
        let cancelled = waited || !messages.is_empty() || !broadcasts.is_empty();
        for ended in messages {
            mail.report_failed(ended, DeliveryState::Failed, ErrorCode::Cancelled, cx);
        }
        for broadcast in broadcasts {
            report_broadcast_failed(broadcast, DeliveryState::Failed, ErrorCode::Cancelled, cx);
        }
        cx.answer(to, "cancel", |answer| answer.cancelled = Some(cancelled));
    }
}
