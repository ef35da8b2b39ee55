//! Messages as a node of a later version writes them: with unknown fields.

use p2p_node_wire::strict::{FIRST_EXTENSION, MAX_EXTENSIONS, Shape};
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};

/// Number of fields of a record, and of the messages inside.
pub const RECORD: Shape = Shape { fields: 13, messages: &[(8, &Shape::flat(4))] };
pub const BINDING: Shape = Shape::flat(8);

/// One extension: the distance of its field number from that of the previous one, and its content.
/// The length of the content decides the wire type.
pub type Extension = (u32, Vec<u8>);

/// Returns the message with these extensions at its end and at the end of every message in it.
pub fn extended(mut bytes: &[u8], shape: &Shape, extensions: &[Extension]) -> Vec<u8> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let whole = bytes;
        let (number, wire_type) = decode_key(&mut bytes).unwrap();
        let length = match wire_type {
            WireType::Varint => decode_varint(&mut bytes).map(|_| 0).unwrap(),
            WireType::SixtyFourBit => 8,
            WireType::LengthDelimited => decode_varint(&mut bytes).unwrap() as usize,
            other => panic!("{other:?}"),
        };
        let content = &bytes[..length];
        bytes = &bytes[length..];
        match shape.messages.iter().find(|(of, _)| *of == number) {
            Some((_, inner)) => {
                let inner = extended(content, inner, extensions);
                encode_key(number, WireType::LengthDelimited, &mut out);
                encode_varint(inner.len() as u64, &mut out);
                out.extend(inner);
            }
            None => out.extend_from_slice(&whole[..whole.len() - bytes.len()]),
        }
    }
    let mut number = FIRST_EXTENSION.max(shape.fields + 1);
    for (above, content) in extensions.iter().take(MAX_EXTENSIONS) {
        number += above;
        match content.len() {
            4 => encode_key(number, WireType::ThirtyTwoBit, &mut out),
            8 => encode_key(number, WireType::SixtyFourBit, &mut out),
            1 => {
                encode_key(number, WireType::Varint, &mut out);
                encode_varint(u64::from(content[0]) << 20, &mut out);
                continue;
            }
            length => {
                encode_key(number, WireType::LengthDelimited, &mut out);
                encode_varint(length as u64, &mut out);
            }
        }
        out.extend_from_slice(content);
    }
    out
}
