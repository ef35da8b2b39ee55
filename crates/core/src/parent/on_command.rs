//! Checks a command against the phase of the node and dispatches it.

use alloy_primitives::Address;
use libp2p_identity::PeerId;
use p2p_node_protocol::line::LineError;
use p2p_node_protocol::{Command, Counter, ErrorCode, ErrorEvent, Id, Request};
use p2p_node_wire::identity::parse_address;

use crate::client_id::ClientId;
use crate::cx::Cx;
use crate::parent::Parent;
use crate::parent::leaving::refuse_attached;
use crate::replies::reply_to::ReplyTo;
use crate::{MAX_INFLIGHT, Phase};

/// The subject of a `peerId` field.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Recipient {
    Address(Address),
    Peer(PeerId),
}

impl Parent {
    /// Returns the command if the node can execute it now. Otherwise refuses the command, or defers
    /// it until `ready`.
    pub(crate) fn admit_command(
        &mut self,
        client: ClientId,
        request: Request,
        cx: &mut Cx,
    ) -> Option<(ReplyTo, Command)> {
        count_line(client, Some(&request.command), cx);
        if reject_duplicate_id(client, request.id.as_ref(), cx) {
            return None;
        }
        let (code, message) = match (&cx.phase, &request.command) {
            (_, command) if let Some(refusal) = refuse_attached(client, command, cx) => refusal,
            (Phase::Starting { .. }, _) => {
                self.defer_command(client, request, cx);
                return None;
            }
            // The parent decides when the node starts.
            (Phase::Idle, _) if client != ClientId::PARENT => {
                self.defer_command(client, request, cx);
                return None;
            }
            (Phase::Closing { .. } | Phase::Flushing { .. } | Phase::Exited, _) => {
                (ErrorCode::ShuttingDown, "the node is closing and accepts no commands")
            }
            (Phase::Ready, _) => return Some((ReplyTo::new(client, request.id), request.command)),
            (Phase::Idle, command) if command.is_allowed_before_connect() => {
                return Some((ReplyTo::new(client, request.id), request.command));
            }
            (Phase::Idle, _) => {
                (ErrorCode::NotConnected, "the node is not connected; the first command must be `connect`")
            }
        };
        cx.refuse(ReplyTo::new(client, request.id), code, message);
        None
    }

    /// Returns `true` if the driver may hand over the next command of a client, because there is
    /// capacity for its reply, and for a waiting `send`. A client that reads its replies and keeps
    /// its unanswered sends within the limits in `ready` is never paused, because only one send
    /// above the limit fills the lane.
    pub(crate) fn can_accept_command(&self, id: ClientId, cx: &Cx) -> bool {
        let Some(client) = cx.replies.clients.get(id) else { return false };
        let waiting = self.send_lane.of(id).count()
            + self.deferred.sends_of(id).count()
            + self.names.waiting_of(id).count();
        !cx.is_flushing()
            && !client.commands.is_paused()
            && client.output.can_accept_command()
            && client.open_requests.len() + client.output.unread_others() < MAX_INFLIGHT
            && waiting + client.output.unread_sends() <= MAX_INFLIGHT
            && !self.send_lane.is_over(id)
            && !self.deferred.is_over(id)
    }
}

/// Counts a line of a client against what it may write while others need the node.
fn count_line(client: ClientId, command: Option<&Command>, cx: &mut Cx) {
    if cx.replies.clients.count_command(client, command, cx.now.mono) {
        cx.stats.count(Counter::ClientPauses);
    }
}

/// Reports a line that is not a command. The error carries the line's id, if one can be read,
/// so that the client does not wait for an answer forever.
pub(crate) fn on_bad_line(client: ClientId, bad: LineError, cx: &mut Cx) {
    cx.stats.count(Counter::LinesInvalid);
    count_line(client, None, cx);
    if reject_duplicate_id(client, bad.id.as_ref(), cx) {
        return;
    }
    let details = bad.line.map(|line| serde_json::json!({ "line": line }));
    let error = ErrorEvent { details, ..ErrorEvent::new(bad.code, bad.message) };
    cx.refuse_with(ReplyTo::new(client, bad.id), error);
}

/// Answers a `ping` with our time.
pub(crate) fn on_ping(command: ReplyTo, cx: &mut Cx) {
    let time_ms = cx.now.unix_ms;
    cx.answer(command, "ping", |answer| answer.time_ms = Some(time_ms));
}

/// Answers a command of any type that failed.
pub(crate) fn refuse_command(
    to: ReplyTo,
    command: &Command,
    code: ErrorCode,
    message: impl Into<String>,
    cx: &mut Cx,
) {
    match command.data() {
        Some(_) => cx.refuse_send(to, code, message),
        None => cx.refuse(to, code, message),
    }
}

/// Refuses a command that the protocol knows and this node does not support.
pub(crate) fn refuse_unknown(to: ReplyTo, command: &Command, cx: &mut Cx) {
    let message = format!("this node does not support `{}`", command.name());
    cx.refuse(to, ErrorCode::UnknownCommand, message);
}

/// Reports an error and returns `true` if a command of the client with this id is unanswered. The
/// error has the id in its `details` only, because the client would take an error with that `id`
/// for the answer to the earlier command.
pub(crate) fn reject_duplicate_id(client: ClientId, id: Option<&Id>, cx: &mut Cx) -> bool {
    let is_open = |id: &&Id| cx.replies.clients.get(client).is_some_and(|client| client.is_open(id));
    let Some(id) = id.filter(is_open) else { return false };
    let message = "a command with this id has not been answered yet; use another id";
    let details = Some(serde_json::json!({ "id": id }));
    let error = ErrorEvent { details, ..ErrorEvent::new(ErrorCode::DuplicateId, message) };
    cx.refuse_with(ReplyTo::new(client, None), error);
    true
}

pub(crate) fn parse_recipient(text: &str) -> Result<Recipient, String> {
    if text.starts_with("0x") || text.starts_with("0X") {
        return parse_address(text).map(Recipient::Address).map_err(|error| error.to_string());
    }
    text.parse::<PeerId>()
        .map(Recipient::Peer)
        .map_err(|_| "`peerId` must be a PeerId or a `0x` address".to_owned())
}
