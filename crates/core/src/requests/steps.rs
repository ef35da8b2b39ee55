//! The messages that carry the steps of requests.

use bytes::Bytes;
use p2p_node_protocol::{Priority, Route};
use p2p_node_wire::envelope::{Call, CallStep, Encoding};
use p2p_node_wire::time::Instant;

use crate::client_id::ClientId;
use crate::cx::Cx;
use crate::outgoing::OutgoingMessage;
use crate::replies::reply_to::{ReplyTo, StepOf};
use crate::tracer::SendTrace;

/// The payload of a step without one.
const NO_DATA: Bytes = Bytes::from_static(b"null");

/// What a client writes into a request or an answer.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) data: Bytes,
    pub(crate) encoding: Encoding,
    pub(crate) kind: String,
    pub(crate) trace: Option<SendTrace>,
}

impl Content {
    /// Returns the content of a step without payload.
    pub(super) fn none() -> Self {
        Content { data: NO_DATA, encoding: Encoding::Json, kind: String::new(), trace: None }
    }
}

/// Returns the message of a step. It expires at the deadline of the request.
pub(super) fn message(
    call: Call,
    content: Content,
    priority: Priority,
    expires: Instant,
    command: ReplyTo,
    cx: &Cx,
) -> OutgoingMessage {
    let Content { data, encoding, kind, trace } = content;
    OutgoingMessage {
        data,
        encoding,
        kind,
        priority,
        sent_at_ms: cx.now.unix_ms,
        asked_at: Some(cx.now.mono),
        expires,
        reply_to: String::new(),
        conversation: String::new(),
        hops: 0,
        trace,
        call: Some(Box::new(call)),
        file: None,
        route: Route::Auto,
        command,
    }
}

/// Returns the message of a step that the node takes by itself.
pub(super) fn own_step(call: Call, priority: Priority, expires: Instant, cx: &Cx) -> OutgoingMessage {
    let command = ReplyTo::of_step(ClientId::PARENT, None, StepOf::Node);
    message(call, Content::none(), priority, expires, command, cx)
}

/// Returns a step without an error.
pub(super) fn call(step: CallStep, id: Bytes, parts: u32, more: bool) -> Call {
    Call { step: step.into(), id, parts, more, code: String::new(), reason: String::new() }
}

/// Returns a step with an error after this many parts.
pub(super) fn error(step: CallStep, id: Bytes, parts: u32, code: &str, reason: &str) -> Call {
    Call { step: step.into(), id, parts, more: false, code: code.to_owned(), reason: reason.to_owned() }
}
