//! The protobuf messages of `docs/wire-protocol.md`. [`super::limits`] has their limits.

use bytes::Bytes;
use prost::{Enumeration, Message as ProtoMessage, Oneof};

use super::call::Call;
use super::file_offer::FileOffer;

/// The signed part of a frame.
#[derive(Clone, PartialEq, ProtoMessage)]
pub struct FrameBody {
    /// [`WIRE_VERSION`](super::WIRE_VERSION).
    #[prost(uint32, tag = 1)]
    pub version: u32,
    /// The network of the frame.
    #[prost(string, tag = 2)]
    pub network: String,
    /// The topic or the node for which the frame is meant. Everywhere else the frame is rejected.
    #[prost(oneof = "Scope", tags = "3, 4")]
    pub scope: Option<Scope>,
    /// The sender's encoded binding.
    #[prost(bytes = "bytes", tag = 5)]
    pub binding: Bytes,
    /// Random number of the sender's process.
    #[prost(fixed64, tag = 6)]
    pub boot: u64,
    /// Number of the frame. It grows with every frame of the process.
    #[prost(uint64, tag = 7)]
    pub counter: u64,
    /// Time at which the sender made this attempt, in ms since 1970.
    #[prost(uint64, tag = 8)]
    pub created_at_ms: u64,
    /// Content of the frame.
    #[prost(oneof = "Payload", tags = "9, 10, 11")]
    pub payload: Option<Payload>,
}

/// The topic or the node for which a frame is meant.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum Scope {
    /// A topic, without the network's prefix.
    #[prost(string, tag = "3")]
    Topic(String),
    /// The Ed25519 key of a node, 32 bytes.
    #[prost(bytes = "bytes", tag = "4")]
    NodeKey(Bytes),
}

/// The content of a frame.
#[derive(Clone, PartialEq, Oneof)]
pub enum Payload {
    /// Not encrypted: every node can read it.
    #[prost(message, tag = "9")]
    Plain(Batch),
    /// Encrypted to a KEM key of the recipient.
    #[prost(message, tag = "10")]
    Sealed(Sealed),
    /// Encrypted with the keys of a session between two connected nodes.
    #[prost(message, tag = "11")]
    Session(Session),
}

/// Messages and acks of one node.
#[derive(Clone, PartialEq, ProtoMessage)]
pub struct Batch {
    /// The messages, in the order in which the sender sent them.
    #[prost(message, repeated, tag = 1)]
    pub messages: Vec<Message>,
    /// Encoded [`Ack`]s. The frame proves which node made them.
    #[prost(bytes = "bytes", repeated, tag = 2)]
    pub acks: Vec<Bytes>,
}

/// One message of an agent.
#[derive(Clone, PartialEq, ProtoMessage)]
pub struct Message {
    /// Id of the sender's stream, 16 random bytes. Together with `seq` it identifies the message.
    #[prost(bytes = "bytes", tag = 1)]
    pub stream: Bytes,
    /// Sequence number of the message in its stream.
    #[prost(uint64, tag = 2)]
    pub seq: u64,
    /// One more than the highest lower `seq` that is still to be delivered, or 0 when there is
    /// none. A receiver that waits for `next` delivers the message if `base_seq` ≤ `next` ≤ `seq`.
    #[prost(uint64, tag = 3)]
    pub base_seq: u64,
    /// Kind of the message, for the receiving agent. May be empty.
    #[prost(string, tag = 4)]
    pub kind: String,
    /// Priority of the message.
    #[prost(enumeration = "Priority", tag = 5)]
    pub priority: i32,
    /// Time at which the parent sent the message, in ms since 1970.
    #[prost(uint64, tag = 6)]
    pub sent_at_ms: u64,
    /// Remaining time to live at the time this frame was made, in ms.
    #[prost(uint64, tag = 7)]
    pub ttl_left_ms: u64,
    /// Id of the message that this message answers. May be empty.
    #[prost(string, tag = 8)]
    pub reply_to: String,
    /// Id of the conversation. May be empty.
    #[prost(string, tag = 9)]
    pub conversation: String,
    /// Ids of the messages that precede this message.
    #[prost(string, repeated, tag = 10)]
    pub parents: Vec<String>,
    /// Encoding of `data`.
    #[prost(enumeration = "Encoding", tag = 11)]
    pub encoding: i32,
    /// The payload.
    #[prost(bytes = "bytes", tag = 12)]
    pub data: Bytes,
    /// The stream on which the sender accepted the message, 16 bytes. It is set only when the
    /// recipient reported `SEQUENCE_REUSED` for the original number; otherwise it is empty.
    #[prost(bytes = "bytes", tag = 13)]
    pub accepted_stream: Bytes,
    /// Sequence number of the message in `accepted_stream`.
    #[prost(uint64, tag = 14)]
    pub accepted_seq: u64,
    /// Number of replies that lead to this message, itself included: one more than that of the
    /// message that it answers, as far as the sender knows. 0 if it answers none.
    #[prost(uint32, tag = 15)]
    pub hops: u32,
    /// The trace of the message: an encoded
    /// [`TraceContext`](crate::trace_context::TraceContext), or empty.
    // A vector is smaller than `Bytes`, and the reorder buffer holds many messages.
    #[prost(bytes = "vec", tag = 16)]
    pub trace: Vec<u8>,
    /// The step of a request that the message is. Absent in other messages.
    // In a box, because few messages have one, and the reorder buffer holds many messages.
    #[prost(message, optional, boxed, tag = 17)]
    pub call: Option<Box<Call>>,
    /// The file of the message. Absent in a message without one.
    // In a box for the same reason.
    #[prost(message, optional, boxed, tag = 18)]
    pub file: Option<Box<FileOffer>>,
}

/// Priority of a message. The default value comes first, because protobuf does not encode it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum Priority {
    /// Everything else.
    Medium = 0,
    /// Statistics and history.
    Low = 1,
    /// Votes, proposals and critical mail.
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

/// Encoding of the `data` of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum Encoding {
    /// One JSON value.
    Json = 0,
    /// Arbitrary bytes.
    Bytes = 1,
}

/// A batch encrypted to a KEM key.
#[derive(Clone, PartialEq, Eq, ProtoMessage)]
pub struct Sealed {
    /// Id of the recipient's key.
    #[prost(bytes = "bytes", tag = 1)]
    pub kem_id: Bytes,
    /// Number of the cipher suite.
    #[prost(uint32, tag = 2)]
    pub suite: u32,
    /// The encapsulated key.
    #[prost(bytes = "bytes", tag = 3)]
    pub enc: Bytes,
    /// The padded and encrypted batch.
    #[prost(bytes = "bytes", tag = 4)]
    pub ciphertext: Bytes,
}

/// A batch encrypted with the keys of a session.
#[derive(Clone, PartialEq, Eq, ProtoMessage)]
pub struct Session {
    /// Id of the session.
    #[prost(bytes = "bytes", tag = 1)]
    pub id: Bytes,
    /// Number of the frame. It grows with every frame of the session.
    #[prost(uint64, tag = 2)]
    pub counter: u64,
    /// The encrypted batch.
    #[prost(bytes = "bytes", tag = 3)]
    pub ciphertext: Bytes,
}

/// Acknowledgement of the messages of one account.
#[derive(Clone, PartialEq, Eq, ProtoMessage)]
pub struct Ack {
    /// [`WIRE_VERSION`](super::WIRE_VERSION).
    #[prost(uint32, tag = 1)]
    pub version: u32,
    /// The network of the ack.
    #[prost(string, tag = 2)]
    pub network: String,
    /// The account that sent the messages, 20 bytes.
    #[prost(bytes = "bytes", tag = 3)]
    pub account: Bytes,
    /// The streams whose state changed.
    #[prost(message, repeated, tag = 4)]
    pub streams: Vec<StreamAck>,
    /// Time at which the ack was made, in ms since 1970.
    #[prost(uint64, tag = 5)]
    pub created_at_ms: u64,
    /// The process of the sender to which `counters` belong.
    #[prost(fixed64, tag = 6)]
    pub boot: u64,
    /// Counters of the latest frames of mail received by gossip, in growing order. The ack covers
    /// the messages of these frames as well.
    #[prost(uint64, repeated, tag = 7)]
    pub counters: Vec<u64>,
}

/// Rejection code: the recipient already knows another message under this sequence number.
pub const SEQUENCE_REUSED: &str = "SEQUENCE_REUSED";

/// Acknowledgement of one stream.
#[derive(Clone, PartialEq, Eq, ProtoMessage)]
pub struct StreamAck {
    /// Id of the stream, 16 bytes.
    #[prost(bytes = "bytes", tag = 1)]
    pub stream: Bytes,
    /// Every message below this `seq` is settled: acknowledged or rejected.
    #[prost(uint64, tag = 2)]
    pub cumulative: u64,
    /// Messages above `cumulative` that are settled out of order (selective ack): the distance of
    /// each from `cumulative`, in growing order.
    #[prost(uint64, repeated, tag = 3)]
    pub selective: Vec<u64>,
    /// Settled messages that the recipient rejected; it accepted all others. With the code
    /// [`SEQUENCE_REUSED`] the list also names messages that are not settled.
    #[prost(message, repeated, tag = 4)]
    pub rejections: Vec<Rejection>,
    /// Every message below this `seq` is settled, or the recipient's node has it and waits for its
    /// agent to acknowledge it. The sender need not send these messages again while that node
    /// lives.
    #[prost(uint64, tag = 5)]
    pub received: u64,
    /// Flow control for agents that acknowledge messages themselves: 1 more than the number of
    /// messages from `received` on that the agent has capacity for. 0 means that the node
    /// acknowledges messages and sets no such limit.
    #[prost(uint64, tag = 6)]
    pub window: u64,
}

/// Rejection of one message.
#[derive(Clone, PartialEq, Eq, ProtoMessage)]
pub struct Rejection {
    /// Sequence number of the message.
    #[prost(uint64, tag = 1)]
    pub seq: u64,
    /// Stable error code, as on the pipe.
    #[prost(string, tag = 2)]
    pub code: String,
}

/// The response to a frame of direct mail.
#[derive(Clone, PartialEq, Eq, ProtoMessage)]
pub struct MailResponse {
    /// The response. It is always present.
    #[prost(oneof = "Response", tags = "1, 2, 3, 4")]
    pub response: Option<Response>,
}

/// The kinds of responses to a frame of direct mail.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum Response {
    /// The messages are in the inbox. Contains an encoded [`Ack`]. The connection proves which node
    /// made it.
    #[prost(bytes = "bytes", tag = "1")]
    Ack(Bytes),
    /// The recipient has no capacity at the moment.
    #[prost(message, tag = "2")]
    Busy(Busy),
    /// The frame was encrypted to a KEM key that the recipient no longer has.
    #[prost(message, tag = "3")]
    KemUnknown(KemUnknown),
    /// The recipient rejects the frame. Sending it again does not help.
    #[prost(message, tag = "4")]
    Refused(Refused),
}

/// The recipient has no capacity at the moment. The sender keeps the messages and tries again.
#[derive(Clone, PartialEq, Eq, ProtoMessage)]
pub struct Busy {
    /// Delay until the next attempt, in ms.
    #[prost(uint64, tag = 1)]
    pub retry_after_ms: u64,
}

/// The KEM key is gone. The sender encrypts again, to the key in the record.
#[derive(Clone, PartialEq, Eq, ProtoMessage)]
pub struct KemUnknown {
    /// The recipient's current record.
    #[prost(bytes = "bytes", tag = 1)]
    pub record: Bytes,
}

/// The recipient rejects the frame.
#[derive(Clone, PartialEq, Eq, ProtoMessage)]
pub struct Refused {
    /// Stable error code, as on the pipe.
    #[prost(string, tag = 1)]
    pub code: String,
    /// Reason for people. May be empty.
    #[prost(string, tag = 2)]
    pub reason: String,
    /// Wall clock of the responding node, in ms since 1970, if the frame's time is the reason. 0
    /// means not stated.
    #[prost(uint64, tag = 3)]
    pub time_ms: u64,
}

/// A question for agents. At most one of topics, capability and address selects.
#[derive(Clone, PartialEq, Eq, ProtoMessage)]
pub struct FindAgents {
    /// [`WIRE_VERSION`](super::WIRE_VERSION).
    #[prost(uint32, tag = 1)]
    pub version: u32,
    /// The network of the node.
    #[prost(string, tag = 2)]
    pub network: String,
    /// Hashes of topics, encoded. Selects the agents that subscribe to any of these topics.
    #[prost(bytes = "bytes", tag = 3)]
    pub topic_hashes: Bytes,
    /// Selects the agents with this capability.
    #[prost(string, tag = 4)]
    pub capability: String,
    /// The answer begins behind this address of an agent. Empty means with the first agent.
    #[prost(bytes = "bytes", tag = 5)]
    pub after: Bytes,
    /// Largest number of records in the answer.
    #[prost(uint32, tag = 6)]
    pub limit: u32,
    /// Selects the agent with this address.
    #[prost(bytes = "bytes", tag = 7)]
    pub address: Bytes,
    /// `true` if the peer may ask its own peers for this address.
    #[prost(bool, tag = 8)]
    pub forward: bool,
}

/// The answer to [`FindAgents`].
#[derive(Clone, PartialEq, Eq, ProtoMessage)]
pub struct FoundAgents {
    /// [`WIRE_VERSION`](super::WIRE_VERSION).
    #[prost(uint32, tag = 1)]
    pub version: u32,
    /// Signed records of selected agents, in the order of their addresses.
    #[prost(bytes = "bytes", repeated, tag = 2)]
    pub records: Vec<Bytes>,
    /// `true` if more selected agents follow.
    #[prost(bool, tag = 3)]
    pub more: bool,
    /// Number of all agents whose records the answering node has.
    #[prost(uint32, tag = 4)]
    pub agents: u32,
    /// Number of DHT servers that the answering node knows.
    #[prost(uint32, tag = 5)]
    pub servers: u32,
    /// `true` if the answering node learns of some agents only.
    #[prost(bool, tag = 6)]
    pub partial: bool,
}
