//! The protobuf messages, as `docs/wire-protocol.md` defines them. Their limits are in [`super::limits`].

use bytes::Bytes;
use prost::{Enumeration, Message as ProtoMessage, Oneof};

/// The signed part of a frame.
#[derive(Clone, PartialEq, ProtoMessage)]
pub struct FrameBody {
    /// [`WIRE_VERSION`](super::WIRE_VERSION).
    #[prost(uint32, tag = 1)]
    pub version: u32,
    /// The network that it is for.
    #[prost(string, tag = 2)]
    pub network: String,
    /// Where it may be heard; heard elsewhere, it is rejected.
    #[prost(oneof = "Scope", tags = "3, 4")]
    pub scope: Option<Scope>,
    /// The sender's encoded binding.
    #[prost(bytes = "bytes", tag = 5)]
    pub binding: Bytes,
    /// Random number of the sender's process.
    #[prost(fixed64, tag = 6)]
    pub boot: u64,
    /// Grows with every frame of that process.
    #[prost(uint64, tag = 7)]
    pub counter: u64,
    /// When this attempt was made, in ms since 1970.
    #[prost(uint64, tag = 8)]
    pub created_at_ms: u64,
    /// What it carries.
    #[prost(oneof = "Payload", tags = "9, 10, 11")]
    pub payload: Option<Payload>,
}

/// Where a frame may be heard.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum Scope {
    /// On this topic, named without the network's prefix.
    #[prost(string, tag = "3")]
    Topic(String),
    /// By the node of this Ed25519 key, 32 bytes.
    #[prost(bytes = "bytes", tag = "4")]
    NodeKey(Bytes),
}

/// What a frame carries.
#[derive(Clone, PartialEq, Oneof)]
pub enum Payload {
    /// For everybody to read.
    #[prost(message, tag = "9")]
    Plain(Batch),
    /// For the holder of a KEM key.
    #[prost(message, tag = "10")]
    Sealed(Sealed),
    /// For the other end of a connection.
    #[prost(message, tag = "11")]
    Session(Session),
}

/// Messages and acks under one signature.
#[derive(Clone, PartialEq, ProtoMessage)]
pub struct Batch {
    /// In the order in which they were sent.
    #[prost(message, repeated, tag = 1)]
    pub messages: Vec<Message>,
    /// Encoded [`SignedAck`](super::SignedAck)s.
    #[prost(bytes = "bytes", repeated, tag = 2)]
    pub acks: Vec<Bytes>,
}

/// One message of an agent.
#[derive(Clone, PartialEq, ProtoMessage)]
pub struct Message {
    /// Random name of the sender's stream, 16 bytes; with `seq` the message's id.
    #[prost(bytes = "bytes", tag = 1)]
    pub stream: Bytes,
    /// Place in the stream.
    #[prost(uint64, tag = 2)]
    pub seq: u64,
    /// One more than the `seq` before it that is still to be delivered, 0 when there is none. A receiver that
    /// waits for `next` takes the message when `base_seq` ≤ `next` ≤ `seq`.
    #[prost(uint64, tag = 3)]
    pub base_seq: u64,
    /// What it is, for the receiving agent; may be empty.
    #[prost(string, tag = 4)]
    pub kind: String,
    /// How urgent it is.
    #[prost(enumeration = "Priority", tag = 5)]
    pub priority: i32,
    /// When the parent sent it, in ms since 1970.
    #[prost(uint64, tag = 6)]
    pub sent_at_ms: u64,
    /// What was left of its life when this frame was made, in ms.
    #[prost(uint64, tag = 7)]
    pub ttl_left_ms: u64,
    /// Id of the message that it answers; may be empty.
    #[prost(string, tag = 8)]
    pub reply_to: String,
    /// Name of the conversation; may be empty.
    #[prost(string, tag = 9)]
    pub conversation: String,
    /// Ids of the messages that it comes after.
    #[prost(string, repeated, tag = 10)]
    pub parents: Vec<String>,
    /// What `data` is.
    #[prost(enumeration = "Encoding", tag = 11)]
    pub encoding: i32,
    /// The payload.
    #[prost(bytes = "bytes", tag = 12)]
    pub data: Bytes,
    /// The stream on which the sender accepted the message, 16 bytes, if the recipient knew its number there for another one; else empty.
    #[prost(bytes = "bytes", tag = 13)]
    pub accepted_stream: Bytes,
    /// Its place in that stream.
    #[prost(uint64, tag = 14)]
    pub accepted_seq: u64,
}

/// How urgent a message is. The default comes first, because that costs no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum Priority {
    /// Everything else.
    Medium = 0,
    /// Statistics, history.
    Low = 1,
    /// Votes, proposals, critical mail.
    High = 2,
}

impl From<p2p_node_protocol::Priority> for Priority {
    fn from(priority: p2p_node_protocol::Priority) -> Self {
        match priority {
            p2p_node_protocol::Priority::Low => Priority::Low,
            p2p_node_protocol::Priority::Medium => Priority::Medium,
            p2p_node_protocol::Priority::High => Priority::High,
        }
    }
}

impl From<Priority> for p2p_node_protocol::Priority {
    fn from(priority: Priority) -> Self {
        match priority {
            Priority::Low => p2p_node_protocol::Priority::Low,
            Priority::Medium => p2p_node_protocol::Priority::Medium,
            Priority::High => p2p_node_protocol::Priority::High,
        }
    }
}

/// What a message's `data` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum Encoding {
    /// One JSON value.
    Json = 0,
    /// Any bytes.
    Bytes = 1,
}

/// A batch sealed to a KEM key.
#[derive(Clone, PartialEq, Eq, ProtoMessage)]
pub struct Sealed {
    /// Names the recipient's key.
    #[prost(bytes = "bytes", tag = 1)]
    pub kem_id: Bytes,
    /// Which algorithms.
    #[prost(uint32, tag = 2)]
    pub suite: u32,
    /// The encapsulated key.
    #[prost(bytes = "bytes", tag = 3)]
    pub enc: Bytes,
    /// The padded and encrypted batch.
    #[prost(bytes = "bytes", tag = 4)]
    pub ciphertext: Bytes,
}

/// A batch under the keys of a session.
#[derive(Clone, PartialEq, Eq, ProtoMessage)]
pub struct Session {
    /// Names the session.
    #[prost(bytes = "bytes", tag = 1)]
    pub id: Bytes,
    /// Grows with every frame of the session.
    #[prost(uint64, tag = 2)]
    pub counter: u64,
    /// The encrypted batch.
    #[prost(bytes = "bytes", tag = 3)]
    pub ciphertext: Bytes,
}

/// What has become of the mail of one account.
#[derive(Clone, PartialEq, Eq, ProtoMessage)]
pub struct Ack {
    /// [`WIRE_VERSION`](super::WIRE_VERSION).
    #[prost(uint32, tag = 1)]
    pub version: u32,
    /// The network that it is for.
    #[prost(string, tag = 2)]
    pub network: String,
    /// Who sent the mail, 20 bytes.
    #[prost(bytes = "bytes", tag = 3)]
    pub account: Bytes,
    /// The streams on which something changed.
    #[prost(message, repeated, tag = 4)]
    pub streams: Vec<StreamAck>,
    /// In ms since 1970.
    #[prost(uint64, tag = 5)]
    pub created_at_ms: u64,
    /// The process of the sender whose frames `counters` names.
    #[prost(fixed64, tag = 6)]
    pub boot: u64,
    /// The latest frames of mail that came by gossip, in growing order: the ack is about what was in them, too.
    #[prost(uint64, repeated, tag = 7)]
    pub counters: Vec<u64>,
}

/// The outcome of a message whose number its recipient knows for another one.
pub const SEQUENCE_REUSED: &str = "SEQUENCE_REUSED";

/// What has become of one stream.
#[derive(Clone, PartialEq, Eq, ProtoMessage)]
pub struct StreamAck {
    /// The stream, 16 bytes.
    #[prost(bytes = "bytes", tag = 1)]
    pub stream: Bytes,
    /// Every message below is settled.
    #[prost(uint64, tag = 2)]
    pub cumulative: u64,
    /// Settled too, out of order: how far each lies above `cumulative`, in growing order.
    #[prost(uint64, repeated, tag = 3)]
    pub selective: Vec<u64>,
    /// Settled messages that were rejected; all others were accepted. With the code [`SEQUENCE_REUSED`], messages that were not taken
    /// because their number stands for another one, settled or not.
    #[prost(message, repeated, tag = 4)]
    pub rejections: Vec<Rejection>,
    /// Every message below is with the recipient's node, which waits for its agent to take it, or is settled: none of them
    /// need be sent again while that node lives.
    #[prost(uint64, tag = 5)]
    pub received: u64,
    /// Where the recipient's agent acknowledges mail itself: 1 more than the number of messages from `received` on for which it has
    /// room. 0: the node acknowledges mail, and sets no such limit.
    #[prost(uint64, tag = 6)]
    pub window: u64,
}

/// Why a message was refused.
#[derive(Clone, PartialEq, Eq, ProtoMessage)]
pub struct Rejection {
    /// The message.
    #[prost(uint64, tag = 1)]
    pub seq: u64,
    /// A stable code, as on the pipe.
    #[prost(string, tag = 2)]
    pub code: String,
}

/// The answer to a frame of direct mail.
#[derive(Clone, PartialEq, Eq, ProtoMessage)]
pub struct MailResponse {
    /// Which one; never absent.
    #[prost(oneof = "Response", tags = "1, 2, 3, 4")]
    pub response: Option<Response>,
}

/// The answers to a frame of direct mail.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum Response {
    /// It is in the inbox: an encoded [`SignedAck`](super::SignedAck).
    #[prost(bytes = "bytes", tag = "1")]
    Ack(Bytes),
    /// No room at the moment.
    #[prost(message, tag = "2")]
    Busy(Busy),
    /// It was sealed to a key that is gone.
    #[prost(message, tag = "3")]
    KemUnknown(KemUnknown),
    /// It is not accepted, and will not be.
    #[prost(message, tag = "4")]
    Refused(Refused),
}

/// No room at the moment; the sender keeps the mail.
#[derive(Clone, PartialEq, Eq, ProtoMessage)]
pub struct Busy {
    /// When to try again, in ms from now.
    #[prost(uint64, tag = 1)]
    pub retry_after_ms: u64,
}

/// The KEM key is gone; seal again to the one in the record.
#[derive(Clone, PartialEq, Eq, ProtoMessage)]
pub struct KemUnknown {
    /// The recipient's current record.
    #[prost(bytes = "bytes", tag = 1)]
    pub record: Bytes,
}

/// The frame is not accepted.
#[derive(Clone, PartialEq, Eq, ProtoMessage)]
pub struct Refused {
    /// A stable code, as on the pipe.
    #[prost(string, tag = 1)]
    pub code: String,
    /// For a person; may be empty.
    #[prost(string, tag = 2)]
    pub reason: String,
    /// What time it is for the one who answers, in ms since 1970, when the frame's time is what is wrong; 0: not said.
    #[prost(uint64, tag = 3)]
    pub time_ms: u64,
}

/// What two nodes tell each other when they connect.
#[derive(Clone, PartialEq, Eq, ProtoMessage)]
pub struct Hello {
    /// [`WIRE_VERSION`](super::WIRE_VERSION).
    #[prost(uint32, tag = 1)]
    pub version: u32,
    /// The network that it is for.
    #[prost(string, tag = 2)]
    pub network: String,
    /// The node's own record, encoded.
    #[prost(bytes = "bytes", tag = 3)]
    pub record: Bytes,
    /// Name and version of the program, for a person; may be empty.
    #[prost(string, tag = 4)]
    pub agent_version: String,
    /// What time it is for the node, in ms since 1970; 0: not said.
    #[prost(uint64, tag = 5)]
    pub time_ms: u64,
}
