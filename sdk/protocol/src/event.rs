//! The events of a node.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::forward_compat::known_or_default;
use crate::{Answer, Delivery, Encoding, ErrorCode, Id, Limits, Priority, Route, decode_base64};

/// Declares the events: their names, their variants and how a line becomes one.
macro_rules! events {
    ($($(#[$doc:meta])* $name:literal => $variant:ident($content:ty),)*) => {
        /// What a node tells its parent: the `type` of the line and the fields that go with it.
        ///
        /// `ready`, `message`, `peer_discovered`, `error` and `log` come always, `result` when a command had an
        /// `id`, the others only after `connect` with `"protocol":1`.
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

            /// Reads the fields of the event of type `name` from a line. `None`: there is no such event.
            ///
            /// # Errors
            /// When a field is missing or is not what it must be.
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
    /// Mail or a broadcast arrived.
    "message" => Message(Box<Message>),
    /// An agent was found.
    "peer_discovered" => PeerDiscovered(Box<PeerDiscovered>),
    /// A command, a line or a mail failed.
    "error" => Error(Box<ErrorEvent>),
    /// Something that a person may want to read.
    "log" => Log(Box<Log>),
    /// A command that carried an `id` was carried out.
    "result" => Result(Box<Answer>),
    /// How an accepted mail ended.
    "delivery" => Delivery(Box<Delivery>),
    /// A connection to a peer was established.
    "peer_connected" => PeerConnected(PeerConnected),
    /// The last connection to a peer ended.
    "peer_disconnected" => PeerDisconnected(PeerDisconnected),
    /// Lines were dropped because the parent did not read.
    "overflow" => Overflow(Overflow),
    /// The last line of a node that ends in good order.
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
    /// What part the node plays.
    pub role: Role,
    /// Name of the network; nodes of different networks do not speak to each other.
    pub network: String,
    /// Version of the contract in force.
    pub protocol: u32,
    /// Version of the binary.
    pub version: String,
    /// What this node can do beyond the bare contract. Absent means unsupported.
    pub features: Vec<String>,
    /// The limits in force.
    pub limits: Limits,
    /// Multiaddrs that the node listens on, each ending in `/p2p/<peer id>`.
    pub addrs: Vec<String>,
    /// Whether accepted mail outlives the process.
    pub durable: bool,
}

/// What part a node plays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// An agent's node: DHT client.
    #[default]
    Full,
    /// An entry point that others join through: DHT server.
    Bootstrap,
    /// A word that this version of the crate does not know. Never written by the node.
    #[serde(other)]
    #[cfg_attr(feature = "schema", schemars(skip))]
    Unknown,
}

/// `message`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// The sender's checksummed Ethereum address, proven.
    pub from: String,
    /// What the sender's agent wrote. It is as trustworthy as that agent is.
    #[cfg_attr(feature = "schema", schemars(with = "serde_json::Value"))]
    pub data: Box<RawValue>,
    /// PeerId of the sender's node.
    pub peer_id: String,
    /// Names the message across the network.
    pub message_id: String,
    /// The topic of a broadcast; absent for mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// What the sender says it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// How urgent the sender says it is.
    #[serde(deserialize_with = "known_or_default")]
    pub priority: Priority,
    /// When the sender's node accepted it, by that node's clock, in ms since 1970.
    pub sent_at_ms: u64,
    /// When it arrived here, by this node's clock, in ms since 1970.
    pub received_at_ms: u64,
    /// Which way it came: `direct` or `gossip`.
    #[serde(deserialize_with = "known_or_default")]
    pub route: Route,
    /// The message that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// The conversation that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<String>,
    /// Present when `data` is a string of base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// What is known about the sender.
    pub trust: Trust,
    /// Whether an earlier process of the node may have told it, under the same `messageId`; only with a data directory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redelivered: bool,
}

impl Message {
    /// What was sent as bytes; nothing if something else was.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        let Encoding::Base64 = self.encoding?;
        decode_base64(&serde_json::from_str::<String>(self.data.get()).ok()?)
    }
}

/// What is known about a sender beyond its address, which is proven always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Trust {
    /// The signature proves the address, and nothing else is known.
    Unverified,
    /// The parent has said `allow`.
    Allowed,
    /// A word that this version of the crate does not know. Never written by the node.
    #[serde(other)]
    #[cfg_attr(feature = "schema", schemars(skip))]
    Unknown,
}

/// `peer_discovered`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PeerDiscovered {
    /// PeerId of the agent's node.
    pub peer_id: String,
    /// Topics that its record names or that it is seen to subscribe to.
    pub topics: Vec<String>,
    /// The agent's checksummed Ethereum address.
    pub address: String,
    /// Its display name, as it says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What part its node plays.
    pub role: Role,
    /// Its multiaddrs, as it says itself.
    pub addrs: Vec<String>,
    /// Its capabilities, as it says itself.
    pub capabilities: Vec<String>,
    /// When its record ends, in ms since 1970.
    pub expires_at_ms: u64,
    /// The `id` of the `discover` that found it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Id>,
}

/// `error`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ErrorEvent {
    /// The id of the command that this line ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// The stable code.
    pub code: ErrorCode,
    /// What happened and what to do, for a person.
    pub message: String,
    /// Whether the same thing may succeed later.
    pub retryable: bool,
    /// The command that caused it, when it ended before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Id>,
    /// The mail that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// More, for a program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<serde_json::Value>,
}

impl ErrorEvent {
    /// An error that answers no command.
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
    /// How serious it is.
    pub level: Level,
    /// Which part of the node speaks.
    pub namespace: String,
    /// For a person.
    pub message: String,
    /// More, for a program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<serde_json::Value>,
}

/// How serious a `log` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// For developers of the node.
    Debug,
    /// Good to know.
    Info,
    /// Something may need care.
    Warn,
    /// Something is broken.
    Error,
    /// A word that this version of the crate does not know. Never written by the node.
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
    /// The agent it speaks for, where known.
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
    /// The agent it speaks for, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `overflow`: what was dropped since the last one, and in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Overflow {
    /// Since the last `overflow`.
    pub dropped: DropCounts,
    /// Since the start.
    pub total: DropCounts,
}

/// Lines dropped, by type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct DropCounts {
    /// Broadcasts.
    pub broadcasts: u64,
    /// Broadcasts whose lines would have been longer than the `maxLineBytes` of `connect`.
    pub oversized: u64,
    /// Events of peers (`peer_discovered`, `peer_connected`, `peer_disconnected`) for which there was no room.
    pub peer_events: u64,
    /// Logs.
    pub log: u64,
}

/// `closing`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Closing {
    /// `shutdown`, `eof`, `signal` or `parent` (the process named by `--parent-pid` has ended).
    pub reason: String,
}
