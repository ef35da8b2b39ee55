//! One outbound mail stream: requests leave in order, and their responses come back by id.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{AsyncRead, AsyncWrite};
use p2p_node_core::input::Token;
use tokio::time::Instant;

use super::framing::{FrameReader, FrameWriter, check_length};
use super::{MAX_IN_FLIGHT, MAX_MAIL, MAX_MAIL_RESPONSE};

/// The outcome of a request, for the core.
pub(super) type Outcome = (Token, Result<Bytes, String>);

/// Requests on one stream. The stream opens with the first request and stays open; after a failure
/// the next request opens another.
#[derive(Debug)]
pub(super) struct RequestLane<S> {
    stream: LaneStream<S>,
    /// Requests without a final outcome, in the order of their ids. An answered one stays, without
    /// its token, until it is the oldest.
    requests: VecDeque<Request>,
    /// Id of the oldest element of `requests`.
    first_id: u32,
    /// Frames that wait until fewer requests are in flight: the newest of `requests`.
    unsent: VecDeque<Bytes>,
    /// Number of requests that were sent and have no outcome.
    in_flight: usize,
    writer: FrameWriter,
    reader: FrameReader,
    /// Outcomes to report.
    outcomes: VecDeque<Outcome>,
}

#[derive(Debug)]
enum LaneStream<S> {
    Closed,
    Opening,
    Open(S),
}

#[derive(Debug)]
struct Request {
    /// `None` once the request was answered.
    token: Option<Token>,
    deadline: Instant,
}

impl<S: AsyncRead + AsyncWrite + Unpin> RequestLane<S> {
    pub(super) fn new() -> Self {
        RequestLane {
            stream: LaneStream::Closed,
            requests: VecDeque::new(),
            first_id: 0,
            unsent: VecDeque::new(),
            in_flight: 0,
            writer: FrameWriter::default(),
            reader: FrameReader::new(MAX_MAIL_RESPONSE),
            outcomes: VecDeque::new(),
        }
    }

    /// Queues a request. Requests come in the order of their deadlines.
    pub(super) fn push(&mut self, token: Token, frame: Bytes, deadline: Instant) {
        if let Err(error) = check_length(frame.len(), MAX_MAIL) {
            self.outcomes.push_back((token, Err(error.to_string())));
            return;
        }
        self.requests.push_back(Request { token: Some(token), deadline });
        self.unsent.push_back(frame);
    }

    /// Returns `true` once if the lane needs a stream; `opened` or `failed` must follow.
    pub(super) fn wants_stream(&mut self) -> bool {
        let wants = matches!(self.stream, LaneStream::Closed) && !self.unsent.is_empty();
        if wants {
            self.stream = LaneStream::Opening;
        }
        wants
    }

    pub(super) fn opened(&mut self, stream: S) {
        self.stream = LaneStream::Open(stream);
        self.writer = FrameWriter::default();
        self.reader = FrameReader::new(MAX_MAIL_RESPONSE);
    }

    /// Ends every request with a failure, because the stream cannot be opened or the connection ends.
    pub(super) fn fail(&mut self, reason: &str) {
        self.stream = LaneStream::Closed;
        self.unsent.clear();
        self.reset(reason);
    }

    /// Returns the time at which the oldest request fails.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.requests.front().map(|request| request.deadline)
    }

    /// Returns `true` if no request waits for its outcome.
    pub(super) fn is_idle(&self) -> bool {
        self.requests.is_empty()
    }

    /// Returns the next outcome to report.
    pub(super) fn pop_outcome(&mut self) -> Option<Outcome> {
        self.outcomes.pop_front()
    }

    /// Ends the requests whose deadline has passed. A stream on which a request got no answer in time
    /// is closed, so that the peer need not keep its bytes.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        const REASON: &str = "the peer did not answer in time";
        self.reset(REASON);
        while self.deadline().is_some_and(|deadline| deadline <= now) {
            self.unsent.pop_front();
            self.drop_oldest(REASON);
        }
    }

    /// Writes and reads as much as possible.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        loop {
            let LaneStream::Open(stream) = &mut self.stream else { return };
            let mut next_id = self.first_id.wrapping_add((self.requests.len() - self.unsent.len()) as u32);
            while self.in_flight < MAX_IN_FLIGHT
                && let Some(frame) = self.unsent.pop_front()
            {
                self.writer.push(next_id, frame);
                next_id = next_id.wrapping_add(1);
                self.in_flight += 1;
            }
            if let Poll::Ready(Err(error)) = self.writer.poll(Pin::new(stream), cx) {
                return self.reset(&error.to_string());
            }
            match self.read(cx) {
                // An answer may have made room for another request.
                Ok(()) if self.unsent.is_empty() || self.in_flight == MAX_IN_FLIGHT => return,
                Ok(()) => {}
                Err(error) => return self.reset(&error.to_string()),
            }
        }
    }

    fn read(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        loop {
            let LaneStream::Open(stream) = &mut self.stream else { return Ok(()) };
            match self.reader.poll(Pin::new(stream), cx, |_| Ok(())) {
                Poll::Ready(Ok(Some((id, body)))) => self.on_response(id, body)?,
                Poll::Ready(Ok(None)) => return Err(io::Error::other("the peer closed the stream")),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(()),
            }
        }
    }

    fn on_response(&mut self, id: u32, body: Bytes) -> io::Result<()> {
        let sent = self.requests.len() - self.unsent.len();
        let index = id.wrapping_sub(self.first_id) as usize;
        let token = self.requests.range_mut(..sent).nth(index).and_then(|request| request.token.take());
        let Some(token) = token else {
            return Err(io::Error::other("the peer answered a request that does not wait for an answer"));
        };
        self.in_flight -= 1;
        // An empty body is no response: the peer had no room for the request.
        let dropped = || Err("the peer dropped the request".to_owned());
        self.outcomes.push_back((token, if body.is_empty() { dropped() } else { Ok(body) }));
        while self.requests.front().is_some_and(|request| request.token.is_none()) {
            self.requests.pop_front();
            self.first_id = self.first_id.wrapping_add(1);
        }
        Ok(())
    }

    /// Closes an open stream and fails the requests that were sent. The others wait for the next
    /// stream, which may be opening already.
    fn reset(&mut self, reason: &str) {
        if let LaneStream::Open(_) = self.stream {
            self.stream = LaneStream::Closed;
            self.writer = FrameWriter::default();
        }
        while self.requests.len() > self.unsent.len() {
            self.drop_oldest(reason);
        }
        self.in_flight = 0;
    }

    fn drop_oldest(&mut self, reason: &str) {
        let Some(request) = self.requests.pop_front() else { return };
        self.first_id = self.first_id.wrapping_add(1);
        let failed = request.token.map(|token| (token, Err(reason.to_owned())));
        self.outcomes.extend(failed);
    }
}

#[cfg(test)]
mod tests;
