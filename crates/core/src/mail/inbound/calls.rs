//! Steps of requests in mail: they go to the component for requests, and need no `ack` of a program.

use p2p_node_protocol::{Counter, ErrorCode, Route};
use p2p_node_wire::envelope::{self, CallStep};

use crate::cx::Cx;
use crate::gate::Gate;
use crate::gate::message_event::{ReceivedCall, message_event};
use crate::gate::sender::Sender;
use crate::mail::Mail;
use crate::mail::inbound::inbox::{AckPolicy, Key};
use crate::mail::inbound::receive_window::DeliverDecision;
use crate::signal::Signal;

impl Mail {
    /// Hands over a step of a request that is next in its stream. The node acknowledges it at once.
    pub(super) fn deliver_call(
        &mut self,
        sender: &mut Sender,
        key: Key,
        mut message: envelope::Message,
        route: Route,
        gate: &mut Gate,
        cx: &mut Cx,
    ) -> Result<(), ErrorCode> {
        let (seq, ttl_left_ms) = (message.seq, message.ttl_left_ms);
        let Some(call) = message.call.take() else { return Err(ErrorCode::InvalidArgument) };
        // Only requests may come unasked, so the other steps need no guard.
        if call.step() == CallStep::Request {
            gate.guard_flow(sender, &message, cx)?;
        }
        let event = message_event(sender, message, None, route, cx)?;
        cx.stats.received(Counter::MailReceived, event.0.priority, cx.now.mono);
        gate.tiers.on_mail_from(sender.address);
        if self.inbox.ack_policy() != AckPolicy::OnReceipt {
            let decision = self.inbox.deliver(key, seq);
            self.inbox.mark_acked(key, seq);
            self.schedule_checkpoint(key, cx);
            if decision == DeliverDecision::Duplicate {
                return Ok(());
            }
        }
        cx.signal(Signal::CallReceived(ReceivedCall::new(sender, call, ttl_left_ms, event)));
        Ok(())
    }
}
