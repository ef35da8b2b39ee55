//! Matches answers to requests. Has no I/O: it converts events to [`Incoming`], and the owner of
//! the channel wakes the waiting calls.

use std::collections::{BTreeMap, HashMap};

use p2p_node_protocol::{
    Answer, Delivery, ErrorEvent, Event, Id, Limits, MAX_FOUND_AGENTS, MAX_TRACKED_MESSAGES, PeerDiscovered,
    Response,
};
use tokio::sync::mpsc;

use crate::Error;

/// The number of commands, without `send`s, that may wait for answers at the same time. It equals
/// the node's default limit of unanswered commands.
pub(crate) const MAX_PENDING: usize = Limits::STANDARD.max_inflight;

/// Matches incoming events to requests and deliveries. `A` is the waiter for an answer, `D` the
/// waiter for a delivery.
pub(crate) struct Channel<A, D> {
    pending: BTreeMap<i64, Pending<A>>,
    /// The number of cancellations in `pending`. No call waits for their answers.
    cancels: usize,
    tracked: HashMap<String, D>,
    closed: Option<Error>,
}

struct Pending<A> {
    /// `None` for a cancellation.
    waiter: Option<A>,
    found: Vec<PeerDiscovered>,
    /// Gets the answers to a request to agents.
    responses: Option<mpsc::Sender<Response>>,
}

/// The meaning of an event for the waiting calls.
#[derive(Debug)]
pub(crate) enum Incoming<A, D> {
    /// The answer to a request.
    Answer(A, Result<Reply, Error>),
    /// The final state of a tracked message.
    Delivery(D, Box<Delivery>),
    /// A part of an answer that is still incomplete, or an answer to a cancellation.
    Consumed,
    /// An event that no call waits for.
    Event(Event),
}

/// A `result`, and the agents that the node reported under its id.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) answer: Box<Answer>,
    pub(crate) found: Vec<PeerDiscovered>,
}

impl<A, D> Channel<A, D> {
    pub(crate) fn new() -> Self {
        Channel { pending: BTreeMap::new(), cancels: 0, tracked: HashMap::new(), closed: None }
    }

    /// Registers a request whose line the writer is about to write.
    pub(crate) fn register(&mut self, id: i64, waiter: A) {
        self.pending.insert(id, Pending { waiter: Some(waiter), found: Vec::new(), responses: None });
    }

    /// Sends the answers to a registered request here, before its waiter gets the end. Drops those for
    /// which there is no room: the caller has room for all that it permits.
    pub(crate) fn expect_responses(&mut self, id: i64, responses: mpsc::Sender<Response>) {
        if let Some(pending) = self.pending.get_mut(&id) {
            pending.responses = Some(responses);
        }
    }

    /// Cancels a request that no call waits for. Returns `true` if the caller must write the
    /// `cancel` command under `id`.
    pub(crate) fn cancel(&mut self, target: i64, id: i64) -> bool {
        let is_due = self.cancels < MAX_PENDING && self.pending.contains_key(&target);
        if is_due {
            self.pending.insert(id, Pending { waiter: None, found: Vec::new(), responses: None });
            self.cancels += 1;
        }
        is_due
    }

    /// Tracks the delivery of a message: its event becomes [`Incoming::Delivery`]. Call it before
    /// [`receive`](Self::receive) of the next event. Beyond [`MAX_TRACKED_MESSAGES`] the waiter is dropped,
    /// and the delivery arrives as an event.
    pub(crate) fn track(&mut self, message_id: String, waiter: D) {
        if self.tracked.len() < MAX_TRACKED_MESSAGES {
            self.tracked.insert(message_id, waiter);
        }
    }

    /// Handles an event of the node.
    pub(crate) fn receive(&mut self, event: Event) -> Incoming<A, D> {
        match event {
            Event::Result(answer) => match self.end(Some(&answer.id)) {
                Some(Pending { waiter: Some(waiter), found, .. }) => {
                    Incoming::Answer(waiter, Ok(Reply { answer, found }))
                }
                Some(Pending { waiter: None, .. }) => Incoming::Consumed,
                None => Incoming::Event(Event::Result(answer)),
            },
            Event::Error(error) => match self.end(error.id.as_ref()) {
                Some(Pending { waiter: Some(waiter), .. }) => Incoming::Answer(waiter, Err(refusal(*error))),
                Some(Pending { waiter: None, .. }) => Incoming::Consumed,
                None => Incoming::Event(Event::Error(error)),
            },
            Event::PeerDiscovered(peer) => match self.pending_mut(peer.request_id.as_ref()) {
                Some(pending) if pending.found.len() < MAX_FOUND_AGENTS => {
                    pending.found.push(*peer);
                    Incoming::Consumed
                }
                _ => Incoming::Event(Event::PeerDiscovered(peer)),
            },
            Event::Response(response) => {
                let pending = self.pending_mut(Some(&response.request_id));
                if let Some(responses) = pending.and_then(|pending| pending.responses.as_ref()) {
                    // The program may have dropped the call.
                    let _ = responses.try_send(*response);
                }
                Incoming::Consumed
            }
            Event::Delivery(delivery) => match self.tracked.remove(&delivery.message_id) {
                Some(waiter) => Incoming::Delivery(waiter, delivery),
                None => Incoming::Event(Event::Delivery(delivery)),
            },
            other => Incoming::Event(other),
        }
    }

    /// Closes the channel; the caller registers nothing afterwards. Returns the waiters for answers
    /// and drops the waiters for deliveries. Only the first error counts.
    pub(crate) fn fail_all(&mut self, error: Error) -> Vec<A> {
        self.closed.get_or_insert(error);
        self.tracked.clear();
        self.cancels = 0;
        std::mem::take(&mut self.pending).into_values().filter_map(|pending| pending.waiter).collect()
    }

    /// Returns the error that closed the channel, if it is closed.
    pub(crate) fn closed(&self) -> Option<&Error> {
        self.closed.as_ref()
    }

    fn end(&mut self, id: Option<&Id>) -> Option<Pending<A>> {
        let Some(Id::Number(number)) = id else { return None };
        let ended = self.pending.remove(number)?;
        self.cancels -= usize::from(ended.waiter.is_none());
        Some(ended)
    }

    fn pending_mut(&mut self, id: Option<&Id>) -> Option<&mut Pending<A>> {
        match id {
            Some(Id::Number(number)) => self.pending.get_mut(number),
            Some(Id::Text(_)) | None => None,
        }
    }
}

fn refusal(error: ErrorEvent) -> Error {
    Error::CommandRefused {
        code: error.code,
        message: error.message,
        retryable: error.retryable,
        details: error.details,
    }
}

#[cfg(test)]
mod tests {
    use p2p_node_protocol::ErrorCode;
    use p2p_node_protocol::line::decode_event;

    use super::*;

    /// A channel whose waiters are names.
    type Named = Channel<&'static str, &'static str>;

    fn ping(channel: &mut Named, waiter: &'static str) -> Id {
        let id = 1 + channel.pending.last_key_value().map_or(0, |(id, _)| *id);
        channel.register(id, waiter);
        Id::Number(id)
    }

    fn event(line: impl AsRef<str>) -> Event {
        decode_event(line.as_ref().as_bytes()).unwrap().unwrap()
    }

    fn result(id: impl std::fmt::Display) -> Event {
        event(format!(r#"{{"type":"result","id":{id},"command":"ping"}}"#))
    }

    fn found(id: &Id) -> Event {
        event(format!(
            r#"{{"type":"peer_discovered","peerId":"p","topics":[],"address":"0xA","trust":"unverified","role":"full","addrs":[],
                "capabilities":[],"expiresAtMs":1,"requestId":{id}}}"#
        ))
    }

    fn delivery(message_id: &str) -> Event {
        event(format!(r#"{{"type":"delivery","messageId":"{message_id}","state":"delivered","attempts":1}}"#))
    }

    #[test]
    fn answers_match_requests_in_any_order() {
        let mut channel = Named::new();
        let (first, second) = (ping(&mut channel, "first"), ping(&mut channel, "second"));
        assert_ne!(first, second);
        let Incoming::Answer("second", Ok(reply)) = channel.receive(result(&second)) else { panic!() };
        assert_eq!(reply.answer.id, second);
        let refusal = event(format!(
            r#"{{"type":"error","id":{first},"code":"BUSY","message":"full","retryable":true}}"#
        ));
        let Incoming::Answer("first", Err(error)) = channel.receive(refusal) else { panic!() };
        assert!(
            matches!(&error, Error::CommandRefused { code: ErrorCode::Busy, message, .. } if message == "full")
        );
        assert!(error.retryable());
    }

    #[test]
    fn unexpected_answers_and_deliveries_are_events() {
        let mut channel = Named::new();
        let id = ping(&mut channel, "ping");
        let strangers = [
            result(99),
            result(r#""1""#),
            event(r#"{"type":"error","code":"INTERNAL","message":"","retryable":true}"#),
            event(r#"{"type":"error","id":99,"code":"INTERNAL","message":"","retryable":true}"#),
            event(format!(
                r#"{{"type":"error","requestId":{id},"code":"EXPIRED","message":"","retryable":true}}"#
            )),
            found(&Id::Number(99)),
            delivery("m"),
            event(r#"{"type":"closing","reason":"eof"}"#),
        ];
        for stranger in strangers {
            let received = channel.receive(stranger);
            assert!(matches!(received, Incoming::Event(_)), "{received:?}");
        }
        assert!(matches!(channel.receive(result(&id)), Incoming::Answer("ping", Ok(_))));
        assert!(matches!(channel.receive(result(&id)), Incoming::Event(_)), "answered twice");
    }

    #[test]
    fn found_agents_are_bounded_and_returned_with_the_answer() {
        let mut channel = Named::new();
        let (asked, other) = (ping(&mut channel, "asked"), ping(&mut channel, "other"));
        for _ in 0..MAX_FOUND_AGENTS {
            assert!(matches!(channel.receive(found(&asked)), Incoming::Consumed));
        }
        assert!(matches!(channel.receive(found(&asked)), Incoming::Event(_)));
        let Incoming::Answer(_, Ok(reply)) = channel.receive(result(&asked)) else { panic!() };
        assert_eq!(reply.found.len(), MAX_FOUND_AGENTS);
        let Incoming::Answer(_, Ok(reply)) = channel.receive(result(&other)) else { panic!() };
        assert!(reply.found.is_empty());
    }

    #[test]
    fn tracked_delivery_is_reported_once() {
        let mut channel = Named::new();
        channel.track("m".to_owned(), "mail");
        assert!(matches!(channel.receive(delivery("m")), Incoming::Delivery("mail", _)));
        assert!(matches!(channel.receive(delivery("m")), Incoming::Event(_)));
    }

    #[test]
    fn tracked_messages_are_bounded() {
        let mut channel = Named::new();
        for number in 0..=MAX_TRACKED_MESSAGES {
            channel.track(number.to_string(), "mail");
        }
        assert!(matches!(channel.receive(delivery(&MAX_TRACKED_MESSAGES.to_string())), Incoming::Event(_)));
        assert!(matches!(channel.receive(delivery("0")), Incoming::Delivery(..)));
    }

    #[test]
    fn cancellations_are_bounded_and_their_answers_consumed() {
        let mut channel = Named::new();
        let last = i64::try_from(MAX_PENDING).unwrap();
        (1..=last).for_each(|id| channel.register(id, "search"));
        assert!((1..=last).all(|id| channel.cancel(id, last + id)));
        assert!(!channel.cancel(1, 9999), "there is a bound");
        assert!(matches!(channel.receive(result(last + 1)), Incoming::Consumed));
        let refused = event(format!(
            r#"{{"type":"error","id":{},"code":"INTERNAL","message":"","retryable":true}}"#,
            last + 2
        ));
        assert!(matches!(channel.receive(refused), Incoming::Consumed));
        assert!(matches!(channel.receive(result(1)), Incoming::Answer("search", Ok(_))));
        assert!(!channel.cancel(1, 9999), "it was answered");
        assert!(channel.cancel(2, 9999));
        assert_eq!(channel.fail_all(Error::NodeClosed).len(), MAX_PENDING - 1, "none of them a cancellation");
    }

    #[test]
    fn closing_returns_every_answer_waiter() {
        let mut channel = Named::new();
        let id = ping(&mut channel, "a");
        ping(&mut channel, "b");
        channel.track("m".to_owned(), "mail");
        assert_eq!(channel.fail_all(Error::NodeClosed), ["a", "b"]);
        assert!(channel.fail_all(Error::Contract("another".to_owned())).is_empty());
        assert!(matches!(channel.closed(), Some(Error::NodeClosed)), "the first reason stands");
        assert!(matches!(channel.receive(result(&id)), Incoming::Event(_)));
        assert!(matches!(channel.receive(delivery("m")), Incoming::Event(_)));
    }
}
