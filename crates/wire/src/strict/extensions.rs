//! Fields of later versions. A reader skips unknown fields numbered [`FIRST_EXTENSION`] or higher,
//! the extensions. An unknown field with a lower number changes the meaning of the message, so the
//! reader ignores the whole message.

use bytes::Buf;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::DecodeError;

/// Lowest number of an extension. Field numbers up to 15 take one byte, so they are reserved for
/// fields that every message has.
pub const FIRST_EXTENSION: u32 = 16;

/// Largest number of extension fields in one message; nested messages are counted separately. Our
/// choice: several later versions can add as many fields as this version has.
pub const MAX_EXTENSIONS: usize = 16;

/// Longest varint, in bytes: ten groups of seven bits hold a u64.
const MAX_VARINT_BYTES: usize = 10;

/// The fields of a message, as far as a reader needs them to tell known fields from those of later
/// versions.
#[derive(Debug)]
pub struct Shape {
    /// The known fields are numbered from 1 to this number. Those from [`FIRST_EXTENSION`] on are
    /// extensions that this version knows, and earlier versions skip.
    pub fields: u32,
    /// The fields that are messages. They may have extensions of their own.
    pub messages: &'static [(u32, &'static Shape)],
}

impl Shape {
    /// Returns the shape of a message without nested messages.
    pub const fn flat(fields: u32) -> Self {
        Shape { fields, messages: &[] }
    }

    fn message(&self, number: u32) -> Option<&'static Shape> {
        self.messages.iter().find(|(of, _)| *of == number).map(|(_, shape)| *shape)
    }
}

/// Returns the message without its extensions.
///
/// # Errors
/// Returns `Unknown` for an unknown field below [`FIRST_EXTENSION`], and `NotCanonical` if there
/// are too many extensions, or if they are out of order or not in their shortest form. The caller
/// checks whether the known fields are canonical.
pub(super) fn without_extensions(bytes: &[u8], shape: &Shape) -> Result<Vec<u8>, DecodeError> {
    let mut known = Vec::with_capacity(bytes.len());
    copy_known(bytes, shape, &mut known)?;
    Ok(known)
}

fn copy_known(mut bytes: &[u8], shape: &Shape, known: &mut Vec<u8>) -> Result<(), DecodeError> {
    let (mut highest, mut extensions) = (0, 0);
    while !bytes.is_empty() {
        let field = bytes;
        let (number, wire_type, content) = next_field(&mut bytes)?;
        let whole = &field[..field.len() - bytes.len()];
        if number < highest {
            return Err(DecodeError::NotCanonical);
        }
        highest = number;
        if number >= FIRST_EXTENSION && number > shape.fields {
            extensions += 1;
            if extensions > MAX_EXTENSIONS {
                return Err(DecodeError::NotCanonical);
            }
        } else if number > shape.fields {
            return Err(DecodeError::Unknown);
        } else if let (Some(inner), WireType::LengthDelimited) = (shape.message(number), wire_type) {
            let inner = without_extensions(content, inner)?;
            encode_key(number, WireType::LengthDelimited, known);
            encode_varint(inner.len() as u64, known);
            known.extend_from_slice(&inner);
        } else {
            known.extend_from_slice(whole);
        }
    }
    Ok(())
}

/// Takes one field from the input: its number, its type, and its content if the type has a length.
fn next_field<'a>(bytes: &mut &'a [u8]) -> Result<(u32, WireType, &'a [u8]), DecodeError> {
    let key = shortest_varint(bytes)?;
    // A field number has 29 bits (protobuf encoding specification), and 0 is not a field number.
    let number = u32::try_from(key >> 3).ok().filter(|number| (1..1 << 29).contains(number));
    let number = number.ok_or(DecodeError::Malformed)?;
    let wire_type = WireType::try_from(key & 7).map_err(|_| DecodeError::Malformed)?;
    let length = match wire_type {
        WireType::Varint => {
            shortest_varint(bytes)?;
            0
        }
        WireType::SixtyFourBit => 8,
        WireType::ThirtyTwoBit => 4,
        WireType::LengthDelimited => shortest_varint(bytes)?,
        WireType::StartGroup | WireType::EndGroup => return Err(DecodeError::Malformed),
    };
    let length = usize::try_from(length).map_err(|_| DecodeError::Malformed)?;
    let content = bytes.get(..length).ok_or(DecodeError::Malformed)?;
    bytes.advance(length);
    Ok((number, wire_type, content))
}

/// Takes a varint that has no shorter form.
fn shortest_varint(bytes: &mut &[u8]) -> Result<u64, DecodeError> {
    let end = bytes.iter().take(MAX_VARINT_BYTES).position(|byte| byte & 0x80 == 0);
    let (varint, rest) = bytes.split_at(end.ok_or(DecodeError::Malformed)? + 1);
    if varint.len() > 1 && varint.last() == Some(&0) {
        return Err(DecodeError::NotCanonical);
    }
    let value = prost::encoding::decode_varint(&mut &*varint).map_err(|_| DecodeError::Malformed)?;
    *bytes = rest;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Field 3 is a message of two fields.
    const OUTER: Shape = Shape { fields: 4, messages: &[(3, &Shape::flat(2))] };

    #[test]
    fn extensions_are_removed_at_every_depth_and_other_fields_kept() {
        let strip = |bytes: &[u8]| without_extensions(bytes, &OUTER);
        assert_eq!(strip(b"\x08\x05\x12\x02hi"), Ok(b"\x08\x05\x12\x02hi".to_vec()));
        // Extensions 16 and 200, in all four types, the first of them twice.
        let ends = b"\x08\x05\x80\x01\x07\x80\x01\x07\x8a\x01\x01x\xc1\x0c\0\0\0\0\0\0\0\0\xc5\x0c\0\0\0\0";
        assert_eq!(strip(ends), Ok(b"\x08\x05".to_vec()));
        let inside = b"\x1a\x05\x08\x01\x80\x01\x02\x20\x09";
        assert_eq!(strip(inside), Ok(b"\x1a\x02\x08\x01\x20\x09".to_vec()));
    }

    #[test]
    fn known_extension_is_kept_and_those_after_it_are_removed() {
        let shape = Shape::flat(16);
        let bytes = b"\x08\x05\x82\x01\x01x\x88\x01\x07";
        assert_eq!(without_extensions(bytes, &shape), Ok(b"\x08\x05\x82\x01\x01x".to_vec()));
        assert_eq!(
            without_extensions(bytes, &Shape::flat(15)),
            Ok(b"\x08\x05".to_vec()),
            "an earlier version"
        );
        let swapped = b"\x88\x01\x07\x82\x01\x01x";
        assert_eq!(without_extensions(swapped, &shape), Err(DecodeError::NotCanonical));
    }

    #[test]
    fn unknown_field_below_16_is_rejected() {
        for bytes in [&b"\x28\x01"[..], b"\x78\x01", b"\x1a\x02\x18\x01"] {
            assert_eq!(without_extensions(bytes, &OUTER), Err(DecodeError::Unknown), "{bytes:02x?}");
        }
    }

    #[test]
    fn extensions_must_be_sorted_canonical_and_bounded() {
        for (bytes, why) in [
            (&b"\x80\x01\x01\x08\x01"[..], "before a field that is known"),
            (b"\x88\x01\x01\x80\x01\x01", "out of order"),
            (b"\x80\x81\x00\x01", "a key with an empty byte"),
            (b"\x80\x01\x81\x00", "a value with an empty byte"),
            (b"\x8a\x01\x81\x00x", "a length with an empty byte"),
        ] {
            assert_eq!(without_extensions(bytes, &OUTER), Err(DecodeError::NotCanonical), "{why}");
        }
        assert_eq!(without_extensions(b"\x83\x01\x84\x01", &OUTER), Err(DecodeError::Malformed), "a group");
        assert_eq!(without_extensions(b"\x8a\x01\x02x", &OUTER), Err(DecodeError::Malformed), "cut short");
        let many = |number: usize| without_extensions(&b"\x80\x01\x01".repeat(number), &OUTER);
        assert_eq!(many(MAX_EXTENSIONS), Ok(Vec::new()));
        assert_eq!(many(MAX_EXTENSIONS + 1), Err(DecodeError::NotCanonical));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_result_has_no_extensions(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            if let Ok(known) = without_extensions(&bytes, &OUTER) {
                prop_assert!(known.len() <= bytes.len());
                prop_assert_eq!(without_extensions(&known, &OUTER), Ok(known.clone()));
            }
        }
    }
}
