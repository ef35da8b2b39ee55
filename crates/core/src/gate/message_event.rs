//! The `message` event: a received message as the parent reads it.

use std::time::Duration;

use alloy_primitives::Address;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use p2p_node_protocol::line::check_data;
use p2p_node_protocol::{Encoding, ErrorCode, MAX_DEADLINE_MS, MAX_EXACT, Message, Route};
use p2p_node_wire::envelope::{self, Call};
use p2p_node_wire::trace_context::TraceContext;
use serde_json::value::RawValue;

use crate::cx::Cx;
use crate::gate::sender::Sender;
use crate::gate::tier::Tier;
use crate::replies::message_line_bound;

/// A step of a request that passed all checks.
#[derive(Debug)]
pub(crate) struct ReceivedCall {
    /// The agent that took the step.
    pub(crate) sender: Address,
    /// `true` if the node knows nothing of the agent but its keys.
    pub(crate) is_stranger: bool,
    /// The step.
    pub(crate) call: Box<Call>,
    /// The message as a client would read it.
    pub(crate) message: Box<Message>,
    /// Size of its payload.
    pub(crate) bytes: usize,
    /// Time left until the deadline when the frame was made.
    pub(crate) time_left: Duration,
}

impl ReceivedCall {
    /// Returns the step in a received message.
    pub(crate) fn new(
        sender: &Sender,
        call: Box<Call>,
        ttl_left_ms: u64,
        (message, bytes): (Box<Message>, usize),
    ) -> Box<Self> {
        let time_left = Duration::from_millis(ttl_left_ms.min(MAX_DEADLINE_MS));
        let is_stranger = sender.tier == Tier::Stranger;
        Box::new(ReceivedCall { sender: sender.address, is_stranger, call, message, bytes, time_left })
    }
}

/// Returns the `message` event of a received message, and the size of its payload.
pub(crate) fn message_event(
    sender: &mut Sender,
    message: envelope::Message,
    topic: Option<&str>,
    route: Route,
    cx: &Cx,
) -> Result<(Box<Message>, usize), ErrorCode> {
    let now = cx.now;
    let stream = message.stream.as_ref().try_into().map_err(|_| ErrorCode::InvalidArgument)?;
    // Nobody asks for the files of broadcasts.
    if !is_deliverable(&message) || topic.is_some() && message.file.is_some() {
        return Err(ErrorCode::InvalidArgument);
    }
    let priority = message.priority().into();
    let (data, encoding) = match message.encoding() {
        envelope::Encoding::Json => {
            (check_data(&message.data).map_err(|_| ErrorCode::InvalidArgument)?, None)
        }
        envelope::Encoding::Bytes => {
            let text = format!("\"{}\"", BASE64.encode(&message.data));
            (RawValue::from_string(text).map_err(|_| ErrorCode::Internal)?, Some(Encoding::Base64))
        }
    };
    let bytes = data.get().len();
    let texts = [&message.kind, &message.reply_to, &message.conversation, topic.unwrap_or_default()];
    if message_line_bound(texts, data.get()) > cx.replies.clients.longest_line() {
        return Err(ErrorCode::MessageTooLarge);
    }
    let text = |text: String| Some(text).filter(|text| !text.is_empty());
    let message = Box::new(Message {
        from: sender.address_text.clone(),
        data,
        peer_id: sender.peer_text.clone(),
        message_id: sender.message_id(stream, message.seq),
        topic: topic.map(str::to_owned),
        kind: text(message.kind),
        priority,
        sent_at_ms: message.sent_at_ms,
        received_at_ms: now.unix_ms,
        route,
        reply_to: text(message.reply_to),
        conversation_id: text(message.conversation),
        hops: (message.hops > 0).then_some(message.hops),
        traceparent: TraceContext::decode(&message.trace).map(|context| context.to_string()),
        encoding,
        file: None,
        trust: sender.trust,
        redelivered: false,
    });
    Ok((message, bytes))
}

/// Returns `true` if the fields beside `data` are valid in a line: texts without control
/// characters, and a time that every JSON reader represents exactly. No clock shows a later time,
/// and the node does not replace a time.
fn is_deliverable(message: &envelope::Message) -> bool {
    let texts = [&message.kind, &message.reply_to, &message.conversation];
    message.sent_at_ms <= MAX_EXACT && !texts.into_iter().any(|text| text.contains(char::is_control))
}
