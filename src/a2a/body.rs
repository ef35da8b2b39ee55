//! The body of a response: one piece, or a stream of events.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use hyper::body::{Frame, SizeHint};
use tokio::time::Interval;

/// Silence after which a client gets a comment, so that it does not take the stream for dead. Our choice:
/// what the A2A SDK for Python does.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(15);

/// The body of a response.
pub(super) enum Body {
    /// One piece; `None` after it was sent.
    Full(Option<Bytes>),
    /// Events as they come, and comments while none do.
    Events(BoxStream<'static, Bytes>, Interval),
}

impl Body {
    pub(super) fn of(bytes: impl Into<Bytes>) -> Body {
        Body::Full(Some(bytes.into()))
    }

    pub(super) fn events(events: BoxStream<'static, Bytes>) -> Body {
        let mut pings = tokio::time::interval(PING_INTERVAL);
        pings.reset();
        Body::Events(events, pings)
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match self.get_mut() {
            Body::Full(bytes) => Poll::Ready(bytes.take()),
            Body::Events(events, pings) => match events.poll_next_unpin(cx) {
                Poll::Ready(event) => {
                    pings.reset();
                    Poll::Ready(event)
                }
                Poll::Pending => pings.poll_tick(cx).map(|_| Some(Bytes::from_static(b": ping\n\n"))),
            },
        };
        bytes.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Body::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Body::Events(..) => SizeHint::default(),
        }
    }
}
