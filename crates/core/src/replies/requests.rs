//! Lines of requests and answers, and reports of the messages that carry them.

use p2p_node_protocol::{Counter, Delivery, DeliveryState, ErrorCode, Event, Priority};

use crate::budget::Budget;
use crate::client_id::ClientId;
use crate::cx::Cx;
use crate::replies::delivery_failure;
use crate::replies::reply_to::{ReplyTo, StepOf};
use crate::signal::Signal;

/// The priority of all lines of requests and answers to a client, so that they keep their order.
const LINES: Priority = Priority::Medium;

impl Cx {
    /// Reports the end of a message or broadcast to what waits for it: a client, or a request.
    pub(crate) fn report_delivery(&mut self, command: &ReplyTo, delivery: Delivery) {
        let Some(step) = command.step else { return self.emit_delivery(command.client, delivery) };
        let outcome = match delivery.state {
            DeliveryState::Delivered => Ok(()),
            _ => {
                let code = delivery.code.unwrap_or(ErrorCode::Expired);
                let text = delivery.message.unwrap_or_else(|| delivery_failure(code, delivery.route));
                Err((code, text))
            }
        };
        self.end_step(step, outcome);
    }

    /// Reports the end of a message that is a step of a request.
    pub(crate) fn end_step(&mut self, step: StepOf, outcome: Result<(), (ErrorCode, String)>) {
        if let StepOf::Request { number, target } = step {
            self.signal(Signal::RequestSent { number, target, outcome });
        }
    }

    /// Answers the command of a step that the node accepted, if it has one.
    pub(crate) fn answer_step(&mut self, command: ReplyTo, step: StepOf) {
        if let StepOf::Answer { credit } = step {
            self.stats.count(Counter::ResponsesSent);
            self.answer(command, "respond", |answer| answer.credit = Some(credit));
        }
    }

    /// Returns `true` if a client has room for a line with a payload of this size.
    pub(crate) fn has_room_for_call(&self, client: ClientId, bytes: usize) -> bool {
        let client = self.replies.clients.get(client);
        client
            .is_some_and(|client| client.output.has_mail_room(Budget::of(1, bytes), false, Budget::default()))
    }

    /// Returns `true` if a client has room for an answer with a payload of this size. The node has accepted the
    /// answer, so it may take more than what the node accepts in the first place.
    pub(crate) fn has_room_for_answer(&self, client: ClientId, bytes: usize) -> bool {
        self.replies.clients.get(client).is_some_and(|client| client.output.has_answer_room(bytes))
    }

    /// Returns `true` if a client reads about as fast as answers come.
    pub(crate) fn reads_calls(&self, client: ClientId) -> bool {
        self.replies.clients.get(client).is_some_and(|client| client.output.is_draining())
    }

    /// Queues a line of a request or answer for a client. The lines of one client keep their order.
    pub(crate) fn emit_call(&mut self, client: ClientId, event: Event, bytes: usize) {
        if let Some(client) = self.replies.clients.get_mut(client) {
            client.output.mail(LINES, event, bytes, None);
        }
    }

    /// Records that a request has not ended, so that its id stays in use.
    pub(crate) fn open_call(&mut self, to: &ReplyTo) {
        if let (Some(client), Some(id)) = (self.replies.clients.get_mut(to.client), &to.id) {
            client.open_calls.insert(id.clone());
        }
    }

    /// Writes the last line of a request, behind its answers.
    pub(crate) fn end_call(&mut self, to: &ReplyTo, event: Event) {
        if let Event::Error(error) = &event {
            self.replies.refused(to.client, error.code);
        }
        if let (Some(client), Some(id)) = (self.replies.clients.get_mut(to.client), &to.id) {
            client.open_calls.remove(id);
        }
        self.emit_call(to.client, event, 0);
    }
}
