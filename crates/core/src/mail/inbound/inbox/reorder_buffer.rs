//! The messages of a stream that wait for earlier ones.

use std::collections::BTreeMap;

use bytes::Bytes;
use p2p_node_wire::envelope::{Call, Message};
use prost::Message as _;

use crate::budget::Budget;
use crate::mail::inbound::digests::digest;

/// Memory of a buffered message without its texts and payload, in bytes: the message and its place
/// in the buffer.
pub(crate) const HELD_OVERHEAD: usize = 2 * size_of::<Message>();

/// Returns the memory of a buffered message, in bytes.
pub(crate) fn buffered_size(message: &Message) -> usize {
    let texts = [&message.kind, &message.reply_to, &message.conversation];
    let texts = texts.into_iter().chain(&message.parents).map(|text| size_of::<String>() + text.len());
    let call = message.call.as_ref().map_or(0, |call| size_of::<Call>() + call.encoded_len());
    HELD_OVERHEAD
        + call
        + texts.sum::<usize>()
        + message.stream.len()
        + message.accepted_stream.len()
        + message.trace.len()
        + message.data.len()
}

/// Copies the message into memory of its own. A received message keeps its whole frame in memory.
fn into_owned(message: Message) -> Message {
    let own = Bytes::copy_from_slice;
    let (stream, accepted_stream) = (own(&message.stream), own(&message.accepted_stream));
    Message { stream, accepted_stream, data: own(&message.data), ..message }
}

/// The buffered messages of one stream.
#[derive(Debug, Default)]
pub(crate) struct ReorderBuffer {
    messages: BTreeMap<u64, Message>,
    budget: Budget,
}

impl ReorderBuffer {
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Returns the number and the memory of the messages.
    pub(crate) fn budget(&self) -> Budget {
        self.budget
    }

    /// Returns `true` if another message is buffered under the number of this one.
    pub(crate) fn contradicts(&self, message: &Message) -> bool {
        self.messages.get(&message.seq).is_some_and(|buffered| digest(buffered) != digest(message))
    }

    pub(crate) fn contains(&self, seq: u64) -> bool {
        self.messages.contains_key(&seq)
    }

    /// Buffers a message whose number is not buffered yet.
    pub(crate) fn insert(&mut self, message: Message) {
        self.budget.add(buffered_size(&message));
        self.messages.insert(message.seq, into_owned(message));
    }

    /// Removes and returns the first message, with its size, if no earlier message from `next` on
    /// can still arrive.
    pub(crate) fn pop_ready(&mut self, next: u64) -> Option<(Message, usize)> {
        let first = self.messages.first_entry()?;
        let is_ready = *first.key() < next || first.get().base_seq <= next;
        is_ready.then(|| first.remove()).map(|message| self.without(message))
    }

    /// Removes and returns the last message, with its size.
    pub(crate) fn pop_last(&mut self) -> Option<(Message, usize)> {
        let (_, message) = self.messages.pop_last()?;
        Some(self.without(message))
    }

    fn without(&mut self, message: Message) -> (Message, usize) {
        let size = buffered_size(&message);
        self.budget.remove(size);
        (message, size)
    }
}
