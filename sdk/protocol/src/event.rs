//! The events of a node.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::forward_compat::known_or_default;
use crate::{
    Answer, Delivery, Encoding, ErrorCode, Id, IncomingRequest, Limits, Overflow, Priority, ReceivedFile,
    RequestCancelled, Response, ResponseCredit, Route, Transfer, Trust, decode_base64,
};

/// Declares the events: their names, their variants and how a line becomes one.
macro_rules! events {
    ($($(#[$doc:meta])* $name:literal => $variant:ident($content:ty),)*) => {
        /// An event of the node: the `type` of the line and its fields.
        ///
        /// The node always writes `ready`, `message`, `peer_discovered`, `error` and `log`, and what
        /// answers a command; the others only after `connect` with `"protocol":1`.
        #[derive(Clone, Debug, Serialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(tag = "type", rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum Event {
            $($(#[$doc])* $variant($content),)*
        }

        impl Event {
            /// The `type` of every event.
            pub const NAMES: &[&str] = &[$($name),*];

            /// Reads the fields of the event of type `name` from a line. Returns `None` for an
            /// unknown type.
            ///
            /// # Errors
            /// Fails if a field is missing or invalid.
            pub(crate) fn read(name: &str, line: &[u8]) -> Option<serde_json::Result<Event>> {
                match name {
                    $($name => Some(serde_json::from_slice(line).map(Event::$variant)),)*
                    _ => None,
                }
            }
        }
    };
}

events! {
    /// The node listens and serves every command.
    "ready" => Ready(Box<Ready>),
    /// A message or a broadcast arrived.
    "message" => Message(Box<Message>),
    /// The node found an agent.
    "peer_discovered" => PeerDiscovered(Box<PeerDiscovered>),
    /// A command, a line or a message failed.
    "error" => Error(Box<ErrorEvent>),
    /// A log message for people.
    "log" => Log(Box<Log>),
    /// A command with an `id` succeeded.
    "result" => Result(Box<Answer>),
    /// An accepted message ended.
    "delivery" => Delivery(Box<Delivery>),
    /// The file of a message is on its way.
    "transfer" => Transfer(Box<Transfer>),
    /// Another agent asks this one.
    "request" => Request(Box<IncomingRequest>),
    /// A request needs no answer any more.
    "request_cancelled" => RequestCancelled(RequestCancelled),
    /// The asker permits more parts of an answer.
    "credit" => Credit(ResponseCredit),
    /// An agent answered a request.
    "response" => Response(Box<Response>),
    /// A peer connected.
    "peer_connected" => PeerConnected(PeerConnected),
    /// The last connection to a peer ended.
    "peer_disconnected" => PeerDisconnected(PeerDisconnected),
    /// The node banned a node, an agent or a host.
    "peer_banned" => PeerBanned(Box<PeerBanned>),
    /// A ban ended.
    "peer_unbanned" => PeerUnbanned(PeerUnbanned),
    /// The node dropped lines because the parent did not read.
    "overflow" => Overflow(Overflow),
    /// The last line of a node that shuts down.
    "closing" => Closing(Closing),
}

/// `ready`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Ready {
    /// The node's libp2p PeerId.
    pub peer_id: String,
    /// The agent's checksummed Ethereum address.
    pub address: String,
    /// The display name.
    pub name: String,
    /// Role of the node.
    pub role: Role,
    /// Name of the network. Nodes of different networks do not connect.
    pub network: String,
    /// Version of the contract in force.
    pub protocol: u32,
    /// Version of the binary.
    pub version: String,
    /// Features of this node beyond the base contract. An absent feature is not supported.
    pub features: Vec<String>,
    /// The limits in force.
    pub limits: Limits,
    /// Multiaddrs on which the node listens, each ending in `/p2p/<peer id>`.
    pub addrs: Vec<String>,
    /// `true` if accepted messages outlive the process.
    pub durable: bool,
    /// URL of the node's HTTP server, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// Target of the node's gRPC server, if it has one: `<ip>:<port>` or `unix:<path>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<String>,
    /// URL of the node's A2A gateway, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub a2a: Option<String>,
}

/// Role of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// An agent's node: DHT client.
    #[default]
    Full,
    /// An entry point that others join through: DHT server.
    Bootstrap,
    /// A node with few connections that serves nothing to others.
    Light,
    /// A value that this version of the crate does not know. The node never writes it.
    #[serde(other)]
    #[cfg_attr(feature = "schema", schemars(skip))]
    Unknown,
}

/// `message`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// The sender's checksummed Ethereum address, proven by signatures.
    pub from: String,
    /// The payload, as the sender's agent wrote it.
    #[cfg_attr(feature = "schema", schemars(with = "serde_json::Value"))]
    pub data: Box<RawValue>,
    /// PeerId of the sender's node.
    pub peer_id: String,
    /// Id of the message, unique in the network.
    pub message_id: String,
    /// The topic of a broadcast; absent for a message to this agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Kind of the message, as the sender states it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Priority, as the sender states it.
    #[serde(deserialize_with = "known_or_default")]
    pub priority: Priority,
    /// Time at which the sender's node accepted the message, by that node's clock, in ms since
    /// 1970.
    pub sent_at_ms: u64,
    /// Time at which the message arrived here, by this node's clock, in ms since 1970.
    pub received_at_ms: u64,
    /// Route of the message: `direct` or `gossip`.
    #[serde(deserialize_with = "known_or_default")]
    pub route: Route,
    /// Id of the message that this one answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// Name of the conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<String>,
    /// Number of replies that lead to this message, itself included; absent if it answers none. A
    /// claim of the sender's node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hops: Option<u32>,
    /// The trace of the message, as a `traceparent` of W3C Trace Context: of the span that delivered it,
    /// if this node makes spans, else as it came. A claim of the sender's node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// Present when `data` is a string of base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// The file of the message, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<ReceivedFile>,
    /// Trust in the sender.
    pub trust: Trust,
    /// `true` if an earlier process of the node may have delivered the message, under the same
    /// `messageId`; only with a data directory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redelivered: bool,
}

impl Message {
    /// Returns the bytes of a payload in base64, or `None` for any other payload.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        let Encoding::Base64 = self.encoding?;
        decode_base64(&serde_json::from_str::<String>(self.data.get()).ok()?)
    }
}

/// `peer_discovered`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PeerDiscovered {
    /// PeerId of the agent's node.
    pub peer_id: String,
    /// Topics in its record, and topics to which its connected node subscribes.
    pub topics: Vec<String>,
    /// The agent's checksummed Ethereum address.
    pub address: String,
    /// Display name; a claim of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Trust in the agent.
    pub trust: Trust,
    /// Role of its node.
    pub role: Role,
    /// Multiaddrs of its node; a claim of the agent.
    pub addrs: Vec<String>,
    /// Capabilities; a claim of the agent.
    pub capabilities: Vec<String>,
    /// Time at which the record expires, in ms since 1970.
    pub expires_at_ms: u64,
    /// Id of the `discover` that found the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Id>,
}

/// `error`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ErrorEvent {
    /// Id of the command that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// Stable code.
    pub code: ErrorCode,
    /// What happened and what to do, for people.
    pub message: String,
    /// `true` if the same command or message may succeed later.
    pub retryable: bool,
    /// Id of the command that caused the error, if that command was answered before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Id>,
    /// Id of the message that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// More data, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<serde_json::Value>,
}

impl ErrorEvent {
    /// Returns an error that answers no command.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        ErrorEvent {
            id: None,
            code,
            message: message.into(),
            retryable: code.retryable(),
            request_id: None,
            message_id: None,
            details: None,
        }
    }
}

/// `log`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Log {
    /// Severity.
    pub level: Level,
    /// Part of the node that wrote the message.
    pub namespace: String,
    /// The message, for people.
    pub message: String,
    /// More data, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<serde_json::Value>,
}

/// Severity of a `log`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Debug: for developers of the node.
    Debug,
    /// Information.
    Info,
    /// Warning: a person may have to act.
    Warn,
    /// Error: the node cannot do its work in part or in whole.
    Error,
    /// A value that this version of the crate does not know. The node never writes it.
    #[serde(other)]
    #[cfg_attr(feature = "schema", schemars(skip))]
    Unknown,
}

/// `peer_connected`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PeerConnected {
    /// The peer.
    pub peer_id: String,
    /// Address of its agent, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// `peer_disconnected`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PeerDisconnected {
    /// The peer.
    pub peer_id: String,
    /// Address of its agent, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Reason, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `peer_banned`: a ban of a node if it has a `peerId`, of a host if it has an `ip`, else of an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PeerBanned {
    /// The banned node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_id: Option<String>,
    /// The banned agent, or the agent of the banned node, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The banned host: an IPv4 address, or the /64 of an IPv6 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// The last fault, as docs/operations.md lists them.
    pub reason: String,
    /// Reputation, from 0 to 1.
    pub score: f64,
    /// End of the ban, in ms since 1970.
    pub until_ms: u64,
}

/// `peer_unbanned`, with the same meaning of `peerId`, `address` and `ip` as in `peer_banned`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PeerUnbanned {
    /// The node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_id: Option<String>,
    /// The agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The host: an IPv4 address, or the /64 of an IPv6 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// `recovered` in time, `pardoned` by `allow` or `unblock`, or `evicted` because there were too many
    /// bans.
    pub reason: String,
}

/// `closing`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Closing {
    /// `shutdown`, `eof`, `signal` or `parent` (the process named by `--parent-pid` has ended).
    pub reason: String,
}
