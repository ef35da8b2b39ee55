//! Server-sent events: what an A2A server streams, and what an A2A client reads.

use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use serde_json::Value;
use tokio::time::interval;

/// Silence after which a client gets a comment, so that it does not take the stream for dead. Our choice:
/// what the A2A SDK for Python does.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(15);

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

/// Returns the events, and a comment after each silence of this length. Must be called within a tokio runtime.
pub(super) fn with_pings(
    mut events: impl Stream<Item = Bytes> + Send + Unpin + 'static,
    silence: Duration,
) -> impl Stream<Item = Bytes> + Send + 'static {
    let mut pings = interval(silence);
    pings.reset();
    stream::poll_fn(move |cx| match events.poll_next_unpin(cx) {
        Poll::Ready(event) => {
            pings.reset();
            Poll::Ready(event)
        }
        Poll::Pending => pings.poll_tick(cx).map(|_| Some(Bytes::from_static(b": ping\n\n"))),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Bytes in which the pieces of events are frequent.
        #[test]
        fn any_bytes_give_the_same_events_wherever_they_are_cut(
            pieces in prop::collection::vec(prop_oneof![
                Just(b"data:".to_vec()), Just(b"\n".to_vec()), Just(b"\r\n".to_vec()),
                prop::collection::vec(any::<u8>(), 0..20),
            ], 0..40),
            cut in any::<prop::sample::Index>(),
        ) {
            let bytes = pieces.concat();
            let whole = Events::default().push(&bytes).unwrap();
            let (first, second) = bytes.split_at(cut.index(bytes.len() + 1));
            let mut events = Events::default();
            let mut parts = events.push(first).unwrap();
            parts.extend(events.push(second).unwrap());
            prop_assert_eq!(parts, whole);
        }
    }

    #[tokio::test]
    async fn silent_stream_gets_comments_and_its_events_as_they_come() {
        let (sender, events) = futures::channel::mpsc::unbounded();
        let mut stream = Box::pin(with_pings(events, Duration::from_millis(1)));
        assert_eq!(stream.next().await.unwrap(), ": ping\n\n");
        sender.unbounded_send(Bytes::from_static(b"data: 1\n\n")).unwrap();
        drop(sender);
        assert_eq!(stream.next().await.unwrap(), "data: 1\n\n");
        assert_eq!(stream.next().await, None);
    }

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
