//! Checks a command against the phase of the node and dispatches it.

use std::collections::BTreeSet;

use alloy_primitives::Address;
use libp2p_identity::PeerId;
use p2p_node_protocol::line::LineError;
use p2p_node_protocol::{
    Command, Connect, Counter, ErrorCode, ErrorEvent, Id, MAX_LINE_BYTES, PROTOCOL_VERSION, Request,
    StatusReport,
};

use crate::effect::NetworkCommand;
use crate::gate::access_list::AccessRule;
use crate::mail::inbound::unacked::MAX_UNTAKEN;
use crate::parent::starting::LISTEN_TIMEOUT;
use crate::peers::bootstrap::parse_bootstrap;
use crate::{Core, Phase};
use p2p_node_wire::envelope::limits;
use p2p_node_wire::identity::parse_address;

/// Smallest `maxLineBytes`. Our choice: enough for `ready` and any error.
const MIN_LINE_BYTES: usize = 4096;

/// The subject of a `peerId` field.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Recipient {
    Address(Address),
    Peer(PeerId),
}

impl Core {
    pub(crate) fn on_command(&mut self, request: Request) {
        let now = self.cx.now;
        if self.is_taken(request.id.as_ref()) {
            return;
        }
        if let Phase::Starting { .. } = self.cx.phase {
            return self.hold(request);
        }
        let Request { id, command } = request;
        match (&self.cx.phase, &command) {
            (Phase::Closing { .. } | Phase::Flushing { .. } | Phase::Exited, _) => {
                return self.cx.refuse(
                    id,
                    ErrorCode::ShuttingDown,
                    "the node is closing and accepts no commands",
                );
            }
            (Phase::Idle, Command::Connect(_) | Command::Ping(_) | Command::Shutdown(_)) => {}
            (Phase::Idle, _) => {
                return self.cx.refuse(
                    id,
                    ErrorCode::NotConnected,
                    "the node is not connected; the first command must be `connect`",
                );
            }
            _ => {}
        }
        match command {
            Command::Connect(connect) => self.connect(id, connect),
            Command::Send(send) => {
                if let Some((to, send)) = self.check_send(id, send, self.default_ttl()) {
                    self.offer(to, send);
                }
            }
            Command::Discover(discover) => self.discover(id, discover),
            Command::Subscribe(subscribe) => self.subscribe(id, subscribe.topic),
            Command::Unsubscribe(unsubscribe) => self.unsubscribe(id, &unsubscribe.topic),
            Command::Status(_) => {
                let status = self.status();
                self.cx.answer(id, "status", |answer| answer.status = Some(Box::new(status)));
            }
            Command::Peers(_) => self.list_peers(id),
            Command::Block(block) => {
                self.set_standing(id, "block", &block.peer_id, Some(AccessRule::Blocked));
            }
            Command::Allow(allow) => {
                self.set_standing(id, "allow", &allow.peer_id, Some(AccessRule::Allowed));
            }
            Command::Unblock(unblock) => self.set_standing(id, "unblock", &unblock.peer_id, None),
            Command::Ack(ack) => self.on_ack_command(id, ack),
            Command::Cancel(cancel) => self.cancel(id, &cancel.target),
            Command::Ping(_) => self.cx.answer(id, "ping", |answer| answer.time_ms = Some(now.unix_ms)),
            Command::Shutdown(_) => self.close("shutdown", id),
            other => {
                let message = format!("this node does not support `{}`", other.name());
                self.cx.refuse(id, ErrorCode::UnknownCommand, message);
            }
        }
    }

    /// Reports a line that is not a command. The error carries the line's id, if one can be read,
    /// so that the parent does not wait for an answer forever.
    pub(crate) fn on_bad_line(&mut self, bad: LineError) {
        self.cx.stats.count(Counter::LinesBad);
        if self.is_taken(bad.id.as_ref()) {
            return;
        }
        self.cx.replies.required.refused(bad.code);
        let mut error = ErrorEvent { id: bad.id, ..ErrorEvent::new(bad.code, bad.message) };
        error.details = bad.line.map(|line| serde_json::json!({ "line": line }));
        self.cx.emit_error(error);
    }

    /// Reports an error and returns `true` if a command with this id is unanswered. The error has
    /// the id in its `details` only, because the parent would take an error with that `id` for the
    /// answer to the earlier command.
    pub(crate) fn is_taken(&mut self, id: Option<&Id>) -> bool {
        let Some(id) = id.filter(|id| {
            self.cx.replies.open_requests.contains(id) || self.cx.replies.open_sends.contains(id)
        }) else {
            return false;
        };
        let message = "a command with this id has not been answered yet; use another id";
        self.cx.replies.required.refused(ErrorCode::DuplicateId);
        let mut error = ErrorEvent::new(ErrorCode::DuplicateId, message);
        error.details = Some(serde_json::json!({ "id": id }));
        self.cx.emit_error(error);
        true
    }

    fn connect(&mut self, id: Option<Id>, connect: Connect) {
        if self.cx.phase != Phase::Idle {
            return self.cx.refuse(
                id,
                ErrorCode::AlreadyConnected,
                "the node is connected already; send `connect` once",
            );
        }
        if let Some(other) = connect.protocol.filter(|version| *version != PROTOCOL_VERSION) {
            let message =
                format!("protocol version {other} is not supported; use version {PROTOCOL_VERSION}");
            self.cx.replies.required.refused(ErrorCode::UnsupportedProtocol);
            let mut error = ErrorEvent::new(ErrorCode::UnsupportedProtocol, message);
            error.details = Some(serde_json::json!({ "supported": [PROTOCOL_VERSION] }));
            return self.cx.emit_error(ErrorEvent { id, ..error });
        }
        let max_line = connect.max_line_bytes.unwrap_or(MAX_LINE_BYTES);
        if !(MIN_LINE_BYTES..=MAX_LINE_BYTES).contains(&max_line) {
            let message =
                format!("`maxLineBytes` must be {MIN_LINE_BYTES} to {MAX_LINE_BYTES}, not {max_line}");
            return self.cx.refuse(id, ErrorCode::InvalidArgument, message);
        }
        let max_unacked = connect.max_unacked.unwrap_or(MAX_UNTAKEN);
        if !(1..=MAX_UNTAKEN).contains(&max_unacked) {
            let message = format!("`maxUnacked` must be 1 to {MAX_UNTAKEN}, not {max_unacked}");
            return self.cx.refuse(id, ErrorCode::InvalidArgument, message);
        }
        let parsed: Result<Vec<_>, String> =
            connect.bootstrap_peers.iter().map(|text| parse_bootstrap(text)).collect();
        match parsed {
            Err(message) => return self.cx.refuse(id, ErrorCode::InvalidArgument, message),
            Ok(peers) => peers.into_iter().for_each(|(peer, addr)| self.add_bootstrap(peer, addr)),
        }
        self.cx.replies.protocol_v1 = connect.protocol.is_some();
        self.cx.replies.max_line = max_line;
        self.mail.delivery.untaken.set_limit(max_unacked);
        self.start(connect.port, id);
    }

    /// Starts to listen. The node defers commands until it is ready.
    pub(crate) fn start(&mut self, port: Option<u16>, id: Option<Id>) {
        let now = self.cx.now;
        self.cx.replies.open_requests.extend(id.clone());
        self.cx.phase = Phase::Starting { id, report_by: Some(now.mono + LISTEN_TIMEOUT) };
        let port = port.unwrap_or(self.cx.identity.port);
        self.cx.network(NetworkCommand::Listen { port });
    }

    fn subscribe(&mut self, id: Option<Id>, topic: String) {
        if let Err(message) = check_topic(&topic) {
            return self.cx.refuse(id, ErrorCode::InvalidArgument, message);
        }
        if self.gossip.subscribed.len() >= crate::MAX_SUBSCRIPTIONS
            && !self.gossip.subscribed.contains(&topic)
        {
            let message = format!(
                "at most {} topics can be subscribed to; unsubscribe from one first",
                crate::MAX_SUBSCRIPTIONS
            );
            return self.cx.refuse(id, ErrorCode::Busy, message);
        }
        self.cx.answer(id, "subscribe", |_| {});
        if self.gossip.subscribed.insert(topic.clone()) && !crate::is_reserved(&topic) {
            self.cx.network(NetworkCommand::Subscribe { topic });
            self.connect_soon();
            let topics = self.gossip.subscribed.clone();
            self.advertise_topics(&topics);
        }
    }

    fn unsubscribe(&mut self, id: Option<Id>, topic: &str) {
        if self.gossip.subscribed.remove(topic) && !crate::is_reserved(topic) {
            self.cx.network(NetworkCommand::Unsubscribe { topic: topic.to_owned() });
            let topics = self.gossip.subscribed.clone();
            self.advertise_topics(&topics);
        }
        self.cx.answer(id, "unsubscribe", |_| {});
    }

    fn advertise_topics(&mut self, topics: &BTreeSet<String>) {
        let now = self.cx.now;
        let left_out = self.local.record.set_topics(topics, now);
        if left_out > 0 {
            self.cx.stats.add(Counter::TopicsNotInRecord, left_out as u64);
        }
    }

    fn status(&self) -> StatusReport {
        let now = self.cx.now;
        let mut room = self.cx.room_for_lists();
        let addrs = self.local.addrs.iter().map(ToString::to_string).filter(|addr| room.fits(addr)).collect();
        let topics = self.gossip.subscribed.iter().filter(|topic| room.fits(topic)).cloned().collect();
        StatusReport {
            peer_id: self.cx.identity.peer_text.clone(),
            address: self.cx.identity.address_text.clone(),
            uptime_ms: now.mono.as_millis() as u64,
            peers: self.peers.connected.len(),
            servers: self.peers.dht_servers.len(),
            agents: self.directory.records.len(),
            topics,
            addrs,
            outbox: self.mail.outbox.len(),
            outbox_bytes: self.mail.outbox.bytes(),
            queued_broadcasts: self.gossip.broadcasts.held(),
            counters: self.cx.stats.snapshot(),
        }
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

pub(crate) fn check_topic(topic: &str) -> Result<(), String> {
    if topic.is_empty() || topic.len() > limits::MAX_NAME_BYTES {
        return Err(format!("a topic must have 1 to {} bytes", limits::MAX_NAME_BYTES));
    }
    match topic.chars().any(char::is_control) {
        true => Err("a topic must not contain control characters".to_owned()),
        false => Ok(()),
    }
}
