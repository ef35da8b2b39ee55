//! The commands of a client that asks: `request` and `credit`.

use std::collections::BTreeSet;
use std::time::Duration;

use alloy_primitives::Address;
use p2p_node_protocol::{Ask, Credit, ErrorCode, MAX_CREDIT, MAX_DEADLINE_MS, MAX_TARGETS, MessageKind};
use p2p_node_wire::envelope::limits::MAX_KIND_BYTES;

use crate::MAX_DIRECT_BYTES;
use crate::cx::Cx;
use crate::directory::Directory;
use crate::mail::Mail;
use crate::outgoing::OutgoingMessage;
use crate::parent::Parent;
use crate::parent::on_command::{Recipient, parse_recipient};
use crate::parent::on_send::{check_broadcast, check_text, parse_traceparent, payload};
use crate::parent::send_lane::{To, WaitingSend};
use crate::replies::reply_to::ReplyTo;
use crate::requests::Requests;
use crate::requests::on_ask::{NewAudience, NewRequest, RequestMessage};
use crate::requests::steps::Content;

/// Time for the whole answer of a request without `deadlineMs`. Our choice: long enough for a program that
/// asks another agent or a language model first.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);

impl Parent {
    /// Begins a request. Returns its messages with their destinations: none if the node refused it.
    pub(crate) fn begin_request(
        &mut self,
        to: ReplyTo,
        ask: Ask,
        requests: &mut Requests,
        directory: &Directory,
        cx: &mut Cx,
    ) -> Vec<(To, WaitingSend)> {
        let length = ask.data.get().len();
        let new = match check(&to, ask, directory, cx) {
            Ok(new) => new,
            Err((code, message)) => {
                cx.refuse(to, code, message);
                return Vec::new();
            }
        };
        let Some(messages) = requests.begin(new, cx) else {
            let message = "the requests of this client wait for too many agents; wait for some to end";
            cx.refuse(to, ErrorCode::Busy, message);
            return Vec::new();
        };
        let send = |draft: OutgoingMessage| WaitingSend { draft, length };
        let with_destination = |message| match message {
            RequestMessage::ToAgent(agent, draft) => (To::Agent(agent), send(draft)),
            RequestMessage::ToTopic(topic, draft) => (To::Topic(topic), send(draft)),
        };
        messages.into_iter().map(with_destination).collect()
    }

    /// Permits more parts of an answer.
    pub(crate) fn credit(
        &mut self,
        to: ReplyTo,
        credit: &Credit,
        requests: &mut Requests,
        mail: &mut Mail,
        cx: &mut Cx,
    ) {
        match requests.grant(to.client, &credit.target, credit.parts, mail, cx) {
            Ok(()) => cx.answer(to, "credit", |_| {}),
            Err((code, message)) => cx.refuse(to, code, message),
        }
    }
}

/// Checks the fields of a `request`.
fn check(
    to: &ReplyTo,
    ask: Ask,
    directory: &Directory,
    cx: &mut Cx,
) -> Result<NewRequest, (ErrorCode, String)> {
    let invalid = |message: String| (ErrorCode::InvalidArgument, message);
    if to.id.is_none() {
        return Err(invalid("`request` needs an `id`, because its answer names it".to_owned()));
    }
    let deadline_ms = ask.deadline_ms.unwrap_or(DEFAULT_DEADLINE.as_millis() as u64);
    if !(1..=MAX_DEADLINE_MS).contains(&deadline_ms) {
        return Err(invalid(format!("`deadlineMs` must be 1 to {MAX_DEADLINE_MS}, not {deadline_ms}")));
    }
    let kind = ask.kind.unwrap_or_default();
    check_text("kind", &kind, MAX_KIND_BYTES).map_err(invalid)?;
    if ask.credit.is_some_and(|credit| !(1..=MAX_CREDIT).contains(&credit)) {
        return Err(invalid(format!("`credit` must be 1 to {MAX_CREDIT}")));
    }
    if ask.credit.is_some() && !ask.stream {
        return Err(invalid("`credit` needs `stream`".to_owned()));
    }
    if ask.stream && ask.peer_id.is_none() {
        return Err(invalid("`stream` needs `peerId`: only one agent can answer in parts".to_owned()));
    }
    let length = ask.data.get().len();
    if length > MAX_DIRECT_BYTES {
        let message = format!("`data` has {length} bytes; a request may have at most {MAX_DIRECT_BYTES}");
        return Err((ErrorCode::MessageTooLarge, message));
    }
    let audience = match (ask.peer_id, ask.peer_ids.is_empty(), ask.topic) {
        (Some(peer), true, None) => NewAudience::One(agent(&peer, directory, cx)?),
        (None, false, None) => NewAudience::List(agents(&ask.peer_ids, directory, cx)?),
        (None, true, Some(topic)) => match check_broadcast(topic, length)? {
            To::Topic(topic) => NewAudience::Topic(topic),
            To::Agent(_) | To::Node(_) => return Err(invalid("`topic` is no topic".to_owned())),
        },
        _ => {
            let message = "`request` needs exactly one of `peerId`, `peerIds` and `topic`".to_owned();
            return Err(invalid(message));
        }
    };
    check_quorum(ask.quorum, &audience).map_err(invalid)?;
    let trace = parse_traceparent(ask.traceparent.as_deref()).map_err(invalid)?;
    let (data, encoding) = payload(ask.data, ask.encoding).map_err(invalid)?;
    Ok(NewRequest {
        to: to.clone(),
        audience,
        priority: MessageKind::default_priority(&kind),
        content: Content { data, encoding, kind, trace: cx.begin_send_span(trace) },
        deadline: cx.now.mono + Duration::from_millis(deadline_ms),
        quorum: ask.quorum,
        is_stream: ask.stream,
        credit: ask.credit,
    })
}

fn check_quorum(quorum: Option<usize>, audience: &NewAudience) -> Result<(), String> {
    let Some(quorum) = quorum else { return Ok(()) };
    let limit = match audience {
        NewAudience::One(_) => return Err("`quorum` needs `peerIds` or `topic`".to_owned()),
        NewAudience::List(agents) => agents.len(),
        NewAudience::Topic(_) => MAX_TARGETS,
    };
    match (1..=limit).contains(&quorum) {
        true => Ok(()),
        false => Err(format!("`quorum` must be 1 to {limit}, not {quorum}")),
    }
}

fn agents(
    texts: &[String],
    directory: &Directory,
    cx: &Cx,
) -> Result<BTreeSet<Address>, (ErrorCode, String)> {
    if texts.len() > MAX_TARGETS {
        let message = format!("`peerIds` may name at most {MAX_TARGETS} agents, not {}", texts.len());
        return Err((ErrorCode::InvalidArgument, message));
    }
    texts.iter().map(|text| agent(text, directory, cx)).collect()
}

/// Returns the agent that a client names.
fn agent(text: &str, directory: &Directory, cx: &Cx) -> Result<Address, (ErrorCode, String)> {
    let invalid = |message: String| (ErrorCode::InvalidArgument, message);
    let address = match parse_recipient(text).map_err(invalid)? {
        Recipient::Address(address) => address,
        Recipient::Peer(peer) if peer == cx.identity.peer => cx.identity.address,
        Recipient::Peer(peer) => match directory.records.by_peer(&peer, cx.now.unix_ms) {
            Some(record) => record.address(),
            None => {
                let message =
                    format!("no verified record names {peer}; use the agent's `0x` address instead");
                return Err((ErrorCode::PeerNotFound, message));
            }
        },
    };
    match address == cx.identity.address {
        true => Err(invalid("the request names this agent itself; name another agent".to_owned())),
        false => Ok(address),
    }
}
