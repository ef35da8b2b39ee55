//! Events of the node and of its process.

use std::future::poll_fn;
use std::pin::Pin;
use std::process::ExitStatus;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use p2p_node_protocol::{
    Answer, Closing, Delivery, ErrorEvent, Event as NodeEvent, Log, Message, Overflow, PeerBanned,
    PeerConnected, PeerDisconnected, PeerDiscovered, PeerUnbanned, Ready, Transfer,
};

use crate::inbox::Sink;
use crate::joining::{self, JOIN_TIMEOUT, QUIET};
use crate::{Error, Node};

/// An event of the node or of its process.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The node listens and serves every command.
    Ready(Box<Ready>),
    /// A message or a broadcast arrived.
    Message(Box<Message>),
    /// The node found an agent.
    PeerDiscovered(Box<PeerDiscovered>),
    /// The node reports a failure that belongs to no pending call.
    Error(Box<ErrorEvent>),
    /// The node wrote a log entry for a person.
    Log(Box<Log>),
    /// The node answered a command that no call waits for.
    Result(Box<Answer>),
    /// The final state of a message whose delivery no [`SentMessage`](crate::SentMessage) tracks.
    Delivery(Box<Delivery>),
    /// The file of a message is on its way.
    Transfer(Box<Transfer>),
    /// The node connected to a peer.
    PeerConnected(PeerConnected),
    /// The last connection to a peer closed.
    PeerDisconnected(PeerDisconnected),
    /// The node banned a node, an agent or a host.
    PeerBanned(Box<PeerBanned>),
    /// A ban ended.
    PeerUnbanned(PeerUnbanned),
    /// The node dropped events because this program did not read.
    Overflow(Overflow),
    /// The node shuts down in good order; this is its last line.
    Closing(Closing),
    /// The process ended. The SDK restarts it after `delay`.
    Restarting {
        /// The reason, as a text for a person.
        reason: String,
        /// The exit status, if there was a process and the status is known.
        exit: Option<ExitStatus>,
        /// The pause before the restart.
        delay: Duration,
        /// The number of starts since the last stable run, including the next one.
        attempt: u32,
    },
    /// The node is ready again, with the same address, port and subscriptions. It missed the
    /// broadcasts that arrived during the restart.
    Restarted {
        /// The number of starts since the last stable run, including this one.
        attempt: u32,
        /// The time since the previous process ended.
        downtime: Duration,
        /// The `ready` event of the new process.
        ready: Box<Ready>,
    },
    /// The process crashed `crashes` times within the window of the restart policy. The SDK still
    /// restarts it.
    Unhealthy {
        /// The number of crashes.
        crashes: usize,
    },
    /// The last event.
    Closed {
        /// The reason. `None` if the program closed the node.
        error: Option<Box<Error>>,
    },
}

impl Event {
    /// Converts an event of the node. Returns `None` for an event of a later contract version.
    pub(crate) fn from_node(event: NodeEvent) -> Option<Self> {
        Some(match event {
            NodeEvent::Ready(ready) => Event::Ready(ready),
            NodeEvent::Message(message) => Event::Message(message),
            NodeEvent::PeerDiscovered(peer) => Event::PeerDiscovered(peer),
            NodeEvent::Error(error) => Event::Error(error),
            NodeEvent::Log(log) => Event::Log(log),
            NodeEvent::Result(answer) => Event::Result(answer),
            NodeEvent::Delivery(delivery) => Event::Delivery(delivery),
            NodeEvent::Transfer(transfer) => Event::Transfer(transfer),
            NodeEvent::PeerConnected(peer) => Event::PeerConnected(peer),
            NodeEvent::PeerDisconnected(peer) => Event::PeerDisconnected(peer),
            NodeEvent::PeerBanned(ban) => Event::PeerBanned(ban),
            NodeEvent::PeerUnbanned(end) => Event::PeerUnbanned(end),
            NodeEvent::Overflow(overflow) => Event::Overflow(overflow),
            NodeEvent::Closing(closing) => Event::Closing(closing),
            _ => return None,
        })
    }
}

/// The events of one node, in the order of arrival. A node has one such stream.
///
/// **Acknowledgements.** The SDK acknowledges a message when the program polls for the next event
/// or calls [`close`](Events::close); the sender then gets `delivered`. Dropping the stream, for
/// example in a panic, does not acknowledge the message that the program read last. A program that
/// polls for no further event after a message calls [`Node::ack`](crate::Node::ack) or `close`.
///
/// **Limits.** The SDK never drops a message that the program has not read: the node delivers at
/// most [`mail_buffer`](crate::Builder::mail_buffer) unacknowledged messages, and the senders hold
/// the rest. Broadcasts, peer events with logs, and all other events have one buffer each; a full
/// buffer drops its oldest event.
///
/// Dropping the stream discards all events except messages; [`Node::close`](crate::Node::close)
/// returns the messages.
pub struct Events(Sink);

impl Events {
    pub(crate) fn new(sink: Sink) -> Self {
        Events(sink)
    }

    /// Returns the next event, or `None` when the node has stopped and no event is left.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|context| self.0.poll(context)).await
    }

    /// Returns the next event, or `None` when the node has [`caught_up`](Node::caught_up) with a
    /// `quiet` of [`QUIET`](crate::QUIET), 3 s: no message waits, and none arrives. For a program
    /// that reads its pending messages once and exits. `node` must be the node of this stream. The
    /// SDK acknowledges the last message like every other. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::NotJoined`] when no peer connects within [`JOIN_TIMEOUT`](crate::JOIN_TIMEOUT), 30
    /// s, so that a program can tell "no messages" from "no network"; [`Error::SidecarExited`] and
    /// [`Error::NodeClosed`] when the node has stopped.
    pub async fn next_until_caught_up(&mut self, node: &Node) -> Result<Option<Event>, Error> {
        tokio::select! {
            // Return pending events before the end.
            biased;
            event = self.next() => Ok(event),
            end = joining::caught_up(node, QUIET, JOIN_TIMEOUT, None) => end.map(|()| None),
        }
    }

    /// Ends the stream and acknowledges the message that the program read last.
    pub fn close(self) {
        self.0.leave(true);
    }

    /// Returns the number of broadcasts that the SDK dropped because the buffer was full.
    pub fn dropped_broadcasts(&self) -> u64 {
        self.0.dropped().0
    }

    /// Returns the number of events, without messages and broadcasts, that the SDK dropped because
    /// a buffer was full.
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
