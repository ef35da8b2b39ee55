//! The body of a response: one piece, or a stream of events.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::stream::{BoxStream, Stream, StreamExt};
use hyper::body::{Frame, SizeHint};

/// The body of a response.
pub(crate) enum Body {
    /// One piece; `None` after it was sent.
    Full(Option<Bytes>),
    /// Events as they come.
    Events(BoxStream<'static, Bytes>),
}

impl Body {
    /// Returns the body with one piece.
    pub(crate) fn of(bytes: impl Into<Bytes>) -> Body {
        Body::Full(Some(bytes.into()))
    }

    /// Returns the body that ends with these events.
    pub(crate) fn events(events: impl Stream<Item = Bytes> + Send + 'static) -> Body {
        Body::Events(events.boxed())
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
            Body::Events(events) => events.poll_next_unpin(cx),
        };
        bytes.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Body::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Body::Events(_) => SizeHint::default(),
        }
    }
}
