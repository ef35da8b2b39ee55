//! Messages while they wait for earlier ones.

use bytes::Bytes;

use crate::core::envelope::Message;

/// What a message that waits takes beside its texts and payload, in bytes: itself, and its place in the buffer.
const HELD_OVERHEAD: usize = 2 * size_of::<Message>();

/// Memory that a message takes while it waits, in bytes.
pub(super) fn held_size(message: &Message) -> usize {
    let texts = [&message.kind, &message.reply_to, &message.conversation];
    let texts = texts.into_iter().chain(&message.parents).map(|text| size_of::<String>() + text.len());
    HELD_OVERHEAD + texts.sum::<usize>() + message.stream.len() + message.data.len()
}

/// The message in memory of its own: as received it keeps the whole frame in which it came.
pub(super) fn detached(message: Message) -> Message {
    let own = Bytes::copy_from_slice;
    Message { stream: own(&message.stream), data: own(&message.data), ..message }
}
