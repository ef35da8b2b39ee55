//! Answers of clients to requests of other agents.

use p2p_node_protocol::{ErrorCode, HandlerError};
use p2p_node_wire::envelope::{Call, CallStep};

use crate::client_id::ClientId;
use crate::cx::Cx;
use crate::mail::Mail;
use crate::replies::reply_to::{ReplyTo, StepOf};
use crate::requests::Requests;
use crate::requests::steps::{self, Content};
use crate::requests::tickets::Ticket;
use crate::signal::Signal;

/// What a handler answers.
#[derive(Debug)]
pub(crate) enum NewAnswer {
    /// The answer, or a part of it.
    Part { content: Content, more: bool },
    /// The end of an answer of several parts, without another part.
    End,
    /// An error, which ends the request.
    Fail(HandlerError),
}

impl Requests {
    /// Replaces the kinds that a client handles. Requests that it has go on.
    pub(crate) fn handle(&mut self, client: ClientId, kinds: Vec<String>) {
        self.handlers.set(client, kinds);
    }

    /// Sends an answer.
    ///
    /// # Errors
    /// Returns why the node refuses the command `respond`. The request waits on, as if the command had not
    /// been.
    pub(crate) fn respond(
        &mut self,
        command: &ReplyTo,
        ticket: &str,
        answer: NewAnswer,
        mail: &mut Mail,
        cx: &mut Cx,
    ) -> Result<(), (ErrorCode, String)> {
        let found = self.tickets.number_of_name(command.client, ticket);
        let Some((number, ticket)) =
            found.and_then(|number| Some((number, self.tickets.get(number)?.clone())))
        else {
            let message = "no request with this ticket waits for an answer of this client: it was answered or cancelled, \
                or its deadline passed";
            return Err((ErrorCode::TicketNotFound, message.to_owned()));
        };
        let (call, content) = call_of(&ticket, answer)?;
        let (step, more) = (call.step(), call.more);
        let to =
            ReplyTo::of_step(command.client, command.id.clone(), StepOf::Answer { credit: ticket.credit });
        let message = steps::message(call, content, ticket.priority, ticket.deadline, to, cx);
        let is_answer = step != CallStep::Fail;
        if mail.admit_answer(ticket.asker, message, cx).is_err() {
            let message = "outbox full, for this asker or in total; send this `respond` again in a moment";
            return Err((ErrorCode::Busy, message.to_owned()));
        }
        if is_answer {
            // The client answers the agent, as if it sent it a message.
            cx.signal(Signal::Mailed(ticket.asker));
        }
        if !more {
            self.tickets.remove(number);
        } else if let Some(ticket) = self.tickets.get_mut(number) {
            ticket.sent += 1;
        }
        Ok(())
    }
}

/// Returns the step of an answer.
fn call_of(ticket: &Ticket, answer: NewAnswer) -> Result<(Call, Content), (ErrorCode, String)> {
    let id = ticket.call_id.clone();
    match answer {
        NewAnswer::Fail(HandlerError { code, message }) => {
            Ok((steps::error(CallStep::Fail, id, ticket.sent, &code, &message), Content::none()))
        }
        // Without several parts, the answer is `null`.
        NewAnswer::End if ticket.is_stream => {
            Ok((steps::call(CallStep::End, id, ticket.sent, false), Content::none()))
        }
        NewAnswer::End => Ok((steps::call(CallStep::Part, id, 0, false), Content::none())),
        NewAnswer::Part { more: true, .. } if !ticket.is_stream => {
            let message = "the asker accepts one answer, so `last` must not be false".to_owned();
            Err((ErrorCode::InvalidArgument, message))
        }
        NewAnswer::Part { .. } if ticket.sent >= ticket.credit => {
            let message = format!(
                "the asker accepts {} parts so far, and as many were sent; wait for `credit`",
                ticket.credit
            );
            Err((ErrorCode::NoCredit, message))
        }
        NewAnswer::Part { content, more } => {
            Ok((steps::call(CallStep::Part, id, ticket.sent, more), content))
        }
    }
}
