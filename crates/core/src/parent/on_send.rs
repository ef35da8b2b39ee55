//! The `send` command: checks a message or broadcast and hands it to admission.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use p2p_node_protocol::{Encoding, ErrorCode, MAX_PATH_BYTES, MAX_TTL_MS, MessageKind, Route, Send};
use p2p_node_wire::envelope::{self, limits};
use p2p_node_wire::trace_context::{TRACEPARENT_BYTES, TraceContext};
use serde_json::value::RawValue;

use crate::cx::Cx;
use crate::directory::Directory;
use crate::gate::Gate;
use crate::outgoing::OutgoingMessage;
use crate::parent::Parent;
use crate::parent::on_command::{Recipient, parse_recipient};
use crate::parent::send_lane::{To, WaitingSend};
use crate::replies::reply_to::ReplyTo;
use crate::topics::check_topic;
use crate::{MAX_DIRECT_BYTES, MAX_TOPIC_BYTES, RESERVED_TOPICS};

/// Time to live of a message with a file without `ttlMs`, also without a data directory. Our choice: 1 GiB takes
/// a day at 100 kbit/s.
const FILE_TTL: Duration = Duration::from_secs(24 * 3600);

impl Parent {
    /// Checks a `send`, with its file. Returns the message and its destination, or `None` if the node refused it.
    pub(crate) fn check_send(
        &mut self,
        command: ReplyTo,
        (send, file): (Send, Option<&str>),
        default_ttl: Duration,
        gate: &Gate,
        directory: &Directory,
        cx: &mut Cx,
    ) -> Option<(To, WaitingSend)> {
        let now = cx.now;
        let length = send.data.get().len();
        let checked = check_lengths(&send)
            .and_then(|()| file.map_or(Ok(()), |file| check_file(&send, file)))
            .and_then(|()| parse_traceparent(send.traceparent.as_deref()))
            .and_then(|context| Ok((context, payload(send.data, send.encoding)?)));
        let (context, (data, encoding)) = match checked {
            Ok(checked) => checked,
            Err(message) => {
                cx.refuse_send(command, ErrorCode::InvalidArgument, message);
                return None;
            }
        };
        let (ttl, route) = ttl_and_route((send.ttl_ms, send.route), file, default_ttl);
        let kind = send.kind.unwrap_or_default();
        let reply_to = send.reply_to.unwrap_or_default();
        let hops = gate.flow.hops_of_reply(&reply_to);
        let draft = OutgoingMessage {
            data,
            encoding,
            priority: send.priority.unwrap_or_else(|| MessageKind::default_priority(&kind)),
            sent_at_ms: now.unix_ms,
            asked_at: Some(now.mono),
            expires: now.mono + ttl,
            kind,
            reply_to,
            conversation: send.conversation_id.unwrap_or_default(),
            hops,
            trace: cx.begin_send_span(context),
            call: None,
            file: None,
            route,
            command,
        };
        let checked = match (send.peer_id, send.topic) {
            (Some(peer), None) => self.check_mail(&peer, &draft, length, directory, cx),
            // Nobody answers a broadcast, so this node stops an exchange of broadcasts.
            (None, Some(_)) if gate.flow.is_above(hops) => Err((ErrorCode::TooManyHops, too_many_hops(hops))),
            (None, Some(topic)) => check_broadcast(topic, length),
            _ => Err((ErrorCode::InvalidArgument, "`send` needs either `peerId` or `topic`".to_owned())),
        };
        match checked {
            Ok(to) => Some((to, WaitingSend { draft, length })),
            Err((code, message)) => {
                cx.refuse_send(draft.command, code, message);
                None
            }
        }
    }

    fn check_mail(
        &mut self,
        to: &str,
        draft: &OutgoingMessage,
        length: usize,
        directory: &Directory,
        cx: &Cx,
    ) -> Result<To, (ErrorCode, String)> {
        let now = cx.now;
        let invalid = |message| (ErrorCode::InvalidArgument, message);
        let to = match self.parse_same_recipient(to).map_err(invalid)? {
            Recipient::Address(address) => To::Agent(address),
            Recipient::Peer(peer) if peer == cx.identity.peer => To::Agent(cx.identity.address),
            // The `send` must not overtake others that still wait for the record.
            Recipient::Peer(peer) if self.send_lane.has_line(&To::Node(peer), draft.priority) => {
                To::Node(peer)
            }
            Recipient::Peer(peer) => match directory.records.by_peer(&peer, now.unix_ms) {
                Some(record) => To::Agent(record.address()),
                None => To::Node(peer),
            },
        };
        if to == To::Agent(cx.identity.address) {
            return Err(invalid("`peerId` is this agent itself; name another agent".to_owned()));
        }
        if length > MAX_DIRECT_BYTES {
            let message = format!(
                "`data` has {length} bytes; a message to an agent may have at most {MAX_DIRECT_BYTES}"
            );
            return Err((ErrorCode::MessageTooLarge, message));
        }
        if draft.route == Route::Gossip && draft.size() > MAX_TOPIC_BYTES {
            let message = format!(
                "a message by gossip may have at most {MAX_TOPIC_BYTES} bytes with all its fields; use `route` `direct`"
            );
            return Err((ErrorCode::MessageTooLarge, message));
        }
        Ok(to)
    }

    /// Parses a recipient as [`parse_recipient`] does, and caches the last one. Parsing costs more
    /// than the rest of a `send`, and parents often send several messages to one recipient.
    fn parse_same_recipient(&mut self, text: &str) -> Result<Recipient, String> {
        if let Some((last, recipient)) = &self.recipient_parse_cache
            && last == text
        {
            return Ok(*recipient);
        }
        let recipient = parse_recipient(text)?;
        self.recipient_parse_cache = Some((text.to_owned(), recipient));
        Ok(recipient)
    }
}

/// Returns the time to live and the route of a message. A file needs a connection between the two nodes.
fn ttl_and_route(
    (ttl_ms, route): (Option<u64>, Option<Route>),
    file: Option<&str>,
    default_ttl: Duration,
) -> (Duration, Route) {
    let ttl = ttl_ms.map(Duration::from_millis);
    match file {
        Some(_) => (ttl.unwrap_or(FILE_TTL), Route::Direct),
        None => (ttl.unwrap_or(default_ttl), route.unwrap_or_default()),
    }
}

fn too_many_hops(hops: u32) -> String {
    format!(
        "this broadcast is the end of an exchange of {hops} replies, and --max-hops permits fewer; begin a new one without `replyTo`"
    )
}

pub(super) fn check_broadcast(topic: String, length: usize) -> Result<To, (ErrorCode, String)> {
    check_topic(&topic).map_err(|message| (ErrorCode::InvalidArgument, message))?;
    if RESERVED_TOPICS.contains(&topic.as_str()) {
        let message = format!("`{topic}` is reserved for the nodes; choose another topic");
        return Err((ErrorCode::ReservedTopic, message));
    }
    if length > MAX_TOPIC_BYTES {
        let message = format!("`data` has {length} bytes; a broadcast may have at most {MAX_TOPIC_BYTES}");
        return Err((ErrorCode::MessageTooLarge, message));
    }
    Ok(To::Topic(topic))
}

pub(super) fn payload(
    data: Box<RawValue>,
    encoding: Option<Encoding>,
) -> Result<(Bytes, envelope::Encoding), String> {
    match encoding {
        None => Ok((Box::<str>::from(data).into_boxed_bytes().into(), envelope::Encoding::Json)),
        Some(Encoding::Base64) => {
            let text: String = serde_json::from_str(data.get())
                .map_err(|_| "with `encoding` `base64`, `data` must be a string".to_owned())?;
            let bytes = BASE64.decode(text).map_err(|error| format!("`data` is not base64: {error}"))?;
            Ok((bytes.into(), envelope::Encoding::Bytes))
        }
    }
}

pub(super) fn parse_traceparent(text: Option<&str>) -> Result<Option<TraceContext>, String> {
    let parse = |text: &str| {
        TraceContext::parse(text).ok_or_else(|| {
            format!(
                "`traceparent` must have {TRACEPARENT_BYTES} characters: 00-, 32 and 16 lower-case hexadecimal digits \
                 that are not all zero, and 2 for the flags, separated by hyphens"
            )
        })
    };
    text.map(parse).transpose()
}

/// Checks a text field of a command.
pub(super) fn check_text(name: &str, text: &str, limit: usize) -> Result<(), String> {
    if text.len() > limit {
        return Err(format!("`{name}` may have at most {limit} bytes"));
    }
    if text.contains(char::is_control) {
        return Err(format!("`{name}` must not contain control characters"));
    }
    Ok(())
}

fn check_file(send: &Send, file: &str) -> Result<(), String> {
    if send.topic.is_some() {
        return Err("a broadcast has no `file`; send it to each agent".to_owned());
    }
    if send.route == Some(Route::Gossip) {
        return Err("a `file` needs a connection to the recipient; use `route` `direct`".to_owned());
    }
    if !file.starts_with('/') || file.contains('\0') || file.len() > MAX_PATH_BYTES {
        return Err(format!("`file` must be an absolute path of at most {MAX_PATH_BYTES} bytes"));
    }
    Ok(())
}

fn check_lengths(send: &Send) -> Result<(), String> {
    let fields = [
        ("kind", &send.kind, limits::MAX_KIND_BYTES),
        ("replyTo", &send.reply_to, limits::MAX_NAME_BYTES),
        ("conversationId", &send.conversation_id, limits::MAX_NAME_BYTES),
    ];
    for (name, value, limit) in fields {
        if let Some(text) = value {
            check_text(name, text, limit)?;
        }
    }
    match send.ttl_ms {
        Some(ttl) if !(1..=MAX_TTL_MS).contains(&ttl) => {
            Err(format!("`ttlMs` must be 1 to {MAX_TTL_MS}, not {ttl}"))
        }
        _ => Ok(()),
    }
}
