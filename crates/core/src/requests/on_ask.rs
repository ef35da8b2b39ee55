//! Requests of clients: they begin, permit parts of their answers, and are cancelled.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::Address;
use p2p_node_protocol::{Counter, ErrorCode, Id, MAX_CREDIT, Priority};
use p2p_node_wire::envelope::CallStep;
use p2p_node_wire::time::Instant;

use crate::client_id::ClientId;
use crate::cx::Cx;
use crate::mail::Mail;
use crate::outgoing::OutgoingMessage;
use crate::replies::reply_to::{ReplyTo, StepOf};
use crate::requests::Requests;
use crate::requests::asked::{Asked, Audience, PartFlow};
use crate::requests::steps::{self, Content};

/// Number of parts that a node permits a handler beyond those that its client has read. Our choice: a quarter
/// of what a client may permit, because many programs read several answers at once.
const WINDOW: u32 = MAX_CREDIT / 4;

/// A request that a client wrote, checked.
#[derive(Debug)]
pub(crate) struct NewRequest {
    pub(crate) to: ReplyTo,
    pub(crate) audience: NewAudience,
    pub(crate) content: Content,
    pub(crate) priority: Priority,
    pub(crate) deadline: Instant,
    pub(crate) quorum: Option<usize>,
    /// The answer may have several parts.
    pub(crate) is_stream: bool,
    /// The number of parts that the client permits at first.
    pub(crate) credit: Option<u32>,
}

/// Whom the client asks.
#[derive(Debug)]
pub(crate) enum NewAudience {
    One(Address),
    /// The agents, none twice.
    List(BTreeSet<Address>),
    Topic(String),
}

/// The message of a request, to an agent or to a topic.
#[derive(Debug)]
pub(crate) enum RequestMessage {
    ToAgent(Address, OutgoingMessage),
    ToTopic(String, OutgoingMessage),
}

impl Requests {
    /// Begins a request. Returns its messages, or `None` if the client has too many requests.
    pub(crate) fn begin(&mut self, new: NewRequest, cx: &mut Cx) -> Option<Vec<RequestMessage>> {
        let NewRequest { to, audience, content, priority, deadline, quorum, is_stream, credit } = new;
        let client = to.client;
        let (audience, targets) = match audience {
            NewAudience::One(agent) => (Audience::One(agent), BTreeSet::from([agent])),
            NewAudience::List(agents) => (Audience::List, agents),
            NewAudience::Topic(topic) => (Audience::Topic(topic), BTreeSet::new()),
        };
        if !self.asked.has_room(client, targets.len().max(1)) {
            return None;
        }
        let granted = if is_stream { credit.unwrap_or(WINDOW) } else { 1 };
        let window = if credit.is_none() { Some(WINDOW) } else { None };
        let asked = Asked {
            to: to.clone(),
            deadline,
            priority,
            audience: audience.clone(),
            quorum,
            answers: 0,
            waiting: targets.iter().map(|agent| (*agent, false)).collect::<BTreeMap<_, _>>(),
            heard: BTreeSet::new(),
            stream: is_stream.then_some(PartFlow { granted, window, received: 0 }),
        };
        let number = self.asked.insert(asked);
        cx.stats.count(Counter::RequestsAccepted);
        cx.open_call(&to);
        let call = steps::call(CallStep::Request, self.asked.call_id(number), granted, is_stream);
        let message = |target: Option<Address>| {
            let command = ReplyTo::of_step(client, None, StepOf::Request { number, target });
            let Content { data, encoding, kind, trace } = &content;
            let content =
                Content { data: data.clone(), encoding: *encoding, kind: kind.clone(), trace: *trace };
            steps::message(call.clone(), content, priority, deadline, command, cx)
        };
        Some(match audience {
            Audience::Topic(topic) => vec![RequestMessage::ToTopic(topic, message(None))],
            Audience::One(_) | Audience::List => {
                let to_agent = |agent| RequestMessage::ToAgent(agent, message(Some(agent)));
                targets.into_iter().map(to_agent).collect()
            }
        })
    }

    /// Cancels the request of a client with this id. Returns `false` if there is none.
    pub(crate) fn cancel(&mut self, client: ClientId, id: &Id, mail: &mut Mail, cx: &mut Cx) -> bool {
        let Some(number) = self.asked.number_of(client, id) else { return false };
        self.fail(number, ErrorCode::Cancelled, "a `cancel` command ended the request", mail, cx);
        true
    }

    /// Permits the handler of a client's request this many parts in all.
    ///
    /// # Errors
    /// Returns why the node refuses the command `credit`.
    pub(crate) fn grant(
        &mut self,
        client: ClientId,
        id: &Id,
        parts: u32,
        mail: &mut Mail,
        cx: &mut Cx,
    ) -> Result<(), (ErrorCode, String)> {
        // The answer may have ended while the command was on its way.
        let Some(number) = self.asked.number_of(client, id) else { return Ok(()) };
        let flow = self.asked.get(number).and_then(|asked| asked.stream);
        let Some(flow @ PartFlow { window: None, .. }) = flow else {
            let message = "the request has no `credit`, so the node permits parts by itself".to_owned();
            return Err((ErrorCode::InvalidArgument, message));
        };
        if parts > flow.received.saturating_add(MAX_CREDIT) {
            let message = format!(
                "`parts` may be at most {MAX_CREDIT} more than the {} parts that have come",
                flow.received
            );
            return Err((ErrorCode::InvalidArgument, message));
        }
        if parts <= flow.granted || self.permit(number, parts, mail, cx) {
            return Ok(());
        }
        Err((ErrorCode::Busy, "outbox full; send `credit` again in a moment".to_owned()))
    }

    /// Permits more parts of the answers whose clients have read what came.
    pub(super) fn permit_more(&mut self, mail: &mut Mail, cx: &mut Cx) {
        for number in self.asked.take_stalled() {
            let Some(asked) = self.asked.get(number) else { continue };
            let Some(PartFlow { window: Some(window), received, .. }) = asked.stream else { continue };
            if !cx.reads_calls(asked.to.client) || !self.permit(number, received + window, mail, cx) {
                self.asked.stall(number);
            }
        }
    }

    /// Tells the handler of a request how many parts it may send in all. Returns `false` if the outbox has no
    /// room.
    fn permit(&mut self, number: u64, parts: u32, mail: &mut Mail, cx: &mut Cx) -> bool {
        let Some(asked) = self.asked.get(number) else { return true };
        let Audience::One(agent) = asked.audience else { return true };
        let call = steps::call(CallStep::Credit, self.asked.call_id(number), parts, false);
        let message = steps::own_step(call, asked.priority, asked.deadline, cx);
        let is_sent = mail.admit_own_step(agent, message, cx);
        if is_sent {
            self.asked.change(number, |asked| {
                if let Some(flow) = &mut asked.stream {
                    flow.granted = parts;
                }
            });
        }
        is_sent
    }
}
