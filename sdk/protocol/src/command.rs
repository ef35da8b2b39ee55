//! The commands of a parent.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::Id;

/// A command and the id under which its answer is wanted, if one is.
#[derive(Clone, Debug)]
pub struct Request {
    /// Turns on the `result` of the command.
    pub id: Option<Id>,
    /// What to do.
    pub command: Command,
}

/// Declares the commands: their names, their variants, how a line becomes one, and which the node
/// carries out before `connect`.
macro_rules! commands {
    (@before) => { false };
    (@before before) => { true };
    ($($(#[$doc:meta])* $name:literal => $variant:ident $([$before:ident connect])?,)*) => {
        /// What a parent may ask for: the `type` of the line and the fields that go with it.
        #[derive(Clone, Debug, Serialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(tag = "type", rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum Command {
            $($(#[$doc])* $variant($variant),)*
        }

        impl Command {
            /// The `type` of every command.
            pub const NAMES: &[&str] = &[$($name),*];

            /// The `type` that a line of this command carries.
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

            /// Reads the fields of the command of type `name` from a line. `None`: there is no such command.
            ///
            /// # Errors
            /// When a field is missing or is not what it must be.
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
    /// Listen, join the network and say `ready`.
    "connect" => Connect [before connect],
    /// Send mail to an agent, or a broadcast to a topic.
    "send" => Send,
    /// Find agents.
    "discover" => Discover,
    /// Receive what is broadcast on a topic.
    "subscribe" => Subscribe,
    /// Stop receiving it.
    "unsubscribe" => Unsubscribe,
    /// Set what the agent can do, as its record says.
    "capabilities" => Capabilities [before connect],
    /// Report what the node knows and has counted.
    "status" => Status,
    /// List the connected peers, and who is blocked or allowed.
    "peers" => Peers,
    /// Take nothing more from an agent or a node.
    "block" => Block,
    /// Lift the limits for an agent or a node.
    "allow" => Allow,
    /// Take back `block` and `allow`.
    "unblock" => Unblock,
    /// Say that a mail was taken, where the node leaves that to its parent.
    "ack" => Ack,
    /// Give up a command, or the mail that it sent.
    "cancel" => Cancel,
    /// Answer, to show that the node is alive.
    "ping" => Ping [before connect],
    /// Finish what was accepted and exit.
    "shutdown" => Shutdown [before connect],
}

/// `connect`: must come first; commands that follow are held until `ready`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Connect {
    /// TCP and UDP port to listen on; 0 takes any. Absent: the `--port` of the command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Multiaddrs of nodes to join through, each ending in `/p2p/<peer id>`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bootstrap_peers: Vec<String>,
    /// Version of the contract; turns on the events and fields that the first sidecar did not have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u32>,
    /// Longest line that the parent can read, in bytes: at least 4,096, at most 1 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_line_bytes: Option<usize>,
    /// With `--ack manual`: the most mail that the node hands to the parent without an `ack`, 1 to 16,384 messages.
    /// Absent: 16,384.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unacked: Option<usize>,
}

/// `send`: exactly one of `peer_id` and `topic`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Send {
    /// The recipient: a PeerId or an `0x…` Ethereum address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_id: Option<String>,
    /// The topic, at most 128 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Any JSON value without numbers beyond 64-bit floats and halves of surrogate pairs; with `encoding: "base64"` a string of base64.
    #[cfg_attr(feature = "schema", schemars(with = "serde_json::Value"))]
    pub data: Box<RawValue>,
    /// What the message is, for the receiving agent, at most 64 bytes. Some kinds have a priority of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// How urgent it is. Absent: as its kind is; `vote`, `consensus_vote`, `block_proposal`, `block_announce` and `critical` are high,
    /// `statistics`, `network_statistics`, `history`, `historical_data`, `non_critical`, `peer_exchange` and `ping` low, all others medium.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// How long to keep trying, in milliseconds: 1 to 604,800,000 (7 days).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// Which way mail goes; without meaning for topics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<Route>,
    /// Message id that this one answers, at most 128 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// Name of the conversation, at most 128 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<String>,
    /// How `data` is to be read; absent: as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
}

impl Send {
    /// Mail to an agent, named by PeerId or Ethereum address, with nothing else said about it.
    pub fn to_peer(peer_id: impl Into<String>, data: Box<RawValue>) -> Self {
        Send { peer_id: Some(peer_id.into()), ..Send::bare(data) }
    }

    /// A broadcast to a topic, with nothing else said about it.
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
            encoding: None,
        }
    }
}

/// `discover`: at most one of the fields selects; none finds every agent known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Discover {
    /// Agents whose record names this topic, or who are seen to subscribe to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The agent with this Ethereum address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Agents whose record names this capability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<String>,
    /// How long to look, in milliseconds, at most 60,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// `subscribe`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Subscribe {
    /// The topic, 1 to 128 bytes.
    pub topic: String,
}

/// `capabilities`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Capabilities {
    /// The capabilities, instead of those set before: at most 16, 256 bytes in total, each printable
    /// and not empty.
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

/// `peers` has no fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Peers {}

/// `block`: its mail is refused, its broadcasts and the news of it are not told. Takes the place of `allow`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Block {
    /// The `0x…` address of an agent, whichever node it uses, or the PeerId of a node, whoever uses it.
    pub peer_id: String,
}

/// `allow`: what it sends is trusted as far as the parent trusts it. Takes the place of `block`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Allow {
    /// As in `block`.
    pub peer_id: String,
}

/// `unblock`: neither blocked nor allowed from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Unblock {
    /// As in `block`.
    pub peer_id: String,
}

/// `ack`: the agent has processed mail, and the node may tell the sender so. Exactly one of the fields. Only with
/// `--ack manual`.
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

/// `cancel`: a `discover` that still looks is answered with `CANCELLED`; mail that a `send` left undelivered ends as `failed`.
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

/// How urgent a message is: `high` goes strictly first, `low` is dropped first where queues are full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Statistics, history.
    Low,
    /// Everything else.
    #[default]
    Medium,
    /// Votes, proposals, critical mail.
    High,
}

/// Which way mail goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Route {
    /// Direct where the recipient is connected or can be dialled, else by gossip.
    #[default]
    Auto,
    /// Only over a connection to the recipient.
    Direct,
    /// Only through the topic `agent-messages`.
    Gossip,
}

/// How `data` is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// `data` is a string that holds bytes as base64 (RFC 4648 §4, with padding).
    Base64,
}
