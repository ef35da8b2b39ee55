//! Encoding of accepted messages in the store.

use alloy_primitives::Address;
use bytes::Bytes;
use p2p_node_protocol::{Priority, Route};
use sha2::{Digest, Sha256};

use super::codec::RowError;
use p2p_node_core::mail::outbound::outbox::PersistedMessage;
use p2p_node_core::mail::outbound::stream::Name;
use p2p_node_core::outgoing::{OutgoingFile, OutgoingMessage};
use p2p_node_core::replies::reply_to::ReplyTo;
use p2p_node_wire::envelope::{Encoding, FileOffer};
use p2p_node_wire::message_id::StreamId;
use p2p_node_wire::time::Instant;

/// Length of a key, in bytes: the stream on which the message was accepted and its sequence number,
/// big endian.
pub const KEY_BYTES: usize = 16 + 8;

/// Version of the encoding.
const VERSION: u8 = 4;
/// Length of the checksum of a row, in bytes.
const CHECKSUM_BYTES: usize = 8;

/// Returns the key of a message.
pub fn key(stream: &StreamId, seq: u64) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..16].copy_from_slice(stream);
    key[16..].copy_from_slice(&seq.to_be_bytes());
    key
}

/// Encodes the value of a message. All numbers are big endian. The fields are:
///
/// - version (1 byte);
/// - checksum of the key and the following fields (8 bytes, see [`checksum`]);
/// - position among all messages (8 bytes);
/// - a byte that is set if the message has another stream and number on the wire, then those
///   (16 and 8 bytes);
/// - recipient (20 bytes), priority, encoding and route (1 byte each);
/// - times of sending and expiry (ms since 1970);
/// - three texts, each after its length (1 byte);
/// - a byte that is set if the message has a file, then its hash and size (32 and 8 bytes), its name
///   after its length (1 byte), and its path after its length (2 bytes);
/// - the payload.
///
/// The command id is not stored, because it has a meaning only within one process.
pub fn encode(mail: &PersistedMessage) -> Vec<u8> {
    let PersistedMessage { recipient, position, sent_as, expires_at_ms, draft, .. } = mail;
    let mut bytes = Vec::with_capacity(draft.size());
    bytes.push(VERSION);
    bytes.extend_from_slice(&[0; CHECKSUM_BYTES]);
    bytes.extend_from_slice(&position.to_be_bytes());
    bytes.push(u8::from(sent_as.is_some()));
    if let Some((stream, seq)) = sent_as {
        bytes.extend_from_slice(&key(stream, *seq));
    }
    bytes.extend_from_slice(recipient.as_slice());
    bytes.push(index_of(&PRIORITIES, draft.priority));
    bytes.push(index_of(&ENCODINGS, draft.encoding));
    bytes.push(index_of(&ROUTES, draft.route));
    bytes.extend_from_slice(&draft.sent_at_ms.to_be_bytes());
    bytes.extend_from_slice(&expires_at_ms.to_be_bytes());
    for text in [&draft.kind, &draft.reply_to, &draft.conversation] {
        // The pipe takes none that is longer than 128 bytes.
        bytes.push(text.len() as u8);
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes.push(u8::from(draft.file.is_some()));
    if let Some(file) = &draft.file {
        bytes.extend_from_slice(&file.offer.hash);
        bytes.extend_from_slice(&file.offer.size.to_be_bytes());
        // The pipe takes no longer path than 4,096 bytes, and a part of it has at most 255.
        bytes.push(file.offer.name.len() as u8);
        bytes.extend_from_slice(file.offer.name.as_bytes());
        bytes.extend_from_slice(&(file.path.len() as u16).to_be_bytes());
        bytes.extend_from_slice(file.path.as_bytes());
    }
    bytes.extend_from_slice(&draft.data);
    let checksum = checksum(&key(&mail.stream, mail.seq), &bytes[1 + CHECKSUM_BYTES..]);
    bytes[1..=CHECKSUM_BYTES].copy_from_slice(&checksum);
    bytes
}

/// Priorities, in the order of their codes in a row.
const PRIORITIES: [Priority; 3] = [Priority::Low, Priority::Medium, Priority::High];
/// Encodings, in the order of their codes in a row.
const ENCODINGS: [Encoding; 2] = [Encoding::Json, Encoding::Bytes];
/// Routes, in the order of their codes in a row.
const ROUTES: [Route; 3] = [Route::Auto, Route::Direct, Route::Gossip];

/// Encodes a value by its index in a table, which has all values.
fn index_of<T: PartialEq>(table: &[T], value: T) -> u8 {
    table.iter().position(|one| *one == value).map_or(u8::MAX, |index| index as u8)
}

/// Returns the first bytes of the SHA-256 of a key and of what follows the checksum in the value.
/// The database has checksums of its pages, but not where a row is read from a database that is
/// damaged.
fn checksum(key: &[u8], rest: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash: [u8; 32] = Sha256::new().chain_update(key).chain_update(rest).finalize().into();
    let mut checksum = [0; CHECKSUM_BYTES];
    checksum.copy_from_slice(&hash[..CHECKSUM_BYTES]);
    checksum
}

/// Decodes a row that [`key`] and [`encode`] wrote.
///
/// # Errors
/// Fails for any other bytes. Does not panic.
pub fn decode(key: &[u8], value: &[u8]) -> Result<PersistedMessage, RowError> {
    let (stream, number) = key.split_first_chunk::<16>().ok_or(RowError::Message)?;
    let seq = u64::from_be_bytes(number.try_into().map_err(|_| RowError::Message)?);
    let mut rest = value;
    match take::<1>(&mut rest)? {
        [VERSION] => {}
        [version] => return Err(RowError::Version(version)),
    }
    if take::<CHECKSUM_BYTES>(&mut rest)? != checksum(key, rest) {
        return Err(RowError::Checksum);
    }
    let position = u64::from_be_bytes(take(&mut rest)?);
    let sent_as: Option<Name> = match take(&mut rest)? {
        [0] => None,
        [1] => Some((StreamId(take(&mut rest)?), u64::from_be_bytes(take(&mut rest)?))),
        [_] => return Err(RowError::Message),
    };
    let recipient = Address::from(take::<20>(&mut rest)?);
    let priority = one_of(&PRIORITIES, &mut rest)?;
    let encoding = one_of(&ENCODINGS, &mut rest)?;
    let route = one_of(&ROUTES, &mut rest)?;
    let sent_at_ms = u64::from_be_bytes(take(&mut rest)?);
    let expires_at_ms = u64::from_be_bytes(take(&mut rest)?);
    let mut text = || short_text(&mut rest);
    let (kind, reply_to, conversation) = (text()?, text()?, text()?);
    let file = match take(&mut rest)? {
        [0] => None,
        [1] => Some(Box::new(decode_file(&mut rest)?)),
        [_] => return Err(RowError::Message),
    };
    let draft = OutgoingMessage {
        data: Bytes::copy_from_slice(rest),
        encoding,
        kind,
        priority,
        sent_at_ms,
        asked_at: None,
        expires: Instant::ZERO,
        reply_to,
        conversation,
        // Where the exchange goes on, it counts anew.
        hops: 0,
        trace: None,
        call: None,
        file,
        route,
        command: ReplyTo::PARENT,
    };
    Ok(PersistedMessage {
        recipient,
        stream: StreamId(*stream),
        seq,
        sent_as,
        position,
        expires_at_ms,
        draft,
    })
}

/// Decodes the file of a message.
fn decode_file(rest: &mut &[u8]) -> Result<OutgoingFile, RowError> {
    let hash = Bytes::copy_from_slice(&take::<32>(rest)?);
    let size = u64::from_be_bytes(take(rest)?);
    let name = short_text(rest)?;
    let length = u16::from_be_bytes(take(rest)?);
    let path = text(rest, length.into())?;
    Ok(OutgoingFile { path, offer: FileOffer { hash, size, name } })
}

/// Decodes a text after its length in one byte.
fn short_text(rest: &mut &[u8]) -> Result<String, RowError> {
    let [length] = take(rest)?;
    text(rest, length.into())
}

fn text(rest: &mut &[u8], length: usize) -> Result<String, RowError> {
    let (text, after) = rest.split_at_checked(length).ok_or(RowError::Message)?;
    *rest = after;
    String::from_utf8(text.to_vec()).map_err(|_| RowError::Message)
}

/// Decodes the index of a value in a table.
fn one_of<T: Copy>(table: &[T], rest: &mut &[u8]) -> Result<T, RowError> {
    let [index] = take(rest)?;
    table.get(usize::from(index)).copied().ok_or(RowError::Message)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], RowError> {
    let (taken, after) = rest.split_first_chunk().ok_or(RowError::Message)?;
    *rest = after;
    Ok(*taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn message_row_round_trips_and_altered_bytes_are_rejected(
            stream: [u8; 16], seq: u64, position: u64, sent_as: Option<([u8; 16], u64)>, recipient: [u8; 20], sent_at_ms: u64, expires_at_ms: u64,
            kinds in (0..3_u8, 0..2_u8, 0..3_u8), texts: [bool; 4], data in prop::collection::vec(any::<u8>(), 0..100),
            cut in 0..300_usize, flip in any::<prop::sample::Index>(),
        ) {
            let (stream, sent_as) = (StreamId(stream), sent_as.map(|(stream, seq)| (StreamId(stream), seq)));
            let text = |there: bool| if there { "t\u{e9}xt".repeat(20) } else { String::new() };
            let name = sent_as.map_or(vec![0], |(stream, seq)| [&[1][..], &super::key(&stream, seq)].concat());
            let head = [&position.to_be_bytes()[..], &name, &recipient, &[kinds.0, kinds.1, kinds.2], &sent_at_ms.to_be_bytes(), &expires_at_ms.to_be_bytes()].concat();
            let file = match texts[3] {
                false => vec![0],
                true => [&[1][..], &[7; 32], &position.to_be_bytes(), b"\x01n\x00\x02/p"].concat(),
            };
            let texts: Vec<u8> = texts[..3].iter().flat_map(|there| {
                let text = text(*there);
                [vec![text.len() as u8], text.into_bytes()].concat()
            }).collect();
            let rest = [head, texts, file, data].concat();
            let key = key(&stream, seq);
            let mut value = [&[VERSION][..], &checksum(&key, &rest), &rest].concat();
            let mail = decode(&key, &value).unwrap();
            prop_assert_eq!((mail.stream, mail.seq, encode(&mail)), (stream, seq, value.clone()));
            prop_assert_eq!((mail.position, mail.sent_as), (position, sent_as));
            prop_assert!(decode(&key[1..], &value).is_err());
            let mut other = key;
            other[usize::from(position as u8) % KEY_BYTES] ^= 1;
            prop_assert_eq!(decode(&other, &value), Err(RowError::Checksum));
            value.truncate(cut);
            if !value.is_empty() {
                let at = flip.index(value.len());
                value[at] ^= 0x41;
            }
            if let Ok(mail) = decode(&key, &value) {
                prop_assert_eq!(encode(&mail), value);
            }
        }
    }
}
