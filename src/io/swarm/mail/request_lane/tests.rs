use std::task::Waker;
use std::time::Duration;

use super::super::testing::{End, stream};
use super::*;

/// A lane, and the peer's end of its stream.
struct Fixture {
    lane: RequestLane<End>,
    peer: End,
    reader: FrameReader,
    writer: FrameWriter,
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn later(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

impl Fixture {
    fn new() -> Self {
        let (ours, peer) = stream();
        let mut lane = RequestLane::new();
        lane.opened(ours);
        Fixture { lane, peer, reader: FrameReader::new(MAX_MAIL), writer: FrameWriter::default() }
    }

    fn push(&mut self, tokens: std::ops::Range<Token>) {
        tokens.for_each(|token| self.lane.push(token, Bytes::from_static(b"mail"), later(10)));
        self.lane.poll(&mut cx());
    }

    /// Returns the ids of the requests that arrived at the peer.
    fn arrived(&mut self) -> Vec<u32> {
        let mut ids = Vec::new();
        while let Poll::Ready(Ok(Some((id, _)))) =
            self.reader.poll(Pin::new(&mut self.peer), &mut cx(), |_| Ok(()))
        {
            ids.push(id);
        }
        ids
    }

    fn answer(&mut self, id: u32, body: &'static [u8]) {
        self.writer.push(id, Bytes::from_static(body));
        assert!(self.writer.poll(Pin::new(&mut self.peer), &mut cx()).is_ready());
        self.lane.poll(&mut cx());
    }

    fn outcomes(&mut self) -> Vec<(Token, bool)> {
        std::iter::from_fn(|| self.lane.pop_outcome())
            .map(|(token, outcome)| (token, outcome.is_ok()))
            .collect()
    }
}

#[test]
fn responses_in_any_order_reach_their_requests() {
    let mut fixture = Fixture::new();
    fixture.push(10..13);
    let ids = fixture.arrived();
    assert_eq!(ids.len(), 3);
    fixture.answer(ids[2], b"third");
    fixture.answer(ids[0], b"first");
    assert_eq!(fixture.lane.pop_outcome(), Some((12, Ok(Bytes::from_static(b"third")))));
    assert_eq!(fixture.lane.pop_outcome(), Some((10, Ok(Bytes::from_static(b"first")))));
    assert!(!fixture.lane.is_idle());
    fixture.answer(ids[1], b"");
    assert_eq!(fixture.outcomes(), [(11, false)], "an empty response says that the peer dropped the request");
    assert!(fixture.lane.is_idle());
}

#[test]
fn a_lane_without_a_stream_asks_for_one_once() {
    let mut lane = RequestLane::<End>::new();
    assert!(!lane.wants_stream());
    lane.push(1, Bytes::new(), later(10));
    assert!(lane.wants_stream() && !lane.wants_stream());
    lane.fail("no such protocol");
    assert_eq!(lane.pop_outcome(), Some((1, Err("no such protocol".to_owned()))));
    assert!(lane.is_idle() && !lane.wants_stream());
}

#[test]
fn requests_above_the_window_wait_for_responses() {
    let mut fixture = Fixture::new();
    fixture.push(0..MAX_IN_FLIGHT as Token + 2);
    let ids = fixture.arrived();
    assert_eq!(ids.len(), MAX_IN_FLIGHT);
    fixture.answer(ids[5], b"ok");
    assert_eq!(fixture.arrived().len(), 1);
    assert_eq!(fixture.outcomes(), [(5, true)]);
}

#[test]
fn a_closed_stream_fails_sent_requests_and_the_others_wait_for_the_next_stream() {
    let mut fixture = Fixture::new();
    let all = MAX_IN_FLIGHT as Token + 2;
    fixture.push(0..all);
    let (ours, peer) = stream();
    fixture.peer = peer;
    fixture.reader = FrameReader::new(MAX_MAIL);
    fixture.lane.poll(&mut cx());
    let sent = MAX_IN_FLIGHT as Token;
    assert_eq!(fixture.outcomes(), (0..sent).map(|token| (token, false)).collect::<Vec<_>>());
    assert!(fixture.lane.wants_stream());
    fixture.lane.opened(ours);
    fixture.lane.poll(&mut cx());
    let ids = fixture.arrived();
    fixture.answer(ids[1], b"ok");
    assert_eq!((ids.len(), fixture.outcomes()), (2, vec![(all - 1, true)]));
}

#[test]
fn an_answer_to_no_request_closes_the_stream() {
    for twice in [false, true] {
        let mut fixture = Fixture::new();
        fixture.push(0..2);
        let ids = fixture.arrived();
        let id = if twice { ids[1] } else { ids[1] + 1 };
        if twice {
            fixture.answer(id, b"ok");
            assert_eq!(fixture.outcomes(), [(1, true)]);
        }
        fixture.answer(id, b"ok");
        assert_eq!(fixture.outcomes().last(), Some(&(if twice { 0 } else { 1 }, false)));
        assert!(fixture.lane.is_idle());
    }
}

#[test]
fn a_request_without_an_answer_fails_at_its_deadline_and_closes_the_stream() {
    let mut fixture = Fixture::new();
    fixture.lane.push(1, Bytes::new(), later(10));
    fixture.lane.poll(&mut cx());
    fixture.lane.push(2, Bytes::new(), later(20));
    let deadline = fixture.lane.deadline().unwrap();
    fixture.lane.expire(deadline - Duration::from_millis(1));
    assert!(fixture.outcomes().is_empty());
    fixture.lane.expire(deadline);
    assert_eq!(fixture.outcomes(), [(1, false)]);
    assert!(fixture.lane.wants_stream(), "the second was not sent");
    fixture.lane.expire(later(21));
    assert_eq!(fixture.outcomes(), [(2, false)]);
    assert!(fixture.lane.is_idle());
}

#[test]
fn a_request_that_expires_while_the_stream_opens_asks_for_no_second_stream() {
    let (ours, _peer) = stream();
    let mut lane = RequestLane::new();
    lane.push(1, Bytes::new(), later(10));
    assert!(lane.wants_stream());
    lane.push(2, Bytes::new(), later(20));
    lane.expire(later(15));
    assert!(matches!(lane.pop_outcome(), Some((1, Err(_)))) && !lane.wants_stream());
    lane.opened(ours);
    lane.poll(&mut cx());
    assert_eq!((lane.in_flight, lane.pop_outcome()), (1, None));
}

#[test]
fn a_frame_that_is_too_long_fails_alone() {
    let mut fixture = Fixture::new();
    fixture.lane.push(1, vec![0; MAX_MAIL + 1].into(), later(10));
    fixture.push(2..3);
    assert_eq!((fixture.outcomes(), fixture.arrived().len()), (vec![(1, false)], 1));
}

#[test]
fn ids_continue_after_the_largest() {
    let mut fixture = Fixture::new();
    fixture.lane.first_id = u32::MAX;
    fixture.push(0..3);
    let ids = fixture.arrived();
    assert_eq!(ids, [u32::MAX, 0, 1]);
    fixture.answer(1, b"ok");
    fixture.answer(u32::MAX, b"ok");
    fixture.answer(0, b"ok");
    assert_eq!(fixture.outcomes(), [(2, true), (0, true), (1, true)]);
}
