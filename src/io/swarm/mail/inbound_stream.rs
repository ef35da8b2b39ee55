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
use super::{MAIL_TIMEOUT, MAX_MAIL};

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
    /// Time by which the peer must have read the responses in the writer.
    leaves_by: Option<Instant>,
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
            leaves_by: None,
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
        unanswered.into_iter().chain(self.arrives_by).chain(self.leaves_by).min()
    }

    /// Returns the number of requests that are not answered, or whose response has not left.
    pub(super) fn pending(&self) -> usize {
        self.unanswered.len() + self.unsent
    }

    /// Returns `true` if no request arrives or waits for its response.
    pub(super) fn is_idle(&self) -> bool {
        self.pending() == 0 && self.arrives_by.is_none()
    }

    /// Drops the requests that nobody answered in time. Returns `false` if a request arrives too
    /// slowly, or if the peer does not read the responses, so that the stream must be dropped.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        while self.unanswered.front().is_some_and(|(_, deadline)| *deadline <= now) {
            self.unanswered.pop_front();
        }
        self.arrives_by.into_iter().chain(self.leaves_by).all(|deadline| deadline > now)
    }

    /// Writes as much as possible. Returns `false` if the stream must be dropped.
    pub(super) fn write(&mut self, cx: &mut Context<'_>) -> bool {
        match self.writer.poll(Pin::new(&mut self.stream), cx) {
            Poll::Ready(Ok(())) => {
                self.leaves_by = None;
                self.inbox.responses_done(std::mem::take(&mut self.unsent));
                true
            }
            Poll::Ready(Err(_)) => false,
            Poll::Pending => {
                self.leaves_by.get_or_insert_with(|| Instant::now() + MAIL_TIMEOUT);
                true
            }
        }
    }

    /// Reads as much as possible, and at most `room` more requests; reduces `room` by those that
    /// arrived. Returns `false` if the stream must be dropped.
    pub(super) fn read(&mut self, to: &Destination, room: &mut usize, cx: &mut Context<'_>) -> bool {
        let mut read = 0;
        // A request that has begun to arrive may complete: its time is limited.
        while !self.has_ended && (*room > 0 || self.reader.is_within_frame()) {
            if read >= READ_PER_POLL {
                cx.waker().wake_by_ref();
                break;
            }
            let arriving = &mut self.arriving;
            match self.reader.poll(Pin::new(&mut self.stream), cx, |bytes| arriving.grow(bytes)) {
                Poll::Ready(Ok(Some((id, frame)))) => {
                    read += HEADER + frame.len();
                    self.arrives_by = None;
                    *room = room.saturating_sub(1);
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
        !(self.has_ended && self.is_idle())
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
