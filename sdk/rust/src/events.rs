//! Events of the node and of its process.

use std::future::poll_fn;
use std::pin::Pin;
use std::process::ExitStatus;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use p2p_node_protocol::{
    Answer, Closing, Delivery, ErrorEvent, Event as NodeEvent, Log, Message, Overflow, PeerConnected,
    PeerDisconnected, PeerDiscovered, Ready,
};

use crate::inbox::Sink;
use crate::joining::{self, JOIN_TIMEOUT, QUIET};
use crate::{Error, Node};

/// Event of the node or of its process.
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
    PeerDisconnected(PeerDisconnected),
    /// The node dropped events because this program did not read.
    Overflow(Overflow),
    /// The last line of a process that ends in good order.
    Closing(Closing),
    /// The process ended. The SDK restarts it after `delay`.
    Restarting {
        /// Why, for a person.
        reason: String,
        /// How it ended, if there was a process and that is known.
        exit: Option<ExitStatus>,
        /// The pause before that.
        delay: Duration,
        /// Starts since the last stable run, the coming one included.
        attempt: u32,
    },
    /// The node is ready again, with the same address, port and subscriptions. It missed the broadcasts of the meantime.
    Restarted {
        /// As in `Restarting`.
        attempt: u32,
        /// Since there was a process that was ready.
        downtime: Duration,
        /// What the new process said.
        ready: Box<Ready>,
    },
    /// The process crashed this often within the window. The SDK still restarts it.
    Unhealthy {
        /// How often.
        crashes: usize,
    },
    /// The last event.
    Closed {
        /// The reason, unless the program closed the node.
        error: Option<Box<Error>>,
    },
}

impl Event {
    /// What a line says. `None` for one of a later version of the contract.
    pub(crate) fn from_node(event: NodeEvent) -> Option<Self> {
        Some(match event {
            NodeEvent::Ready(ready) => Event::Ready(ready),
            NodeEvent::Message(message) => Event::Message(message),
            NodeEvent::PeerDiscovered(peer) => Event::PeerDiscovered(peer),
            NodeEvent::Error(error) => Event::Error(error),
            NodeEvent::Log(log) => Event::Log(log),
            NodeEvent::Result(answer) => Event::Result(answer),
            NodeEvent::Delivery(delivery) => Event::Delivery(delivery),
            NodeEvent::PeerConnected(peer) => Event::PeerConnected(peer),
            NodeEvent::PeerDisconnected(peer) => Event::PeerDisconnected(peer),
            NodeEvent::Overflow(overflow) => Event::Overflow(overflow),
            NodeEvent::Closing(closing) => Event::Closing(closing),
            _ => return None,
        })
    }
}

/// All that the node tells unasked, in the order in which it came. A node has one such stream.
///
/// **Acknowledgements.** The SDK acknowledges a mail, so that its sender is told `delivered`, when the program polls for the event after it,
/// or calls [`close`](Events::close); a stream that is dropped, by a panic for example, does not acknowledge the mail that the program took
/// last. A program that takes no further event after a mail says [`Node::ack`](crate::Node::ack) or `close`.
///
/// **Bounds.** Mail that the program has not taken is never dropped: the node hands over no more than the builder's
/// [`mail_buffer`](crate::Builder::mail_buffer), and the rest stays with its senders. Broadcasts, the news of peers with logs, and all other
/// events each have a buffer of their own, in which the oldest gives way.
///
/// Dropped, the stream lets go of all events but mail, which [`Node::close`](crate::Node::close) returns.
pub struct Events(Sink);

impl Events {
    pub(crate) fn new(sink: Sink) -> Self {
        Events(sink)
    }

    /// The next event; `None` when the node is gone and every event was taken. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|context| self.0.poll(context)).await
    }

    /// The next event, or `None` when the node has [`caught_up`](Node::caught_up) with a `quiet` of [`QUIET`](crate::QUIET), 3 s: no more
    /// mail waits, and none comes. For a program that reads its pending mail once and ends. `node` is that of these events. The last mail
    /// is acknowledged like every other. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::NotJoined`] when no peer is connected within [`JOIN_TIMEOUT`](crate::JOIN_TIMEOUT), 30 s, so that a program can tell "no
    /// mail" from "no network"; [`Error::SidecarExited`] and [`Error::NodeClosed`] when the node is gone.
    pub async fn next_until_caught_up(&mut self, node: &Node) -> Result<Option<Event>, Error> {
        tokio::select! {
            // What is there comes before the end.
            biased;
            event = self.next() => Ok(event),
            end = joining::caught_up(node, QUIET, JOIN_TIMEOUT, None) => end.map(|()| None),
        }
    }

    /// Ends the stream in good order: acknowledges the mail that the program took last.
    pub fn close(self) {
        self.0.leave(true);
    }

    /// Broadcasts that were dropped so far because there was no room.
    pub fn dropped_broadcasts(&self) -> u64 {
        self.0.dropped().0
    }

    /// Events other than mail and broadcasts that were dropped so far because there was no room.
    pub fn dropped_events(&self) -> u64 {
        self.0.dropped().1
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.0.poll(context)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.0.leave(false);
    }
}
