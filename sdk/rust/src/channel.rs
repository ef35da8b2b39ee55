//! Which answer belongs to which request. No I/O: commands become bytes, events become [`Incoming`], and whoever
//! holds the channel moves both and wakes those who wait.

use std::collections::{BTreeMap, HashMap};

use p2p_node_protocol::line::encode_request;
use p2p_node_protocol::{
    Answer, Cancel, Command, Delivery, ErrorEvent, Event, Id, MAX_LINE_BYTES, PeerDiscovered, Request,
};

use crate::Error;

/// Requests that may wait for their answers at the same time: the node's own default for `limits.maxInflight`,
/// beyond which it would stop reading.
pub(crate) const MAX_PENDING: usize = 1024;

/// Mails whose delivery is awaited at the same time. The node's outbox holds 8 MiB, which is fewer mails than this
/// as soon as they have 128 bytes.
pub(crate) const MAX_TRACKED: usize = 65_536;

/// Agents that are gathered for one `discover`; what is found beyond that comes as events.
pub(crate) const MAX_FOUND: usize = 4096;

/// Correlates what is sent with what comes back. `A` waits for an answer, `D` for a delivery.
pub(crate) struct Channel<A, D> {
    last_id: i64,
    pending: BTreeMap<i64, Pending<A>>,
    /// How many of those are cancellations, for whose answers nobody waits.
    cancels: usize,
    tracked: HashMap<String, D>,
    closed: Option<Error>,
}

struct Pending<A> {
    /// None: a cancellation.
    waiter: Option<A>,
    found: Vec<PeerDiscovered>,
}

/// What an event turned out to be.
#[derive(Debug)]
pub(crate) enum Incoming<A, D> {
    /// The end of a request.
    Answer(A, Result<Reply, Error>),
    /// The end of a mail whose delivery is tracked.
    Delivery(D, Box<Delivery>),
    /// Part of an answer that is yet to come, or an answer that nobody wants.
    Kept,
    /// Something that nobody waits for.
    Event(Event),
}

/// A `result`, and what came before it under its id.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) answer: Box<Answer>,
    pub(crate) found: Vec<PeerDiscovered>,
}

impl<A, D> Channel<A, D> {
    pub(crate) fn new() -> Self {
        Channel { last_id: 0, pending: BTreeMap::new(), cancels: 0, tracked: HashMap::new(), closed: None }
    }

    /// The line that asks for `command`, and the id that its answer will carry.
    pub(crate) fn request(&mut self, command: Command, waiter: A) -> Result<(Id, Vec<u8>), Error> {
        if let Some(error) = &self.closed {
            return Err(error.clone());
        }
        if self.pending.len() - self.cancels >= MAX_PENDING {
            return Err(Error::TooMany { what: "requests", limit: MAX_PENDING });
        }
        let (id, line) = self.line(command);
        let bytes = line.len() - 1; // without the newline
        if bytes > MAX_LINE_BYTES {
            return Err(Error::TooLong { bytes });
        }
        self.pending.insert(self.last_id, Pending { waiter: Some(waiter), found: Vec::new() });
        Ok((id, line))
    }

    /// The line that gives up a request for whose answer nobody waits any more; nothing, when it has been answered. It takes no room
    /// from the requests: there may be as many besides.
    pub(crate) fn cancel(&mut self, target: Id) -> Option<Vec<u8>> {
        if self.cancels >= MAX_PENDING || self.asked_for(Some(&target)).is_none() {
            return None;
        }
        let (_, line) = self.line(Command::Cancel(Cancel { target }));
        self.pending.insert(self.last_id, Pending { waiter: None, found: Vec::new() });
        self.cancels += 1;
        Some(line)
    }

    /// Has the delivery of a mail come as [`Incoming::Delivery`]; to be called before the next event is received.
    /// Beyond [`MAX_TRACKED`] the waiter is dropped, and the delivery will come as an event.
    pub(crate) fn track(&mut self, message_id: String, waiter: D) {
        if self.tracked.len() < MAX_TRACKED {
            self.tracked.insert(message_id, waiter);
        }
    }

    /// Takes what the node said.
    pub(crate) fn receive(&mut self, event: Event) -> Incoming<A, D> {
        match event {
            Event::Result(answer) => match self.end(Some(&answer.id)) {
                Some(Pending { waiter: Some(waiter), found }) => {
                    Incoming::Answer(waiter, Ok(Reply { answer, found }))
                }
                Some(Pending { waiter: None, .. }) => Incoming::Kept,
                None => Incoming::Event(Event::Result(answer)),
            },
            Event::Error(error) => match self.end(error.id.as_ref()) {
                Some(Pending { waiter: Some(waiter), .. }) => Incoming::Answer(waiter, Err(refusal(*error))),
                Some(Pending { waiter: None, .. }) => Incoming::Kept,
                None => Incoming::Event(Event::Error(error)),
            },
            Event::PeerDiscovered(peer) => match self.asked_for(peer.request_id.as_ref()) {
                Some(pending) if pending.found.len() < MAX_FOUND => {
                    pending.found.push(*peer);
                    Incoming::Kept
                }
                _ => Incoming::Event(Event::PeerDiscovered(peer)),
            },
            Event::Delivery(delivery) => match self.tracked.remove(&delivery.message_id) {
                Some(waiter) => Incoming::Delivery(waiter, delivery),
                None => Incoming::Event(Event::Delivery(delivery)),
            },
            other => Incoming::Event(other),
        }
    }

    /// Ends the channel: every later request fails with `error`. Returns those who wait for an answer now; those who
    /// wait for a delivery are dropped. Only the first call counts.
    pub(crate) fn fail_all(&mut self, error: Error) -> Vec<A> {
        self.closed.get_or_insert(error);
        self.tracked.clear();
        self.cancels = 0;
        std::mem::take(&mut self.pending).into_values().filter_map(|pending| pending.waiter).collect()
    }

    /// Why the channel is closed, if it is.
    pub(crate) fn closed(&self) -> Option<&Error> {
        self.closed.as_ref()
    }

    fn line(&mut self, command: Command) -> (Id, Vec<u8>) {
        self.last_id += 1;
        let id = Id::Number(self.last_id);
        let mut line = Vec::new();
        encode_request(&Request { id: Some(id.clone()), command }, &mut line);
        (id, line)
    }

    fn end(&mut self, id: Option<&Id>) -> Option<Pending<A>> {
        let Some(Id::Number(number)) = id else { return None };
        let ended = self.pending.remove(number)?;
        self.cancels -= usize::from(ended.waiter.is_none());
        Some(ended)
    }

    fn asked_for(&mut self, id: Option<&Id>) -> Option<&mut Pending<A>> {
        match id {
            Some(Id::Number(number)) => self.pending.get_mut(number),
            Some(Id::Text(_)) | None => None,
        }
    }
}

fn refusal(error: ErrorEvent) -> Error {
    Error::Command {
        code: error.code,
        message: error.message,
        retryable: error.retryable,
        details: error.details,
    }
}

#[cfg(test)]
mod tests {
    use p2p_node_protocol::line::{decode_event, decode_request};
    use p2p_node_protocol::{ErrorCode, Ping, Send};

    use super::*;

    /// Waiters are names.
    type Named = Channel<&'static str, &'static str>;

    fn ping(channel: &mut Named, waiter: &'static str) -> Id {
        let (id, line) = channel.request(Command::Ping(Ping {}), waiter).unwrap();
        let request = decode_request(line.strip_suffix(b"\n").unwrap()).unwrap();
        assert_eq!((request.id.as_ref(), request.command.name()), (Some(&id), "ping"));
        id
    }

    fn event(line: impl AsRef<str>) -> Event {
        decode_event(line.as_ref().as_bytes()).unwrap().unwrap()
    }

    fn result(id: impl std::fmt::Display) -> Event {
        event(format!(r#"{{"type":"result","id":{id},"command":"ping"}}"#))
    }

    fn found(id: &Id) -> Event {
        event(format!(
            r#"{{"type":"peer_discovered","peerId":"p","topics":[],"address":"0xA","role":"full","addrs":[],
                "capabilities":[],"expiresAtMs":1,"requestId":{id}}}"#
        ))
    }

    fn delivery(message_id: &str) -> Event {
        event(format!(r#"{{"type":"delivery","messageId":"{message_id}","state":"delivered","attempts":1}}"#))
    }

    #[test]
    fn answers_find_their_requests_in_any_order() {
        let mut channel = Named::new();
        let (first, second) = (ping(&mut channel, "first"), ping(&mut channel, "second"));
        assert_ne!(first, second);
        let Incoming::Answer("second", Ok(reply)) = channel.receive(result(&second)) else { panic!() };
        assert_eq!(reply.answer.id, second);
        let refusal = event(format!(
            r#"{{"type":"error","id":{first},"code":"BUSY","message":"full","retryable":true}}"#
        ));
        let Incoming::Answer("first", Err(error)) = channel.receive(refusal) else { panic!() };
        assert!(matches!(&error, Error::Command { code: ErrorCode::Busy, message, .. } if message == "full"));
        assert!(error.retryable());
    }

    #[test]
    fn what_nobody_waits_for_is_an_event() {
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
    fn agents_found_wait_for_their_answer_up_to_a_bound() {
        let mut channel = Named::new();
        let (asked, other) = (ping(&mut channel, "asked"), ping(&mut channel, "other"));
        for _ in 0..MAX_FOUND {
            assert!(matches!(channel.receive(found(&asked)), Incoming::Kept));
        }
        assert!(matches!(channel.receive(found(&asked)), Incoming::Event(_)));
        let Incoming::Answer(_, Ok(reply)) = channel.receive(result(&asked)) else { panic!() };
        assert_eq!(reply.found.len(), MAX_FOUND);
        let Incoming::Answer(_, Ok(reply)) = channel.receive(result(&other)) else { panic!() };
        assert!(reply.found.is_empty());
    }

    #[test]
    fn a_tracked_delivery_is_told_once() {
        let mut channel = Named::new();
        channel.track("m".to_owned(), "mail");
        assert!(matches!(channel.receive(delivery("m")), Incoming::Delivery("mail", _)));
        assert!(matches!(channel.receive(delivery("m")), Incoming::Event(_)));
    }

    #[test]
    fn tracking_is_bounded() {
        let mut channel = Named::new();
        for number in 0..=MAX_TRACKED {
            channel.track(number.to_string(), "mail");
        }
        assert!(matches!(channel.receive(delivery(&MAX_TRACKED.to_string())), Incoming::Event(_)));
        assert!(matches!(channel.receive(delivery("0")), Incoming::Delivery(..)));
    }

    #[test]
    fn requests_are_bounded_and_an_answer_makes_room() {
        let mut channel = Named::new();
        let first = ping(&mut channel, "first");
        for _ in 1..MAX_PENDING {
            ping(&mut channel, "more");
        }
        let refused = channel.request(Command::Ping(Ping {}), "one too many");
        assert!(matches!(refused, Err(Error::TooMany { limit: MAX_PENDING, .. })));
        channel.receive(result(&first));
        ping(&mut channel, "fits");
    }

    #[test]
    fn a_request_can_be_given_up_whatever_else_is_outstanding() {
        let mut channel = Named::new();
        let ids: Vec<Id> = (0..MAX_PENDING).map(|_| ping(&mut channel, "search")).collect();
        for id in &ids {
            let line = channel.cancel(id.clone()).unwrap();
            let Command::Cancel(cancel) = decode_request(line.strip_suffix(b"\n").unwrap()).unwrap().command
            else {
                panic!("not a cancel")
            };
            assert_eq!(&cancel.target, id);
        }
        assert!(channel.cancel(ids[0].clone()).is_none(), "there is a bound");
        let Id::Number(last) = ids[MAX_PENDING - 1] else { panic!() };
        assert!(matches!(channel.receive(result(last + 1)), Incoming::Kept), "nobody waits for that");
        let refused = event(format!(
            r#"{{"type":"error","id":{},"code":"INTERNAL","message":"","retryable":true}}"#,
            last + 2
        ));
        assert!(matches!(channel.receive(refused), Incoming::Kept));
        assert!(matches!(channel.receive(result(&ids[0])), Incoming::Answer("search", Ok(_))));
        assert!(channel.cancel(ids[0].clone()).is_none(), "it was answered");
        ping(&mut channel, "fits");
        assert_eq!(channel.fail_all(Error::ShutDown).len(), MAX_PENDING, "none of them a cancellation");
    }

    #[test]
    fn a_line_that_the_node_would_skip_is_refused_here() {
        let mut channel = Named::new();
        let mut send = |length: usize| {
            let data = serde_json::value::to_raw_value(&"x".repeat(length)).unwrap();
            channel.request(Command::Send(Send::to_topic("t", data)), "long")
        };
        let (_, line) = send(MAX_LINE_BYTES - 100).unwrap();
        let room = MAX_LINE_BYTES - (line.len() - 1) + (MAX_LINE_BYTES - 100);
        send(room).unwrap();
        assert!(matches!(send(room + 1), Err(Error::TooLong { bytes }) if bytes == MAX_LINE_BYTES + 1));
    }

    #[test]
    fn closing_returns_every_waiter_and_refuses_what_follows() {
        let mut channel = Named::new();
        let id = ping(&mut channel, "a");
        ping(&mut channel, "b");
        channel.track("m".to_owned(), "mail");
        assert_eq!(channel.fail_all(Error::ShutDown), ["a", "b"]);
        assert!(channel.fail_all(Error::Contract("another".to_owned())).is_empty());
        assert!(matches!(channel.closed(), Some(Error::ShutDown)), "the first reason stands");
        assert!(matches!(channel.request(Command::Ping(Ping {}), "c"), Err(Error::ShutDown)));
        assert!(matches!(channel.receive(result(&id)), Incoming::Event(_)));
        assert!(matches!(channel.receive(delivery("m")), Incoming::Event(_)));
    }
}
