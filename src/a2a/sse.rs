//! Server-sent events: what an A2A server streams, and what an A2A client reads.

use bytes::Bytes;
use serde_json::Value;

/// Longest event, in bytes: a part of an answer that a request can carry.
pub(super) const MAX_EVENT_BYTES: usize = p2p_node_protocol::MAX_LINE_BYTES;

/// An event is longer than [`MAX_EVENT_BYTES`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Splits a stream into the `data` of its events.
#[derive(Debug, Default)]
pub(super) struct Events {
    line: Vec<u8>,
    data: String,
}

impl Events {
    /// Adds bytes of the stream, and returns the data of the events that they end.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<String>, TooLong> {
        let mut ended = Vec::new();
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() + self.data.len() > MAX_EVENT_BYTES {
                    return Err(TooLong);
                }
                continue;
            }
            let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
            let line = line.strip_suffix('\r').unwrap_or(&line);
            if line.is_empty() {
                let data = std::mem::take(&mut self.data);
                ended.extend((!data.is_empty()).then(|| data.trim_end_matches('\n').to_owned()));
            } else if let Some(data) = line.strip_prefix("data:") {
                self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
                self.data.push('\n');
            }
        }
        Ok(ended)
    }
}

/// Returns an answer as an event. An error has a type of its own, as the A2A SDKs expect it.
pub(super) fn event(answer: &Value) -> Bytes {
    let kind = if answer.get("error").is_some() { "event: error\n" } else { "" };
    // JSON in this form has no newline.
    format!("{kind}data: {answer}\n\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_wherever_the_stream_is_cut() {
        let stream = b": ping\r\n\r\ndata: {\"a\":1}\r\n\r\nevent: x\ndata:b\ndata: c\n\ndata: open";
        for cut in 0..stream.len() {
            let mut events = Events::default();
            let mut found = events.push(&stream[..cut]).unwrap();
            found.extend(events.push(&stream[cut..]).unwrap());
            assert_eq!(found, ["{\"a\":1}", "b\nc"], "cut at {cut}");
        }
    }

    #[test]
    fn event_without_end_is_an_error_before_it_fills_the_memory() {
        let mut events = Events::default();
        assert_eq!(events.push(&vec![b'x'; MAX_EVENT_BYTES + 1]), Err(TooLong));
        let mut events = Events::default();
        let line = [b"data: ", vec![b'x'; 1 << 16].as_slice(), b"\n"].concat();
        assert!((0..17).any(|_| events.push(&line).is_err()));
    }
}
