//! The line codec: cuts bytes into lines, decodes [`Request`](crate::Request)s and encodes
//! [`Event`](crate::Event)s, and the reverse for a parent. Does no I/O.

mod decode;
mod encode;
mod find_id;
mod framer;
mod scan;
mod tagged;

pub use decode::{LineError, check_data, decode_event, decode_request};
pub use encode::{encode_event, encode_request};
pub use framer::{Framed, Framer, HEAD_BYTES};

/// Deepest nesting of arrays and objects in a line, with the object of the line itself. Agents need
/// less, and JSON readers of other languages accept far more.
pub use crate::MAX_DEPTH;

/// Longest message of a [`LineError`], in characters. The message quotes the wrong value, which may
/// be as long as a line; four lines of a terminal are enough to recognize the value.
pub const MAX_ERROR_CHARS: usize = 320;
