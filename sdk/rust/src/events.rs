//! What a program is told unasked.

use std::pin::Pin;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use p2p_node_protocol::{
    Answer, Closing, Delivery, ErrorEvent, Event as Told, Log, Message, Overflow, PeerConnected,
    PeerDiscovered, PeerLost, Ready,
};
use tokio::sync::mpsc;

use crate::Error;
use crate::process::lock;

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
        /// How it ended, if that is known.
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
        /// Since the process ended.
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
pub(crate) struct Sink {
    events: Arc<Mutex<Option<mpsc::Sender<Event>>>>,
    dropped: Arc<AtomicU64>,
}

impl Sink {
    /// A sink, and the end at which a program takes what goes in: at most `buffer` events.
    pub(crate) fn new(buffer: usize) -> (Sink, Events) {
        let (events, receiver) = mpsc::channel(buffer);
        let dropped = Arc::<AtomicU64>::default();
        let sink = Sink { events: Arc::new(Mutex::new(Some(events))), dropped: Arc::clone(&dropped) };
        (sink, Events { receiver, dropped })
    }

    /// Hands over an event; one that finds the buffer full is counted. Never waits.
    pub(crate) fn tell(&self, event: Event) {
        let sender = lock(&self.events);
        let sent = sender.as_ref().map(|events| events.try_send(event));
        if matches!(sent, Some(Err(mpsc::error::TrySendError::Full(_)))) {
            self.drop_one();
        }
    }

    /// Something was lost.
    pub(crate) fn drop_one(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Nothing comes any more.
    pub(crate) fn close(&self) {
        lock(&self.events).take();
    }
}

/// What the node tells unasked. Dropped, it lets go of all that is still to come.
pub struct Events {
    receiver: mpsc::Receiver<Event>,
    dropped: Arc<AtomicU64>,
}

impl Events {
    /// The next event; `None` when the node is gone and every event was taken. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.receiver.recv().await
    }

    /// How many events were lost so far: they found the buffer full, or could not be read.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.receiver.poll_recv(context)
    }
}
