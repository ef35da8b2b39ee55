//! What a program is told unasked.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;
use p2p_node_protocol::{
    Answer, Closing, Delivery, ErrorEvent, Event as Told, Log, Message, Overflow, PeerConnected,
    PeerDiscovered, PeerLost, Ready,
};

use crate::Error;
use crate::process::lock;

/// As much mail as a node leaves without an `ack`. What is older its sender has given up, or is an earlier process's and comes again.
const MAX_MAIL: usize = 16_384;

/// What the node tells unasked, and what becomes of its process.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The node listens and serves every command.
    Ready(Box<Ready>),
    /// Mail or a broadcast arrived.
    Message(Box<Message>),
    /// An agent was found.
    PeerDiscovered(Box<PeerDiscovered>),
    /// Something failed that nobody here waits for.
    Error(Box<ErrorEvent>),
    /// Something that a person may want to read.
    Log(Box<Log>),
    /// The answer to a command that nobody here asked.
    Result(Box<Answer>),
    /// How a mail ended of which nobody here awaits the delivery.
    Delivery(Box<Delivery>),
    /// A connection to a peer was established.
    PeerConnected(PeerConnected),
    /// The last connection to a peer ended.
    PeerLost(PeerLost),
    /// The node dropped lines because this program did not read.
    Overflow(Overflow),
    /// The last line of a process that ends in good order.
    Closing(Closing),
    /// The process ended, and is started again.
    Restarting {
        /// Why, for a person.
        reason: String,
        /// How it ended, if there was a process and that is known.
        status: Option<ExitStatus>,
        /// The pause before that.
        delay: Duration,
        /// Starts since the last stable run, the coming one included.
        attempt: u32,
    },
    /// The node is back: same address and port, subscribed as before. What was broadcast meanwhile was missed.
    Restarted {
        /// As in `Restarting`.
        attempt: u32,
        /// Since there was a process that was ready.
        downtime: Duration,
        /// What the new process said.
        ready: Box<Ready>,
    },
    /// The process has crashed so often in short order. It is still started again.
    Unhealthy {
        /// How often.
        crashes: usize,
    },
    /// The last event.
    Closed {
        /// Why the node is gone, unless it was told to shut down.
        error: Option<Box<Error>>,
    },
}

impl Event {
    /// What a line says. `None` for one of a later version of the contract.
    pub(crate) fn from_node(told: Told) -> Option<Self> {
        Some(match told {
            Told::Ready(ready) => Event::Ready(ready),
            Told::Message(message) => Event::Message(message),
            Told::PeerDiscovered(peer) => Event::PeerDiscovered(peer),
            Told::Error(error) => Event::Error(error),
            Told::Log(log) => Event::Log(log),
            Told::Result(answer) => Event::Result(answer),
            Told::Delivery(delivery) => Event::Delivery(delivery),
            Told::PeerConnected(peer) => Event::PeerConnected(peer),
            Told::PeerLost(peer) => Event::PeerLost(peer),
            Told::Overflow(overflow) => Event::Overflow(overflow),
            Told::Closing(closing) => Event::Closing(closing),
            _ => return None,
        })
    }
}

/// Where events go, from every process of a node in turn.
#[derive(Clone)]
pub(crate) struct Sink(Arc<Mutex<Queue>>);

/// Events on their way from the pipe to the program.
#[derive(Default)]
struct Queue {
    /// Each with its number, so that they come out in the order in which they came.
    events: VecDeque<(u64, Event)>,
    /// Mail that waits for an `ack`. The node does not tell it again, so no other event pushes it out.
    mail: VecDeque<(u64, Event)>,
    number: u64,
    buffer: usize,
    acks_by_hand: bool,
    dropped: u64,
    /// Nothing comes any more, or nobody takes it.
    closed: bool,
    waker: Option<Waker>,
}

impl Queue {
    fn put(&mut self, event: Event) {
        if let Event::Ready(ready) = &event {
            self.acks_by_hand = ready.features.iter().any(|feature| feature == "ack");
        }
        let is_mail = matches!(&event, Event::Message(message) if message.topic.is_none());
        let (events, limit) = if is_mail && self.acks_by_hand {
            (&mut self.mail, MAX_MAIL)
        } else {
            (&mut self.events, self.buffer)
        };
        if events.len() >= limit {
            events.pop_front();
            self.dropped += 1;
        }
        events.push_back((self.number, event));
        self.number += 1;
    }

    fn take(&mut self) -> Option<Event> {
        let first = |events: &VecDeque<(u64, Event)>| events.front().map_or(u64::MAX, |(number, _)| *number);
        let events = if first(&self.mail) < first(&self.events) { &mut self.mail } else { &mut self.events };
        events.pop_front().map(|(_, event)| event)
    }
}

impl Sink {
    /// A sink, and the end at which a program takes what goes in: at most `buffer` events, beside mail that waits for an `ack`.
    pub(crate) fn new(buffer: usize) -> (Sink, Events) {
        let queue = Arc::new(Mutex::new(Queue { buffer, ..Queue::default() }));
        (Sink(Arc::clone(&queue)), Events(queue))
    }

    /// Hands over an event. When there is no room the oldest goes, and is counted: what became of the node is always told.
    pub(crate) fn tell(&self, event: Event) {
        let mut queue = lock(&self.0);
        if queue.closed {
            return;
        }
        queue.put(event);
        wake(queue);
    }

    /// Something could not be read.
    pub(crate) fn drop_one(&self) {
        lock(&self.0).dropped += 1;
    }

    /// Nothing comes any more after this, the last event.
    pub(crate) fn close(&self, last: Event) {
        self.tell(last);
        let mut queue = lock(&self.0);
        queue.closed = true;
        wake(queue);
    }
}

/// Wakes whoever waits, who may run at once: not while the queue is locked.
fn wake(mut queue: MutexGuard<'_, Queue>) {
    let waker = queue.waker.take();
    drop(queue);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// What the node tells unasked. Dropped, it lets go of all that is still to come.
pub struct Events(Arc<Mutex<Queue>>);

impl Events {
    /// The next event; `None` when the node is gone and every event was taken. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|context| self.poll(context)).await
    }

    /// How many events were lost so far: the oldest when there was no room for a new one, and lines that could not be read.
    pub fn dropped(&self) -> u64 {
        lock(&self.0).dropped
    }

    fn poll(&self, context: &Context<'_>) -> Poll<Option<Event>> {
        let mut queue = lock(&self.0);
        match queue.take() {
            Some(event) => Poll::Ready(Some(event)),
            None if queue.closed => Poll::Ready(None),
            None => {
                queue.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll(context)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let mut queue = lock(&self.0);
        queue.closed = true;
        queue.events.clear();
        queue.mail.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use p2p_node_protocol::line::decode_event;

    use super::*;

    fn crashes(crashes: usize) -> Event {
        Event::Unhealthy { crashes }
    }

    fn mail(number: usize) -> Event {
        said(&format!(
            r#"{{"type":"message","from":"0xB","data":1,"peerId":"p","messageId":"{number}","priority":"low","sentAtMs":1,"receivedAtMs":2,"route":"direct","trust":"unverified"}}"#
        ))
    }

    fn ready(features: &str) -> Event {
        said(&format!(
            r#"{{"type":"ready","peerId":"p","address":"0xA","name":"n","role":"full","network":"dev","protocol":1,"version":"0.1.0","features":[{features}],"limits":{{"maxLineBytes":1,"maxInflight":1,"maxDirectBytes":1,"maxTopicBytes":1}},"addrs":[],"durable":false}}"#
        ))
    }

    fn said(line: &str) -> Event {
        Event::from_node(decode_event(line.as_bytes()).unwrap().unwrap()).unwrap()
    }

    async fn rest(mut events: Events) -> Vec<usize> {
        let mut rest = Vec::new();
        while let Some(event) = events.next().await {
            match event {
                Event::Unhealthy { crashes } => rest.push(crashes),
                Event::Message(mail) => rest.push(mail.message_id.parse().unwrap()),
                _ => {}
            }
        }
        rest
    }

    #[tokio::test]
    async fn when_there_is_no_room_the_oldest_goes() {
        let (sink, events) = Sink::new(3);
        (0..10).for_each(|number| sink.tell(crashes(number)));
        assert_eq!(events.dropped(), 7);
        sink.close(crashes(10));
        sink.tell(crashes(11));
        assert_eq!((events.dropped(), rest(events).await), (8, vec![8, 9, 10]));
    }

    #[tokio::test]
    async fn mail_that_waits_for_an_ack_stays_while_other_events_go_and_all_come_in_their_order() {
        let kept = [("", vec![41, 42, 50]), (r#""ack""#, vec![2, 12, 22, 32, 40, 41, 42, 50])];
        for (features, kept) in kept {
            let (sink, events) = Sink::new(3);
            sink.tell(ready(features));
            for number in [0, 10, 20, 30, 40] {
                sink.tell(crashes(number));
                sink.tell(crashes(number + 1));
                sink.tell(mail(number + 2));
            }
            sink.close(crashes(50));
            assert_eq!((events.dropped(), rest(events).await), (17 - kept.len() as u64, kept));
        }
    }

    #[tokio::test]
    async fn of_more_mail_than_a_node_leaves_without_an_ack_the_oldest_goes() {
        let (sink, events) = Sink::new(3);
        sink.tell(ready(r#""ack""#));
        (0..MAX_MAIL + 2).for_each(|number| sink.tell(mail(number)));
        sink.close(crashes(MAX_MAIL + 2));
        assert_eq!((events.dropped(), rest(events).await), (2, (2..MAX_MAIL + 3).collect()));
    }

    #[tokio::test]
    async fn nobody_keeps_what_nobody_takes() {
        let (sink, events) = Sink::new(3);
        sink.tell(ready(r#""ack""#));
        sink.tell(mail(1));
        drop(events);
        sink.tell(crashes(1));
        sink.tell(mail(2));
        let queue = lock(&sink.0);
        assert!(queue.events.is_empty() && queue.mail.is_empty());
    }

    #[test]
    fn whoever_waits_is_woken_by_an_event_and_by_the_end() {
        struct Counter(std::sync::atomic::AtomicU32);
        impl Wake for Counter {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let counter = Arc::new(Counter(0.into()));
        let waker = Arc::clone(&counter).into();
        let mut context = Context::from_waker(&waker);
        let woken = || counter.0.load(std::sync::atomic::Ordering::Relaxed);
        let (sink, mut events) = Sink::new(3);
        assert!(Pin::new(&mut events).poll_next(&mut context).is_pending());
        sink.tell(crashes(1));
        assert_eq!(woken(), 1);
        assert!(Pin::new(&mut events).poll_next(&mut context).is_ready());
        assert!(Pin::new(&mut events).poll_next(&mut context).is_pending());
        sink.close(crashes(2));
        assert_eq!(woken(), 2);
        assert!(matches!(Pin::new(&mut events).poll_next(&mut context), Poll::Ready(Some(_))));
        assert!(matches!(Pin::new(&mut events).poll_next(&mut context), Poll::Ready(None)));
    }
}
