//! The ends of requests of clients.

use alloy_primitives::Address;
use p2p_node_protocol::{AgentError, Answer, Counter, ErrorCode, ErrorEvent, Event, Response, Trust};
use p2p_node_wire::envelope::CallStep;

use crate::cx::Cx;
use crate::mail::Mail;
use crate::requests::Requests;
use crate::requests::asked::{Asked, Audience};
use crate::requests::steps;
use crate::signal::Signal;

/// Bytes of an address in a list of a line: 42 characters, two quotes and a comma.
const ADDRESS_BYTES: usize = 45;

impl Requests {
    /// Handles the delivery of a request to an agent, or its failure.
    pub(crate) fn on_request_sent(
        &mut self,
        number: u64,
        target: Option<Address>,
        outcome: Result<(), (ErrorCode, String)>,
        mail: &mut Mail,
        cx: &mut Cx,
    ) {
        let Some(asked) = self.asked.get(number) else { return };
        match (outcome, target) {
            (Ok(()), Some(agent)) => {
                self.asked.change(number, |asked| {
                    asked.waiting.entry(agent).and_modify(|has_it| *has_it = true);
                });
            }
            (Ok(()), None) => {}
            // The deadline ends the request in a moment, and says so.
            (Err((ErrorCode::Expired, _)), _) if asked.deadline <= cx.now.mono => {}
            (Err((code, message)), Some(agent)) => {
                self.agent_failed(number, agent, AgentError { code, message, handler_code: None }, mail, cx);
            }
            (Err(_), None) if asked.answers > 0 => {}
            (Err((code, message)), None) => self.fail(number, code, message, mail, cx),
        }
    }

    /// Handles the error of one agent: it ends a request to this agent alone.
    pub(super) fn agent_failed(
        &mut self,
        number: u64,
        agent: Address,
        error: AgentError,
        mail: &mut Mail,
        cx: &mut Cx,
    ) {
        let Some(asked) = self.asked.get(number) else { return };
        let (is_one, to) = (matches!(asked.audience, Audience::One(_)), asked.to.clone());
        if is_one {
            let details = error
                .handler_code
                .as_ref()
                .map(|code| serde_json::json!({ "code": code, "from": agent.to_string() }));
            let event = ErrorEvent { details, ..ErrorEvent::new(error.code, error.message) };
            return self.end(number, Err(event), mail, cx);
        }
        let part = Response {
            request_id: to.id.clone().unwrap_or(p2p_node_protocol::Id::Number(0)),
            from: agent.to_string(),
            peer_id: None,
            data: None,
            encoding: None,
            error: Some(error),
            part: 0,
            last: true,
            trust: Trust::Unverified,
        };
        self.asked.change(number, |asked| {
            asked.waiting.remove(&agent);
            asked.heard.insert(agent);
        });
        cx.emit_call(to.client, Event::Response(Box::new(part)), 0);
        self.end_if_complete(number, mail, cx);
    }

    /// Ends a request to several agents if no further answer can change its end.
    pub(super) fn end_if_complete(&mut self, number: u64, mail: &mut Mail, cx: &mut Cx) {
        let Some(asked) = self.asked.get(number) else { return };
        let is_list = asked.audience == Audience::List;
        match asked.quorum {
            Some(quorum) if asked.answers >= quorum => self.end(number, Ok(()), mail, cx),
            Some(quorum) if is_list && asked.answers + asked.waiting.len() < quorum => {
                self.fail_quorum(number, mail, cx);
            }
            _ if is_list && asked.waiting.is_empty() => self.end(number, Ok(()), mail, cx),
            _ => {}
        }
    }

    /// Ends the requests whose deadline has passed.
    pub(super) fn end_overdue_requests(&mut self, mail: &mut Mail, cx: &mut Cx) {
        for number in self.asked.overdue(cx.now.mono) {
            let Some(asked) = self.asked.get(number) else { continue };
            match (&asked.audience, asked.quorum) {
                (Audience::One(_), _) => {
                    let message = match asked.waiting.values().all(|has_it| *has_it) {
                        true => "the handler did not answer in time; it was told to stop",
                        false => "the agent's node did not confirm the request in time",
                    };
                    self.fail(number, ErrorCode::DeadlineExceeded, message, mail, cx);
                }
                (_, Some(_)) => self.fail_quorum(number, mail, cx),
                (_, None) => {
                    cx.stats.count(Counter::RequestsExpired);
                    self.end(number, Ok(()), mail, cx);
                }
            }
        }
    }

    fn fail_quorum(&mut self, number: u64, mail: &mut Mail, cx: &mut Cx) {
        let Some(asked) = self.asked.get(number) else { return };
        let (answers, quorum) = (asked.answers, asked.quorum.unwrap_or_default());
        let message = format!("{answers} agents answered, and the request needs {quorum}");
        let details = Some(serde_json::json!({ "answers": answers, "quorum": quorum }));
        let event = ErrorEvent { details, ..ErrorEvent::new(ErrorCode::QuorumNotReached, message) };
        self.end(number, Err(event), mail, cx);
    }

    /// Ends a request with an error of the node.
    pub(super) fn fail(
        &mut self,
        number: u64,
        code: ErrorCode,
        message: impl Into<String>,
        mail: &mut Mail,
        cx: &mut Cx,
    ) {
        self.end(number, Err(ErrorEvent::new(code, message)), mail, cx);
    }

    /// Ends a request: tells its client, and the handlers that have not answered.
    pub(super) fn end(&mut self, number: u64, outcome: Result<(), ErrorEvent>, mail: &mut Mail, cx: &mut Cx) {
        let Some(asked) = self.asked.remove(number) else { return };
        cx.stats.count(match outcome.as_ref().map_err(|error| error.code) {
            Ok(()) => Counter::RequestsAnswered,
            Err(ErrorCode::Cancelled) => Counter::RequestsCancelled,
            Err(ErrorCode::DeadlineExceeded) => Counter::RequestsExpired,
            Err(_) => Counter::RequestsFailed,
        });
        self.stop_handlers(number, &asked, mail, cx);
        cx.signal(Signal::RequestEnded(number));
        let event = match outcome {
            Ok(()) => Event::Result(Box::new(result_of(&asked, cx))),
            Err(error) => Event::Error(Box::new(ErrorEvent { id: asked.to.id.clone(), ..error })),
        };
        cx.end_call(&asked.to, event);
    }

    /// Tells the handlers that nobody waits for their answers. At the deadline they know it themselves.
    fn stop_handlers(&mut self, number: u64, asked: &Asked, mail: &mut Mail, cx: &mut Cx) {
        if asked.deadline <= cx.now.mono {
            return;
        }
        let id = self.asked.call_id(number);
        for (agent, has_it) in &asked.waiting {
            if *has_it || mail.remove_request(agent, number) {
                let call = steps::call(CallStep::Cancel, id.clone(), 0, false);
                let message = steps::own_step(call, asked.priority, asked.deadline, cx);
                mail.admit_own_step(*agent, message, cx);
            }
        }
    }
}

/// Returns the `result` of a request.
fn result_of(asked: &Asked, cx: &Cx) -> Answer {
    let mut answer = Answer::new(asked.to.id.clone().unwrap_or(p2p_node_protocol::Id::Number(0)), "request");
    answer.address = asked.to.resolved.map(|address| address.to_string());
    answer.answers = Some(asked.answers);
    if asked.audience == Audience::List {
        let mut missing: Vec<&Address> = asked.waiting.keys().chain(&asked.heard).collect();
        missing.sort();
        answer.complete = Some(missing.is_empty());
        let mut room = cx.room_for_lists(Some(asked.to.client));
        let fits = missing.into_iter().take_while(|_| room.takes(ADDRESS_BYTES));
        answer.missing = Some(fits.map(Address::to_string).collect());
    }
    answer
}
