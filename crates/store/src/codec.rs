//! Encoding of highest seen values, access rules and checkpoints in the store.

use alloy_primitives::Address;
use libp2p_identity::PeerId;

use p2p_node_core::gate::access_list::{AccessRule, Subject};
use p2p_node_core::highest_seen::HighestSeen;
use p2p_node_core::mail::inbound::digests::{ContentDigest, Digests, REMEMBERED};
use p2p_node_core::mail::inbound::receive_window::{ACK_WINDOW, StreamCheckpoint};
use p2p_node_wire::message_id::StreamId;
use p2p_node_wire::record::RecordHash;

/// Length of a key, in bytes: an Ethereum address.
pub const KEY_BYTES: usize = 20;
/// Length of a row, in bytes: version, generation, seq, hash.
pub const ROW_BYTES: usize = 1 + 8 + 8 + 32;

/// Version of the encoding. Later versions may have another length.
const VERSION: u8 = 1;
/// Version of the encoding of checkpoints.
const TAKEN_VERSION: u8 = 2;

/// Errors of decoding a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// The key is not an address.
    #[error("the key of a row has {0} bytes instead of {KEY_BYTES}")]
    Key(usize),
    /// The version of the row is unknown.
    #[error("a row has the unknown version {0}; a newer p2p-node may have written it")]
    Version(u8),
    /// The length of the row is invalid.
    #[error("a row has an invalid length of {0} bytes")]
    Length(usize),
    /// The row is not a message.
    #[error("a stored message is malformed")]
    Message,
    /// The message does not match its checksum.
    #[error("a stored message does not match its checksum")]
    Checksum,
    /// The numbers of a checkpoint contradict each other.
    #[error("the numbers of a stored checkpoint contradict each other")]
    Checkpoint,
    /// A ban has an unknown form.
    #[error("invalid ban: unknown party, reason or form")]
    Ban,
    /// The subject or the type of an access rule is unknown.
    #[error("invalid access rule: unknown subject or rule type")]
    AccessRule,
}

/// Encodes a highest seen value: version (1 byte), generation and seq (big endian), and the hash of
/// the record. The key is the address.
pub fn encode(row: &HighestSeen) -> [u8; ROW_BYTES] {
    let mut bytes = [0; ROW_BYTES];
    bytes[0] = VERSION;
    bytes[1..9].copy_from_slice(&row.generation.to_be_bytes());
    bytes[9..17].copy_from_slice(&row.seq.to_be_bytes());
    bytes[17..].copy_from_slice(&row.hash);
    bytes
}

/// Decodes a row that [`encode`] wrote.
///
/// # Errors
/// Fails for any other bytes. Does not panic.
pub fn decode(key: &[u8], value: &[u8]) -> Result<HighestSeen, RowError> {
    let address = Address::try_from(key).map_err(|_| RowError::Key(key.len()))?;
    match value.first() {
        Some(&VERSION) => {}
        Some(&version) => return Err(RowError::Version(version)),
        None => return Err(RowError::Length(0)),
    }
    let bytes: &[u8; ROW_BYTES] = value.try_into().map_err(|_| RowError::Length(value.len()))?;
    let number = |at: usize| {
        let mut number = [0; 8];
        number.copy_from_slice(&bytes[at..at + 8]);
        u64::from_be_bytes(number)
    };
    let mut hash = [0; 32];
    hash.copy_from_slice(&bytes[17..]);
    Ok(HighestSeen { address, generation: number(1), seq: number(9), hash: RecordHash(hash) })
}

/// First byte of an access rule's key: `AGENT` before an address, `NODE` before a PeerId.
const AGENT: u8 = 1;
const NODE: u8 = 2;

/// Encodes the key of an access rule: its subject.
pub fn encode_subject(subject: &Subject) -> Vec<u8> {
    match subject {
        Subject::Agent(address) => [&[AGENT], address.as_slice()].concat(),
        Subject::Node(peer) => [&[NODE][..], &peer.to_bytes()].concat(),
    }
}

/// Encodes the value of an access rule.
pub fn encode_access_rule(rule: AccessRule) -> u8 {
    match rule {
        AccessRule::Blocked => 1,
        AccessRule::Allowed => 2,
    }
}

/// Decodes a row that [`encode_subject`] and [`encode_access_rule`] wrote.
///
/// # Errors
/// Fails for any other bytes. Does not panic.
pub fn decode_access_rule(key: &[u8], value: u8) -> Result<(Subject, AccessRule), RowError> {
    let subject = match key.split_first() {
        Some((&AGENT, address)) => Address::try_from(address).ok().map(Subject::Agent),
        Some((&NODE, peer)) => PeerId::from_bytes(peer).ok().map(Subject::Node),
        _ => None,
    };
    let rule = match value {
        1 => AccessRule::Blocked,
        2 => AccessRule::Allowed,
        _ => return Err(RowError::AccessRule),
    };
    subject.map(|subject| (subject, rule)).ok_or(RowError::AccessRule)
}

/// Length of a checkpoint's key, in bytes: the sender and the stream.
pub const CHECKPOINT_KEY_BYTES: usize = 20 + 16;

/// Count of numbers at the start of a checkpoint: the next number, the number delivered up to, the
/// number up to which no digests are stored, the time of the latest message, and the count of
/// digests.
const TAKEN_HEAD: usize = 5;

/// Maximum count of numbers in a checkpoint: the head, the digests with their numbers, and a full
/// window of out-of-order acks.
const MAX_TAKEN_NUMBERS: usize = TAKEN_HEAD + 2 * REMEMBERED + ACK_WINDOW;

/// Returns the key of a checkpoint.
pub fn checkpoint_key(sender: &Address, stream: &StreamId) -> [u8; CHECKPOINT_KEY_BYTES] {
    let mut key = [0; CHECKPOINT_KEY_BYTES];
    key[..20].copy_from_slice(sender.as_slice());
    key[20..].copy_from_slice(stream);
    key
}

/// Encodes a checkpoint: the version, then numbers of 8 bytes, big endian: the next number, the
/// number delivered up to, the number up to which no digests are stored, the time of the latest
/// message, the count of digests, each number with its digest, and the numbers acked out of order.
pub fn encode_checkpoint(row: &StreamCheckpoint) -> Vec<u8> {
    let digests = &row.digests;
    let head =
        [row.next, row.delivered_up_to, digests.forgotten(), digests.sent_at_ms(), digests.len() as u64];
    let digests = digests.latest().flat_map(|(seq, digest)| [seq, digest.0]);
    let numbers = head.into_iter().chain(digests).chain(row.out_of_order.iter().copied());
    let mut bytes = Vec::with_capacity(1 + 8 * (TAKEN_HEAD + 2 * row.digests.len() + row.out_of_order.len()));
    bytes.push(TAKEN_VERSION);
    numbers.for_each(|number| bytes.extend_from_slice(&number.to_be_bytes()));
    bytes
}

/// Decodes a row that [`checkpoint_key`] and [`encode_checkpoint`] wrote.
///
/// # Errors
/// Fails for any other bytes. Does not panic.
pub fn decode_checkpoint(
    key: &[u8; CHECKPOINT_KEY_BYTES],
    value: &[u8],
) -> Result<StreamCheckpoint, RowError> {
    let (mut sender, mut stream) = ([0; 20], [0; 16]);
    sender.copy_from_slice(&key[..20]);
    stream.copy_from_slice(&key[20..]);
    let (&version, rest) = value.split_first().ok_or(RowError::Length(0))?;
    if version != TAKEN_VERSION {
        return Err(RowError::Version(version));
    }
    let (numbers, left) = rest.as_chunks::<8>();
    if !left.is_empty() || numbers.len() > MAX_TAKEN_NUMBERS {
        return Err(RowError::Length(value.len()));
    }
    let numbers: Vec<u64> = numbers.iter().map(|bytes| u64::from_be_bytes(*bytes)).collect();
    let [next, delivered_up_to, forgotten, sent_at_ms, count, rest @ ..] = &numbers[..] else {
        return Err(RowError::Length(value.len()));
    };
    let count =
        usize::try_from(*count).ok().and_then(|count| count.checked_mul(2)).ok_or(RowError::Checkpoint)?;
    let (digests, out_of_order) = rest.split_at_checked(count).ok_or(RowError::Checkpoint)?;
    let (digests, _) = digests.as_chunks::<2>();
    let digests = digests.iter().map(|[seq, digest]| (*seq, ContentDigest(*digest))).collect();
    let digests = Digests::restored(digests, *forgotten, *sent_at_ms).ok_or(RowError::Checkpoint)?;
    let grows = out_of_order.is_sorted_by(|one, other| one < other);
    let is_window = out_of_order.len() <= ACK_WINDOW && out_of_order.first().is_none_or(|first| first > next);
    if next > delivered_up_to || !grows || !is_window {
        return Err(RowError::Checkpoint);
    }
    let (sender, out_of_order) = (sender.into(), out_of_order.to_vec());
    Ok(StreamCheckpoint {
        sender,
        stream: StreamId(stream),
        next: *next,
        delivered_up_to: *delivered_up_to,
        out_of_order,
        digests,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn highest_seen_row_round_trips(
            address: [u8; 20], generation: u64, seq: u64, hash: [u8; 32],
        ) {
            let row = HighestSeen { address: Address::from(address), generation, seq, hash: RecordHash(hash) };
            prop_assert_eq!(decode(&address, &encode(&row)), Ok(row));
        }

        #[test]
        fn arbitrary_bytes_are_a_canonical_row_or_rejected(
            key in proptest::collection::vec(any::<u8>(), 18..23),
            version in 0..3_u8,
            rest in proptest::collection::vec(any::<u8>(), 46..51),
        ) {
            let value = [&[version][..], &rest].concat();
            if let Ok(row) = decode(&key, &value) {
                prop_assert_eq!(encode(&row).to_vec(), value);
            } else {
                prop_assert!(key.len() != KEY_BYTES || version != VERSION || value.len() != ROW_BYTES);
            }
        }
    }

    proptest! {
        #[test]
        fn access_rule_round_trips_and_other_bytes_are_rejected(
            address: [u8; 20], blocked: bool, key in proptest::collection::vec(any::<u8>(), 0..48), value in 0..4_u8,
        ) {
            let rule = if blocked { AccessRule::Blocked } else { AccessRule::Allowed };
            for subject in [Subject::Agent(address.into()), Subject::Node(PeerId::random())] {
                let decoded = decode_access_rule(&encode_subject(&subject), encode_access_rule(rule));
                prop_assert_eq!(decoded, Ok((subject, rule)));
            }
            if let Ok((subject, rule)) = decode_access_rule(&key, value) {
                prop_assert_eq!((encode_subject(&subject), encode_access_rule(rule)), (key, value));
            }
        }
    }

    proptest! {
        #[test]
        fn checkpoint_round_trips_and_other_bytes_are_rejected(
            key: [u8; CHECKPOINT_KEY_BYTES], (next, ahead) in (0..1_u64 << 40, 0..9_u64),
            out_of_order in proptest::collection::btree_set(1..2000_u64, 0..20),
            digests in proptest::collection::btree_map(2..2000_u64, any::<u64>(), 0..REMEMBERED),
            (forgotten, sent_at_ms) in (0..2_u64, any::<u64>()),
            noise in proptest::collection::vec(any::<u8>(), 0..60), version in 0..3_u8,
        ) {
            let out_of_order = out_of_order.into_iter().map(|far| next + far).collect();
            let (sender, stream) = (Address::from_slice(&key[..20]), key[20..].try_into().unwrap());
            let digests = digests.into_iter().map(|(seq, digest)| (seq, ContentDigest(digest))).collect();
            let digests = Digests::restored(digests, forgotten, sent_at_ms).unwrap();
            let row = StreamCheckpoint { sender, stream, next, delivered_up_to: next + ahead, out_of_order, digests };
            prop_assert_eq!(checkpoint_key(&sender, &stream), key);
            prop_assert_eq!(decode_checkpoint(&key, &encode_checkpoint(&row)), Ok(row));
            let value = [&[version][..], &noise].concat();
            if let Ok(row) = decode_checkpoint(&key, &value) {
                prop_assert_eq!(encode_checkpoint(&row), value);
            }
        }
    }

    #[test]
    fn impossible_checkpoints_are_rejected() {
        let value = |numbers: &[u64]| {
            let numbers = numbers.iter().flat_map(|number| number.to_be_bytes());
            [TAKEN_VERSION].into_iter().chain(numbers).collect::<Vec<_>>()
        };
        let decode = |numbers: &[u64]| {
            decode_checkpoint(&[0; CHECKPOINT_KEY_BYTES], &value(numbers)).map(|row| row.out_of_order)
        };
        assert_eq!(decode(&[5, 9, 0, 7, 0, 6, 8]), Ok(vec![6, 8]));
        assert_eq!(decode(&[5, 9, 2, 7, 2, 3, 99, 4, 98, 6, 8]), Ok(vec![6, 8]));
        for wrong in [
            &[5, 4, 0, 0, 0][..],
            &[5, 9, 0, 0, 0, 5],
            &[5, 9, 0, 0, 0, 8, 8],
            &[5, 9, 0, 0, 0, 8, 6],
            &[5, 9, 0, 0, 1, 6],
            &[5, 9, 0, 0, u64::MAX, 6],
            &[5, 9, 0, 0, 2, 4, 99, 4, 98],
            &[5, 9, 4, 0, 1, 4, 99],
        ] {
            assert_eq!(decode(wrong), Err(RowError::Checkpoint), "{wrong:?}");
        }
        assert!(matches!(decode(&[5, 9, 0, 0]), Err(RowError::Length(33))));
        let digests = (1..=REMEMBERED as u64).flat_map(|seq| [seq, 99]);
        let out_of_order = 1001..=1000 + ACK_WINDOW as u64;
        let longest: Vec<u64> =
            [1000, 5000, 0, 0, REMEMBERED as u64].into_iter().chain(digests).chain(out_of_order).collect();
        assert_eq!(longest.len(), MAX_TAKEN_NUMBERS);
        assert!(decode(&longest).is_ok());
        let wide: Vec<u64> = [1, 5000, 0, 0, 0].into_iter().chain(2..=2 + ACK_WINDOW as u64).collect();
        assert_eq!(decode(&wide), Err(RowError::Checkpoint));
        assert!(matches!(decode(&[&longest[..], &[u64::MAX]].concat()), Err(RowError::Length(_))));
    }

    #[test]
    fn malformed_row_is_rejected_with_reason() {
        assert_eq!(decode(&[0; 19], &[1; ROW_BYTES]), Err(RowError::Key(19)));
        assert_eq!(decode(&[0; 20], &[2; ROW_BYTES]), Err(RowError::Version(2)));
        assert_eq!(decode(&[0; 20], &[1; ROW_BYTES + 1]), Err(RowError::Length(ROW_BYTES + 1)));
        assert_eq!(decode(&[0; 20], &[]), Err(RowError::Length(0)));
    }
}
