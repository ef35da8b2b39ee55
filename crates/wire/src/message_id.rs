//! The names of streams, and of the messages in them.

use alloy_primitives::Address;
use p2p_node_protocol::Priority;

use crate::identity::hash_fields;

/// Domains of the hashes.
const DATABASE_DOMAIN: &[u8] = b"p2p-node/database/v1";
const STREAM_DOMAIN: &[u8] = b"p2p-node/stream/v1";
const MESSAGE_DOMAIN: &[u8] = b"p2p-node/message/v1";

/// Names a stream: 16 bytes that no other process, recipient and priority shares.
pub type StreamId = [u8; 16];

/// What the ids of a stream's messages begin with.
pub type MessageIdPrefix = [u8; 16];

/// Whose streams they are, and in which database they are numbered.
#[derive(Clone, Copy, Debug)]
pub struct StreamNamespace {
    /// The agent.
    pub account: Address,
    /// Random, once for each process: no two processes have a stream in common, whatever they know of each other.
    pub database: [u8; 16],
}

impl StreamNamespace {
    /// The same process when it has to name its streams anew, for a copy of it has used their numbers. The core has no randomness: what
    /// it has alone is the origin, and what tells it from its copies is the clock, in ms since 1970.
    pub fn renewed(&self, now_ms: u64) -> StreamNamespace {
        let database = hash16(&[DATABASE_DOMAIN, &self.database, &now_ms.to_be_bytes()]);
        StreamNamespace { account: self.account, database }
    }

    /// The stream of `kind` (mail or topic) to `recipient` in `priority`; `incarnation` tells apart those of one process.
    pub fn stream(&self, kind: &[u8], incarnation: u64, recipient: &[u8], priority: Priority) -> StreamId {
        hash16(&[
            STREAM_DOMAIN,
            &self.database,
            kind,
            &incarnation.to_be_bytes(),
            recipient,
            &[priority as u8],
        ])
    }
}

/// What the ids of a stream's messages begin with. Others may see a stream's name and use it as well, but no other sender's messages
/// get the same ids: parents go by those to know what they have had.
pub fn message_name(sender: &Address, stream: &StreamId) -> MessageIdPrefix {
    hash16(&[MESSAGE_DOMAIN, sender.as_slice(), stream])
}

/// The id of a message, as parents see it.
pub fn message_id(name: &MessageIdPrefix, seq: u64) -> String {
    // One for each message and once more for its delivery: `hex::encode` would build a string of its own, digit by digit.
    let mut digits = [0; 2 * size_of::<MessageIdPrefix>()];
    hex::encode_to_slice(name, &mut digits).expect("two digits for each byte");
    let digits = str::from_utf8(&digits).expect("digits are ASCII");
    format!("{digits}-{seq}")
}

/// Reads the id of a message.
pub fn parse_message_id(text: &str) -> Option<(MessageIdPrefix, u64)> {
    let (hex, seq) = text.split_once('-')?;
    let mut name = [0; 16];
    hex::decode_to_slice(hex, &mut name).ok()?;
    Some((name, seq.parse().ok()?))
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
    fn no_two_databases_recipients_priorities_or_incarnations_share_a_stream() {
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
    fn whoever_uses_anothers_stream_does_not_get_its_ids() {
        assert_ne!(message_name(&ALICE, &[7; 16]), message_name(&BOB, &[7; 16]));
    }

    #[test]
    fn an_id_is_read_as_it_was_written() {
        let name = message_name(&ALICE, &[7; 16]);
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
