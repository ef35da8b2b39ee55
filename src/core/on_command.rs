//! What each command does.

use std::collections::BTreeSet;
use std::time::Duration;

use alloy::primitives::Address;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use libp2p::PeerId;
use p2p_node_protocol::{
    Command, Connect, Discover, Encoding, ErrorCode, ErrorEvent, Id, MAX_LINE_BYTES, PROTOCOL_VERSION,
    Request, Route, Send, StatusReport,
};

use super::delivery::stream::Draft;
use super::directory::record::SignedRecord;
use super::discovery::bootstrap::parse_bootstrap;
use super::effect::Network;
use super::envelope::{self, limits};
use super::input::Now;
use super::{Core, MAX_DIRECT_BYTES, MAX_INFLIGHT, MAX_TOPIC_BYTES, Phase, RESERVED_TOPICS};

/// Shortest line that a parent may ask for: enough for `ready` and any error. Ours.
const MIN_LINE_BYTES: usize = 4096;
/// How long mail is tried when `ttlMs` is absent (design §7, in memory).
const DEFAULT_TTL: Duration = Duration::from_secs(120);
/// Longest `ttlMs` (`reference/reliability.md` §4: 7 days).
const MAX_TTL: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long `discover` looks when `timeoutMs` is absent. Ours: longer than a lookup in the DHT takes.
const DEFAULT_DISCOVER: Duration = Duration::from_secs(2);
/// How often `discover` asks the DHT for an address. Ours: a lookup on a small network takes some milliseconds.
const LOOKUP_PERIOD: Duration = Duration::from_millis(500);
/// Longest `timeoutMs` of `discover`. Ours.
const MAX_DISCOVER: Duration = Duration::from_secs(60);
/// How long a broadcast waits for somebody to subscribe (design §2).
const TOPIC_HOLD: Duration = Duration::from_secs(10);

/// A `discover` that is still looking.
#[derive(Debug)]
pub(super) struct Discovery {
    id: Option<Id>,
    wanted: Wanted,
    deadline: Duration,
    /// When an address is looked up again.
    retry: Duration,
    seen: BTreeSet<Address>,
}

#[derive(Debug)]
enum Wanted {
    All,
    Topic(String),
    Capability(String),
    Address(Address),
}

/// To whom a command's `peerId` refers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Recipient {
    Address(Address),
    Peer(PeerId),
}

impl Core {
    pub(super) fn on_command(&mut self, request: Request, now: Now) {
        let Request { id, command } = request;
        if let Some(id) = id.as_ref().filter(|id| self.pending_ids.contains(id)) {
            let message = "a command with this id has not been answered yet";
            let mut error = ErrorEvent::new(ErrorCode::DuplicateId, message);
            error.details = Some(serde_json::json!({ "id": id }));
            return self.complain(error);
        }
        match (&self.phase, &command) {
            (Phase::Closing { .. } | Phase::Flushing { .. } | Phase::Done, _) => {
                return self.refuse(id, ErrorCode::ShuttingDown, "the node is closing");
            }
            (Phase::Idle, Command::Connect(_) | Command::Ping(_) | Command::Shutdown(_)) => {}
            (Phase::Idle, _) => {
                return self.refuse(id, ErrorCode::NotConnected, "the first command must be `connect`");
            }
            _ => {}
        }
        match command {
            Command::Connect(connect) => self.connect(id, connect),
            Command::Send(send) => self.send(id, send, now),
            Command::Discover(discover) => self.discover(id, discover, now),
            Command::Subscribe(subscribe) => self.subscribe(id, subscribe.topic, now),
            Command::Unsubscribe(unsubscribe) => self.unsubscribe(id, &unsubscribe.topic, now),
            Command::Status(_) => {
                let status = self.status(now);
                self.answer(id, "status", |answer| answer.status = Some(Box::new(status)));
            }
            Command::Ping(_) => self.answer(id, "ping", |answer| answer.time_ms = Some(now.unix_ms)),
            Command::Shutdown(_) => self.close("shutdown", id, now),
            other => {
                let message = format!("`{}` is not served", other.name());
                self.refuse(id, ErrorCode::UnknownCommand, message);
            }
        }
    }

    fn connect(&mut self, id: Option<Id>, connect: Connect) {
        if self.phase != Phase::Idle {
            return self.refuse(id, ErrorCode::AlreadyConnected, "there was a `connect` already");
        }
        if connect.protocol == Some(0) {
            let mut error = ErrorEvent::new(ErrorCode::UnsupportedProtocol, "protocol versions start at 1");
            error.details = Some(serde_json::json!({ "supported": [PROTOCOL_VERSION] }));
            return self.complain(ErrorEvent { id, ..error });
        }
        let max_line = connect.max_line_bytes.unwrap_or(MAX_LINE_BYTES);
        if !(MIN_LINE_BYTES..=MAX_LINE_BYTES).contains(&max_line) {
            let message = format!("`maxLineBytes` must be {MIN_LINE_BYTES} to {MAX_LINE_BYTES}");
            return self.refuse(id, ErrorCode::InvalidArgument, message);
        }
        let parsed: Result<Vec<_>, String> =
            connect.bootstrap_peers.iter().map(|text| parse_bootstrap(text)).collect();
        match parsed {
            Err(message) => return self.refuse(id, ErrorCode::InvalidArgument, message),
            Ok(peers) => peers.into_iter().for_each(|(peer, addr)| self.add_bootstrap(peer, addr)),
        }
        self.opted_in = connect.protocol.is_some();
        self.max_line = max_line;
        self.start(connect.port, id);
    }

    /// Starts to listen. What comes next waits until that has succeeded.
    pub(super) fn start(&mut self, port: Option<u16>, id: Option<Id>) {
        self.pending_ids.extend(id.clone());
        self.phase = Phase::Starting { id };
        let port = port.unwrap_or(self.me.port);
        self.network(Network::Listen { port });
    }

    fn send(&mut self, id: Option<Id>, send: Send, now: Now) {
        let (data, encoding) = match payload(&send) {
            Ok(payload) => payload,
            Err(message) => return self.refuse(id, ErrorCode::InvalidArgument, message),
        };
        if let Err(message) = check_lengths(&send) {
            return self.refuse(id, ErrorCode::InvalidArgument, message);
        }
        let draft = Draft {
            data,
            encoding,
            priority: send.priority.unwrap_or_default(),
            sent_at_ms: now.unix_ms,
            expires: now.mono + send.ttl_ms.map_or(DEFAULT_TTL, Duration::from_millis),
            kind: send.kind.unwrap_or_default(),
            reply_to: send.reply_to.unwrap_or_default(),
            conversation: send.conversation_id.unwrap_or_default(),
            route: send.route.unwrap_or_default(),
            request_id: id,
        };
        let length = send.data.get().len();
        match (send.peer_id, send.topic) {
            (Some(peer), None) => self.send_mail(&peer, draft, length, now),
            (None, Some(topic)) => self.send_broadcast(topic, draft, length, now),
            _ => {
                let message = "`send` takes either `peerId` or `topic`";
                self.refuse(draft.request_id, ErrorCode::InvalidArgument, message);
            }
        }
    }

    fn send_mail(&mut self, to: &str, draft: Draft, length: usize, now: Now) {
        let id = draft.request_id.clone();
        let recipient = match self.parse_same_recipient(to) {
            Err(message) => return self.refuse(id, ErrorCode::InvalidArgument, message),
            Ok(Recipient::Address(address)) => address,
            Ok(Recipient::Peer(peer)) if peer == self.me.peer => self.me.address,
            Ok(Recipient::Peer(peer)) => match self.book.by_peer(&peer, now.unix_ms) {
                Some(record) => record.address(),
                None => {
                    let message =
                        "no verified record names this PeerId; send to the agent's 0x address instead";
                    return self.refuse(id, ErrorCode::PeerNotFound, message);
                }
            },
        };
        if recipient == self.me.address {
            return self.refuse(id, ErrorCode::InvalidArgument, "that is this agent itself");
        }
        if length > MAX_DIRECT_BYTES {
            let message = format!("`data` has {length} bytes; mail may have {MAX_DIRECT_BYTES}");
            return self.refuse(id, ErrorCode::MessageTooLarge, message);
        }
        if draft.route == Route::Gossip && draft.size() > MAX_TOPIC_BYTES {
            let message = format!("mail by gossip may have {MAX_TOPIC_BYTES} bytes with all its fields");
            return self.refuse(id, ErrorCode::MessageTooLarge, message);
        }
        let route = draft.route;
        match self.outbox.accept(recipient, draft, now.mono) {
            Err(_) => {
                self.refuse(
                    id,
                    ErrorCode::Busy,
                    "the outbox is full: the recipient, or everyone, takes no mail now",
                );
            }
            Ok(message_id) => {
                self.stats.count("mail_accepted");
                self.dirty.insert(recipient);
                self.answer(id, "send", |answer| {
                    answer.message_id = Some(message_id);
                    answer.delivery = Some("accepted".to_owned());
                    answer.route = Some(route);
                });
            }
        }
    }

    /// [`parse_recipient`], which costs more than all else about a message, for those who write to one recipient in a row.
    fn parse_same_recipient(&mut self, text: &str) -> Result<Recipient, String> {
        if let Some((last, recipient)) = &self.last_recipient
            && last == text
        {
            return Ok(*recipient);
        }
        let recipient = parse_recipient(text)?;
        self.last_recipient = Some((text.to_owned(), recipient));
        Ok(recipient)
    }

    fn send_broadcast(&mut self, topic: String, draft: Draft, length: usize, now: Now) {
        let id = draft.request_id.clone();
        if let Err(message) = check_topic(&topic) {
            return self.refuse(id, ErrorCode::InvalidArgument, message);
        }
        if RESERVED_TOPICS.contains(&topic.as_str()) {
            let message = format!("`{topic}` belongs to the nodes; choose another topic");
            return self.refuse(id, ErrorCode::ReservedTopic, message);
        }
        if length > MAX_TOPIC_BYTES {
            let message = format!("`data` has {length} bytes; a broadcast may have {MAX_TOPIC_BYTES}");
            return self.refuse(id, ErrorCode::MessageTooLarge, message);
        }
        let peers = self.subscribers(&topic);
        match self.topics.accept(&topic, draft, now.mono + TOPIC_HOLD) {
            Err(_) => {
                let message = "too much waits to be broadcast on this topic, or on too many topics";
                self.refuse(id, ErrorCode::Busy, message);
            }
            Ok(message_id) => {
                if peers == 0 {
                    self.connect_soon(now);
                }
                self.pause_for = (peers > 0 && self.topics.congested(&topic)).then_some(topic);
                self.stats.count("broadcasts_accepted");
                self.answer(id, "send", |answer| {
                    answer.message_id = Some(message_id);
                    answer.peers = Some(peers);
                });
            }
        }
    }

    fn subscribe(&mut self, id: Option<Id>, topic: String, now: Now) {
        if let Err(message) = check_topic(&topic) {
            return self.refuse(id, ErrorCode::InvalidArgument, message);
        }
        if self.subscribed.len() >= super::MAX_SUBSCRIPTIONS && !self.subscribed.contains(&topic) {
            let message = format!("at most {} topics can be subscribed to", super::MAX_SUBSCRIPTIONS);
            return self.refuse(id, ErrorCode::Busy, message);
        }
        self.answer(id, "subscribe", |_| {});
        if self.subscribed.insert(topic.clone()) && !super::is_reserved(&topic) {
            self.network(Network::Subscribe { topic });
            self.connect_soon(now);
            self.advertise_topics(now);
        }
    }

    fn unsubscribe(&mut self, id: Option<Id>, topic: &str, now: Now) {
        if self.subscribed.remove(topic) && !super::is_reserved(topic) {
            self.network(Network::Unsubscribe { topic: topic.to_owned() });
            self.advertise_topics(now);
        }
        self.answer(id, "unsubscribe", |_| {});
    }

    fn advertise_topics(&mut self, now: Now) {
        let left_out = self.presence.set_topics(&self.subscribed, now);
        if left_out > 0 {
            self.stats.add("topics_not_in_record", left_out as u64);
        }
    }

    fn discover(&mut self, id: Option<Id>, discover: Discover, now: Now) {
        let timeout = discover.timeout_ms.map_or(DEFAULT_DISCOVER, Duration::from_millis);
        if timeout > MAX_DISCOVER {
            let message = format!("`timeoutMs` may be at most {}", MAX_DISCOVER.as_millis());
            return self.refuse(id, ErrorCode::InvalidArgument, message);
        }
        if self.discoveries.len() >= MAX_INFLIGHT {
            return self.refuse(id, ErrorCode::Busy, "too many `discover` commands are still looking");
        }
        let wanted = match (discover.topic, discover.address, discover.capability) {
            (None, None, None) => Wanted::All,
            (Some(topic), None, None) => Wanted::Topic(topic),
            (None, None, Some(capability)) => Wanted::Capability(capability),
            (None, Some(address), None) => match parse_recipient(&address) {
                Ok(Recipient::Address(address)) => Wanted::Address(address),
                _ => {
                    let message = "`address` must be an Ethereum address: 0x and 40 hexadecimal digits";
                    return self.refuse(id, ErrorCode::InvalidArgument, message);
                }
            },
            _ => {
                let message = "`discover` takes one of `topic`, `address` and `capability`";
                return self.refuse(id, ErrorCode::InvalidArgument, message);
            }
        };
        self.pending_ids.extend(id.clone());
        let deadline = now.mono + timeout;
        self.discoveries.push(Discovery { id, wanted, deadline, retry: now.mono, seen: BTreeSet::new() });
        let known: Vec<SignedRecord> = self.book.iter(now.unix_ms).cloned().collect();
        for record in known {
            self.found(&record, true);
        }
        self.end_discoveries(now);
    }

    /// Tells those who look for an agent that it was found; `by_latest` only the latest of them.
    pub(super) fn found(&mut self, record: &SignedRecord, by_latest: bool) {
        let address = record.address();
        let skip = if by_latest { self.discoveries.len().saturating_sub(1) } else { 0 };
        let mut tell = Vec::new();
        for discovery in self.discoveries.iter_mut().skip(skip) {
            let matches = match &discovery.wanted {
                Wanted::All => true,
                Wanted::Address(wanted) => *wanted == address,
                Wanted::Capability(wanted) => record.record.capabilities.contains(wanted),
                Wanted::Topic(wanted) => {
                    let peer = self.peers.get(&record.peer_id());
                    record.record.topics.contains(wanted)
                        || peer.is_some_and(|peer| peer.topics.contains(wanted))
                }
            };
            if matches && discovery.seen.insert(address) {
                tell.push(discovery.id.clone());
            }
        }
        for id in tell {
            self.tell_found(record, id);
        }
    }

    /// Answers every `discover` that is done: it has found the one it wanted, or its time is over. Asks again for the rest.
    pub(super) fn end_discoveries(&mut self, now: Now) {
        let (done, looking) =
            std::mem::take(&mut self.discoveries).into_iter().partition(|discovery: &Discovery| {
                let found_one = matches!(discovery.wanted, Wanted::Address(_)) && !discovery.seen.is_empty();
                found_one || discovery.deadline <= now.mono
            });
        self.discoveries = looking;
        let mut lookups = Vec::new();
        for discovery in &mut self.discoveries {
            if let Wanted::Address(address) = discovery.wanted
                && discovery.retry <= now.mono
            {
                discovery.retry = now.mono + LOOKUP_PERIOD;
                lookups.push(address);
            }
        }
        for address in lookups {
            self.resolve(address);
        }
        for discovery in done {
            self.answer(discovery.id, "discover", |answer| answer.count = Some(discovery.seen.len()));
        }
    }

    /// When a `discover` ends or asks again.
    pub(super) fn discovery_deadline(&self) -> Option<Duration> {
        let due = |discovery: &Discovery| match discovery.wanted {
            Wanted::Address(_) => discovery.retry.min(discovery.deadline),
            _ => discovery.deadline,
        };
        self.discoveries.iter().map(due).min()
    }

    /// Ends every `discover`, because the node closes.
    pub(super) fn abandon_discoveries(&mut self) {
        for discovery in std::mem::take(&mut self.discoveries) {
            if discovery.id.is_some() {
                self.refuse(discovery.id, ErrorCode::ShuttingDown, "the node closed while it was looking");
            }
        }
    }

    fn status(&self, now: Now) -> StatusReport {
        StatusReport {
            peer_id: self.me.peer_text.clone(),
            address: self.me.address_text.clone(),
            uptime_ms: now.mono.as_millis() as u64,
            peers: self.peers.len(),
            servers: self.servers.len(),
            agents: self.book.len(),
            topics: self.subscribed.iter().cloned().collect(),
            addrs: self.addrs.iter().map(ToString::to_string).collect(),
            outbox: self.outbox.len(),
            outbox_bytes: self.outbox.bytes(),
            held: self.topics.held(),
            counters: self.stats.snapshot(),
        }
    }
}

fn parse_recipient(text: &str) -> Result<Recipient, String> {
    if text.starts_with("0x") || text.starts_with("0X") {
        return match text.parse::<Address>() {
            Ok(address) => Ok(Recipient::Address(address)),
            Err(_) => Err("an Ethereum address is 0x and 40 hexadecimal digits".to_owned()),
        };
    }
    text.parse::<PeerId>()
        .map(Recipient::Peer)
        .map_err(|_| "`peerId` must be a PeerId or an 0x address".to_owned())
}

fn payload(send: &Send) -> Result<(Bytes, envelope::Encoding), String> {
    let raw = send.data.get();
    match send.encoding {
        None => Ok((Bytes::copy_from_slice(raw.as_bytes()), envelope::Encoding::Json)),
        Some(Encoding::Base64) => {
            let text: String = serde_json::from_str(raw)
                .map_err(|_| "with `encoding` `base64`, `data` must be a string".to_owned())?;
            let bytes = BASE64.decode(text).map_err(|error| format!("`data` is not base64: {error}"))?;
            Ok((bytes.into(), envelope::Encoding::Bytes))
        }
    }
}

fn check_lengths(send: &Send) -> Result<(), String> {
    let fields = [
        ("kind", &send.kind, limits::MAX_KIND_BYTES),
        ("replyTo", &send.reply_to, limits::MAX_NAME_BYTES),
        ("conversationId", &send.conversation_id, limits::MAX_NAME_BYTES),
    ];
    for (name, value, limit) in fields {
        if let Some(text) = value {
            if text.len() > limit {
                return Err(format!("`{name}` may have at most {limit} bytes"));
            }
            if text.chars().any(char::is_control) {
                return Err(format!("`{name}` may not hold control characters"));
            }
        }
    }
    match send.ttl_ms {
        Some(ttl) if ttl == 0 || Duration::from_millis(ttl) > MAX_TTL => {
            Err(format!("`ttlMs` must be 1 to {}", MAX_TTL.as_millis()))
        }
        _ => Ok(()),
    }
}

fn check_topic(topic: &str) -> Result<(), String> {
    if topic.is_empty() || topic.len() > limits::MAX_NAME_BYTES {
        return Err(format!("a topic has 1 to {} bytes", limits::MAX_NAME_BYTES));
    }
    match topic.chars().any(char::is_control) {
        true => Err("a topic may not hold control characters".to_owned()),
        false => Ok(()),
    }
}
