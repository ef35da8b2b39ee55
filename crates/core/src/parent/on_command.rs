//! Checks a command against the phase of the node and dispatches it.

use alloy_primitives::Address;
use libp2p_identity::PeerId;
use p2p_node_protocol::line::LineError;
use p2p_node_protocol::{
    Connect, Counter, ErrorCode, ErrorEvent, Id, MAX_LINE_BYTES, MIN_LINE_BYTES, PROTOCOL_VERSION, Request,
};
use p2p_node_wire::identity::parse_address;

use crate::cx::Cx;
use crate::effect::NetworkCommand;
use crate::mail::Mail;
use crate::mail::inbound::unacked::MAX_UNACKED;
use crate::parent::Parent;
use crate::parent::starting::LISTEN_TIMEOUT;
use crate::peers::Peers;
use crate::peers::bootstrap::parse_bootstrap;
use crate::peers::candidate::Candidate;
use crate::{MAX_INFLIGHT, Phase};

/// The subject of a `peerId` field.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Recipient {
    Address(Address),
    Peer(PeerId),
}

impl Parent {
    /// Returns the command if the node can carry it out now. Otherwise the node has refused it, or
    /// defers it until `ready`.
    pub(crate) fn admit_command(&mut self, request: Request, cx: &mut Cx) -> Option<Request> {
        if is_taken(request.id.as_ref(), cx) {
            return None;
        }
        let (code, message) = match (&cx.phase, &request.command) {
            (Phase::Starting { .. }, _) => {
                self.hold(request, cx);
                return None;
            }
            (Phase::Closing { .. } | Phase::Flushing { .. } | Phase::Exited, _) => {
                (ErrorCode::ShuttingDown, "the node is closing and accepts no commands")
            }
            (Phase::Ready, _) => return Some(request),
            (Phase::Idle, command) if command.is_allowed_before_connect() => return Some(request),
            (Phase::Idle, _) => {
                (ErrorCode::NotConnected, "the node is not connected; the first command must be `connect`")
            }
        };
        cx.refuse(request.id, code, message);
        None
    }

    /// Returns `true` if the driver may hand over the next command, because there is capacity for
    /// its reply, and for a waiting `send`. A parent that reads its replies and keeps its unanswered
    /// sends within the limits in `ready` is never paused, because only one send above the limit
    /// fills the lane.
    pub(crate) fn can_accept_command(&self, cx: &Cx) -> bool {
        let sends = self.send_lane.len() + self.deferred.sends() + cx.replies.output.unread_sends();
        !cx.is_flushing()
            && cx.replies.output.can_accept_command()
            && cx.replies.open_requests.len() + cx.replies.output.unread_others() < MAX_INFLIGHT
            && sends <= MAX_INFLIGHT
            && !self.send_lane.is_over()
            && !self.deferred.is_over()
    }
}

/// Reports a line that is not a command. The error carries the line's id, if one can be read,
/// so that the parent does not wait for an answer forever.
pub(crate) fn on_bad_line(bad: LineError, cx: &mut Cx) {
    cx.stats.count(Counter::LinesBad);
    if is_taken(bad.id.as_ref(), cx) {
        return;
    }
    cx.replies.required.refused(bad.code);
    let mut error = ErrorEvent { id: bad.id, ..ErrorEvent::new(bad.code, bad.message) };
    error.details = bad.line.map(|line| serde_json::json!({ "line": line }));
    cx.emit_error(error);
}

/// Reports an error and returns `true` if a command with this id is unanswered. The error has
/// the id in its `details` only, because the parent would take an error with that `id` for the
/// answer to the earlier command.
pub(crate) fn is_taken(id: Option<&Id>, cx: &mut Cx) -> bool {
    let Some(id) =
        id.filter(|id| cx.replies.open_requests.contains(id) || cx.replies.open_sends.contains(id))
    else {
        return false;
    };
    let message = "a command with this id has not been answered yet; use another id";
    cx.replies.required.refused(ErrorCode::DuplicateId);
    let mut error = ErrorEvent::new(ErrorCode::DuplicateId, message);
    error.details = Some(serde_json::json!({ "id": id }));
    cx.emit_error(error);
    true
}

impl Parent {
    pub(crate) fn connect(
        &mut self,
        id: Option<Id>,
        connect: Connect,
        peers: &mut Peers,
        mail: &mut Mail,
        cx: &mut Cx,
    ) {
        if cx.phase != Phase::Idle {
            return cx.refuse(
                id,
                ErrorCode::AlreadyConnected,
                "the node is connected already; send `connect` once",
            );
        }
        if let Some(other) = connect.protocol.filter(|version| *version != PROTOCOL_VERSION) {
            let message =
                format!("protocol version {other} is not supported; use version {PROTOCOL_VERSION}");
            cx.replies.required.refused(ErrorCode::UnsupportedProtocol);
            let mut error = ErrorEvent::new(ErrorCode::UnsupportedProtocol, message);
            error.details = Some(serde_json::json!({ "supported": [PROTOCOL_VERSION] }));
            return cx.emit_error(ErrorEvent { id, ..error });
        }
        let max_line = connect.max_line_bytes.unwrap_or(MAX_LINE_BYTES);
        if !(MIN_LINE_BYTES..=MAX_LINE_BYTES).contains(&max_line) {
            let message =
                format!("`maxLineBytes` must be {MIN_LINE_BYTES} to {MAX_LINE_BYTES}, not {max_line}");
            return cx.refuse(id, ErrorCode::InvalidArgument, message);
        }
        let max_unacked = connect.max_unacked.unwrap_or(MAX_UNACKED);
        if !(1..=MAX_UNACKED).contains(&max_unacked) {
            let message = format!("`maxUnacked` must be 1 to {MAX_UNACKED}, not {max_unacked}");
            return cx.refuse(id, ErrorCode::InvalidArgument, message);
        }
        let parsed: Result<Vec<_>, String> =
            connect.bootstrap_peers.iter().map(|text| parse_bootstrap(text)).collect();
        match parsed {
            Err(message) => return cx.refuse(id, ErrorCode::InvalidArgument, message),
            Ok(parsed) => parsed
                .into_iter()
                .for_each(|(peer, addr)| peers.add_candidate(Candidate::bootstrap(peer, addr), cx)),
        }
        cx.replies.protocol_v1 = connect.protocol.is_some();
        cx.replies.max_line = max_line;
        mail.delivery.unacked.set_limit(max_unacked);
        self.start(connect.port, id, cx);
    }

    /// Starts to listen. The node defers commands until it is ready.
    pub(crate) fn start(&mut self, port: Option<u16>, id: Option<Id>, cx: &mut Cx) {
        let now = cx.now;
        cx.replies.open_requests.extend(id.clone());
        cx.phase = Phase::Starting { id, report_by: Some(now.mono + LISTEN_TIMEOUT) };
        let port = port.unwrap_or(cx.identity.port);
        cx.network(NetworkCommand::Listen { port });
    }
}

pub(crate) fn parse_recipient(text: &str) -> Result<Recipient, String> {
    if text.starts_with("0x") || text.starts_with("0X") {
        return parse_address(text).map(Recipient::Address).map_err(|error| error.to_string());
    }
    text.parse::<PeerId>()
        .map(Recipient::Peer)
        .map_err(|_| "`peerId` must be a PeerId or a `0x` address".to_owned())
}
