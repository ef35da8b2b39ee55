//! Answers of other agents to requests of clients.

use alloy_primitives::Address;
use p2p_node_protocol::{AgentError, Counter, ErrorCode, Event, MAX_TARGETS, Message, Response};
use p2p_node_wire::envelope::{Call, CallStep};

use crate::cx::Cx;
use crate::gate::message_event::ReceivedCall;
use crate::mail::Mail;
use crate::replies::message_line_bytes;
use crate::requests::Requests;
use crate::requests::asked::{Asked, Audience};

/// The codes with which a node refuses a request. The error of the asker has the same code. Another code, of a
/// later version, counts as `PEER_REJECTED`.
const REFUSALS: [ErrorCode; 4] =
    [ErrorCode::NoHandler, ErrorCode::HandlerGone, ErrorCode::PeerBusy, ErrorCode::MessageTooLarge];

impl Requests {
    /// Handles an answer, or a part of one. It counts only if it is of an agent that was asked.
    pub(super) fn on_answer(&mut self, received: ReceivedCall, mail: &mut Mail, cx: &mut Cx) {
        let ReceivedCall { sender, call, message, bytes, .. } = received;
        let number = self.asked.number_of_call(&call.id);
        let Some((number, asked)) = number.and_then(|number| Some((number, self.asked.get(number)?))) else {
            return cx.stats.count(Counter::ResponsesDropped);
        };
        if !is_expected(asked, &sender) {
            return cx.stats.count(Counter::ResponsesDropped);
        }
        match call.step() {
            CallStep::Part => self.on_part(number, sender, &call, (message, bytes), mail, cx),
            CallStep::End => self.on_end(number, &call, mail, cx),
            step => {
                let error = agent_error(step, &call);
                self.agent_failed(number, sender, error, mail, cx);
            }
        }
    }

    fn on_part(
        &mut self,
        number: u64,
        sender: Address,
        call: &Call,
        (message, bytes): (Box<Message>, usize),
        mail: &mut Mail,
        cx: &mut Cx,
    ) {
        let Some(asked) = self.asked.get(number) else { return };
        let client = asked.to.client;
        let (expected, granted) = asked.stream.map_or((0, 1), |flow| (flow.received, flow.granted));
        if call.parts < expected || call.parts >= granted || call.more && asked.stream.is_none() {
            return cx.stats.count(Counter::ResponsesDropped);
        }
        if call.parts > expected {
            let message = format!("part {expected} of the answer did not arrive");
            return self.fail(number, ErrorCode::ResponseLost, message, mail, cx);
        }
        if message_line_bytes(&message) > cx.max_line(client) {
            let message = "the answer is too long for a line to this client".to_owned();
            let error = AgentError { code: ErrorCode::MessageTooLarge, message, handler_code: None };
            return self.agent_failed(number, sender, error, mail, cx);
        }
        if !cx.has_room_for_answer(client, bytes) {
            let message = "the client does not read its answers fast enough";
            return self.fail(number, ErrorCode::Busy, message, mail, cx);
        }
        let Some(Some(request_id)) = self.asked.change(number, |asked| {
            count_part(asked, sender, call.more);
            asked.to.id.clone()
        }) else {
            return;
        };
        let Message { from, data, peer_id, encoding, trust, .. } = *message;
        let response = Response {
            request_id,
            from,
            peer_id: Some(peer_id),
            data: Some(data),
            encoding,
            error: None,
            part: call.parts,
            last: !call.more,
            trust,
        };
        cx.stats.count(Counter::ResponsesReceived);
        cx.emit_call(client, Event::Response(Box::new(response)), bytes);
        self.after_part(number, call.more, mail, cx);
    }

    /// Handles the end of an answer without another part.
    fn on_end(&mut self, number: u64, call: &Call, mail: &mut Mail, cx: &mut Cx) {
        let Some(flow) = self.asked.get(number).and_then(|asked| asked.stream) else {
            return cx.stats.count(Counter::ResponsesDropped);
        };
        if call.parts > flow.received {
            let message = format!("part {} of the answer did not arrive", flow.received);
            return self.fail(number, ErrorCode::ResponseLost, message, mail, cx);
        }
        self.asked.change(number, |asked| {
            asked.waiting.clear();
            asked.answers += 1;
        });
        self.end(number, Ok(()), mail, cx);
    }

    /// Ends the request after its last part, or permits more parts.
    fn after_part(&mut self, number: u64, more: bool, mail: &mut Mail, cx: &mut Cx) {
        let Some(asked) = self.asked.get(number) else { return };
        match (&asked.audience, asked.stream) {
            (Audience::One(_), _) if !more => self.end(number, Ok(()), mail, cx),
            (Audience::One(_), Some(flow)) => {
                // The handler learns of more credit when it has used up half of it.
                let is_low = |window: u32| flow.granted.saturating_sub(flow.received) <= window / 2;
                if flow.window.is_some_and(is_low) {
                    self.asked.stall(number);
                }
            }
            _ => self.end_if_complete(number, mail, cx),
        }
    }
}

/// Counts a part of the answer of an agent.
fn count_part(asked: &mut Asked, sender: Address, more: bool) {
    if let Some(flow) = &mut asked.stream {
        flow.received += 1;
    }
    if more {
        return;
    }
    asked.waiting.remove(&sender);
    asked.answers += 1;
    if let Audience::Topic(_) = asked.audience {
        asked.heard.insert(sender);
    }
}

/// Returns `true` if an answer of this agent counts.
fn is_expected(asked: &Asked, sender: &Address) -> bool {
    match asked.audience {
        Audience::One(_) | Audience::List => asked.waiting.contains_key(sender),
        Audience::Topic(_) => asked.heard.len() < MAX_TARGETS && !asked.heard.contains(sender),
    }
}

/// Returns the error of an agent as its asker reads it.
fn agent_error(step: CallStep, call: &Call) -> AgentError {
    if step == CallStep::Fail {
        let message = call.reason.clone();
        let handler_code = Some(call.code.clone());
        return AgentError { code: ErrorCode::HandlerFailed, message, handler_code };
    }
    let known = REFUSALS.into_iter().find(|code| code.as_str() == call.code);
    let code = known.unwrap_or(ErrorCode::PeerRejected);
    AgentError { code, message: call.reason.clone(), handler_code: None }
}
