//! Messages before they have a number in a stream.

use bytes::Bytes;
use p2p_node_protocol::{Priority, Route};
use p2p_node_wire::envelope::{self, Call, Encoding, FileOffer};
use p2p_node_wire::time::Instant;
use p2p_node_wire::trace_context::TRACE_CONTEXT_BYTES;
use prost::Message as _;

use crate::mail::outbound::stream::Name;
use crate::replies::reply_to::ReplyTo;
use crate::tracer::SendTrace;

/// Upper bound of the bytes of an encoded message that are not payload: two stream and sequence
/// fields, times and tags.
const MESSAGE_OVERHEAD: usize = 96;
/// Bytes of an encoded trace context: a tag of two bytes, the length and the content.
const TRACE_FIELD_BYTES: usize = 2 + 1 + TRACE_CONTEXT_BYTES;
/// Bytes of the tag and the length of an encoded call.
const CALL_FIELD_BYTES: usize = 2 + 2;
/// Bytes of the tag and the length of an encoded offer of a file.
const FILE_FIELD_BYTES: usize = 2 + 2;

/// The file of a message to an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingFile {
    /// Absolute path on this machine. It never leaves the machine.
    pub path: String,
    /// What the recipient learns.
    pub offer: FileOffer,
}

impl OutgoingFile {
    fn size(&self) -> usize {
        self.path.len() + self.offer.encoded_len() + FILE_FIELD_BYTES
    }
}

/// A message or broadcast of a client, before it has a number in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingMessage {
    /// The payload, in the form of the wire.
    pub data: Bytes,
    /// The encoding of the payload.
    pub encoding: Encoding,
    /// The kind of the message; may be empty.
    pub kind: String,
    /// The priority.
    pub priority: Priority,
    /// The time of the `send`, in ms since 1970.
    pub sent_at_ms: u64,
    /// The time of the `send`; `None` for a message of an earlier process.
    pub asked_at: Option<Instant>,
    /// The time at which the message expires.
    pub expires: Instant,
    /// Id of the message that this message answers; may be empty.
    pub reply_to: String,
    /// The conversation of the message; may be empty.
    pub conversation: String,
    /// Number of replies that lead to this message.
    pub hops: u32,
    /// The trace of the message, if it has one. It ends with the process: the store does not keep it.
    pub trace: Option<SendTrace>,
    /// The step of a request that the message is. It ends with the process, as the trace does.
    pub call: Option<Box<Call>>,
    /// The file of the message.
    pub file: Option<Box<OutgoingFile>>,
    /// The route that the client chose.
    pub route: Route,
    /// The `send`, to which the node answers and reports the delivery.
    pub command: ReplyTo,
}

impl OutgoingMessage {
    /// Returns the size of the message in memory and in a frame, in bytes, rounded up.
    pub fn size(&self) -> usize {
        let texts = self.kind.len() + self.reply_to.len() + self.conversation.len();
        let trace = self.trace.map_or(0, |_| TRACE_FIELD_BYTES);
        let call = self.call.as_ref().map_or(0, |call| call.encoded_len() + CALL_FIELD_BYTES);
        let file = self.file.as_ref().map_or(0, |file| file.size());
        self.data.len() + texts + trace + call + file + MESSAGE_OVERHEAD
    }

    /// Returns the message in the form of the wire. `accepted_as` is its first stream and number,
    /// if the node has renumbered the message.
    pub fn encode(
        &self,
        stream: &Bytes,
        seq: u64,
        base_seq: u64,
        accepted_as: Option<&Name>,
        now: Instant,
    ) -> envelope::Message {
        let (accepted_stream, accepted_seq) =
            accepted_as.map_or((Bytes::new(), 0), |(stream, seq)| (Bytes::copy_from_slice(stream), *seq));
        envelope::Message {
            stream: stream.clone(),
            seq,
            base_seq,
            kind: self.kind.clone(),
            priority: envelope::Priority::from(self.priority).into(),
            sent_at_ms: self.sent_at_ms,
            ttl_left_ms: self.expires.saturating_since(now).as_millis() as u64,
            reply_to: self.reply_to.clone(),
            conversation: self.conversation.clone(),
            parents: Vec::new(),
            encoding: self.encoding.into(),
            data: self.data.clone(),
            accepted_stream,
            accepted_seq,
            hops: self.hops,
            trace: self.trace.map_or_else(Vec::new, |trace| trace.context.encode().to_vec()),
            call: self.call.clone(),
            file: self.file.as_ref().map(|file| Box::new(file.offer.clone())),
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use bytes::Bytes;
    use p2p_node_protocol::Priority;

    use alloy_primitives::Address;
    use p2p_node_protocol::Route;

    use super::*;
    use p2p_node_wire::envelope::Encoding;
    use p2p_node_wire::message_id::StreamNamespace;

    /// Returns a namespace for tests.
    pub fn origin() -> StreamNamespace {
        StreamNamespace { account: Address::repeat_byte(1), database: [1; 16] }
    }

    /// Returns a message of this size, with default fields.
    pub fn draft(priority: Priority, size: usize, expires: Instant) -> OutgoingMessage {
        OutgoingMessage {
            data: Bytes::from(vec![b'1'; size]),
            encoding: Encoding::Json,
            kind: String::new(),
            priority,
            sent_at_ms: 0,
            asked_at: None,
            expires,
            reply_to: String::new(),
            conversation: String::new(),
            hops: 0,
            trace: None,
            call: None,
            file: None,
            route: Route::Auto,
            command: ReplyTo::PARENT,
        }
    }
}
