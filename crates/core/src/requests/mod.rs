//! Requests and answers between programs of agents, on top of mail and broadcasts.
//!
//! The asker's node keeps each request until it ends ([`asked`]). The node of the agent that is asked gives
//! the request to a client with a handler, and keeps a ticket until the answer or the deadline
//! ([`tickets`]). Both lose them with the process.

pub(crate) mod asked;
mod finishing;
pub(crate) mod handlers;
mod on_answer;
pub(crate) mod on_ask;
mod on_request;
pub(crate) mod on_respond;
pub(crate) mod steps;
pub(crate) mod tickets;

use std::collections::BTreeSet;

use p2p_node_protocol::{Counter, ErrorCode};
use p2p_node_wire::envelope::CallStep;
use p2p_node_wire::time::Instant;

use crate::client_id::ClientId;
use crate::cx::Cx;
use crate::gate::message_event::ReceivedCall;
use crate::lifecycle::Phase;
use crate::mail::Mail;
use crate::replies::clients::MAX_CLIENTS;
use crate::timers::TimerTable;
use crate::usage::Usage;
use crate::{MAX_REQUESTS, MAX_TICKETS};
use asked::AskedRequests;
use handlers::{Handlers, MAX_KINDS};
use tickets::Tickets;

/// The requests of the clients, and those of other agents.
#[derive(Debug)]
pub(crate) struct Requests {
    /// Requests of clients that have not ended.
    asked: AskedRequests,
    /// The kinds of requests that each client handles.
    handlers: Handlers,
    /// Requests of other agents that wait for an answer.
    tickets: Tickets,
}

impl Requests {
    /// `boot` is the random number of the process.
    pub(crate) fn new(boot: u64) -> Self {
        Requests {
            asked: AskedRequests::new(boot),
            handlers: Handlers::default(),
            tickets: Tickets::new(boot),
        }
    }

    /// Handles a step of a request that another agent took.
    pub(crate) fn on_call(&mut self, received: ReceivedCall, mail: &mut Mail, cx: &mut Cx) {
        let by_topic = received.message.topic.is_some();
        match received.call.step() {
            CallStep::Request => self.on_request(received, mail, cx),
            CallStep::Cancel => self.on_cancel(&received, cx),
            // A broadcast reaches everybody, so no answer comes by one.
            _ if by_topic => cx.stats.count(Counter::ResponsesDropped),
            CallStep::Credit => self.on_credit(&received, cx),
            CallStep::Part | CallStep::End | CallStep::Fail | CallStep::Refuse => {
                self.on_answer(received, mail, cx)
            }
        }
    }

    /// Permits more parts of answers that clients have read. While the node closes, no client can answer any
    /// more.
    pub(crate) fn serve(&mut self, mail: &mut Mail, cx: &mut Cx) {
        if matches!(cx.phase, Phase::Closing { .. }) {
            self.refuse_tickets(|_| true, mail, cx);
            self.handlers.clear();
        }
        self.permit_more(mail, cx);
    }

    /// Ends what is overdue.
    pub(crate) fn end_overdue(&mut self, mail: &mut Mail, cx: &mut Cx) {
        self.end_overdue_requests(mail, cx);
        self.end_overdue_tickets(cx);
    }

    /// Ends the requests that a client can answer no more, because it writes no more commands.
    pub(crate) fn on_client_leaves(&mut self, client: ClientId, mail: &mut Mail, cx: &mut Cx) {
        self.handlers.set(client, Vec::new());
        self.refuse_tickets(|of| of == client, mail, cx);
    }

    /// Ends everything of a client that is gone: nobody reads its answers, and it answers no more.
    pub(crate) fn on_client_gone(&mut self, client: ClientId, mail: &mut Mail, cx: &mut Cx) {
        self.on_client_leaves(client, mail, cx);
        for number in self.asked.of_client(client) {
            let message = "the client is gone";
            self.fail(number, ErrorCode::Cancelled, message, mail, cx);
        }
    }

    /// Reports that no request will end, because the node closes.
    pub(crate) fn abandon(&mut self, mail: &mut Mail, cx: &mut Cx) {
        for number in self.asked.all() {
            let message = "the node closed before the request ended";
            self.fail(number, ErrorCode::ShuttingDown, message, mail, cx);
        }
    }

    /// Returns `true` if no request of a client waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.asked.is_empty()
    }

    /// Enters the next deadline of each kind.
    pub(crate) fn timers(&self, timers: &mut TimerTable) {
        timers.enter("requests", self.asked.next_deadline());
        timers.enter("requests of other agents", self.tickets.next_deadline());
    }

    /// Returns the size of each collection, with its limit.
    pub(crate) fn usage(&self) -> Vec<Usage> {
        [
            ("agents that requests wait for", self.asked.load(), MAX_CLIENTS * MAX_REQUESTS),
            ("kinds of requests", self.handlers.len(), MAX_CLIENTS * MAX_KINDS),
            ("requests of other agents", self.tickets.len(), MAX_TICKETS),
        ]
        .into_iter()
        .map(|(name, size, limit)| Usage { name, size, limit })
        .collect()
    }
}

/// Returns the first deadline.
fn earliest(deadlines: &BTreeSet<(Instant, u64)>) -> Option<Instant> {
    deadlines.first().map(|(at, _)| *at)
}
