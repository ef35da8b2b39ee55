//! Size limits of all wire messages, and the checks of every field.

use super::call::Call;
use super::codec::{
    Ack, Batch, Encoding, FindAgents, FoundAgents, FrameBody, MailResponse, Message, Payload, Priority,
    Response, Scope, StreamAck,
};
use super::file_offer::FileOffer;
use crate::identity::binding::{MAX_BINDING_BYTES, is_network_name};
use crate::identity::keys::SIGNATURE_BYTES;
use crate::record::{MAX_RECORD_BYTES, MAX_RECORD_TAG_BYTES, TOPIC_HASH_BYTES, decode_topic_hashes};
use crate::strict::{DecodeError, Shape, Wire, ensure, for_each_field, known_version, listed};
use crate::trace_context::TraceContext;

/// Longest frame of direct mail, in bytes: a message of 1 MiB, which is the longest line on the
/// pipe, and 8 KiB for the fields around it.
pub const MAX_FRAME_BYTES: usize = (1 << 20) + (8 << 10);

/// Longest frame on a topic, in bytes: 64 KiB, because gossipsub sends a copy to each peer of the
/// mesh and keeps each for seconds. Its transmit size of 256 KiB leaves space for the envelope.
pub const MAX_GOSSIP_FRAME_BYTES: usize = 64 << 10;

/// Longest response to direct mail, in bytes. An ack is the longest response.
pub const MAX_MAIL_RESPONSE_BYTES: usize = 64 << 10;

/// Longest ack, in bytes. It leaves space for the response, or the frame on a topic, around it. 64
/// streams take 3 KiB, 1,024 out-of-order messages at most 10 KiB, and 1,024 rejections with codes of
/// 32 bytes 46 KiB.
pub const MAX_ACK_BYTES: usize = 60 << 10;

/// Longest step of admission, in bytes: a record, and 512 bytes for the other fields, which take at most
/// 470.
pub const MAX_ADMISSION_BYTES: usize = MAX_RECORD_BYTES + 512;

/// Longest `FindAgents`, in bytes: its longest fields take 850.
pub const MAX_FIND_BYTES: usize = 1024;

/// Longest `FoundAgents`, in bytes: 9 records of the largest size, or 35 of the usual size.
pub const MAX_FOUND_BYTES: usize = 64 << 10;

/// Largest number of topics in a `FindAgents`: our choice.
pub const MAX_FIND_TOPICS: usize = 64;

/// Largest number of records in a `FoundAgents`: our choice. A usual record has 1.8 KiB.
pub const MAX_FOUND_RECORDS: usize = 64;

/// Largest number of messages in a batch: a batch closes at 256 KiB, which is 8,192 messages of 32
/// bytes.
pub const MAX_BATCH_MESSAGES: usize = 8192;

/// Largest number of acks in a batch: our choice. Each ack covers up to 64 streams.
pub const MAX_BATCH_ACKS: usize = 64;

/// Largest number of streams in an ack: our choice. An ack is for one account, which has one stream
/// for each of three priorities, and new ones after a restart without a store.
pub const MAX_ACK_STREAMS: usize = 64;

/// Largest number of rejections in an ack: as many messages as the ack window of a stream.
pub const MAX_ACK_OUTCOMES: usize = 1024;

/// Largest number of out-of-order messages in an ack, all streams together: as many
/// messages as the ack window of a stream.
pub const MAX_ACK_BEYOND: usize = 1024;

/// Largest number of gossip frames that an ack covers: our choice, several times the number of
/// frames that a sender has in flight by gossip.
pub const MAX_ACK_COUNTERS: usize = 32;

/// Length of a stream id, in bytes: 16 random bytes do not collide by chance.
pub const STREAM_BYTES: usize = 16;

/// Longest `kind`, in bytes, as on the pipe.
pub const MAX_KIND_BYTES: usize = 64;

/// Longest message id, conversation id and topic, in bytes, as on the pipe.
pub const MAX_NAME_BYTES: usize = 128;

/// Largest number of parents of a message: our choice.
pub const MAX_PARENTS: usize = 16;

/// Longest error code, in bytes: twice the length of our longest code.
pub const MAX_CODE_BYTES: usize = 48;

/// Longest reason for people and longest `agent_version`, in bytes: our choice, one line of text.
pub const MAX_REASON_BYTES: usize = 256;

/// Longest KEM key id or session id, in bytes: a SHA-256.
pub const MAX_KEM_ID_BYTES: usize = 32;

/// Longest encapsulated key, in bytes. X-Wing's has 1,120.
pub const MAX_ENC_BYTES: usize = 2048;

impl Wire for FrameBody {
    const MAX_BYTES: usize = MAX_FRAME_BYTES - SIGNATURE_BYTES;
    const SHAPE: Shape =
        Shape { fields: 11, messages: &[(9, &Batch::SHAPE), (10, &Shape::flat(4)), (11, &Shape::flat(3))] };
    const HAS_VERSION: bool = true;

    fn prescan(bytes: &[u8]) -> Result<(), DecodeError> {
        // Protobuf would merge several batches into one before the check for canonical form could
        // reject them.
        let mut batches = 0;
        for_each_field(bytes, |number, content| match number {
            9 => {
                batches += 1;
                ensure(batches == 1, "plain")?;
                Batch::prescan(content)
            }
            _ => Ok(()),
        })
    }

    fn check(&self) -> Result<(), DecodeError> {
        known_version(self.version)?;
        ensure(is_network_name(&self.network), "network")?;
        match &self.scope {
            Some(Scope::Topic(topic)) => ensure(filled(topic.len(), MAX_NAME_BYTES), "topic")?,
            Some(Scope::NodeKey(key)) => ensure(key.len() == 32, "node_key")?,
            None => return Err(DecodeError::Field("scope")),
        }
        ensure(filled(self.binding.len(), MAX_BINDING_BYTES), "binding")?;
        match &self.payload {
            Some(Payload::Plain(batch)) => batch.check(),
            Some(Payload::Sealed(sealed)) => {
                ensure(filled(sealed.kem_id.len(), MAX_KEM_ID_BYTES), "kem_id")?;
                ensure(filled(sealed.enc.len(), MAX_ENC_BYTES), "enc")?;
                ensure(!sealed.ciphertext.is_empty(), "ciphertext")
            }
            Some(Payload::Session(session)) => {
                ensure(filled(session.id.len(), MAX_KEM_ID_BYTES), "id")?;
                ensure(!session.ciphertext.is_empty(), "ciphertext")
            }
            None => Err(DecodeError::Field("payload")),
        }
    }
}

impl Message {
    const SHAPE: Shape = Shape { fields: 18, messages: &[(17, &Call::SHAPE), (18, &FileOffer::SHAPE)] };
}

impl Wire for Batch {
    const MAX_BYTES: usize = MAX_FRAME_BYTES - SIGNATURE_BYTES;
    const SHAPE: Shape = Shape { fields: 2, messages: &[(1, &Message::SHAPE)] };

    fn prescan(bytes: &[u8]) -> Result<(), DecodeError> {
        let (mut messages, mut acks) = (0, 0);
        for_each_field(bytes, |number, content| match number {
            1 => {
                messages += 1;
                ensure(messages <= MAX_BATCH_MESSAGES, "messages")?;
                let mut parents = 0;
                for_each_field(content, |number, _| {
                    parents += usize::from(number == 10);
                    ensure(parents <= MAX_PARENTS, "parents")
                })
            }
            2 => {
                acks += 1;
                ensure(acks <= MAX_BATCH_ACKS, "acks")
            }
            _ => Ok(()),
        })
    }

    fn check(&self) -> Result<(), DecodeError> {
        ensure(self.messages.len() <= MAX_BATCH_MESSAGES, "messages")?;
        ensure(self.acks.len() <= MAX_BATCH_ACKS, "acks")?;
        ensure(self.acks.iter().all(|ack| filled(ack.len(), MAX_ACK_BYTES)), "acks")?;
        self.messages.iter().try_for_each(check_message)
    }
}

fn check_message(message: &Message) -> Result<(), DecodeError> {
    ensure(message.stream.len() == STREAM_BYTES, "stream")?;
    // `cumulative` names the next `seq`, so it could never include `u64::MAX`.
    ensure(message.seq < u64::MAX, "seq")?;
    ensure(message.base_seq <= message.seq, "base_seq")?;
    ensure(message.kind.len() <= MAX_KIND_BYTES, "kind")?;
    listed(Priority::is_valid(message.priority))?;
    ensure(message.reply_to.len() <= MAX_NAME_BYTES, "reply_to")?;
    ensure(message.conversation.len() <= MAX_NAME_BYTES, "conversation")?;
    ensure(message.parents.len() <= MAX_PARENTS, "parents")?;
    ensure(message.parents.iter().all(|parent| filled(parent.len(), MAX_NAME_BYTES)), "parents")?;
    ensure(matches!(message.accepted_stream.len(), 0 | STREAM_BYTES), "accepted_stream")?;
    ensure(message.accepted_seq == 0 || !message.accepted_stream.is_empty(), "accepted_seq")?;
    ensure(message.hops == 0 || !message.reply_to.is_empty(), "hops")?;
    ensure(message.trace.is_empty() || TraceContext::decode(&message.trace).is_some(), "trace")?;
    listed(Encoding::is_valid(message.encoding))?;
    // A step of a request has no file, so no request waits for a transfer.
    ensure(message.call.is_none() || message.file.is_none(), "file")?;
    message.file.as_ref().map_or(Ok(()), |file| file.check())?;
    message.call.as_ref().map_or(Ok(()), |call| call.check())
}

impl Wire for Ack {
    const MAX_BYTES: usize = MAX_ACK_BYTES;
    const SHAPE: Shape =
        Shape { fields: 7, messages: &[(4, &Shape { fields: 6, messages: &[(4, &Shape::flat(2))] })] };
    const HAS_VERSION: bool = true;

    fn check(&self) -> Result<(), DecodeError> {
        known_version(self.version)?;
        ensure(is_network_name(&self.network), "network")?;
        ensure(self.account.len() == 20, "account")?;
        ensure(self.streams.len() <= MAX_ACK_STREAMS, "streams")?;
        // Each stream appears once, because the reader searches a queue for each.
        ensure(self.streams.is_sorted_by(|one, other| one.stream < other.stream), "streams")?;
        let selective: usize = self.streams.iter().map(|stream| stream.selective.len()).sum();
        ensure(selective <= MAX_ACK_BEYOND, "selective")?;
        let rejections: usize = self.streams.iter().map(|stream| stream.rejections.len()).sum();
        ensure(rejections <= MAX_ACK_OUTCOMES, "rejections")?;
        ensure(self.counters.len() <= MAX_ACK_COUNTERS, "counters")?;
        ensure(grows(&self.counters), "counters")?;
        self.streams.iter().try_for_each(check_stream_ack)
    }
}

/// Returns `true` if the first number is above 0 and each number is above the one before it.
fn grows(numbers: &[u64]) -> bool {
    let mut before = 0;
    numbers.iter().all(|number| std::mem::replace(&mut before, *number) < *number)
}

fn check_stream_ack(stream: &StreamAck) -> Result<(), DecodeError> {
    ensure(stream.stream.len() == STREAM_BYTES, "stream")?;
    ensure(grows(&stream.selective), "selective")?;
    ensure(stream.rejections.iter().all(|outcome| is_code(&outcome.code)), "code")
}

impl Wire for MailResponse {
    const MAX_BYTES: usize = MAX_MAIL_RESPONSE_BYTES;
    const SHAPE: Shape =
        Shape { fields: 4, messages: &[(2, &Shape::flat(1)), (3, &Shape::flat(1)), (4, &Shape::flat(3))] };

    fn check(&self) -> Result<(), DecodeError> {
        match &self.response {
            Some(Response::Ack(ack)) => ensure(filled(ack.len(), MAX_ACK_BYTES), "ack"),
            Some(Response::Busy(_)) => Ok(()),
            Some(Response::KemUnknown(answer)) => {
                ensure(filled(answer.record.len(), MAX_RECORD_BYTES), "record")
            }
            Some(Response::Refused(refused)) => {
                ensure(is_code(&refused.code), "code")?;
                ensure(is_reason(&refused.reason), "reason")
            }
            None => Err(DecodeError::Field("response")),
        }
    }
}

impl Wire for FindAgents {
    const MAX_BYTES: usize = MAX_FIND_BYTES;
    const SHAPE: Shape = Shape::flat(8);
    const HAS_VERSION: bool = true;

    fn check(&self) -> Result<(), DecodeError> {
        known_version(self.version)?;
        ensure(is_network_name(&self.network), "network")?;
        ensure(self.topic_hashes.len() <= MAX_FIND_TOPICS * TOPIC_HASH_BYTES, "topic_hashes")?;
        ensure(decode_topic_hashes(&self.topic_hashes).is_some(), "topic_hashes")?;
        ensure(self.capability.len() <= MAX_RECORD_TAG_BYTES, "capability")?;
        ensure(self.topic_hashes.is_empty() || self.capability.is_empty(), "capability")?;
        ensure(matches!(self.after.len(), 0 | 20), "after")?;
        ensure((1..=MAX_FOUND_RECORDS as u32).contains(&self.limit), "limit")?;
        ensure(matches!(self.address.len(), 0 | 20), "address")?;
        if self.address.is_empty() {
            return ensure(!self.forward, "forward");
        }
        let is_alone = self.topic_hashes.is_empty() && self.capability.is_empty() && self.after.is_empty();
        ensure(is_alone && self.limit == 1, "address")
    }
}

impl Wire for FoundAgents {
    const MAX_BYTES: usize = MAX_FOUND_BYTES;
    const SHAPE: Shape = Shape::flat(6);
    const HAS_VERSION: bool = true;

    fn check(&self) -> Result<(), DecodeError> {
        known_version(self.version)?;
        ensure(self.records.len() <= MAX_FOUND_RECORDS, "records")?;
        ensure(self.records.iter().all(|record| filled(record.len(), MAX_RECORD_BYTES)), "records")
    }
}

/// Returns `true` if the length is neither 0 nor above `max`.
pub(super) fn filled(len: usize, max: usize) -> bool {
    (1..=max).contains(&len)
}

/// Returns `true` if the code is UPPER_SNAKE. Codes reach the parent's terminal and logs.
pub fn is_code(code: &str) -> bool {
    filled(code.len(), MAX_CODE_BYTES)
        && code.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_'))
}

pub(super) fn is_reason(reason: &str) -> bool {
    reason.len() <= MAX_REASON_BYTES && !reason.chars().any(char::is_control)
}

#[cfg(test)]
mod tests;
