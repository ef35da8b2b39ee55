//! The `connect` command: starts the node, or makes an attached client one that gets events.

use p2p_node_protocol::{
    Connect, ErrorCode, ErrorEvent, MAX_GROUP_BYTES, MAX_LINE_BYTES, MIN_LINE_BYTES, PROTOCOL_VERSION,
};

use crate::Phase;
use crate::client_id::ClientId;
use crate::cx::Cx;
use crate::effect::NetworkCommand;
use crate::local::Local;
use crate::mail::Mail;
use crate::mail::inbound::unacked::MAX_UNACKED;
use crate::parent::Parent;
use crate::parent::starting::{LISTEN_TIMEOUT, emit_ready};
use crate::peers::Peers;
use crate::peers::bootstrap::parse_bootstrap;
use crate::peers::candidate::Candidate;
use crate::replies::client::Client;
use crate::replies::reply_to::ReplyTo;

/// What a `connect` asks for, checked.
struct Wishes {
    max_line: usize,
    max_unacked: usize,
    candidates: Vec<Candidate>,
}

impl Parent {
    /// Handles `connect`. That of the parent starts the node. That of an attached client gets `ready` at
    /// once: the node listens already, so its `port` means nothing.
    pub(crate) fn connect(
        &mut self,
        to: ReplyTo,
        connect: Connect,
        local: &Local,
        peers: &mut Peers,
        mail: &mut Mail,
        cx: &mut Cx,
    ) {
        let is_attached = to.client != ClientId::PARENT;
        if !is_attached && cx.phase != Phase::Idle || is_attached && is_connected(to.client, cx) {
            let message = "the node is connected already; send `connect` once";
            return cx.refuse(to, ErrorCode::AlreadyConnected, message);
        }
        let wishes = match check_connect(&connect) {
            Ok(wishes) => wishes,
            Err(error) => return cx.refuse_with(to, *error),
        };
        wishes.candidates.into_iter().for_each(|candidate| peers.add_candidate(candidate, cx));
        if let Some(client) = cx.replies.clients.get_mut(to.client) {
            *client = Client {
                is_connected: true,
                protocol_v1: connect.protocol.is_some(),
                max_line: wishes.max_line,
                max_unacked: wishes.max_unacked,
                inbox: connect.inbox.unwrap_or(true),
                group: connect.group,
                ..std::mem::replace(client, Client::attached())
            };
        }
        mail.update_unacked_limit(cx);
        if is_attached {
            emit_ready(to.client, local, mail, cx);
            return cx.answer(to, "connect", |_| {});
        }
        self.start(connect.port, to, cx);
    }

    /// Starts to listen. The node defers commands until it is ready.
    pub(crate) fn start(&mut self, port: Option<u16>, connect: ReplyTo, cx: &mut Cx) {
        let now = cx.now;
        cx.replies.clients.open_request(&connect);
        cx.phase = Phase::Starting { connect, report_by: Some(now.mono + LISTEN_TIMEOUT) };
        let port = port.unwrap_or(cx.identity.port);
        cx.network(NetworkCommand::Listen { port });
    }
}

fn is_connected(client: ClientId, cx: &Cx) -> bool {
    cx.replies.clients.get(client).is_some_and(|client| client.is_connected)
}

fn check_connect(connect: &Connect) -> Result<Wishes, Box<ErrorEvent>> {
    if let Some(other) = connect.protocol.filter(|version| *version != PROTOCOL_VERSION) {
        let message = format!("protocol version {other} is not supported; use version {PROTOCOL_VERSION}");
        let details = Some(serde_json::json!({ "supported": [PROTOCOL_VERSION] }));
        return Err(Box::new(ErrorEvent {
            details,
            ..ErrorEvent::new(ErrorCode::UnsupportedProtocol, message)
        }));
    }
    let invalid = |message: String| Box::new(ErrorEvent::new(ErrorCode::InvalidArgument, message));
    let max_line = connect.max_line_bytes.unwrap_or(MAX_LINE_BYTES);
    if !(MIN_LINE_BYTES..=MAX_LINE_BYTES).contains(&max_line) {
        let message = format!("`maxLineBytes` must be {MIN_LINE_BYTES} to {MAX_LINE_BYTES}, not {max_line}");
        return Err(invalid(message));
    }
    let max_unacked = connect.max_unacked.unwrap_or(MAX_UNACKED);
    if !(1..=MAX_UNACKED).contains(&max_unacked) {
        return Err(invalid(format!("`maxUnacked` must be 1 to {MAX_UNACKED}, not {max_unacked}")));
    }
    if let Some(group) = &connect.group
        && !(1..=MAX_GROUP_BYTES).contains(&group.len())
    {
        return Err(invalid(format!("`group` must have 1 to {MAX_GROUP_BYTES} bytes, not {}", group.len())));
    }
    let parsed: Result<Vec<_>, String> =
        connect.bootstrap_peers.iter().map(|text| parse_bootstrap(text)).collect();
    let candidates =
        parsed.map_err(invalid)?.into_iter().map(|(peer, addr)| Candidate::bootstrap(peer, addr)).collect();
    Ok(Wishes { max_line, max_unacked, candidates })
}
