//! Trace context: which trace a message is part of, and which span of it caused the message. The
//! pipe has it as a `traceparent` of W3C Trace Context, the wire as bytes.

use std::fmt;

/// Length of a trace context on the wire, in bytes: the id of the trace (16), that of the span (8) and
/// the flags (1), the sizes of W3C Trace Context.
pub const TRACE_CONTEXT_BYTES: usize = 16 + 8 + 1;

/// Length of a `traceparent`, in bytes: W3C Trace Context, version 00.
pub const TRACEPARENT_BYTES: usize = 55;

/// The flag of a trace whose spans are recorded.
const SAMPLED: u8 = 1;

/// The trace of a message, and the span that caused it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// Id of the trace, not zero.
    pub trace_id: [u8; 16],
    /// Id of the span, not zero.
    pub span_id: [u8; 8],
    /// The flags of W3C Trace Context.
    pub flags: u8,
}

impl TraceContext {
    /// Parses a `traceparent` of version 00: lower-case hexadecimal, ids that are not zero. Returns
    /// `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let is_written_right = |(at, byte): (usize, u8)| match at {
            2 | 35 | 52 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        };
        if text.len() != TRACEPARENT_BYTES || !text.bytes().enumerate().all(is_written_right) {
            return None;
        }
        let mut bytes = [0; TRACE_CONTEXT_BYTES];
        let [trace, span, flags] = [3..35, 36..52, 53..55].map(|field| &text[field]);
        hex::decode_to_slice(trace, &mut bytes[..16]).ok()?;
        hex::decode_to_slice(span, &mut bytes[16..24]).ok()?;
        hex::decode_to_slice(flags, &mut bytes[24..]).ok()?;
        Self::decode(&bytes).filter(|_| text.starts_with("00-"))
    }

    /// Decodes the form of the wire. Returns `None` unless the length is right and no id is zero.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (trace_id, rest) = bytes.split_first_chunk::<16>()?;
        let (span_id, rest) = rest.split_first_chunk::<8>()?;
        let [flags] = *rest else { return None };
        let is_valid = *trace_id != [0; 16] && *span_id != [0; 8];
        is_valid.then_some(TraceContext { trace_id: *trace_id, span_id: *span_id, flags })
    }

    /// Returns the form of the wire.
    pub fn encode(&self) -> [u8; TRACE_CONTEXT_BYTES] {
        let mut bytes = [self.flags; TRACE_CONTEXT_BYTES];
        bytes[..16].copy_from_slice(&self.trace_id);
        bytes[16..24].copy_from_slice(&self.span_id);
        bytes
    }

    /// Returns `true` if the spans of the trace are recorded.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Returns the context of the first span of a recorded trace.
    pub fn new_trace(trace_id: [u8; 16], span_id: [u8; 8]) -> Self {
        TraceContext { trace_id, span_id, flags: SAMPLED }
    }
}

/// Writes the `traceparent`.
impl fmt::Display for TraceContext {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let (fields, flags) = text.split_at_mut(53);
        let (trace, span) = fields.split_at_mut(36);
        // The lengths are right, so nothing can fail.
        let encoded = hex::encode_to_slice(self.trace_id, &mut trace[3..35])
            .and_then(|()| hex::encode_to_slice(self.span_id, &mut span[..16]))
            .and_then(|()| hex::encode_to_slice([self.flags], flags));
        encoded.map_err(|_| fmt::Error)?;
        formatter.write_str(str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of W3C Trace Context.
    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn traceparent_is_the_same_after_both_encodings() {
        let context = TraceContext::parse(EXAMPLE).unwrap();
        assert_eq!((context.flags, context.is_sampled()), (1, true));
        assert_eq!(context.to_string(), EXAMPLE);
        assert_eq!(TraceContext::decode(&context.encode()), Some(context));
        let other = TraceContext { flags: 0xa0, ..context };
        assert_eq!(other.to_string(), EXAMPLE.replace("-01", "-a0"));
        assert_eq!(TraceContext::parse(&other.to_string()), Some(other));
    }

    #[test]
    fn invalid_traceparent_is_refused() {
        let zeros = "0".repeat(32);
        for bad in [
            String::new(),
            EXAMPLE.to_uppercase(),
            EXAMPLE.replacen("00", "01", 1),
            EXAMPLE.replacen("00", "ff", 1),
            EXAMPLE.replace("0af7651916cd43dd8448eb211c80319c", &zeros),
            EXAMPLE.replace("b7ad6b7169203331", &zeros[..16]),
            EXAMPLE.replace('-', "_"),
            EXAMPLE.replacen('a', "g", 1),
            EXAMPLE.replacen('a', "é", 1),
            format!("{EXAMPLE}-00"),
            format!(" {}", &EXAMPLE[1..]),
            EXAMPLE[..54].to_owned(),
            EXAMPLE.replacen("-b", "b-", 1),
        ] {
            assert_eq!(TraceContext::parse(&bad), None, "{bad}");
        }
        let bytes = TraceContext::parse(EXAMPLE).unwrap().encode();
        assert_eq!(TraceContext::decode(&bytes[..24]), None);
        assert_eq!(TraceContext::decode(&[&bytes[..], &[0]].concat()), None);
        assert_eq!(TraceContext::decode(&[0; TRACE_CONTEXT_BYTES]), None);
    }
}
