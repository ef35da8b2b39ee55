use std::sync::atomic::AtomicUsize;
use std::task::Waker;
use std::time::Duration;

use super::super::MAX_UNANSWERED;
use super::super::link::Command;
use super::super::testing::{End, stream};
use super::*;

/// An inbound stream, and the peer's end of it.
struct Fixture {
    inbound: Option<InboundStream<End>>,
    to: Destination,
    peer: Option<End>,
    writer: FrameWriter,
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

impl Fixture {
    fn new(budget: usize) -> Self {
        let (ours, peer) = stream();
        let inbox = Arc::new(Inbox::default());
        let link = Arc::new(Link::new(Arc::clone(&inbox), false));
        let budget = Arc::new(MemoryBudget::new(budget, Arc::new(AtomicUsize::new(budget))));
        let inbound = Some(InboundStream::new(0, ours, budget, Arc::clone(&inbox)));
        let to = Destination { peer: PeerId::random(), link, inbox };
        Fixture { inbound, to, peer: Some(peer), writer: FrameWriter::default() }
    }

    /// Writes requests at the peer and polls the stream. Returns `false` if the stream must be
    /// dropped.
    fn send(&mut self, ids: std::ops::Range<u32>, size: usize) -> bool {
        ids.for_each(|id| self.writer.push(id, vec![7; size].into()));
        let peer = self.peer.as_mut().unwrap();
        assert!(self.writer.poll(Pin::new(peer), &mut cx()).is_ready());
        self.poll()
    }

    fn send_raw(&mut self, bytes: &[u8]) -> bool {
        let peer = self.peer.as_mut().unwrap();
        assert!(Pin::new(peer).poll_write(&mut cx(), bytes).is_ready());
        self.poll()
    }

    fn poll(&mut self) -> bool {
        let inbound = self.inbound.as_mut().unwrap();
        let is_open = inbound.write(&mut cx());
        let mut room = MAX_UNANSWERED.saturating_sub(inbound.pending());
        is_open && inbound.read(&self.to, &mut room, &mut cx())
    }

    fn arrived(&mut self) -> Vec<Reply> {
        std::iter::from_fn(|| self.to.inbox.pop(&cx()))
            .map(|event| match event {
                MailEvent::Request { reply, .. } => reply,
                other => panic!("unexpected {other:?}"),
            })
            .collect()
    }

    /// Passes the responses of the driver to the stream.
    fn respond(&mut self) {
        for command in self.to.link.take(&cx()) {
            let Command::Response { id, body, .. } = command else { panic!("a request") };
            self.inbound.as_mut().unwrap().respond(id, body);
        }
        self.poll();
    }

    fn responses(&mut self) -> Vec<(u32, Bytes)> {
        let mut reader = FrameReader::new(MAX_MAIL);
        let mut responses = Vec::new();
        let peer = self.peer.as_mut().unwrap();
        while let Poll::Ready(Ok(Some(response))) = reader.poll(Pin::new(peer), &mut cx(), |_| Ok(())) {
            responses.push(response);
        }
        responses
    }
}

#[test]
fn each_request_gets_its_response_and_a_dropped_one_an_empty_response() {
    let mut fixture = Fixture::new(1 << 20);
    assert!(fixture.send(5..7, 10));
    let mut replies = fixture.arrived();
    drop(replies.remove(0));
    replies.remove(0).send(Bytes::from_static(b"stored"));
    assert!(fixture.to.inbox.has_unsent_responses());
    fixture.respond();
    assert!(!fixture.to.inbox.has_unsent_responses());
    assert_eq!(fixture.responses(), [(5, Bytes::new()), (6, Bytes::from_static(b"stored"))]);
}

#[test]
fn a_peer_with_too_many_unanswered_requests_is_not_read() {
    let mut fixture = Fixture::new(1 << 20);
    assert!(fixture.send(0..MAX_UNANSWERED as u32 + 1, 1));
    let mut replies = fixture.arrived();
    assert_eq!(replies.len(), MAX_UNANSWERED);
    replies.remove(0).send(Bytes::from_static(b"stored"));
    fixture.respond();
    fixture.poll();
    assert_eq!(fixture.arrived().len(), 1);
    drop(replies);
}

#[test]
fn a_peer_that_does_not_read_its_responses_is_not_read_and_loses_the_stream() {
    let mut fixture = Fixture::new(1 << 20);
    fixture.peer.as_ref().unwrap().set_capacity(0);
    assert!(fixture.send(0..MAX_UNANSWERED as u32, 1));
    fixture.arrived().into_iter().for_each(|reply| reply.send(Bytes::from_static(b"stored")));
    fixture.respond();
    assert!(fixture.send(1000..1001, 1));
    assert!(fixture.arrived().is_empty(), "the responses have not left");
    let inbound = fixture.inbound.as_mut().unwrap();
    assert_eq!((inbound.pending(), inbound.unanswered.len()), (MAX_UNANSWERED, 0));
    let deadline = inbound.deadline().unwrap();
    assert!(inbound.expire(deadline - Duration::from_millis(1)) && !inbound.expire(deadline));
    fixture.peer.as_ref().unwrap().set_capacity(1 << 20);
    assert!(fixture.poll());
    assert_eq!(fixture.arrived().len(), 1, "a peer that reads again is read again");
    assert_eq!(fixture.responses().len(), MAX_UNANSWERED);
}

#[test]
fn a_request_that_has_begun_to_arrive_completes_above_the_limit() {
    let mut fixture = Fixture::new(1 << 20);
    assert!(fixture.send(0..MAX_UNANSWERED as u32 - 1, 1));
    assert!(fixture.send_raw(&[0, 0, 0, 2, 0, 0, 0, 1, 7]));
    fixture.arrived().into_iter().for_each(std::mem::forget);
    let (inbound, mut room) = (fixture.inbound.as_mut().unwrap(), 0);
    let peer = fixture.peer.as_mut().unwrap();
    assert!(Pin::new(peer).poll_write(&mut cx(), &[8, 0]).is_ready());
    assert!(inbound.read(&fixture.to, &mut room, &mut cx()));
    assert_eq!(fixture.arrived().len(), 1);
    assert!(!fixture.inbound.as_ref().unwrap().reader.is_within_frame(), "the next does not begin");
}

#[test]
fn a_request_above_the_memory_budget_ends_the_stream_and_counts() {
    let mut fixture = Fixture::new(100);
    assert!(fixture.send(0..1, 100));
    assert!(!fixture.send(1..2, 100), "the first is still in the inbox");
    fixture.inbound = None;
    assert_eq!(fixture.to.inbox.take_failed_reads(), 1);
    fixture.arrived();
    let mut other = Fixture::new(100);
    assert!(other.send(0..1, 100));
    other.arrived();
    assert!(other.send(1..2, 100), "the driver has taken the first");
}

#[test]
fn a_request_that_is_too_long_ends_the_stream_and_counts() {
    let mut fixture = Fixture::new(1 << 20);
    assert!(!fixture.send_raw(&[255; HEADER]));
    fixture.inbound = None;
    assert_eq!(fixture.to.inbox.take_failed_reads(), 1);
}

#[test]
fn a_request_that_arrives_too_slowly_ends_the_stream() {
    let mut fixture = Fixture::new(1 << 20);
    assert!(fixture.send_raw(&[0, 0, 0, 9, 0, 0, 0, 1, 7]));
    let inbound = fixture.inbound.as_mut().unwrap();
    let deadline = inbound.deadline().unwrap();
    assert!(!inbound.is_idle() && inbound.expire(deadline - Duration::from_millis(1)));
    assert!(!inbound.expire(deadline));
    fixture.inbound = None;
    assert_eq!(fixture.to.inbox.take_failed_reads(), 1);
}

#[test]
fn a_request_that_nobody_answers_expires() {
    let mut fixture = Fixture::new(1 << 20);
    assert!(fixture.send(0..1, 1));
    let replies = fixture.arrived();
    let inbound = fixture.inbound.as_mut().unwrap();
    let deadline = inbound.deadline().unwrap();
    assert!(inbound.expire(deadline) && inbound.is_idle());
    replies.into_iter().for_each(|reply| reply.send(Bytes::from_static(b"late")));
    fixture.respond();
    assert!(fixture.responses().is_empty() && !fixture.to.inbox.has_unsent_responses());
}

#[test]
fn a_stream_whose_peer_sends_no_more_ends_after_the_last_response() {
    let mut fixture = Fixture::new(1 << 20);
    assert!(fixture.send(0..1, 1));
    let replies = fixture.arrived();
    assert!(Pin::new(fixture.peer.as_mut().unwrap()).poll_close(&mut cx()).is_ready());
    assert!(fixture.poll());
    replies.into_iter().for_each(|reply| reply.send(Bytes::from_static(b"stored")));
    for command in fixture.to.link.take(&cx()) {
        let Command::Response { id, body, .. } = command else { panic!("a request") };
        fixture.inbound.as_mut().unwrap().respond(id, body);
    }
    assert!(!fixture.poll());
    assert_eq!(fixture.responses(), [(0, Bytes::from_static(b"stored"))]);
}

#[test]
fn responses_of_a_dropped_stream_are_not_waited_for() {
    let mut fixture = Fixture::new(1 << 20);
    assert!(fixture.send(0..2, 1));
    fixture.arrived().into_iter().for_each(|reply| reply.send(Bytes::from_static(b"stored")));
    for command in fixture.to.link.take(&cx()) {
        let Command::Response { id, body, .. } = command else { panic!("a request") };
        fixture.inbound.as_mut().unwrap().respond(id, body);
    }
    assert!(fixture.to.inbox.has_unsent_responses());
    fixture.inbound = None;
    assert!(!fixture.to.inbox.has_unsent_responses());
}
