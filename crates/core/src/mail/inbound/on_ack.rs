//! The command `ack`: a client has processed messages.

use p2p_node_protocol::{Ack, Counter, ErrorCode, ErrorEvent, MAX_ACK_MESSAGES};
use p2p_node_wire::message_id::parse_message_id;

use super::delivery::{MAX_ASKED, PendingAckReply};
use super::inbox::Key;
use super::unacked::AckMeaning;
use crate::cx::Cx;
use crate::mail::Mail;
use crate::replies::reply_to::ReplyTo;

impl Mail {
    /// Handles the command `ack`.
    pub(crate) fn on_ack_command(&mut self, command: ReplyTo, ack: Ack, cx: &mut Cx) {
        if !self.manual_ack() {
            let message =
                "this node acknowledges messages itself; start it with `--ack manual` to send `ack`";
            return cx.refuse(command, ErrorCode::InvalidArgument, message);
        }
        let message_ids = match (ack.message_id, ack.message_ids) {
            (Some(one), many) if many.is_empty() => vec![one],
            (None, many) if (1..=MAX_ACK_MESSAGES).contains(&many.len()) => many,
            _ => {
                let message =
                    format!("`ack` needs either `messageId` or 1 to {MAX_ACK_MESSAGES} `messageIds`");
                return cx.refuse(command, ErrorCode::InvalidArgument, message);
            }
        };
        let names: Option<Vec<_>> = message_ids.iter().map(|text| parse_message_id(text)).collect();
        let Some(names) = names else {
            let message = "invalid message id: use the `messageId` of a `message` event";
            return cx.refuse(command, ErrorCode::InvalidArgument, message);
        };
        let pending_ack_replies: usize = self
            .delivery
            .pending_ack_replies
            .iter()
            .map(|pending_ack_replies| pending_ack_replies.pending.len())
            .sum();
        if self.pending_writes.is_durable() && pending_ack_replies + names.len() > MAX_ASKED {
            return cx.refuse(
                command,
                ErrorCode::Busy,
                "too many `ack` commands wait for the disk; try again in a moment",
            );
        }
        let (mut pending, mut unknown) = (Vec::new(), Vec::new());
        for (name, text) in names.into_iter().zip(message_ids) {
            let key = match self.delivery.unacked.ack(&name, command.client) {
                AckMeaning::Complete(key) => key,
                meaning => {
                    unknown.extend((meaning == AckMeaning::Unknown).then_some(text));
                    continue;
                }
            };
            // A client may repeat an `ack` that the disk does not have yet.
            if self.inbox.mark_acked(key, name.1) {
                cx.stats.count(Counter::MailAcked);
                self.schedule_checkpoint(key, cx);
            }
            if self.pending_writes.is_durable() {
                pending.push((key, name.1));
            } else {
                self.delivery.unacked.remove(&key, name.1);
            }
        }
        if command.id.is_none() || pending.is_empty() {
            return answer_ack(command, unknown, cx);
        }
        // Until the node answers, the id is in use and counts.
        cx.replies.clients.open_request(&command);
        self.delivery.pending_ack_replies.push(PendingAckReply { pending, unknown, command });
    }

    /// Answers every `ack` whose messages are all `done`.
    pub(super) fn reply_pending_acks(&mut self, done: impl Fn(&Key, u64) -> bool, cx: &mut Cx) {
        for pending_ack_replies in &mut self.delivery.pending_ack_replies {
            pending_ack_replies.pending.retain(|(key, seq)| !done(key, *seq));
        }
        let answered = self
            .delivery
            .pending_ack_replies
            .extract_if(.., |pending_ack_replies| pending_ack_replies.pending.is_empty());
        for PendingAckReply { command, unknown, .. } in answered.collect::<Vec<_>>() {
            answer_ack(command, unknown, cx);
        }
    }

    /// Refuses every `ack` that waits for the disk.
    pub(crate) fn reject_pending_acks(&mut self, code: ErrorCode, message: &str, cx: &mut Cx) {
        for PendingAckReply { command, .. } in std::mem::take(&mut self.delivery.pending_ack_replies) {
            cx.refuse(command, code, message);
        }
    }
}

fn answer_ack(command: ReplyTo, unknown: Vec<String>, cx: &mut Cx) {
    if unknown.is_empty() {
        return cx.answer(command, "ack", |_| {});
    }
    let message = "no message with this id waits for an `ack`: it was acknowledged already, its sender gave it up, or the node was restarted; after a restart wait for the redelivery and acknowledge that";
    let details = Some(serde_json::json!({ "messageIds": unknown }));
    let error = ErrorEvent { details, ..ErrorEvent::new(ErrorCode::MessageNotFound, message) };
    cx.refuse_with(command, error);
}
