//! One inbound mail stream: requests come in order, and responses leave as the driver gives them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{AsyncRead, AsyncWrite};
use libp2p::PeerId;
use tokio::time::Instant;

use super::framing::{FrameReader, FrameWriter, HEADER};
use super::link::{Inbox, Link, MailEvent, Reply};
use super::memory_budget::{MemoryBudget, Reservation};
use super::{MAIL_TIMEOUT, MAX_IN_FLIGHT, MAX_MAIL};

/// Number of bytes that one poll reads before other tasks run: the driver then takes the frames from
/// the inbox.
const READ_PER_POLL: usize = 256 << 10;

/// Where the requests of a connection go.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) peer: PeerId,
    pub(super) link: Arc<Link>,
    pub(super) inbox: Arc<Inbox>,
}

/// Requests of the peer on one stream.
#[derive(Debug)]
pub(super) struct InboundStream<S> {
    number: u32,
    stream: S,
    reader: FrameReader,
    writer: FrameWriter,
    /// Memory of the request that is arriving.
    arriving: Reservation,
    /// Time by which the request that is arriving must be whole.
    arrives_by: Option<Instant>,
    /// Ids of the requests without a response, in the order of their deadlines.
    unanswered: VecDeque<(u32, Instant)>,
    /// Number of responses in the writer.
    unsent: usize,
    /// The peer sends no more requests.
    has_ended: bool,
    inbox: Arc<Inbox>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> InboundStream<S> {
    pub(super) fn new(number: u32, stream: S, budget: Arc<MemoryBudget>, inbox: Arc<Inbox>) -> Self {
        InboundStream {
            number,
            stream,
            reader: FrameReader::new(MAX_MAIL),
            writer: FrameWriter::default(),
            arriving: Reservation::new(budget),
            arrives_by: None,
            unanswered: VecDeque::new(),
            unsent: 0,
            has_ended: false,
            inbox,
        }
    }

    /// Returns the number of the stream, to which a [`Reply`] refers.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Sends a response. Has no effect if the request has expired.
    pub(super) fn respond(&mut self, id: u32, body: Bytes) {
        match self.unanswered.iter().position(|(unanswered, _)| *unanswered == id) {
            Some(index) => {
                self.unanswered.remove(index);
                self.writer.push(id, body);
                self.unsent += 1;
            }
            None => self.inbox.responses_done(1),
        }
    }

    /// Returns the time at which `expire` has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let unanswered = self.unanswered.front().map(|(_, deadline)| *deadline);
        unanswered.into_iter().chain(self.arrives_by).min()
    }

    /// Returns `true` if no request arrives or waits for its response.
    pub(super) fn is_idle(&self) -> bool {
        self.unanswered.is_empty() && self.arrives_by.is_none() && self.unsent == 0
    }

    /// Drops the requests that nobody answered in time. Returns `false` if a request arrives too
    /// slowly, so that the stream must be dropped.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        while self.unanswered.front().is_some_and(|(_, deadline)| *deadline <= now) {
            self.unanswered.pop_front();
        }
        self.arrives_by.is_none_or(|deadline| deadline > now)
    }

    /// Reads and writes as much as possible. Returns `false` once the stream must be dropped.
    pub(super) fn poll(&mut self, to: &Destination, cx: &mut Context<'_>) -> bool {
        let reads = self.read(to, cx);
        match self.writer.poll(Pin::new(&mut self.stream), cx) {
            Poll::Ready(Ok(())) => self.inbox.responses_done(std::mem::take(&mut self.unsent)),
            Poll::Ready(Err(_)) => return false,
            Poll::Pending => {}
        }
        reads && !(self.has_ended && self.is_idle())
    }

    fn read(&mut self, to: &Destination, cx: &mut Context<'_>) -> bool {
        let mut read = 0;
        while !self.has_ended && self.unanswered.len() < MAX_IN_FLIGHT {
            if read >= READ_PER_POLL {
                cx.waker().wake_by_ref();
                break;
            }
            let arriving = &mut self.arriving;
            match self.reader.poll(Pin::new(&mut self.stream), cx, |bytes| arriving.grow(bytes)) {
                Poll::Ready(Ok(Some((id, frame)))) => {
                    read += HEADER + frame.len();
                    self.arrives_by = None;
                    self.unanswered.push_back((id, Instant::now() + MAIL_TIMEOUT));
                    to.inbox.push(MailEvent::Request {
                        peer: to.peer,
                        frame,
                        reply: Reply::new(Arc::clone(&to.link), self.number, id),
                        reservation: self.arriving.take(),
                    });
                }
                Poll::Ready(Ok(None)) => self.has_ended = true,
                Poll::Ready(Err(_)) => return false,
                Poll::Pending => {
                    if self.reader.is_within_frame() && self.arrives_by.is_none() {
                        self.arrives_by = Some(Instant::now() + MAIL_TIMEOUT);
                    }
                    break;
                }
            }
        }
        true
    }
}

impl<S> Drop for InboundStream<S> {
    fn drop(&mut self) {
        if self.reader.is_within_frame() {
            self.inbox.count_failed_read();
        }
        self.inbox.responses_done(self.unsent);
    }
}

#[cfg(test)]
mod tests;
