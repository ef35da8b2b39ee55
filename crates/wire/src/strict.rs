//! Strict protobuf: the only way in which bytes from the network become values.
//!
//! The decoder accepts only the canonical encoding of a message: each field at most once, in the
//! order of the field numbers, without default values. Extensions, the fields of later versions,
//! may follow; the decoder skips them. So a value has exactly one encoding apart from extensions.
//! The error tells a later version, for which no peer is to blame, from a malformed message.

mod extensions;

use bytes::Bytes;
use prost::encoding::{WireType, decode_key, decode_varint};

pub use extensions::{FIRST_EXTENSION, MAX_EXTENSIONS, Shape};

/// The only version of frames, records, acks and steps of admission.
pub const WIRE_VERSION: u32 = 1;

/// The reasons why bytes are not a valid message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The input is longer than such a message may be.
    #[error("larger than {limit} bytes")]
    TooLarge {
        /// Highest accepted length, in bytes.
        limit: usize,
    },
    /// The bytes are not protobuf, or do not have the shape of this message.
    #[error("malformed")]
    Malformed,
    /// The message has repeated fields, too many extensions, or a non-canonical encoding.
    #[error("not in canonical form")]
    NotCanonical,
    /// The message has a version that this node does not support.
    #[error("of an unknown version")]
    Version,
    /// The message has a mandatory field or a value of a later version.
    #[error("of a kind that this version does not know")]
    Unknown,
    /// A field is missing or outside its limits. Contains the field's name in
    /// `docs/wire-protocol.md`.
    #[error("field `{0}` is missing or outside its limits")]
    Field(&'static str),
}

impl DecodeError {
    /// Returns `true` if every node would find the same error, including nodes of later versions.
    /// Only then is the forwarding peer to blame.
    pub fn is_provable(self) -> bool {
        !matches!(self, DecodeError::Version | DecodeError::Unknown)
    }
}

/// A message that can be decoded from the network, with all its limits.
pub trait Wire: prost::Message + Default {
    /// Longest accepted encoding, in bytes.
    const MAX_BYTES: usize;

    /// The fields of the message.
    const SHAPE: Shape;

    /// `true` if field 1 is a version, which defines the meaning of all other fields.
    const HAS_VERSION: bool = false;

    /// Checks the bytes before the decoder allocates memory for them. Needed for repeated fields
    /// whose empty elements would take far more memory than bytes on the wire.
    ///
    /// # Errors
    /// Fails when a repeated field has more elements than its limit.
    fn prescan(_bytes: &[u8]) -> Result<(), DecodeError> {
        Ok(())
    }

    /// Checks every field against its limits.
    ///
    /// # Errors
    /// Returns the name of the first field outside its limits.
    fn check(&self) -> Result<(), DecodeError>;
}

/// Decodes `bytes`, accepting only the canonical encoding of a message within its limits, and
/// extensions after it. Byte fields of the result share memory with `bytes`.
///
/// # Errors
/// See [`DecodeError`].
pub fn strict_decode<M: Wire>(bytes: &Bytes) -> Result<M, DecodeError> {
    if bytes.len() > M::MAX_BYTES {
        return Err(DecodeError::TooLarge { limit: M::MAX_BYTES });
    }
    if M::HAS_VERSION && later_version(bytes) {
        return Err(DecodeError::Version);
    }
    M::prescan(bytes)?;
    let message = M::decode(bytes.clone()).map_err(|_| DecodeError::Malformed)?;
    if message.encoded_len() != bytes.len() || message.encode_to_vec() != *bytes {
        // Most messages have no extensions, so only those with extensions pay for removing them.
        let known = extensions::without_extensions(bytes, &M::SHAPE)?;
        if message.encoded_len() != known.len() || message.encode_to_vec() != known {
            return Err(DecodeError::NotCanonical);
        }
    }
    message.check()?;
    Ok(message)
}

/// Returns `true` if a message begins with a version above ours.
fn later_version(mut bytes: &[u8]) -> bool {
    let is_version = decode_key(&mut bytes).is_ok_and(|key| key == (1, WireType::Varint));
    is_version && decode_varint(&mut bytes).is_ok_and(|version| version > WIRE_VERSION.into())
}

/// Visits the fields of one message without decoding them. `on` receives the number of each field,
/// and the content of fields that have a length.
pub(crate) fn for_each_field(
    mut bytes: &[u8],
    mut on: impl FnMut(u32, &[u8]) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    while !bytes.is_empty() {
        let field = next_field(&mut bytes)?;
        on(field.number, field.content)?;
    }
    Ok(())
}

/// A field of a message.
pub(crate) struct Field<'a> {
    pub(crate) number: u32,
    /// The value of a varint, otherwise 0.
    pub(crate) value: u64,
    /// The content of a field that has a length, otherwise empty.
    pub(crate) content: &'a [u8],
}

/// Reads the first field of `bytes` and moves `bytes` behind it.
pub(crate) fn next_field<'a>(bytes: &mut &'a [u8]) -> Result<Field<'a>, DecodeError> {
    let (number, wire_type) = decode_key(bytes).map_err(|_| DecodeError::Malformed)?;
    let mut value = 0;
    let (skip, length) = match wire_type {
        WireType::Varint => {
            value = decode_varint(bytes).map_err(|_| DecodeError::Malformed)?;
            (0, 0)
        }
        WireType::SixtyFourBit => (8, 0),
        WireType::ThirtyTwoBit => (4, 0),
        WireType::LengthDelimited => {
            let length = decode_varint(bytes).map_err(|_| DecodeError::Malformed)?;
            let length = usize::try_from(length).map_err(|_| DecodeError::Malformed)?;
            (length, length)
        }
        // proto3 has no groups.
        WireType::StartGroup | WireType::EndGroup => return Err(DecodeError::Malformed),
    };
    let (skipped, rest) = bytes.split_at_checked(skip).ok_or(DecodeError::Malformed)?;
    *bytes = rest;
    Ok(Field { number, value, content: &skipped[..length] })
}

/// Returns `Ok` if the condition holds, otherwise an error that names `field`.
pub(crate) fn ensure(holds: bool, field: &'static str) -> Result<(), DecodeError> {
    if holds { Ok(()) } else { Err(DecodeError::Field(field)) }
}

/// Returns `Ok` if the enum value is a known one.
pub(crate) fn listed(is_valid: bool) -> Result<(), DecodeError> {
    if is_valid { Ok(()) } else { Err(DecodeError::Unknown) }
}

/// Returns `Ok` for the supported version. The decoder has already reported later versions as such.
pub(crate) fn known_version(version: u32) -> Result<(), DecodeError> {
    ensure(version == WIRE_VERSION, "version")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, PartialEq, prost::Message)]
    struct Pair {
        #[prost(uint32, tag = 1)]
        number: u32,
        #[prost(string, tag = 2)]
        text: String,
    }

    impl Wire for Pair {
        const MAX_BYTES: usize = 16;
        const SHAPE: Shape = Shape::flat(2);

        fn check(&self) -> Result<(), DecodeError> {
            ensure(self.text.len() <= 4, "text")
        }
    }

    fn decode(bytes: &'static [u8]) -> Result<Pair, DecodeError> {
        strict_decode(&Bytes::from_static(bytes))
    }

    #[test]
    fn only_canonical_encoding_is_accepted() {
        let pair = Pair { number: 5, text: "ab".to_owned() };
        assert_eq!(decode(b"\x08\x05\x12\x02ab"), Ok(pair));
        assert_eq!(decode(b""), Ok(Pair::default()));
        for (bytes, why) in [
            (&b"\x12\x02ab\x08\x05"[..], "fields out of order"),
            (b"\x08\x05\x08\x05", "a field twice"),
            (b"\x08\x00", "a default spelled out"),
            (b"\x08\x85\x00", "an overlong varint"),
            (b"\x80\x01\x01\x08\x05", "an extension in front"),
            (b"\x08\x85\x00\x80\x01\x01", "an overlong varint before an extension"),
            (b"\x08\x00\x80\x01\x01", "a default spelled out before an extension"),
        ] {
            assert_eq!(decode(bytes), Err(DecodeError::NotCanonical), "{why}");
        }
        for (bytes, why) in [
            (&b"\x08"[..], "cut short"),
            (b"\x12\x05ab", "a length beyond the end"),
            (b"\x12\x02\xff\xff", "a string that is not UTF-8"),
            (b"\x0b\x0c", "a group without end"),
            (b"\x0a\x01a", "another wire type"),
        ] {
            assert_eq!(decode(bytes), Err(DecodeError::Malformed), "{why}");
        }
    }

    #[test]
    fn extensions_are_skipped_and_later_versions_recognized() {
        let pair = Pair { number: 5, text: "ab".to_owned() };
        assert_eq!(decode(b"\x08\x05\x12\x02ab\x80\x01\x01"), Ok(pair));
        assert_eq!(decode(b"\x80\x01\x01"), Ok(Pair::default()));
        assert_eq!(decode(b"\x08\x05\x18\x01"), Err(DecodeError::Unknown), "number 3 has to be understood");
        for (error, provable) in [
            (DecodeError::Version, false),
            (DecodeError::Unknown, false),
            (DecodeError::Malformed, true),
            (DecodeError::NotCanonical, true),
        ] {
            assert_eq!(error.is_provable(), provable, "{error}");
        }
        assert!(later_version(b"\x08\x02") && later_version(b"\x08\x02\xff\xff"));
        for bytes in [&b""[..], b"\x08\x01", b"\x08", b"\x0a\x02hi", b"\x10\x02"] {
            assert!(!later_version(bytes), "{bytes:02x?}");
        }
    }

    #[test]
    fn limits_of_fields_and_messages_apply() {
        assert_eq!(decode(b"\x12\x05abcde"), Err(DecodeError::Field("text")));
        assert_eq!(decode(b"\x12\x0fabcdefghijklmno"), Err(DecodeError::TooLarge { limit: 16 }));
    }

    #[test]
    fn every_wire_type_is_read_within_the_bytes() {
        let bytes = b"\x08\x96\x01\x11\0\0\0\0\0\0\0\0\x1a\x02hi\x25\0\0\0\0";
        let mut seen = Vec::new();
        for_each_field(bytes, |number, content| {
            seen.push((number, content.to_vec()));
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, [(1, vec![]), (2, vec![]), (3, b"hi".to_vec()), (4, vec![])]);
        for end in [1, 2, 4, 11, 13, 14, 15, 17, 20] {
            assert_eq!(
                for_each_field(&bytes[..end], |_, _| Ok(())),
                Err(DecodeError::Malformed),
                "cut at {end}"
            );
        }
        assert_eq!(
            for_each_field(b"\x1a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", |_, _| Ok(())),
            Err(DecodeError::Malformed)
        );
    }
}
