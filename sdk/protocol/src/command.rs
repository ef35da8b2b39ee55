//! The commands of a parent.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Ask, Credit, Handle, Id, Respond, Route};

/// A command, with an id if the parent needs an answer.
#[derive(Clone, Debug)]
pub struct Request {
    /// Id of the command. With an id, the node answers with a `result` or an `error`.
    pub id: Option<Id>,
    /// The command.
    pub command: Command,
}

/// Declares the commands: their names, their variants, how a line becomes one, and which the node
/// carries out before `connect`.
macro_rules! commands {
    (@before) => { false };
    (@before before) => { true };
    ($($(#[$doc:meta])* $name:literal => $variant:ident $([$before:ident connect])?,)*) => {
        /// A command of the parent: the `type` of the line and its fields.
        #[derive(Clone, Debug, Serialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(tag = "type")]
        #[non_exhaustive]
        pub enum Command {
            $($(#[$doc])* #[serde(rename = $name)] $variant($variant),)*
        }

        impl Command {
            /// The `type` of every command.
            pub const NAMES: &[&str] = &[$($name),*];

            /// Returns the `type` of a line with this command.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Command::$variant(_) => $name,)*
                }
            }

            /// Returns `true` if the node carries out the command without a network, so that it may
            /// come before `connect`.
            pub fn is_allowed_before_connect(&self) -> bool {
                match self {
                    $(Command::$variant(_) => commands!(@before $($before)?),)*
                }
            }

            /// Returns the payload of a command that sends one.
            pub fn data(&self) -> Option<&RawValue> {
                match self {
                    Command::Send(send) => Some(&send.data),
                    Command::Ask(ask) => Some(&ask.data),
                    Command::Respond(respond) => respond.data.as_deref(),
                    _ => None,
                }
            }

            /// Reads the fields of the command of type `name` from a line. Returns `None` for an
            /// unknown type.
            ///
            /// # Errors
            /// Fails if a field is missing or invalid.
            pub(crate) fn read(name: &str, line: &str) -> Option<serde_json::Result<Command>> {
                match name {
                    $($name => Some(serde_json::from_str(line).map(Command::$variant)),)*
                    _ => None,
                }
            }
        }
    };
}

commands! {
    /// Listens, joins the network and reports `ready`.
    "connect" => Connect [before connect],
    /// Sends a message to an agent, or a broadcast to a topic.
    "send" => Send,
    /// Asks an agent, a list of agents or a topic for an answer.
    "request" => Ask,
    /// Answers a request of another agent.
    "respond" => Respond,
    /// Names the kinds of requests that the client handles.
    "handle" => Handle,
    /// Permits more parts of an answer.
    "credit" => Credit,
    /// Finds agents.
    "discover" => Discover,
    /// Receives the broadcasts on a topic.
    "subscribe" => Subscribe,
    /// Stops receiving the broadcasts on a topic.
    "unsubscribe" => Unsubscribe,
    /// Sets the capabilities that the agent's record names.
    "capabilities" => Capabilities [before connect],
    /// Reports the state and the counters of the node.
    "status" => Status,
    /// Reports the network, as the node knows it.
    "report" => Report,
    /// Lists the connected peers and the access rules.
    "peers" => Peers,
    /// Rejects the messages of an agent or a node.
    "block" => Block,
    /// Lifts the limits for an agent or a node.
    "allow" => Allow,
    /// Removes the rule that `block` or `allow` set.
    "unblock" => Unblock,
    /// Acknowledges messages, with `--ack manual`.
    "ack" => Ack,
    /// Reads what the registry on the chain says of an agent.
    "registry" => Registry,
    /// Ends a command, a request, or the message that a command sent.
    "cancel" => Cancel,
    /// Answers, to show that the node is alive.
    "ping" => Ping [before connect],
    /// Finishes the accepted work and exits.
    "shutdown" => Shutdown [before connect],
}

/// `connect` must come first. The node defers the commands that follow until `ready`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Connect {
    /// TCP and UDP port to listen on; 0 for any. Absent: the `--port` of the command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Multiaddrs of nodes to join through, each ending in `/p2p/<peer id>`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bootstrap_peers: Vec<String>,
    /// Version of the contract. It enables the events and fields that the first sidecar did not
    /// have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u32>,
    /// Longest line that the parent can read, in bytes: 4,096 to 1,048,576.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_line_bytes: Option<usize>,
    /// With `--ack manual`: the number of messages that the node delivers without an `ack`, 1 to
    /// 16,384. Absent: 16,384.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unacked: Option<usize>,
    /// `false`: the client does not want the messages of other agents. Absent: it wants them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inbox: Option<bool>,
    /// The group of the client, 1 to 64 bytes. Of the clients of a node that name the same group, one
    /// gets each message of another agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// `send`: exactly one of `peer_id` and `topic`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Send {
    /// The recipient: a PeerId, an `0x…` Ethereum address, or a name of ENS, such as `alice.eth`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_id: Option<String>,
    /// The topic, at most 128 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Any JSON value without numbers beyond 64-bit floats and halves of surrogate pairs; with
    /// `encoding: "base64"` a string of base64.
    #[cfg_attr(feature = "schema", schemars(with = "serde_json::Value"))]
    pub data: Box<RawValue>,
    /// Kind of the message, for the receiving agent, at most 64 bytes. Some kinds have a default
    /// priority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Priority of the message. Absent: the default priority of its kind, which the schema lists
    /// under `messageKinds`, else medium.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// Time for which the node tries to deliver, in milliseconds: 1 to 604,800,000 (7 days).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// Route of the message; ignored for topics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<Route>,
    /// Id of the message that this one answers, at most 128 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// Name of the conversation, at most 128 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<String>,
    /// The trace of the message: a `traceparent` of W3C Trace Context, version 00.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// Encoding of `data`; absent: JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// Absolute path of a file that goes with a message to an agent, at most 4,096 bytes. The file must
    /// stay as it is until the `delivery`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

impl Send {
    /// Returns a message to an agent, named by PeerId or Ethereum address, with default fields.
    pub fn to_peer(peer_id: impl Into<String>, data: Box<RawValue>) -> Self {
        Send { peer_id: Some(peer_id.into()), ..Send::bare(data) }
    }

    /// Returns a broadcast to a topic, with default fields.
    pub fn to_topic(topic: impl Into<String>, data: Box<RawValue>) -> Self {
        Send { topic: Some(topic.into()), ..Send::bare(data) }
    }

    fn bare(data: Box<RawValue>) -> Self {
        Send {
            peer_id: None,
            topic: None,
            data,
            kind: None,
            priority: None,
            ttl_ms: None,
            route: None,
            reply_to: None,
            conversation_id: None,
            traceparent: None,
            encoding: None,
            file: None,
        }
    }
}

/// `discover`: at most one of `topic`, `address` and `capability`; none finds every known agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Discover {
    /// Agents whose record names this topic, or whose node is connected and subscribes to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The agent with this Ethereum address or name of ENS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Agents whose record names this capability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<String>,
    /// Time for which the node searches, in milliseconds, at most 60,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// `subscribe`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Subscribe {
    /// The topic, 1 to 128 bytes. A parent may subscribe to at most 500 topics.
    pub topic: String,
}

/// `capabilities`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Capabilities {
    /// The capabilities, instead of those set before: at most 16, 256 bytes in total, each
    /// printable and not empty.
    pub capabilities: Vec<String>,
}

/// `unsubscribe`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Unsubscribe {
    /// The topic.
    pub topic: String,
}

/// `status` has no fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Status {}

/// `report` has no fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Report {}

/// `peers` has no fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Peers {}

/// `block`: the node rejects the subject's messages, and drops its broadcasts and events. Replaces
/// `allow`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Block {
    /// The `0x…` address of an agent, on any node, or the PeerId of a node, for any agent.
    pub peer_id: String,
}

/// `registry`: the node reads the entry of an agent in the registry, at a block that the chain will not
/// take back. It needs `REGISTRY_ADDRESS` and `RPC_URL`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Registry {
    /// The `0x…` address of the agent, or its name of ENS.
    pub address: String,
}

/// `allow`: the node marks the subject's messages as `allowed` and lifts its limits. Replaces
/// `block`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Allow {
    /// The subject, as in `block`.
    pub peer_id: String,
}

/// `unblock`: the subject is neither blocked nor allowed any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Unblock {
    /// The subject, as in `block`.
    pub peer_id: String,
}

/// `ack`: the agent has processed mail, and the node acknowledges it to the sender. Exactly one of
/// the fields. Only with `--ack manual`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Ack {
    /// The `messageId` of one message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// The `messageId` of each of 1 to 1,024 messages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub message_ids: Vec<String>,
}

impl Ack {
    /// Acknowledges one message.
    pub fn one(message_id: impl Into<String>) -> Self {
        Ack { message_id: Some(message_id.into()), message_ids: Vec::new() }
    }

    /// Acknowledges several messages at once.
    pub fn many(message_ids: Vec<String>) -> Self {
        Ack { message_id: None, message_ids }
    }
}

/// `cancel`: a pending `discover` or `request` fails with `CANCELLED`; undelivered mail of a `send` ends
/// as `failed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Cancel {
    /// The `id` of the command.
    pub target: Id,
}

/// `ping` has no fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Ping {}

/// `shutdown` has no fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Shutdown {}

/// Priority of a message. The node sends `high` strictly first, and drops `low` first when a queue
/// is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Low: statistics and history.
    Low,
    /// Medium: everything else.
    #[default]
    Medium,
    /// High: votes, proposals and critical messages.
    High,
}

/// Encoding of `data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// `data` is a string with bytes in base64 (RFC 4648 §4, with padding).
    Base64,
}
