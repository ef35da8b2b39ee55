//! Ids of streams and of messages.

use std::fmt::Write;

use alloy_primitives::Address;
use p2p_node_protocol::Priority;

use crate::identity::hash_fields;
use crate::newtype::fixed_bytes;

/// Domain strings of the hashes.
const DATABASE_DOMAIN: &[u8] = b"p2p-node/database/v1";
const STREAM_DOMAIN: &[u8] = b"p2p-node/stream/v1";
const MESSAGE_DOMAIN: &[u8] = b"p2p-node/message/v1";

/// Most digits of a sequence number.
const MAX_SEQ_DIGITS: usize = u64::MAX.ilog10() as usize + 1;

fixed_bytes!(
    /// Id of a stream: 16 bytes, unique for each process, recipient and priority.
    StreamId,
    16
);

fixed_bytes!(
    /// The first part of the ids of a stream's messages.
    MessageIdPrefix,
    16
);

/// The owner of streams, and the random number that makes its stream ids unique.
#[derive(Clone, Copy, Debug)]
pub struct StreamNamespace {
    /// The agent's address.
    pub account: Address,
    /// Random for each process, so that no two processes share a stream.
    pub database: [u8; 16],
}

impl StreamNamespace {
    /// Returns a new namespace for the same process, after a copy of the process used its numbers.
    /// The core has no randomness, so the new random number is a hash of the old one and the clock
    /// (`now_ms`, ms since 1970), which distinguishes the process from its copies (ADR 0001).
    pub fn renewed(&self, now_ms: u64) -> StreamNamespace {
        let database = hash16(&[DATABASE_DOMAIN, &self.database, &now_ms.to_be_bytes()]);
        StreamNamespace { account: self.account, database }
    }

    /// Returns the stream id for `kind` (mail or topic), `recipient` and `priority`. `incarnation`
    /// distinguishes streams of one process.
    pub fn stream(&self, kind: &[u8], incarnation: u64, recipient: &[u8], priority: Priority) -> StreamId {
        StreamId(hash16(&[
            STREAM_DOMAIN,
            &self.database,
            kind,
            &incarnation.to_be_bytes(),
            recipient,
            &[priority as u8],
        ]))
    }
}

/// Returns the first part of the ids of a stream's messages. Another sender can see and reuse a
/// stream id, but its messages get other ids, because the sender's address is hashed too. Parents
/// use the ids to recognise duplicates.
pub fn message_name(sender: &Address, stream: &StreamId) -> MessageIdPrefix {
    MessageIdPrefix(hash16(&[MESSAGE_DOMAIN, sender.as_slice(), stream]))
}

/// Returns the message id that parents see.
pub fn message_id(name: &MessageIdPrefix, seq: u64) -> String {
    // The node formats an id for each message and again for its delivery, so it allocates once. `hex::encode`
    // would allocate a string of its own, and `format!` let the text grow.
    let mut digits = [0; 2 * size_of::<MessageIdPrefix>()];
    hex::encode_to_slice(name, &mut digits).expect("two digits for each byte");
    let digits = str::from_utf8(&digits).expect("digits are ASCII");
    let mut text = String::with_capacity(digits.len() + 1 + MAX_SEQ_DIGITS);
    write!(text, "{digits}-{seq}").expect("a text takes everything");
    text
}

/// Parses a message id.
pub fn parse_message_id(text: &str) -> Option<(MessageIdPrefix, u64)> {
    let (hex, seq) = text.split_once('-')?;
    let mut name = [0; 16];
    hex::decode_to_slice(hex, &mut name).ok()?;
    Some((MessageIdPrefix(name), seq.parse().ok()?))
}

fn hash16(fields: &[&[u8]]) -> [u8; 16] {
    let hash = hash_fields(fields);
    let mut short = [0; 16];
    short.copy_from_slice(&hash[..16]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: Address = Address::repeat_byte(1);
    const BOB: Address = Address::repeat_byte(2);

    #[test]
    fn stream_id_depends_on_database_recipient_priority_and_incarnation() {
        let (one, other) = (
            StreamNamespace { account: ALICE, database: [1; 16] },
            StreamNamespace { account: ALICE, database: [2; 16] },
        );
        let names = [
            one.stream(b"mail", 1, b"b", Priority::High),
            other.stream(b"mail", 1, b"b", Priority::High),
            one.stream(b"topic", 1, b"b", Priority::High),
            one.stream(b"mail", 2, b"b", Priority::High),
            one.stream(b"mail", 1, b"c", Priority::High),
            one.stream(b"mail", 1, b"b", Priority::Low),
        ];
        assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), names.len());
    }

    #[test]
    fn message_ids_depend_on_account() {
        assert_ne!(message_name(&ALICE, &StreamId([7; 16])), message_name(&BOB, &StreamId([7; 16])));
    }

    #[test]
    fn message_id_round_trips() {
        let name = message_name(&ALICE, &StreamId([7; 16]));
        for seq in [0, 1, u64::MAX] {
            assert_eq!(parse_message_id(&message_id(&name, seq)), Some((name, seq)));
        }
        for wrong in [
            "",
            "-",
            "7",
            "7-7",
            "g-1",
            "07070707070707070707070707070707-",
            "07070707070707070707070707070707-x",
        ] {
            assert_eq!(parse_message_id(wrong), None, "{wrong}");
        }
    }
}
