//! Mail before it has a place in a stream.

use bytes::Bytes;
use p2p_node_protocol::{Priority, Route};
use p2p_node_wire::envelope::{self, Encoding};
use p2p_node_wire::time::Instant;

use crate::mail::outbound::stream::Name;
use crate::replies::reply_to::ReplyTo;

/// Bytes of an encoded message that are not payload, at most: two stream and sequence fields, times and tags.
const MESSAGE_OVERHEAD: usize = 96;

/// Mail from the parent, before it has a place in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingMessage {
    /// The payload as it travels.
    pub data: Bytes,
    /// How the payload is to be read.
    pub encoding: Encoding,
    /// What the message is; may be empty.
    pub kind: String,
    /// How urgent it is.
    pub priority: Priority,
    /// When it was accepted, in ms since 1970.
    pub sent_at_ms: u64,
    /// When to give it up.
    pub expires: Instant,
    /// The message that it answers; may be empty.
    pub reply_to: String,
    /// The conversation that it belongs to; may be empty.
    pub conversation: String,
    /// Which way it is to go.
    pub route: Route,
    /// The `send`, to which the node answers and reports the delivery.
    pub command: ReplyTo,
}

impl OutgoingMessage {
    /// Room that it takes in memory and in a frame, in bytes, rounded up.
    pub fn size(&self) -> usize {
        self.data.len() + self.kind.len() + self.reply_to.len() + self.conversation.len() + MESSAGE_OVERHEAD
    }

    /// As it travels; `accepted_as` is the name that it had first, if it got another.
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

    /// A namespace for tests.
    pub fn origin() -> StreamNamespace {
        StreamNamespace { account: Address::repeat_byte(1), database: [1; 16] }
    }

    /// A message of this many bytes, with default fields.
    pub fn draft(priority: Priority, size: usize, expires: Instant) -> OutgoingMessage {
        OutgoingMessage {
            data: Bytes::from(vec![b'1'; size]),
            encoding: Encoding::Json,
            kind: String::new(),
            priority,
            sent_at_ms: 0,
            expires,
            reply_to: String::new(),
            conversation: String::new(),
            route: Route::Auto,
            command: ReplyTo::PARENT,
        }
    }
}
