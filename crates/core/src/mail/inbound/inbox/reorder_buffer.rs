//! Messages while they wait for earlier ones.

use std::collections::BTreeMap;

use bytes::Bytes;
use p2p_node_wire::envelope::Message;

use crate::mail::inbound::digests::digest;

/// What a message that waits takes beside its texts and payload, in bytes: itself, and its place in the buffer.
pub(crate) const HELD_OVERHEAD: usize = 2 * size_of::<Message>();

/// Memory that a message takes while it waits, in bytes.
pub(crate) fn held_size(message: &Message) -> usize {
    let texts = [&message.kind, &message.reply_to, &message.conversation];
    let texts = texts.into_iter().chain(&message.parents).map(|text| size_of::<String>() + text.len());
    HELD_OVERHEAD
        + texts.sum::<usize>()
        + message.stream.len()
        + message.accepted_stream.len()
        + message.data.len()
}

/// The message in memory of its own: as received it keeps the whole frame in which it came.
fn into_owned(message: Message) -> Message {
    let own = Bytes::copy_from_slice;
    let (stream, accepted_stream) = (own(&message.stream), own(&message.accepted_stream));
    Message { stream, accepted_stream, data: own(&message.data), ..message }
}

/// The messages of one stream that wait.
#[derive(Debug, Default)]
pub(crate) struct ReorderBuffer {
    messages: BTreeMap<u64, Message>,
    bytes: usize,
}

impl ReorderBuffer {
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether another message waits under the number of this one.
    pub(crate) fn contradicts(&self, message: &Message) -> bool {
        self.messages.get(&message.seq).is_some_and(|held| digest(held) != digest(message))
    }

    pub(crate) fn contains(&self, seq: u64) -> bool {
        self.messages.contains_key(&seq)
    }

    /// Lets a message wait that does not yet.
    pub(crate) fn insert(&mut self, message: Message) {
        self.bytes += held_size(&message);
        self.messages.insert(message.seq, into_owned(message));
    }

    /// Takes out the first message, with its size, if nothing from `next` on that may still come lies before it.
    pub(crate) fn pop_ready(&mut self, next: u64) -> Option<(Message, usize)> {
        let first = self.messages.first_entry()?;
        let is_ready = *first.key() < next || first.get().base_seq <= next;
        is_ready.then(|| first.remove()).map(|message| self.without(message))
    }

    /// Takes out the last message, with its size.
    pub(crate) fn pop_last(&mut self) -> Option<(Message, usize)> {
        let (_, message) = self.messages.pop_last()?;
        Some(self.without(message))
    }

    fn without(&mut self, message: Message) -> (Message, usize) {
        let size = held_size(&message);
        self.bytes -= size;
        (message, size)
    }
}
