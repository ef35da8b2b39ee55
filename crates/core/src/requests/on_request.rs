//! Requests of other agents: they go to a client with a handler, or the node refuses them.

use p2p_node_protocol::{
    Counter, ErrorCode, Event, IncomingRequest, MAX_CREDIT, Message, RequestCancelled, ResponseCredit,
};
use p2p_node_wire::envelope::CallStep;

use crate::client_id::ClientId;
use crate::cx::Cx;
use crate::gate::message_event::ReceivedCall;
use crate::mail::Mail;
use crate::replies::message_line_bytes;
use crate::requests::Requests;
use crate::requests::steps;
use crate::requests::tickets::Ticket;

impl Requests {
    /// Handles a request of another agent.
    pub(super) fn on_request(&mut self, received: ReceivedCall, mail: &mut Mail, cx: &mut Cx) {
        let is_known = self.tickets.number_of(received.sender, &received.call.id).is_some();
        if is_known || received.time_left.is_zero() {
            return cx.stats.count(Counter::RequestsRefused);
        }
        match self.handler_for(&received, cx) {
            Ok(client) => self.hand_over(client, received, cx),
            Err(code) => {
                cx.stats.count(Counter::RequestsRefused);
                // A broadcast reaches many agents, so those that cannot answer are silent.
                if received.message.topic.is_none() {
                    let deadline = cx.now.mono + received.time_left;
                    let ReceivedCall { sender, call, message, .. } = received;
                    let call = steps::error(CallStep::Refuse, call.id, 0, code.as_str(), refusal_text(code));
                    let message = steps::own_step(call, message.priority, deadline, cx);
                    mail.admit_own_step(sender, message, cx);
                }
            }
        }
    }

    /// Returns the client that handles a request, of those with a handler for it the one that handles fewest.
    fn handler_for(&self, received: &ReceivedCall, cx: &Cx) -> Result<ClientId, ErrorCode> {
        let message = &received.message;
        let kind = message.kind.as_deref().unwrap_or_default();
        let mut clients: Vec<ClientId> = self.handlers.of(kind).collect();
        if clients.is_empty() {
            return Err(ErrorCode::NoHandler);
        }
        clients.retain(|client| message_line_bytes(message) <= cx.max_line(*client));
        if clients.is_empty() {
            return Err(ErrorCode::MessageTooLarge);
        }
        clients.retain(|client| cx.has_room_for_call(*client, received.bytes));
        let client = clients.into_iter().min_by_key(|client| self.tickets.of_client(*client));
        let has_room = self.tickets.has_room(&received.sender, received.is_stranger);
        client.filter(|_| has_room).ok_or(ErrorCode::PeerBusy)
    }

    fn hand_over(&mut self, client: ClientId, received: ReceivedCall, cx: &mut Cx) {
        let ReceivedCall { sender, is_stranger, call, message, bytes, time_left } = received;
        let Message { from, data, peer_id, message_id, topic, kind, encoding, traceparent, trust, .. } =
            *message;
        let is_stream = call.more && topic.is_none();
        let credit = if is_stream { call.parts.min(MAX_CREDIT) } else { 1 };
        let number = self.tickets.insert(Ticket {
            asker: sender,
            call_id: call.id,
            client,
            deadline: cx.now.mono + time_left,
            priority: message.priority,
            is_stranger,
            is_stream,
            credit,
            sent: 0,
        });
        cx.stats.count(Counter::RequestsReceived);
        let request = IncomingRequest {
            ticket: self.tickets.name(number),
            from,
            peer_id,
            kind,
            data,
            encoding,
            topic,
            message_id,
            deadline_ms: time_left.as_millis() as u64,
            credit,
            stream: is_stream,
            traceparent,
            trust,
        };
        cx.emit_call(client, Event::Request(Box::new(request)), bytes);
    }

    /// Handles the cancel of a request by its asker.
    pub(super) fn on_cancel(&mut self, received: &ReceivedCall, cx: &mut Cx) {
        if let Some(number) = self.tickets.number_of(received.sender, &received.call.id) {
            self.void_ticket(number, "cancelled", cx);
        }
    }

    /// Handles the permission to send more parts of an answer.
    pub(super) fn on_credit(&mut self, received: &ReceivedCall, cx: &mut Cx) {
        let Some(number) = self.tickets.number_of(received.sender, &received.call.id) else { return };
        let name = self.tickets.name(number);
        let Some(ticket) = self.tickets.get_mut(number).filter(|ticket| ticket.is_stream) else { return };
        let parts = received.call.parts.min(ticket.sent.saturating_add(MAX_CREDIT));
        if parts <= ticket.credit {
            return;
        }
        ticket.credit = parts;
        let client = ticket.client;
        // The answer to `respond` tells the credit as well.
        if cx.has_room_for_call(client, 0) {
            cx.emit_call(client, Event::Credit(ResponseCredit { ticket: name, parts }), 0);
        }
    }

    /// Ends the requests of other agents whose deadline has passed.
    pub(super) fn end_overdue_tickets(&mut self, cx: &mut Cx) {
        for number in self.tickets.overdue(cx.now.mono) {
            self.void_ticket(number, "deadline", cx);
        }
    }

    fn void_ticket(&mut self, number: u64, reason: &str, cx: &mut Cx) {
        let name = self.tickets.name(number);
        if let Some(ticket) = self.tickets.remove(number) {
            let event = RequestCancelled { ticket: name, reason: reason.to_owned() };
            cx.emit_call(ticket.client, Event::RequestCancelled(event), 0);
        }
    }

    /// Refuses the requests that these clients handle, because they will not answer.
    pub(super) fn refuse_tickets(&mut self, is_of: impl Fn(ClientId) -> bool, mail: &mut Mail, cx: &mut Cx) {
        for number in self.tickets.of(is_of) {
            let Some(ticket) = self.tickets.remove(number) else { continue };
            let code = ErrorCode::HandlerGone;
            let text = refusal_text(code);
            let call = steps::error(CallStep::Refuse, ticket.call_id, ticket.sent, code.as_str(), text);
            let message = steps::own_step(call, ticket.priority, ticket.deadline, cx);
            mail.admit_own_step(ticket.asker, message, cx);
        }
    }
}

/// Returns what the asker reads about a refusal of its request.
fn refusal_text(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::NoHandler => "no program of the agent handles requests of this kind now",
        ErrorCode::HandlerGone => "the program that handled the request ended before it answered",
        ErrorCode::MessageTooLarge => "the request is too long for the agent's programs to read",
        _ => "the agent's programs have too many requests at once",
    }
}
