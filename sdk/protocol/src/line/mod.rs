//! Bytes to lines, lines to [`Request`](crate::Request)s, [`Event`](crate::Event)s to lines.
//! Nothing here waits or reads.

mod decode;
mod encode;
mod find_id;
mod framer;
mod scan;

pub use decode::{LineError, check_data, decode_event, decode_request};
pub use encode::{encode_event, encode_request};
pub use framer::{Framed, Framer, HEAD_BYTES};

/// Deepest nesting of arrays and objects that is read, the line's own object included. More than
/// agents need, and far from the depth at which readers of JSON in other languages give up.
pub use crate::MAX_DEPTH;

/// Longest message of a [`LineError`], in characters. A wrong value is quoted in the message, and a
/// value may be as long as a line; four lines of a terminal are enough to recognise it.
pub const MAX_ERROR_CHARS: usize = 320;
